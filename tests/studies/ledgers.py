"""Ledgers of a small sweep, in a journal or in PostgreSQL, and other hosts as processes."""

import dataclasses
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from cnnlab import params
from cnnlab.studies import ledger as study
from cnnlab.studies.ledger import OWNERS, Ledger, open_ledger
from cnnlab.studies.search.plan import SearchPlan, make_plan

ROOT = Path(__file__).parents[2]
SHIPPED = params.load(ROOT / "params.yaml")
LESSON = SHIPPED.variants["lesson"]
KEYS = ("network.filters.2", "network.depths.2", "network.conv_dropout.2")
KEYS += ("optimizer.name", "optimizer.learning_rate", "optimizer.momentum")
HOSTS = 3
WAITING, RUNNING, COMPLETE, PRUNED, FAIL = (
    TrialState.WAITING,
    TrialState.RUNNING,
    TrialState.COMPLETE,
    TrialState.PRUNED,
    TrialState.FAIL,
)
Open = Callable[..., Ledger]


def a_plan(url: str, trials: int = 4, **changes: Any) -> SearchPlan:
    """The shipped plan with a few keys, and `changes` of its section sweep."""
    plan = make_plan(SHIPPED, "smoke", trials, "try", url)
    changes = {"space": {key: plan.sweep.space[key] for key in KEYS}, **changes}
    return dataclasses.replace(plan, sweep=plan.sweep.model_copy(update=changes))


@pytest.fixture
def opened(storage_url: str, top: Path) -> Iterator[Open]:
    """Open the study as some owner, by default one of this host that is not alive."""
    ledgers = []

    def open_it(trials: int = 4, owner: str = "here", **changes: Any) -> Ledger:
        ledgers.append(open_ledger(a_plan(storage_url, trials, **changes), owner))
        return ledgers[-1]

    OWNERS.mkdir()
    (OWNERS / "here.lock").touch()
    yield open_it
    for ledger in ledgers:
        backend = getattr(ledger.study._storage, "_backend", None)
        if isinstance(backend, optuna.storages.RDBStorage):
            backend.remove_session()
            backend.engine.dispose()  # else its connections warn when they are collected


def end(ledger: Ledger, trial: FrozenTrial, *values: float, state: TrialState = COMPLETE, **facts: Any) -> None:
    """End a trial as its process does."""
    ledger.set_attrs(trial, **facts)
    ledger.study._storage.set_trial_state_values(trial._trial_id, state, values or None)


def claimed(ledger: Ledger) -> FrozenTrial:
    trial = ledger.claim()
    assert trial
    return trial


def states(ledger: Ledger) -> list[TrialState]:
    return [trial.state for trial in ledger.trials()]


def attempts(ledger: Ledger, original: int) -> list[tuple[int, TrialState]]:
    """Number and state of every attempt at a trial."""
    known = [trial for trial in ledger.trials() if trial.user_attrs.get("original", trial.number) == original]
    return [(trial.user_attrs.get("attempt", 1), trial.state) for trial in known]


def claim_all(ledger: Ledger) -> list[int]:
    """The numbers of the trials claimed until none waits."""
    numbers = []
    while any(trial.state is WAITING for trial in ledger.trials()):
        if trial := ledger.claim():
            numbers.append(trial.number)
    return numbers


# Other hosts: processes that begin a task at the same moment

_barrier: Any = None


def _become_host(barrier: Any) -> None:
    global _barrier
    _barrier = barrier
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def opens(plan: SearchPlan, owner: str, folder: Path) -> list[int]:
    os.chdir(folder)
    _barrier.wait(60)
    return [trial.number for trial in open_ledger(plan, owner).trials()]


def claims(plan: SearchPlan, owner: str, folder: Path) -> list[int]:
    os.chdir(folder)
    ledger = open_ledger(plan, owner)
    _barrier.wait(60)
    return claim_all(ledger)


def recovers(plan: SearchPlan, owner: str, folder: Path) -> None:
    os.chdir(folder)
    ledger = open_ledger(plan, owner)
    _barrier.wait(60)
    ledger.recover()


def recovers_stale(plan: SearchPlan, owner: str, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "STALE_S", -1000.0)
        recovers(plan, owner, folder)


@pytest.fixture(scope="module")
def hosts() -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    # Not multiprocessing.Pool, which replaces for ever a process that dies at its start.
    with ProcessPoolExecutor(HOSTS, context, _become_host, (context.Barrier(HOSTS),)) as pool:
        yield pool


def at_once(
    hosts: ProcessPoolExecutor, task: Callable[[SearchPlan, str, Path], Any], plan: SearchPlan, top: Path
) -> list[Any]:
    """What the task returned to each host."""
    begun = [hosts.submit(task, plan, f"host {i}", top) for i in range(HOSTS)]
    return [one.result() for one in begun]
