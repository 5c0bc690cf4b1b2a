"""Shared fixtures: a loopback HTTP server, an empty download cache, the real data sets, a browser."""

import functools
import http.server
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from loopback_server import Handler, Loopback
from xdist.scheduler import LoadFileScheduling

from cnnlab import catalog
from cnnlab.data import sources
from cnnlab.errors import UserError

pytest_plugins = ["browser"]


class _OneWorkerForPipeline(LoadFileScheduling):
    """One worker per file, but only one for all files of tests/pipeline, which share a clone and its pipeline run."""

    def _split_scope(self, nodeid: str) -> str:
        folder = "tests/pipeline/"
        return folder if nodeid.startswith(folder) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Replace the scheduler of `--dist loadfile`."""
    return _OneWorkerForPipeline(config, log) if config.getvalue("dist") == "loadfile" else None


# No deadline, so that a busy machine does not cause failures. CI uses the same examples in every run, so that results
# are reproducible; elsewhere each run draws new ones.
hypothesis.settings.register_profile("cnnlab", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("cnnlab")


@pytest.fixture
def loopback() -> Iterator[Callable[[Path], Loopback]]:
    """Start a server for a folder; all servers stop at the end of the test."""
    servers: list[tuple[Loopback, http.server.ThreadingHTTPServer, threading.Thread]] = []

    def start(folder: Path) -> Loopback:
        state = Loopback(folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, state))
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((state, server, thread))
        return state

    yield start
    for state, server, thread in servers:
        state.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty download cache for this test, and no mirror. Returns the cache folder of cnnlab."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CNNLAB_MIRROR", raising=False)
    return tmp_path / "cache" / "cnnlab"


@pytest.fixture(scope="session")
def real_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with MNIST's original files, downloaded through the user's cache."""
    return _fetched("mnist", tmp_path_factory)


@pytest.fixture(scope="session")
def real_cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with CIFAR-10's original files, downloaded through the user's cache."""
    return _fetched("cifar10", tmp_path_factory)


def _fetched(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw") / name
    sources.fetch(catalog.CATALOG[name], folder, timeout_s=10)
    return folder


@pytest.fixture(scope="session")
def real_cifar100(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with CIFAR-100's canonical files. No package registry has them, so they may be unavailable."""
    try:
        return _fetched("cifar100", tmp_path_factory)
    except UserError as error:
        pytest.skip(f"CIFAR-100 is unavailable: {str(error).splitlines()[-1]}")
