"""Recovery of trials whose owners died, in a journal and in PostgreSQL; other hosts are processes."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock
from studies import ledgers
from studies.ledgers import (
    FAIL,
    LESSON,
    RUNNING,
    WAITING,
    Open,
    a_plan,
    at_once,
    attempts,
    claim_all,
    claimed,
    end,
    states,
)

from cnnlab.studies import ledger as study
from cnnlab.studies.ledger import OWNERS


def test_trials_of_a_dead_owner_are_tried_again_at_once(opened: Open) -> None:
    dead = opened(trials=3)
    for _ in range(2):
        claimed(dead)
    ledger = opened(trials=3, owner="another")
    ledger.recover()
    assert states(ledger) == [FAIL, FAIL, WAITING, WAITING, WAITING]
    assert "died" in ledger.trial(0).user_attrs["reason"]
    assert attempts(ledger, 0) == [(1, FAIL), (2, WAITING)]
    assert attempts(ledger, 1) == [(1, FAIL), (2, WAITING)]


def test_trials_of_a_living_owner_are_left_alone(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "STALE_S", -1000.0)  # whatever its heartbeat
    claimed(opened())
    ledger = opened(owner="another")
    with FileLock(OWNERS / "here.lock"):
        ledger.recover()
    assert states(ledger) == [RUNNING, WAITING, WAITING, WAITING]
    ledger.recover()
    assert states(ledger) == [FAIL, WAITING, WAITING, WAITING, WAITING]


def test_trials_of_ones_own_are_left_alone(opened: Open) -> None:
    ledger = opened()
    claimed(ledger)
    ledger.recover()
    assert states(ledger) == [RUNNING, WAITING, WAITING, WAITING]


def test_trials_of_another_host_are_left_alone_while_its_heart_beats(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, ledger = opened(owner="there"), opened()
    trial = claimed(there)
    ledger.recover()
    assert ledger.trial(0).state is RUNNING
    monkeypatch.setattr(study, "STALE_S", -1000.0)  # what has just started counts as stale too
    ledger.set_attrs(trial, heartbeat=time.time() + 10_000)
    ledger.recover()
    assert ledger.trial(0).state is RUNNING
    ledger.set_attrs(trial, heartbeat=time.time())
    ledger.recover()
    assert attempts(ledger, 0) == [(1, FAIL), (2, WAITING)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Set this process's time zone."""

    def set_zone(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


def test_hosts_may_lie_in_different_time_zones(opened: Open, clock: Callable[[str], None]) -> None:
    there, here = opened(owner="there"), opened()
    clock("UTC-9")  # Tokyo
    fresh, old = claimed(there), claimed(there)
    clock("UTC")
    here.set_attrs(old, heartbeat=time.time() - 1000)
    here.recover()
    assert [here.trial(trial.number).state for trial in (fresh, old)] == [RUNNING, FAIL]
    clock("UTC+5")  # New York
    here.recover()
    assert here.trial(fresh.number).state is RUNNING


def test_two_that_recover_one_after_the_other_enqueue_one_attempt(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed(opened(trials=1))
    one, other = opened(trials=1, owner="one"), opened(trials=1, owner="other")
    one.recover()
    monkeypatch.setattr(study, "STALE_S", -1000.0)
    other.recover()
    one.recover()
    assert attempts(one, 0) == [(1, FAIL), (2, WAITING)]


@pytest.mark.parametrize("killed_while_failing", [False, True])
def test_hosts_that_recover_at_once_enqueue_one_attempt_each(
    hosts: ProcessPoolExecutor, opened: Open, storage_url: str, top: Path, killed_while_failing: bool
) -> None:
    dead = opened(trials=8)
    claim_all(dead)
    if killed_while_failing:
        for trial in dead.trials():
            end(dead, trial, state=FAIL, reason="no reason", retry="again")
    task = ledgers.recovers_stale if killed_while_failing else ledgers.recovers
    at_once(hosts, task, a_plan(storage_url, trials=8), top)
    claim_all(ledger := opened(trials=8, owner="another"))
    running = [[known for known in attempts(ledger, number) if known[1] is RUNNING] for number in range(8)]
    assert running == [[(2, RUNNING)]] * 8


def test_an_attempt_that_a_kill_kept_from_being_enqueued_is_enqueued_once_stale(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = opened(trials=1)
    end(dead, claimed(dead), state=FAIL, reason="no reason", retry="again")  # and killed here
    ledger = opened(trials=1, owner="another")
    ledger.recover()
    assert attempts(ledger, 0) == [(1, FAIL)]  # its owner may be about to enqueue it
    assert not ledger.is_done()
    monkeypatch.setattr(study, "STALE_S", -1000.0)
    for _ in range(3):
        ledger.recover()
    assert attempts(ledger, 0) == [(1, FAIL), (2, WAITING)]


@pytest.mark.parametrize("noted", [0, 1, 2, 3, 4, 5])
def test_a_kill_amid_a_claim_loses_nothing(opened: Open, noted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The baseline and another trial, taken, and the first `noted` of their attributes set."""
    dead = opened(trials=2)
    order = {"original": 0, "attempt": 1, "role": "search", "owner": "here", "heartbeat": 0.0}
    for number in (0, 1):
        trial = dead.trial(number)
        dead.study._storage.set_trial_state_values(trial._trial_id, RUNNING)
        attrs = {**order, "original": number, "role": "baseline" if number == 0 else "search"}
        dead.set_attrs(trial, **dict([*attrs.items()][:noted]))
    ledger = opened(trials=2, owner="another")
    monkeypatch.setattr(study, "STALE_S", -1000.0)
    ledger.recover()
    ledger.sync_mlflow()
    first, second = claimed(ledger), claimed(ledger)
    assert ledger.claim() is None
    assert first.user_attrs["variant"] == LESSON.model_dump()  # the base's own values
    known = [(t.user_attrs["original"], t.user_attrs["attempt"], t.user_attrs["role"]) for t in (first, second)]
    assert known == [(0, 2, "baseline"), (1, 2, "search")]
