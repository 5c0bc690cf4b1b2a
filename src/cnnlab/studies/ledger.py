"""The ledger of a study: its trials are claimed, failed, retried and recovered, whichever process is killed.

The user attributes of a running trial name its owner. `owner` is the name of a lock file that the owner's process
holds, `heartbeat` the time of its last sign of life: a dead owner is noticed at once on its own host, and after STALE_S
seconds on others. Optuna's own heartbeat works only with databases and `Study.optimize`.
"""

import hashlib
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
from filelock import FileLock, Timeout
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection
from sqlalchemy import text as sql

from cnnlab.errors import UserError
from cnnlab.files import MLRUNS
from cnnlab.studies.plan import Plan
from cnnlab.studies.storage import open_storage, with_retries
from cnnlab.tracking.runs import Entry, TrackedRun, children, settle

OWNERS = MLRUNS / "sweeps"
CLAIM = {"original": None, "attempt": 1, "role": "search"}  # attributes of every claimed trial, and their defaults
STALE_S = 60.0
INITIALISATION_S = 10.0
INITIALISED = "begun"  # attribute of a study that has all its attributes
MAX_ATTEMPTS = 3


@dataclass
class Ledger:
    """A study from the point of view of one owner of trials."""

    plan: Plan
    study: optuna.Study
    owner: str
    parent: str  # ID of the study's MLflow run

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return _trials(self.study)

    def trial(self, number: int) -> FrozenTrial:
        """The trial `number`."""
        return self.trials()[number]

    def set_attrs(self, trial: FrozenTrial, **values: Any) -> None:
        """Set user attributes of an unfinished trial."""
        for name, value in values.items():
            _retry(self.study._storage.set_trial_user_attr, trial._trial_id, name, value)

    def claim(self) -> FrozenTrial | None:
        """Claim the next waiting trial and choose its values; None if none waits or the values are invalid."""
        trial_id = with_retries(self.study._pop_waiting_trial_id)  # `ask` would add a trial if none waits
        if trial_id is None:
            return None
        popped = with_retries(lambda: optuna.Trial(self.study, trial_id))
        known = {name: value for name, value in popped.user_attrs.items() if name in CLAIM}
        attrs = {**CLAIM, "original": popped.number, **known}
        trial = self.trial(popped.number)
        self.set_attrs(trial, **attrs, owner=self.owner, host=platform.node(), heartbeat=time.time())
        try:
            variant = with_retries(lambda: self.plan.choose(popped))
            self.set_attrs(trial, variant=variant.model_dump())
        except UserError as error:
            self.set_attrs(trial, reason=str(error), retry="no")
            self.fail(popped.number)
            return None
        return self.trial(popped.number)

    def renew_heartbeats(self, numbers: list[int]) -> None:
        """Renew the heartbeats of this owner's running trials."""
        for trial in (self.trials()[number] for number in numbers):
            if trial.state is TrialState.RUNNING:
                try:
                    self.set_attrs(trial, heartbeat=time.time())
                except UpdateFinishedTrialError:
                    continue

    def fail(self, number: int, reason: str = "", retry: str = "again") -> None:
        """Fail a running trial and enqueue a retry if that may help; `reason` applies if the trial has none itself."""
        trial = self.trial(number)
        try:
            if "reason" not in trial.user_attrs:
                self.set_attrs(trial, reason=reason, retry=retry)
            _retry(self.study._storage.set_trial_state_values, trial._trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return  # by another process
        self.enqueue_retry(self.trial(number))

    def enqueue_retry(self, trial: FrozenTrial) -> None:
        """Enqueue the next attempt of a failed trial, if there is to be one; it starts from the last checkpoint."""
        attempt = _next_attempt(trial)
        if attempt is None:
            return
        attrs = {"original": _original(trial), "attempt": attempt, "role": trial.user_attrs.get("role", "search")}
        values = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        with_retries(lambda: self.study.enqueue_trial(values, user_attrs=attrs))

    def recover(self) -> None:
        """Fail the running trials of dead owners, and enqueue the retries that these did not get to."""
        for trial in self.trials():
            if trial.state is TrialState.RUNNING and trial.user_attrs.get("owner") != self.owner and _is_dead(trial):
                self.fail(trial.number, "the study's process on its host died or was stopped")
        if self._stale_orphans():
            with locked(self.study):
                for trial in self._stale_orphans():
                    self.enqueue_retry(trial)

    def planned(self) -> int:
        """Number of trials, not counting retries."""
        return _planned(self.trials())

    def lost(self) -> list[FrozenTrial]:
        """Last attempts of the trials that failed for good."""
        return [trial for trial in self._failed() if _next_attempt(trial) is None]

    def _orphans(self) -> list[FrozenTrial]:
        """Failed trials whose retry is not enqueued yet."""
        return [trial for trial in self._failed() if _next_attempt(trial)]

    def _stale_orphans(self) -> list[FrozenTrial]:
        return [trial for trial in self._orphans() if time.time() - _timestamp(trial.datetime_complete) > STALE_S]

    def _failed(self) -> list[FrozenTrial]:
        last = {_original(trial): trial for trial in self.trials()}
        return [trial for trial in last.values() if trial.state is TrialState.FAIL]

    def is_done(self) -> bool:
        """Whether no trial waits, runs, or is to be retried."""
        return all(trial.state.is_finished() for trial in self.trials()) and not self._orphans()

    def sync_mlflow(self) -> None:
        """Update MLflow's runs of the finished trials from the study; a kill may have left them behind."""
        runs = {run.data.tags["optuna.trial"]: run for run in children(self.parent)}
        for trial in self.trials():
            if not trial.state.is_finished() or not trial.user_attrs.keys() >= CLAIM.keys():
                continue
            tags = {"optuna.state": trial.state.name, "reason": trial.user_attrs.get("reason", "")}
            status = "FAILED" if trial.state is TrialState.FAIL else "FINISHED"
            run = runs.get(str(trial.number))
            if run and run.info.status == status and tags.items() <= {"reason": "", **run.data.tags}.items():
                continue
            settle(run.info.run_id if run else _created(mlflow_entry(self.plan, self.parent, trial)), status, tags)


def open_ledger(plan: Plan, owner: str) -> Ledger:
    """Create or continue the plan's study with at least the planned trials, and its MLflow run."""
    arguments: dict[str, Any] = {
        "study_name": plan.study,
        "storage": open_storage(plan.storage),
        "sampler": plan.sampler,
        "pruner": plan.pruner,
    }
    directions = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE][: len(plan.objectives)]
    try:
        study = with_retries(lambda: optuna.create_study(**arguments, directions=directions))
    except DuplicatedStudyError:
        study = with_retries(lambda: optuna.load_study(**arguments))
        _wait_for_initialisation(study)
    with locked(study):
        for values, attrs in plan.enqueued(first=_planned(_trials(study))):
            _retry(study.enqueue_trial, values, attrs)
        if INITIALISED not in with_retries(lambda: study.user_attrs):
            for name, value in {**plan.attrs, INITIALISED: True}.items():
                _retry(study.set_user_attr, name, value)
    key = f"{plan.kind} {plan.study}"
    title = plan.study if plan.study.startswith(plan.kind) else key
    description, parameters = plan.description
    run = TrackedRun.start(key, plan.experiment, title, parameters, {"optuna.study": plan.study}, description)
    run.finish()
    return Ledger(plan, study, owner, run.id)


def mlflow_entry(plan: Plan, parent: str, trial: FrozenTrial) -> Entry:
    """MLflow's entry of a trial: a child of run `parent`, identified by the trial's number."""
    attrs = trial.user_attrs
    attempt = f", attempt {attrs['attempt']} at trial {attrs['original']}" if attrs["attempt"] > 1 else ""
    return Entry(
        plan.experiment,
        f"{plan.title(trial)}{attempt}",
        {
            MLFLOW_PARENT_RUN_ID: parent,
            "optuna.study": plan.study,
            "optuna.trial": str(trial.number),
            **{f"optuna.{name}": str(attrs[name]) for name in CLAIM},
            **plan.tags(trial),
        },
        key=f"{parent}-{trial.number}",
    )


@contextmanager
def locked(study: optuna.Study) -> Iterator[None]:
    """Lock a study against other such blocks, in all processes of all hosts."""
    backend = getattr(study._storage, "_backend", study._storage)
    if isinstance(backend, optuna.storages.RDBStorage):
        key = int.from_bytes(hashlib.sha256(study.study_name.encode()).digest()[:8], signed=True)

        def connect() -> Connection:  # the lock ends with the transaction, thus with this process
            connection = backend.engine.connect()
            connection.execute(sql("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            return connection

        with with_retries(connect):
            yield
    else:
        OWNERS.mkdir(parents=True, exist_ok=True)
        with FileLock(OWNERS / f"{study.study_name}.study"):
            yield


def _wait_for_initialisation(study: optuna.Study) -> None:
    """Give the process that created the study time to enqueue its trials; it may have died before."""
    end = time.monotonic() + INITIALISATION_S
    while INITIALISED not in with_retries(lambda: study.user_attrs) and time.monotonic() < end:
        time.sleep(0.2)


def _trials(study: optuna.Study) -> list[FrozenTrial]:
    return with_retries(lambda: study.get_trials(deepcopy=False))


def _planned(trials: list[FrozenTrial]) -> int:
    return len({_original(trial) for trial in trials})


def _original(trial: FrozenTrial) -> int:
    """Number of the first attempt."""
    return int(trial.user_attrs.get("original", trial.number))


def _next_attempt(trial: FrozenTrial) -> int | None:
    """Number of the attempt after a failed one, None if there is none; an interrupted attempt does not count."""
    attrs = trial.user_attrs
    attempt = int(attrs.get("attempt", 1)) + (attrs.get("retry") != "continue")
    return None if attrs.get("retry") == "no" or attempt > MAX_ATTEMPTS else attempt


def _is_dead(trial: FrozenTrial) -> bool:
    owner, heartbeat = trial.user_attrs.get("owner"), float(trial.user_attrs.get("heartbeat", 0.0))
    lock = OWNERS / f"{owner}.lock"
    if owner is None or not lock.exists():
        return time.time() - (heartbeat or _timestamp(trial.datetime_start)) > STALE_S
    try:
        with FileLock(lock, timeout=0):
            return True
    except Timeout:
        return False


def _timestamp(moment: datetime | None) -> float:
    return moment.timestamp() if moment else 0.0


def _created(entry: Entry) -> str:
    run = TrackedRun.start(entry.key or "", entry.experiment, entry.title, {}, entry.tags)
    run.finish("FAILED")
    return run.id


def _retry(call: Callable[..., Any], *arguments: Any) -> Any:
    return with_retries(lambda: call(*arguments))
