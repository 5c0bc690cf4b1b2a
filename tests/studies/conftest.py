"""A real PostgreSQL server, a working folder with an MLflow store of its own, and a study's storage of either kind."""

import gc
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from studies.ledgers import hosts, opened  # noqa: F401
from studies.postgres import Postgres, programs

from cnnlab.catalog import CATALOG
from cnnlab.data import store
from cnnlab.tracking import store as tracking_store


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running server; a test that stops it restarts it."""
    if programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # pytest's own admits no other user
        server = Postgres(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The address of a new, empty database."""
    url = postgres.new_database()
    yield url
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()  # Optuna's storages have no close, and warn when they go
    postgres.drop(url)


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store, whose schema takes seconds to make."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder)
        tracking_store.client()
    return folder / "mlruns" / "mlflow.db"


@pytest.fixture
def top(mlflow_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a test, with an empty MLflow store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlruns").mkdir()
    shutil.copy(mlflow_store, tmp_path / "mlruns")
    return tmp_path


@pytest.fixture(params=["journal", "postgresql"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A study's storage as STORAGE names it: a journal in the working folder, or a new database."""
    monkeypatch.chdir(tmp_path)
    return "" if request.param == "journal" else str(request.getfixturevalue("database"))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(verbosity)


@pytest.fixture(scope="session")
def processed_mnist(real_mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The processed folder of the real MNIST."""
    folder = tmp_path_factory.mktemp("processed") / "mnist"
    store.preprocess(CATALOG["mnist"], real_mnist, folder, validation=5000, seed=0)
    return folder
