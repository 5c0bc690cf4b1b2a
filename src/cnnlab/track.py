"""MLflow: the one tracking URI, and runs with their tags, metrics, data, models and artifacts.

Once a run is started, nothing waits for the server: records go to a journal on disk (`cnnlab.spool`), from which a
thread sends them. `python -m cnnlab.track` (`make sync`) sends what runs left there.
"""

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from filelock import FileLock
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from cnnlab import errors, registry, ui
from cnnlab.errors import UserError
from cnnlab.files import MLRUNS, atomic
from cnnlab.registry import Proposal
from cnnlab.spool import SPOOL, Failure, InUseError, Journal, Record, Send, Sender, drain

_LOCK = MLRUNS / ".lock"
_REFUSALS = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the sender tries again; a retry below it could create a run twice
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # it may hold a password
}


def tracking_uri() -> str:
    """Where runs are kept: MLFLOW_TRACKING_URI, else the SQLite store in mlruns/."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _local_store()


def _local_store() -> str:
    return f"sqlite:///{(MLRUNS / 'mlflow.db').absolute()}"


def client(uri: str = "") -> mlflow.MlflowClient:
    """A client of the store at `uri`, by default `tracking_uri()`; the store is created where it does not exist yet.

    Creating SQLite's schema takes seconds and two processes doing it at once collide, so it happens under a lock.
    Raises UserError where the store cannot be opened.
    """
    uri = uri or tracking_uri()
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    MLRUNS.mkdir(exist_ok=True)
    try:
        with nullcontext() if uri.startswith("http") else FileLock(_LOCK):
            store = mlflow.MlflowClient(uri)
            store.search_experiments(max_results=1)
    except MlflowException as error:
        raise UserError(
            f"Cannot open the MLflow store. Expected one at MLFLOW_TRACKING_URI or in {MLRUNS}/. "
            f"Received {masked(uri)}: {_told(error)}"
        ) from error
    return store


@dataclass(frozen=True)
class Entry:
    """How MLflow's list shows a run: its experiment, name, and tags beside the usual ones."""

    experiment: str
    title: str
    tags: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None  # by which it is found again; None where another one is kept for it


class Run:
    """One MLflow run, new or continued. What is logged is on disk at once and sent in order by a thread of its own."""

    def __init__(self, run_id: str) -> None:
        self.id = run_id
        self._journal = Journal(run_id)
        self._sender = Sender(self._journal, _sending(run_id, self._journal.folder))
        self._proposed: dict[str, Any] = {}

    @classmethod
    def start(
        cls,
        key: str,
        experiment: str,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        description: str = "",
        known_id: str | None = None,
    ) -> "Run":
        """The run `known_id` where the store still has it, else the experiment's run with `key`, else a new one.

        A new run is called `name` and gets every value of the nested `params`, and `tags` beside the usual ones. `key`
        is chosen before MLflow is asked, so that a start repeated after a kill finds the run it had created; the same
        key must come with the same params. Raises UserError if the store cannot be opened and `known_id` is None.
        """
        run = cls.resume(known_id) if known_id else None
        if run is None:
            tags = {**provenance(), **tags, "params.sha256": digest(params), "cnnlab.key": key}
            if description:
                tags["mlflow.note.content"] = description
            run = cls(_find_or_create(key, experiment, name, tags))
            run._record("params", params={k: str(v) for k, v in flatten(params).items()})
            run._record("status", status="RUNNING", end_ms=None)
        return run

    @classmethod
    def resume(cls, run_id: str) -> "Run | None":
        """Continue the run `run_id`; None where the store answers that it does not have it.

        Where the store does not answer, the run goes on with its journal alone, and a printed line says so.
        """
        try:
            if client().get_run(run_id).info.lifecycle_stage != "active":
                return None
        except (MlflowException, UserError) as error:
            if getattr(error, "error_code", "") in _REFUSALS:
                return None
            print(f"{_told(error)}. Run {run_id} goes on; its records are kept in {SPOOL / run_id}", flush=True)
        run = cls(run_id)
        run._record("status", status="RUNNING", end_ms=None)
        return run

    def log_metrics(self, points: Iterable[tuple[int, Mapping[str, float]]], time_ms: int | None = None) -> None:
        """Log named values at integer steps, all in one request.

        Points logged again with the same `time_ms` (milliseconds since 1970, by default now) are not doubled.
        """
        rows = [[int(step), {name: float(value) for name, value in values.items()}] for step, values in points]
        self._record("metrics", points=rows, time_ms=_now_ms() if time_ms is None else time_ms)

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Keep a file among the run's artifacts, as it is now."""
        self._record("file", file=self._copy(path), folder=folder)

    def log_data(self, name: str, sha256: str, url: str, context: str) -> None:
        """Record which data set the run used, by name, content digest and origin; `context` is training or testing."""
        self._record("data", name=name, sha256=sha256, url=url, context=context)

    def log_model(self, path: Path, example: np.ndarray) -> None:
        """Keep a Keras file as a model with its signature (pictures in, logits out) and a batch it can be tried on.

        `example` is that batch, an array (n, height, width, channels).
        """
        self._record("model", file=self._copy(path), example=self._saved("example.npy", example))

    def propose(self, proposal: Proposal, network: Path, example: np.ndarray) -> None:
        """Let the network compete to be the champion of its data set once the run is finished; `registry.compete`."""
        kept = {"file": self._copy(network), "example": self._saved("pictures.npy", example)}
        self._proposed = {"proposal": asdict(proposal), **kept}

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run; earlier values are replaced."""
        self._record("tags", tags=dict(tags))

    def finish(self, status: str = "FINISHED") -> None:
        """Close the run as FINISHED, FAILED or KILLED, and wait until all is sent or MLflow fails to take it.

        What is not sent stays on disk; a printed line says where, and how it is sent later.
        """
        self._record("status", status=status, end_ms=_now_ms())
        if self._proposed and status == "FINISHED":
            self._record("champion", **self._proposed)
        self._sender.close()
        journal, failure = self._journal, self._sender.failure
        if journal.sent < journal.count:
            print(
                f"MLflow has {journal.sent} of the last {journal.count} records of run {self.id}: "
                f"{failure.reason if failure else 'it does not answer'}. "
                f"All are kept in {SPOOL / self.id}; `make sync` sends them later",
                flush=True,
            )

    def _record(self, kind: str, **values: Any) -> None:
        self._sender.append({"kind": kind, **values})

    def _copy(self, path: Path) -> str:
        kept = self._journal.new_file(path.name)
        with path.open("rb") as source, atomic(kept) as copy:
            shutil.copyfileobj(source, copy)
        return self._relative(kept)

    def _saved(self, name: str, array: np.ndarray) -> str:
        kept = self._journal.new_file(name)
        with atomic(kept) as stream:
            np.save(stream, array)
        return self._relative(kept)

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self._journal.folder))


def sync() -> None:
    """Send what runs left in mlruns/spool, and print a line a run. Raises UserError unless everything was sent."""
    folders = sorted(path for path in SPOOL.iterdir() if path.is_dir()) if SPOOL.exists() else []
    if not folders:
        print("MLflow: nothing waits to be sent")
        return
    client()
    left = [folder for folder in folders if not _replay(folder.name)]
    if left:
        raise UserError(
            f"Not everything was sent to MLflow: {len(left)} of {len(folders)} runs remain in {SPOOL}/, as said above. "
            "Run make sync again when the reason is mended; delete a run's folder there to give up what it holds."
        )


def children(parent_id: str) -> list[mlflow.entities.Run]:
    """All runs whose parent is `parent_id`."""
    store = client()
    experiment = store.get_run(parent_id).info.experiment_id
    found, token = [], None
    while token != "":
        page = store.search_runs(
            [experiment], f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent_id}'", max_results=1000, page_token=token
        )
        found += page
        token = page.token or ""
    return found


def settle(run_id: str, status: str, tags: Mapping[str, str]) -> None:
    """Close a run whose process died: what it left on disk is sent, then `status` and `tags` are set."""
    run = Run(run_id)
    run.set_tags(tags)
    run.finish(status)


def _replay(run_id: str) -> bool:
    """Send one journal and say how that went; whether all of it was sent."""
    try:
        with Journal(run_id, wait_s=0) as journal:
            before = journal.sent
            failure = drain(journal, _sending(run_id, journal.folder))
            sent, left = journal.sent - before, journal.count - journal.sent
    except InUseError:
        print(f"run {run_id}: still in use by a process, which sends its records itself")
        return False
    except UserError as error:
        print(f"run {run_id}: {error}")
        return False
    if failure:
        verdict = f"refused: {failure.reason}" if failure.refused else f"failed: {failure.reason}"
        print(f"run {run_id}: {verdict}. {sent} records sent, {left} kept in {SPOOL / run_id}")
    else:
        print(f"run {run_id}: {sent} records sent" if sent else f"run {run_id}: nothing to do")
    return failure is None


def _sending(run_id: str, folder: Path) -> Send:
    """What sends a record of the run; its files lie in `folder`."""
    connect = functools.cache(functools.partial(client, tracking_uri()))

    def send(record: Record) -> Failure | None:
        try:
            _write(connect(), run_id, folder, record)
        except Exception as error:  # whatever servers, proxies and drivers raise must not end the sending
            return Failure(_told(error), getattr(error, "error_code", "") in _REFUSALS)
        return None

    return send


def _write(store: mlflow.MlflowClient, run_id: str, folder: Path, record: Record) -> None:
    """Bring one record to the store. Doing it again changes nothing."""
    match record["kind"]:
        case "params":
            store.log_batch(run_id, params=[Param(k, v) for k, v in record["params"].items()])
        case "tags":
            store.log_batch(run_id, tags=[RunTag(k, v) for k, v in record["tags"].items()])
        case "metrics":
            points = [(step, *item) for step, values in record["points"] for item in values.items()]
            store.log_batch(run_id, metrics=[Metric(k, v, record["time_ms"], step) for step, k, v in points])
        case "file":
            store.log_artifact(run_id, str(folder / record["file"]), record["folder"])
        case "data":
            source = HTTPDatasetSource(record["url"])
            data_set = MetaDataset(source, name=record["name"], digest=record["sha256"][:36])
            context = InputTag("mlflow.data.context", record["context"])
            store.log_inputs(run_id, [DatasetInput(data_set._to_mlflow_entity(), [context])])
        case "model":
            example = np.load(folder / record["example"], allow_pickle=False)
            registry.keep(store, run_id, folder / record["file"], example)
        case "champion":
            example = np.load(folder / record["example"], allow_pickle=False)
            registry.compete(store, run_id, Proposal(**record["proposal"]), folder / record["file"], example)
        case "status" if record["end_ms"] is None:
            store.update_run(run_id, status=record["status"])
        case "status":
            store.set_terminated(run_id, record["status"], record["end_ms"])


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


def _find_or_create(key: str, experiment: str, name: str, tags: Mapping[str, str]) -> str:
    """The id of the experiment's run with `key`, which is created where there is none."""
    store = client()
    try:
        with FileLock(_LOCK):
            experiment_id = _experiment(store, experiment)
            found = store.search_runs([experiment_id], f"tags.`cnnlab.key` = '{key}'", max_results=1)
            run = found[0] if found else store.create_run(experiment_id, run_name=name, tags=tags)
    except MlflowException as error:
        raise UserError(f"MLflow refuses run {name!r} of experiment {experiment!r}: {_told(error)}") from error
    return str(run.info.run_id)


def _experiment(store: mlflow.MlflowClient, name: str) -> str:
    """The id of the experiment, which gets what it lacks; what a user wrote there stays."""
    known = store.get_experiment_by_name(name)
    experiment_id = known.experiment_id if known else _create_experiment(store, name)
    for key, value in ui.experiment_tags(name, experiment_id).items():
        if known is None or key not in known.tags:
            store.set_experiment_tag(experiment_id, key, value)
    return str(experiment_id)


def _create_experiment(store: mlflow.MlflowClient, name: str) -> str:
    # Asked of the URI, not of the environment: MLflow writes MLFLOW_TRACKING_URI itself when a model is logged.
    artifacts = (MLRUNS / "artifacts").absolute().as_uri() if tracking_uri() == _local_store() else None
    tags = {"mlflow.experimentKind": "custom_model_development"}  # the UI's view for training, not for chat models
    return str(store.create_experiment(name, artifacts, tags))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _told(error: Exception) -> str:
    """What went wrong, in one line."""
    return masked(str(error).partition("\n")[0][:300]) or type(error).__name__


def masked(text: str) -> str:
    """`text` without the user names and passwords of its URLs."""
    return re.sub(r"//[^@/\s]*@", "//***@", text)


def _git_dirty() -> str:
    """Whether tracked files differ from the commit: true, false, or unknown outside a git checkout."""
    command = ["git", "status", "--porcelain", "--untracked-files=no"]
    try:
        return str(bool(subprocess.run(command, capture_output=True, check=True).stdout)).lower()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


if __name__ == "__main__":
    errors.run(sync)
