"""MLflow: the one tracking URI, and runs with their tags, metrics, data, models and artifacts."""

import hashlib
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from filelock import FileLock
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models.signature import ModelSignature
from mlflow.tracking.context.registry import resolve_tags
from mlflow.types import Schema, TensorSpec

from cnnlab.errors import UserError
from cnnlab.files import MLRUNS

_LOCK = MLRUNS / ".lock"


def tracking_uri() -> str:
    """Where runs are kept: MLFLOW_TRACKING_URI, else the SQLite store in mlruns/."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _local_store()


def _local_store() -> str:
    return f"sqlite:///{(MLRUNS / 'mlflow.db').absolute()}"


def client() -> mlflow.MlflowClient:
    """A client of the tracking store, which is created where it does not exist yet.

    Creating SQLite's schema takes seconds and two processes doing it at once collide, so it happens under a lock.
    Raises UserError where the store cannot be opened.
    """
    uri = tracking_uri()
    MLRUNS.mkdir(exist_ok=True)
    try:
        with FileLock(_LOCK):
            store = mlflow.MlflowClient(uri)
            store.search_experiments(max_results=1)
    except MlflowException as error:
        received = re.sub(r"//[^@/\s]*@", "//***@", f"{uri}: {str(error).splitlines()[0]}")  # no password in a log
        raise UserError(
            f"Cannot open the MLflow store. Expected one at MLFLOW_TRACKING_URI or in {MLRUNS}/. Received {received}"
        ) from error
    return store


class Run:
    """One MLflow run, new or continued."""

    def __init__(self, store: mlflow.MlflowClient, run_id: str) -> None:
        self.id = run_id
        self._store = store

    @classmethod
    def start(
        cls, experiment: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str], description: str = ""
    ) -> "Run":
        """Begin a run called `name`, with every value of the nested `params` and with `tags` beside the usual ones."""
        store = client()
        with FileLock(_LOCK):
            known = store.get_experiment_by_name(experiment)
            experiment_id = known.experiment_id if known else _create_experiment(store, experiment)
        tags = {**provenance(), **tags, "params.sha256": digest(params)}
        if description:
            tags["mlflow.note.content"] = description
        run = cls(store, store.create_run(experiment_id, run_name=name, tags=tags).info.run_id)
        store.log_batch(run.id, params=[Param(k, str(v)) for k, v in flatten(params).items()])
        return run

    @classmethod
    def resume(cls, run_id: str) -> "Run | None":
        """Continue the run `run_id`; None where the store does not have it."""
        store = client()
        try:
            store.update_run(run_id, status="RUNNING")
        except MlflowException:
            return None
        return cls(store, run_id)

    def log_metrics(self, points: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Log named values at integer steps, all in one request."""
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for step, values in points for name, value in values.items()]
        self._store.log_batch(self.id, metrics=metrics)

    def steps(self, name: str) -> set[int]:
        """The steps at which a metric was logged."""
        return {metric.step for metric in self._store.get_metric_history(self.id, name)}

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Keep a file among the run's artifacts."""
        self._store.log_artifact(self.id, str(path), folder)

    def log_data(self, name: str, sha256: str, url: str, context: str) -> None:
        """Record which data set the run used, by name, content digest and origin; `context` is training or testing."""
        data_set = MetaDataset(HTTPDatasetSource(url), name=name, digest=sha256[:36])
        entity = DatasetInput(data_set._to_mlflow_entity(), [InputTag("mlflow.data.context", context)])
        self._store.log_inputs(self.id, [entity])

    def log_model(self, model: Any, example: np.ndarray) -> None:
        """Keep a Keras model with its signature (pictures in, logits out) and `example`, a batch it can be tried on."""
        import keras  # noqa: PLC0415  # stages that only log figures must not wait for TensorFlow
        import mlflow.tensorflow  # noqa: PLC0415
        import tensorflow  # noqa: PLC0415

        outputs = np.asarray(model(example))
        signature = ModelSignature(
            inputs=Schema([TensorSpec(example.dtype, (-1, *example.shape[1:]))]),
            outputs=Schema([TensorSpec(outputs.dtype, (-1, *outputs.shape[1:]))]),
        )
        keras.config.disable_interactive_logging()  # MLflow tries the example, which would print a progress bar
        mlflow.set_tracking_uri(tracking_uri())
        with mlflow.start_run(run_id=self.id, log_system_metrics=False):
            mlflow.tensorflow.log_model(
                model,
                name="model",
                signature=signature,
                input_example=example,
                # Named here, because finding them out would load the model in a second process.
                pip_requirements=[f"tensorflow=={tensorflow.__version__}", f"keras=={keras.__version__}"],
            )
        self._store.update_run(self.id, status="RUNNING")

    def finish(self, status: str = "FINISHED") -> None:
        """Close the run as FINISHED, FAILED or KILLED."""
        self._store.set_terminated(self.id, status)


def provenance() -> dict[str, str]:
    """Tags that say what produced a run: code, pipeline stage, pipeline lock, machine."""
    lock = Path("dvc.lock")
    return {
        **resolve_tags(),  # MLflow's own: user, script, git commit
        "git.dirty": _git_dirty(),
        "dvc.stage": os.environ.get("DVC_STAGE", "none"),
        "dvc.lock.sha256": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else "none",
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys: {"a": {"b": 1}} → {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def digest(tree: Mapping[str, Any]) -> str:
    """SHA-256 of nested parameters, whatever their order."""
    return hashlib.sha256(repr(sorted(flatten(tree).items())).encode()).hexdigest()


def _create_experiment(store: mlflow.MlflowClient, name: str) -> str:
    # Asked of the URI, not of the environment: MLflow writes MLFLOW_TRACKING_URI itself when a model is logged.
    artifacts = (MLRUNS / "artifacts").absolute().as_uri() if tracking_uri() == _local_store() else None
    tags = {"mlflow.experimentKind": "custom_model_development"}  # the UI's view for training, not for chat models
    return str(store.create_experiment(name, artifacts, tags))


def _git_dirty() -> str:
    """Whether tracked files differ from the commit: true, false, or unknown outside a git checkout."""
    command = ["git", "status", "--porcelain", "--untracked-files=no"]
    try:
        return str(bool(subprocess.run(command, capture_output=True, check=True).stdout)).lower()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
