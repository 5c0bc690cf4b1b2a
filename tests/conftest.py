"""Fixtures that several folders of tests share: a loopback HTTP server, an own cache, the real data, a browser."""

import functools
import http.server
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from loopback_server import Handler, Loopback

from cnnlab.data import catalog, sources
from cnnlab.errors import UserError

pytest_plugins = ["browser"]

# No deadline: a busy machine is no failure. In CI the same examples each time, so that what passed once passes again;
# elsewhere new ones, which search.
hypothesis.settings.register_profile("cnnlab", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("cnnlab")


@pytest.fixture
def loopback() -> Iterator[Callable[[Path], Loopback]]:
    """Start servers of folders; they end with the test."""
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
    """An empty cache folder of the test's own, and no mirror; returns where cnnlab keeps its downloads."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CNNLAB_MIRROR", raising=False)
    return tmp_path / "cache" / "cnnlab"


@pytest.fixture(scope="session")
def real_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of MNIST's original files, fetched through the user's own cache."""
    return _fetched("mnist", tmp_path_factory)


@pytest.fixture(scope="session")
def real_cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of CIFAR-10's original files, fetched through the user's own cache."""
    return _fetched("cifar10", tmp_path_factory)


def _fetched(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw") / name
    sources.fetch(catalog.lookup(name), folder, timeout_s=10)
    return folder


@pytest.fixture(scope="session")
def real_cifar100(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of CIFAR-100's canonical files; no registry has them, so some machines cannot."""
    try:
        return _fetched("cifar100", tmp_path_factory)
    except UserError as error:
        pytest.skip(f"CIFAR-100 is out of reach: {str(error).splitlines()[-1]}")
