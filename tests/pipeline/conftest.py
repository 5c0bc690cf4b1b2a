"""A copy of this checkout in an empty folder, as a new user gets it: own environment, own stores."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from checkout import TOP, Run, Start, commit, copy_checkout


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy, with the budget of tests; everything in it is made by its own `make` targets."""
    folder = tmp_path_factory.mktemp("clone")
    copy_checkout(folder)
    shutil.rmtree(folder / "reports")  # committed results of an earlier run must not stand in for this one's
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("budget: laptop ", "budget: smoke "))
    commit(folder)
    return folder


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """A shell's environment that knows nothing of this checkout's `.venv`, nor of the make that runs the tests."""
    strange = {"VIRTUAL_ENV", "PYTHONPATH", "MLFLOW_TRACKING_URI", "MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
    kept = {k: v for k, v in os.environ.items() if k not in strange}
    paths = [path for path in kept["PATH"].split(os.pathsep) if not path.startswith(str(TOP))]
    return kept | {"PATH": os.pathsep.join(paths)}


@pytest.fixture(scope="session")
def run(clone: Path, environment: dict[str, str]) -> Run:
    """Run a command in the clone to its end."""

    def call(*command: str, check: bool = True, **changes: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=clone, env=environment | changes, capture_output=True, text=True, check=False, timeout=850
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    return call


@pytest.fixture(scope="session")
def start(clone: Path, environment: dict[str, str]) -> Start:
    """Start a command in the clone; the end of the block ends it and its children."""

    @contextmanager
    def call(*command: str) -> Iterator[subprocess.Popen[bytes]]:
        with subprocess.Popen(command, cwd=clone, env=environment, start_new_session=True) as process:
            try:
                yield process
            finally:
                os.killpg(process.pid, signal.SIGKILL)

    return call
