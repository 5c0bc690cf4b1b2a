"""A copy of this checkout in an empty folder, as a new user gets it: own environment, own stores."""

import os
import subprocess
from pathlib import Path

import pytest
from checkout import TOP, Run, copy_checkout


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy, with the budget of tests; everything in it is made by its own `make` targets."""
    folder = tmp_path_factory.mktemp("clone")
    copy_checkout(folder)
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("budget: laptop ", "budget: smoke "))
    return folder


@pytest.fixture(scope="session")
def run(clone: Path) -> Run:
    """Run a command in the clone, as from a shell whose environment knows nothing of this checkout's `.venv`."""
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "MLFLOW_TRACKING_URI", "PYTHONPATH")}
    paths = [p for p in environment["PATH"].split(os.pathsep) if not p.startswith(str(TOP))]
    environment["PATH"] = os.pathsep.join(paths)

    def call(*command: str, check: bool = True, **changes: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=clone, env=environment | changes, capture_output=True, text=True, check=False, timeout=900
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    return call
