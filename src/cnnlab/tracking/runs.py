"""MLflow runs: parameters, tags, metrics, data sets, models and artifacts, at one tracking URI.

After its start a run never waits for the server: records go to a journal on disk (`spool.py`), from which a thread
sends them. `cnnlab sync` sends what earlier runs left there.
"""

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from filelock import FileLock
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from cnnlab.errors import UserError
from cnnlab.files import atomic, check, sha256
from cnnlab.tracking import registry
from cnnlab.tracking.registry import Proposal
from cnnlab.tracking.spool import SPOOL, InUseError, Record, RunJournal, Send, Sender, drain
from cnnlab.tracking.store import LOCK, client, experiment_named, reason, tracking_uri

_UPDATED = "cnnlab.updated_ms"  # tag of a parent
_REFUSALS = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}


@dataclass(frozen=True)
class Entry:
    """How a run appears in MLflow's list: its experiment, its name, and tags beside the usual ones."""

    experiment: str
    title: str
    tags: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None  # identifies the run across restarts; None: the checkpoint stores a random one


@dataclass(frozen=True)
class Parent:
    """A run that stands for its `children`, the ids of other runs: one per experiment and `params`.

    A later one with the same params replaces children, metrics, tags and description.
    """

    name: str
    params: Mapping[str, Any]
    children: Sequence[str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    description: str
    time_ms: int = field(default_factory=lambda: _now_ms())


class TrackedRun:
    """One MLflow run, new or resumed. Records are on disk when a method returns; a thread sends them in order."""

    def __init__(self, run_id: str) -> None:
        self.id = run_id
        self._journal = RunJournal(run_id)
        self._sender = Sender(self._journal, _record_sender(run_id, self._journal.folder))
        self._proposal: dict[str, Any] = {}

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
    ) -> "TrackedRun":
        """Resume the run `known_id` if the store still has it, else the experiment's run with `key`, else create one.

        A new run is named `name` and gets every value of the nested `params`, and `tags` beside the usual ones. Choose
        `key` before the first call, so that a start repeated after a kill finds the run that it had created; one key
        always has the same params. Raises UserError if the store cannot be opened and `known_id` is None.
        """
        run = cls.resume(known_id) if known_id else None
        if run is None:
            run = cls(_find_or_create(experiment, name, _tags(key, params, tags, description)))
            run._record("params", params=_texts(params))
            run._record("status", status="RUNNING", end_ms=None)
        return run

    @classmethod
    def resume(cls, run_id: str) -> "TrackedRun | None":
        """Resume the run `run_id`; None if the store does not have it.

        If the store does not respond, the run continues with its journal only, and a printed line says so.
        """
        try:
            if client().get_run(run_id).info.lifecycle_stage != "active":
                return None
        except (MlflowException, UserError) as error:
            if getattr(error, "error_code", "") in _REFUSALS:
                return None
            print(f"{reason(error)}. Run {run_id} continues; its records are queued in {SPOOL / run_id}", flush=True)
        run = cls(run_id)
        run._record("status", status="RUNNING", end_ms=None)
        return run

    def log_metrics(self, points: Iterable[tuple[int, Mapping[str, float]]], time_ms: int | None = None) -> None:
        """Log named values at integer steps in one request.

        Points logged again with the same `time_ms` (milliseconds since 1970, by default now) are stored once.
        """
        rows = [[int(step), {name: float(value) for name, value in values.items()}] for step, values in points]
        self._record("metrics", points=rows, time_ms=_now_ms() if time_ms is None else time_ms)

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Log the present content of a file as an artifact of the run."""
        self._record("file", folder=folder, **self._queued_file("file", path))

    def log_data(self, name: str, sha256: str, url: str, context: str) -> None:
        """Log a data set that the run used: name, content digest, origin; `context` is training or testing."""
        self._record("data", name=name, sha256=sha256, url=url, context=context)

    def log_model(self, path: Path, example: np.ndarray) -> None:
        """Log a Keras file as a model with its signature (images to logits) and an input example.

        `example` is a batch (n, height, width, channels).
        """
        self._record("model", **self._queued_file("file", path), **self._queued_array("example", example))

    def propose(self, proposal: Proposal, network: Path, example: np.ndarray) -> None:
        """Let the network compete to be the champion of its data set once the run has finished; `registry.compete`."""
        files = self._queued_file("file", network) | self._queued_array("images", example)
        self._proposal = {"proposal": asdict(proposal), **files}

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run, replacing earlier values."""
        self._record("tags", tags=dict(tags))

    def join(self, parent: Parent) -> None:
        """Make the run, which is among the parent's children, a child run of `parent`, created if missing."""
        own = {**parent.tags, _UPDATED: str(parent.time_ms)}
        self._record(
            "parent",
            name=parent.name,
            params=_texts(parent.params),
            children=[*parent.children],
            metrics=dict(parent.metrics),
            tags=_tags(f"parent {digest(parent.params)}", parent.params, own, parent.description),
            time_ms=parent.time_ms,
        )

    def finish(self, status: str = "FINISHED") -> None:
        """Close the run as FINISHED, FAILED or KILLED, and wait until everything is sent or sending fails.

        Unsent records stay on disk; a printed line says where, and how to send them.
        """
        self._record("status", status=status, end_ms=_now_ms())
        if self._proposal and status == "FINISHED":
            self._record("champion", **self._proposal)
        self._sender.close()
        journal, failure = self._journal, self._sender.failure
        if journal.sent < journal.count:
            print(
                f"MLflow has {journal.sent} of the last {journal.count} records of run {self.id}: "
                f"{failure or 'it does not respond'}. "
                f"All are queued in {SPOOL / self.id}; to send them later, run: make sync",
                flush=True,
            )

    def _record(self, kind: str, **values: Any) -> None:
        self._sender.append({"kind": kind, **values})

    def _queued_file(self, field: str, path: Path) -> dict[str, str]:
        """Copy a file into the journal; the values by which a record names it."""
        copy = self._journal.new_file(path.name)
        with path.open("rb") as source, atomic(copy) as target:
            shutil.copyfileobj(source, target)
        return self._fields(field, copy)

    def _queued_array(self, field: str, array: np.ndarray) -> dict[str, str]:
        copy = self._journal.new_file(f"{field}.npy")
        with atomic(copy) as stream:
            np.save(stream, array)
        return self._fields(field, copy)

    def _fields(self, field: str, path: Path) -> dict[str, str]:
        return {field: str(path.relative_to(self._journal.folder)), f"{field}_sha256": sha256(path)}


def sync() -> None:
    """Send what runs left in mlruns/spool, and print one line per run. Raises UserError unless everything was sent."""
    for folder in SPOOL.glob("*.sent"):  # of a process that was killed while it removed a journal
        shutil.rmtree(folder)
    folders = [path for path in SPOOL.iterdir() if path.is_dir() and "." not in path.name] if SPOOL.exists() else []
    if not folders:
        print("MLflow: no queued records")
        return
    client()
    left = [folder for folder in sorted(folders) if not _replay(folder.name)]
    if left:
        raise UserError(
            f"Not everything was sent to MLflow: {len(left)} of {len(folders)} runs remain in {SPOOL}/, for the "
            "reasons above. Resolve them and run make sync again, or delete a run's folder to discard its records."
        )


def children(parent_id: str, store: mlflow.MlflowClient | None = None) -> list[Run]:
    """The runs whose parent is `parent_id`, in `store` or the default one."""
    store = store or client()
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
    """Close the run of a process that died: send its queued records, then set `status` and `tags`."""
    run = TrackedRun(run_id)
    run.set_tags(tags)
    run.finish(status)


def _replay(run_id: str) -> bool:
    """Send one journal and print the outcome; whether all of it was sent."""
    try:
        with RunJournal(run_id, wait_s=0) as journal:
            before = journal.sent
            failure = drain(journal, _record_sender(run_id, journal.folder))
            sent, left = journal.sent - before, journal.count - journal.sent
    except InUseError:
        print(f"run {run_id}: still in use by a process, which sends its records itself")
        return False
    except UserError as error:
        print(f"run {run_id}: {error}")
        return False
    if failure:
        print(f"run {run_id}: failed: {failure}. {sent} records sent, {left} remain in {SPOOL / run_id}")
    else:
        print(f"run {run_id}: {sent} records sent" if sent else f"run {run_id}: nothing to send")
    return failure is None


def _record_sender(run_id: str, folder: Path) -> Send:
    """A function that sends one record of the run, whose files are in `folder`."""
    connect = functools.cache(functools.partial(client, tracking_uri()))

    def send(record: Record) -> str | None:
        try:
            for name in ("file", "example", "images"):
                if name in record:
                    check(folder / record[name], record[f"{name}_sha256"], f"rm -r {folder} (discards these records)")
            _write(connect(), run_id, folder, record)
        except Exception as error:  # servers, proxies and drivers raise anything; none of it may end the thread
            return reason(error)
        return None

    return send


def _write(store: mlflow.MlflowClient, run_id: str, folder: Path, record: Record) -> None:
    """Write one record to the store; idempotent."""
    match record["kind"]:
        case "params":
            store.log_batch(run_id, params=[Param(k, v) for k, v in record["params"].items()])
        case "tags":
            store.log_batch(run_id, tags=[RunTag(k, v) for k, v in record["tags"].items()])
        case "metrics":
            points = [(step, *item) for step, values in record["points"] for item in values.items()]
            store.log_batch(run_id, metrics=[Metric(k, v, record["time_ms"], step) for step, k, v in points])
        case "parent":
            _join(store, run_id, record)
        case "file":
            store.log_artifact(run_id, str(folder / record["file"]), record["folder"])
        case "data":
            source = HTTPDatasetSource(record["url"])
            data_set = MetaDataset(source, name=record["name"], digest=record["sha256"][:36])
            context = InputTag("mlflow.data.context", record["context"])
            store.log_inputs(run_id, [DatasetInput(data_set._to_mlflow_entity(), [context])])
        case "model":
            example = np.load(folder / record["example"], allow_pickle=False)
            registry.log_model(store, run_id, folder / record["file"], example)
        case "champion":
            images = np.load(folder / record["images"], allow_pickle=False)
            registry.compete(store, run_id, Proposal(**record["proposal"]), folder / record["file"], images)
        case "status" if record["end_ms"] is None:
            store.update_run(run_id, status=record["status"])
        case "status":
            store.set_terminated(run_id, record["status"], record["end_ms"])


def _join(store: mlflow.MlflowClient, run_id: str, record: Record) -> None:
    """Place a run below the parent in `record`, unless the store has a later version of that parent."""
    with FileLock(LOCK):
        parent = _run_with_key(store, store.get_run(run_id).info.experiment_id, record["name"], record["tags"])
    parent_id = parent.info.run_id
    if int(parent.data.tags[_UPDATED]) > record["time_ms"]:
        return
    store.log_batch(
        parent_id,
        [Metric(k, v, record["time_ms"], 0) for k, v in record["metrics"].items()],
        [Param(k, v) for k, v in record["params"].items()],
        [RunTag(k, v) for k, v in record["tags"].items()],
    )
    store.set_terminated(parent_id, end_time=parent.info.start_time)
    store.log_batch(run_id, tags=[RunTag(MLFLOW_PARENT_RUN_ID, parent_id)])
    for child in children(parent_id, store):
        if child.info.run_id not in record["children"]:
            store.delete_tag(child.info.run_id, MLFLOW_PARENT_RUN_ID)


def provenance() -> dict[str, str]:
    """Tags for the code, pipeline stage, dvc.lock and machine that produced a run."""
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


def _tags(key: str, params: Mapping[str, Any], own: Mapping[str, str], description: str) -> dict[str, str]:
    """The tags of a run: the usual ones and its own."""
    note = {"mlflow.note.content": description} if description else {}
    return {**provenance(), **own, "params.sha256": digest(params), "cnnlab.key": key, **note}


def _texts(params: Mapping[str, Any]) -> dict[str, str]:
    """Nested parameters as MLflow stores them."""
    return {k: str(v) for k, v in flatten(params).items()}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted keys: {"a": {"b": 1}} → {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def digest(tree: Mapping[str, Any]) -> str:
    """SHA-256 of nested parameters, independent of their order."""
    return hashlib.sha256(repr(sorted(flatten(tree).items())).encode()).hexdigest()


def _find_or_create(experiment: str, name: str, tags: Mapping[str, str]) -> str:
    """The id of the experiment's run with the key in `tags`, created if missing."""
    store = client()
    try:
        with FileLock(LOCK):
            run = _run_with_key(store, experiment_named(store, experiment), name, tags)
    except MlflowException as error:
        raise UserError(f"MLflow rejects run {name!r} of experiment {experiment!r}: {reason(error)}") from error
    return str(run.info.run_id)


def _run_with_key(store: mlflow.MlflowClient, experiment_id: str, name: str, tags: Mapping[str, str]) -> Run:
    found = store.search_runs([experiment_id], f"tags.`cnnlab.key` = '{tags['cnnlab.key']}'", max_results=1)
    return found[0] if found else store.create_run(experiment_id, run_name=name, tags=tags)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _git_dirty() -> str:
    """Whether tracked files differ from the commit: true, false, or, outside a git checkout, unknown."""
    command = ["git", "status", "--porcelain", "--untracked-files=no"]
    try:
        return str(bool(subprocess.run(command, capture_output=True, check=True).stdout)).lower()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
