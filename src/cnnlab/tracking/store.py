"""The MLflow store: its URI, a client that has checked it, and its experiments."""

import functools
import logging
import os
import sqlite3
from contextlib import closing, nullcontext
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow.exceptions import MlflowException

from cnnlab.errors import UserError, masked
from cnnlab.files import MLRUNS, problem
from cnnlab.tracking import pages

LOCK = MLRUNS / ".lock"
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the sender retries; a retry by MLflow could create a run twice
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # it may hold a password
}


def tracking_uri() -> str:
    """The tracking store: MLFLOW_TRACKING_URI, by default the SQLite database in mlruns/."""
    return os.environ.get("MLFLOW_TRACKING_URI") or local_uri()


def local_uri() -> str:
    """URI of the SQLite database in mlruns/."""
    return f"sqlite:///{(MLRUNS / 'mlflow.db').absolute()}"


def client(uri: str = "") -> mlflow.MlflowClient:
    """A client of the store at `uri`, by default `tracking_uri()`; a store that does not exist is created.

    Creating SQLite's schema takes seconds, and two processes that do so at once collide: a lock serialises them.
    Raises UserError where the store cannot be opened or is damaged.
    """
    uri = uri or tracking_uri()
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it announces a new database on stderr
    MLRUNS.mkdir(exist_ok=True)
    try:
        with nullcontext() if uri.startswith("http") else FileLock(LOCK):
            if uri.startswith("sqlite:///"):
                _check_database(Path(uri.removeprefix("sqlite:///")))
            store = mlflow.MlflowClient(uri)
            store.search_experiments(max_results=1)
    except MlflowException as error:
        raise UserError(
            f"Cannot open the MLflow store. Expected one at MLFLOW_TRACKING_URI or in {MLRUNS}/. "
            f"Received {masked(uri)}: {reason(error)}"
        ) from error
    return store


@functools.cache  # a failed check is not cached
def _check_database(path: Path) -> None:
    """Raise UserError where an SQLite file is damaged; MLflow itself would retry for 100 s and end in a traceback.

    `quick_check` finds damaged pages, not a changed value in an intact one. It took 0.01 s on 1 MB, 0.5 s on 72 MB.
    """
    if not os.path.lexists(path):
        return
    try:
        if not path.stat().st_size and (MLRUNS / "artifacts").exists():  # else a kill before the schema was created
            raise sqlite3.DatabaseError("an empty file")
        path.open("rb").close()
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
    except (OSError, sqlite3.Error) as error:
        received = problem(error) if isinstance(error, OSError) else " ".join(str(error).split())
        raise UserError(
            f"Damaged MLflow store {path}. Expected an SQLite database that passes its quick_check. "
            f"Received: {received}. Restore a copy, or start an empty store: mv {path} {path}.damaged"
        ) from error


def experiment_named(store: mlflow.MlflowClient, name: str) -> str:
    """The id of the experiment, created if missing; tags that it lacks are set, those of a user stay."""
    known = store.get_experiment_by_name(name)
    experiment_id = known.experiment_id if known else _create_experiment(store, name)
    for key, value in pages.experiment_tags(name, experiment_id).items():
        if known is None or key not in known.tags:
            store.set_experiment_tag(experiment_id, key, value)
    return str(experiment_id)


def _create_experiment(store: mlflow.MlflowClient, name: str) -> str:
    # Compares URIs, not the environment: MLflow sets MLFLOW_TRACKING_URI itself when a model is logged.
    artifacts = (MLRUNS / "artifacts").absolute().as_uri() if tracking_uri() == local_uri() else None
    tags = {"mlflow.experimentKind": "custom_model_development"}  # the UI's view for training, not for chat models
    return str(store.create_experiment(name, artifacts, tags))


def reason(error: Exception) -> str:
    """An error's first line."""
    return masked(str(error).partition("\n")[0][:1000]) or type(error).__name__
