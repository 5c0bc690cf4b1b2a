"""The study of a sweep: begun or continued, its trials claimed, failed and tried again; every process may be killed.

Whose a running trial is stands in its attributes: `owner` names a lock file that the owner's process holds, `heartbeat`
is renewed. So on one host a dead owner is seen at once, and from another one after STALE_S seconds. Optuna's own
heartbeat knows databases alone and `optimize`'s own loop.
"""

import hashlib
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, text

from cnnlab import track
from cnnlab.errors import UserError
from cnnlab.files import MLRUNS
from cnnlab.sweep.plan import Plan, entry
from cnnlab.sweep.storage import open_storage, patiently

OWNERS = MLRUNS / "sweeps"
SAID = {"original", "attempt", "role"}  # what every claimed trial says of itself
STALE_S = 60.0
BEGINNING_S = 10.0
BEGUN = "begun"  # attribute of a study whose facts are all told
ATTEMPTS = 3


@dataclass
class Ledger:
    """A study as one owner sees it."""

    plan: Plan
    study: optuna.Study
    owner: str
    parent: str  # MLflow's run of the study

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return _trials(self.study)

    def trial(self, number: int) -> FrozenTrial:
        """The trial `number`."""
        return self.trials()[number]

    def note(self, trial: FrozenTrial, **values: Any) -> None:
        """Set user attributes of a trial that is not finished."""
        for name, value in values.items():
            _repeat(self.study._storage.set_trial_user_attr, trial._trial_id, name, value)

    def claim(self) -> FrozenTrial | None:
        """The next waiting trial, with its values chosen; None where none waits, or where it made no valid variant."""
        trial_id = patiently(self.study._pop_waiting_trial_id)  # `ask` would add a trial where none waits
        if trial_id is None:
            return None
        asked = patiently(lambda: optuna.Trial(self.study, trial_id))
        attrs = {"role": "search", "attempt": 1, "original": asked.number}
        attrs |= {name: value for name, value in asked.user_attrs.items() if name in attrs}
        trial = self.trial(asked.number)
        self.note(trial, **attrs, owner=self.owner, host=platform.node(), heartbeat=time.time())
        try:
            variant = patiently(lambda: self.plan.choose(asked))
            self.note(trial, variant=variant.model_dump())
        except UserError as error:
            self.note(trial, reason=str(error), retry="no")
            self.fail(asked.number)
            return None
        return self.trial(asked.number)

    def beat(self, numbers: list[int]) -> None:
        """Renew the heartbeat of trials of one's own."""
        for trial in (self.trials()[number] for number in numbers):
            if trial.state is TrialState.RUNNING:
                try:
                    self.note(trial, heartbeat=time.time())
                except UpdateFinishedTrialError:
                    continue  # it ended in between

    def fail(self, number: int, reason: str = "", retry: str = "again") -> None:
        """End a running trial as failed, for its own reason or else `reason`; it is tried again where that may help."""
        trial = self.trial(number)
        try:
            if "reason" not in trial.user_attrs:
                self.note(trial, reason=reason, retry=retry)
            _repeat(self.study._storage.set_trial_state_values, trial._trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return  # by another process
        self.try_again(self.trial(number))

    def try_again(self, trial: FrozenTrial) -> None:
        """Enqueue the next attempt at a failed trial, if there is to be one; its checkpoint is its start."""
        attempt = _next_attempt(trial)
        if attempt is None:
            return
        known = {"original": _original(trial), "attempt": attempt, "role": trial.user_attrs.get("role", "search")}
        chosen = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        patiently(lambda: self.study.enqueue_trial(chosen, user_attrs=known))

    def recover(self) -> None:
        """Fail the running trials of dead owners, and enqueue attempts that a death kept from being enqueued."""
        trials = self.trials()
        for trial in trials:
            if trial.state is TrialState.RUNNING and trial.user_attrs.get("owner") != self.owner and _dead(trial):
                self.fail(trial.number, "the sweep's process on its host died or was stopped")
        if any(time.time() - _ended(trial) > STALE_S for trial in self._orphans()):
            with alone(self.study):
                for trial in self._orphans():
                    if time.time() - _ended(trial) > STALE_S:
                        self.try_again(trial)

    def planned(self) -> int:
        """How many trials there are, retries not counted."""
        return _planned(self.trials())

    def lost(self) -> list[FrozenTrial]:
        """Failed trials that will not be tried again, by their last attempt."""
        return [trial for trial in self._failed_last() if _next_attempt(trial) is None]

    def _orphans(self) -> list[FrozenTrial]:
        """Failed trials whose next attempt is not yet enqueued."""
        return [trial for trial in self._failed_last() if _next_attempt(trial)]

    def _failed_last(self) -> list[FrozenTrial]:
        last = {_original(trial): trial for trial in self.trials()}
        return [trial for trial in last.values() if trial.state is TrialState.FAIL]

    def is_done(self) -> bool:
        """Whether no trial waits, runs, or is to be tried again."""
        return all(trial.state.is_finished() for trial in self.trials()) and not self._orphans()

    def agree(self) -> None:
        """Make MLflow say of every finished trial what the study says; a kill may have come between the two."""
        known = {run.data.tags["optuna.trial"]: run for run in track.children(self.parent)}
        for trial in self.trials():
            if not trial.state.is_finished() or not trial.user_attrs.keys() >= SAID:
                continue
            tags = {"optuna.state": trial.state.name, "reason": trial.user_attrs.get("reason", "")}
            status = "FAILED" if trial.state is TrialState.FAIL else "FINISHED"
            run = known.get(str(trial.number))
            if run and run.info.status == status and tags.items() <= {"reason": "", **run.data.tags}.items():
                continue
            shown = entry(self.plan, self.parent, trial)
            run_id = run.info.run_id if run else _created(shown)
            track.settle(run_id, status, tags)


def open_ledger(plan: Plan, owner: str) -> Ledger:
    """The plan's study, begun or continued, with at least the plan's trials, and its MLflow run."""
    plan.check()
    storage = open_storage(plan.storage)
    chosen: dict[str, Any] = {
        "study_name": plan.study,
        "storage": storage,
        "sampler": plan.sampler,
        "pruner": plan.pruner,
    }
    directions = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE][: len(plan.objectives)]
    try:
        study = patiently(lambda: optuna.create_study(**chosen, directions=directions))
    except DuplicatedStudyError:
        study = patiently(lambda: optuna.load_study(**chosen))
        _wait_for_beginning(study)
    with alone(study):
        for values, attrs in plan.enqueued(first=_planned(_trials(study))):
            _repeat(study.enqueue_trial, values, attrs)
        if BEGUN not in patiently(lambda: study.user_attrs):
            for name, value in {**plan.facts, BEGUN: True}.items():
                _repeat(study.set_user_attr, name, value)
    told, about = plan.shown
    name = plan.study if plan.study.startswith(plan.kind) else f"{plan.kind} {plan.study}"
    run = track.Run.start(f"{plan.kind} {plan.study}", plan.experiment, name, about, {"optuna.study": plan.study}, told)
    run.finish()
    return Ledger(plan, study, owner, run.id)


@contextmanager
def alone(study: optuna.Study) -> Iterator[None]:
    """No other process of any host is in such a block of the same study meanwhile."""
    backend = getattr(study._storage, "_backend", study._storage)
    if isinstance(backend, optuna.storages.RDBStorage):
        key = int.from_bytes(hashlib.sha256(study.study_name.encode()).digest()[:8], signed=True)

        def locked() -> Connection:  # the lock ends with the transaction, thus with us
            connection = backend.engine.connect()
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            return connection

        with patiently(locked):
            yield
    else:
        OWNERS.mkdir(parents=True, exist_ok=True)
        with FileLock(OWNERS / f"{study.study_name}.study"):
            yield


def _wait_for_beginning(study: optuna.Study) -> None:
    """Leave the process that made the study the time to enqueue its trials; it may have died before."""
    end = time.monotonic() + BEGINNING_S
    while BEGUN not in patiently(lambda: study.user_attrs) and time.monotonic() < end:
        time.sleep(0.2)


def _trials(study: optuna.Study) -> list[FrozenTrial]:
    return patiently(lambda: study.get_trials(deepcopy=False))


def _planned(trials: list[FrozenTrial]) -> int:
    """How many trials there are, retries not counted."""
    return len({_original(trial) for trial in trials})


def _original(trial: FrozenTrial) -> int:
    """The number of the first attempt."""
    return int(trial.user_attrs.get("original", trial.number))


def _next_attempt(trial: FrozenTrial) -> int | None:
    """The number of the attempt to follow a failed one; an interruption does not count as one."""
    attrs = trial.user_attrs
    attempt = int(attrs.get("attempt", 1)) + (attrs.get("retry") != "continue")
    return None if attrs.get("retry") == "no" or attempt > ATTEMPTS else attempt


def _ended(trial: FrozenTrial) -> float:
    return trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0


def _dead(trial: FrozenTrial) -> bool:
    owner, beat = trial.user_attrs.get("owner"), float(trial.user_attrs.get("heartbeat", 0.0))
    started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    lock = OWNERS / f"{owner}.lock"
    if owner is None or not lock.exists():
        return time.time() - (beat or started) > STALE_S
    try:
        with FileLock(lock, timeout=0):
            return True
    except Timeout:
        return False


def _created(shown: track.Entry) -> str:
    run = track.Run.start(shown.key or "", shown.experiment, shown.title, {}, shown.tags)
    run.finish("FAILED")
    return run.id


def _repeat(call: Callable[..., Any], *arguments: Any) -> Any:
    return patiently(lambda: call(*arguments))
