"""A fresh clone of this checkout with its own environment and stores, shared by all tests of this folder.

The tests depend on its state: pytest runs the files in alphabetical order, and `pytest -n` on one worker.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pages
import pytest
import requests
from checkout import TOP, Run, Start, commit, copy_checkout
from commands import Serve


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clone, with budget smoke and a ladder of two steps; the rest of it comes from its own `make` targets."""
    folder = tmp_path_factory.mktemp("clone")
    copy_checkout(folder)
    shutil.rmtree(folder / "reports")  # the committed results would hide missing ones
    params = folder / "params.yaml"
    settings, replaced = re.subn("  ladder: .*", "  ladder: [lesson, normalised, improved]", params.read_text())
    assert replaced == 1
    params.write_text(settings.replace("budget: laptop ", "budget: smoke "))
    commit(folder)
    return folder


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Environment variables without those of this checkout's `.venv` and of the `make` that runs the tests."""
    foreign = {"VIRTUAL_ENV", "PYTHONPATH", "MLFLOW_TRACKING_URI", "MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
    own = {k: v for k, v in os.environ.items() if k not in foreign}
    paths = [path for path in own["PATH"].split(os.pathsep) if not path.startswith(str(TOP))]
    return own | {"PATH": os.pathsep.join(paths)}


@pytest.fixture(scope="session")
def run(clone: Path, environment: dict[str, str]) -> Run:
    """Run a command in the clone and wait for it."""

    def call(*command: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=clone, env=environment | variables, capture_output=True, text=True, check=False, timeout=1500
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    return call


@pytest.fixture(scope="session")
def start(clone: Path, environment: dict[str, str]) -> Start:
    """Start a command in the clone; at the end of the block it is killed with its children."""

    @contextmanager
    def call(*command: str) -> Iterator[subprocess.Popen[bytes]]:
        with subprocess.Popen(command, cwd=clone, env=environment, start_new_session=True) as process:
            try:
                yield process
            finally:
                os.killpg(process.pid, signal.SIGKILL)

    return call


@pytest.fixture(scope="session")
def repro(run: Run, clone: Path) -> str:
    """The output of the first `make repro`, whose results are committed: see `restored`."""
    printed = run("make", "repro").stdout
    run("git", "add", "--force", "reports/sweep/figures.html")  # too large for the repository, and not in DVC's cache
    commit(clone)
    return printed


@pytest.fixture
def restored(run: Run, repro: str) -> None:
    """The clone as the first `make repro` left it, but for MLflow's store."""
    del repro
    run("git", "checkout", "--quiet", ".")
    run("git", "clean", "--quiet", "-fdx", "models", "reports")
    run(".venv/bin/dvc", "checkout", "--quiet", "--force")


@pytest.fixture(scope="session")
def serve(repro: str, start: Start) -> Serve:
    """Start the server of a make target after `make repro`; the block receives its address once it responds."""

    @contextmanager
    def call(target: str) -> Iterator[str]:
        port = pages.free_port()
        address = f"http://127.0.0.1:{port}"
        with start(*target.split(), f"PORT={port}") as server:
            while not responds(address):
                assert server.poll() is None, f"{target} ended"
                time.sleep(0.2)
            yield address

    return call


def responds(address: str) -> bool:
    try:
        return requests.get(address, timeout=30).status_code < 500
    except requests.ConnectionError:
        return False
