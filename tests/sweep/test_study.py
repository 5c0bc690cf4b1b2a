"""A study's beginning, claims, failures and recovery, in a journal and in PostgreSQL; other hosts are processes."""

import dataclasses
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from filelock import FileLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sweep.postgres import Postgres

from cnnlab import params, track
from cnnlab.sweep import space, study
from cnnlab.sweep.plan import entry
from cnnlab.sweep.progress import Progress, status
from cnnlab.sweep.search import Search, make_plan
from cnnlab.sweep.study import OWNERS, Ledger, open_ledger

pytestmark = pytest.mark.filterwarnings("ignore:.*``noload``")  # in MLflow's own code
ROOT = Path(__file__).parents[2]
SHIPPED = params.load(ROOT / "params.yaml")
LESSON = SHIPPED.variants["lesson"]
KEYS = ("network.filters.2", "network.blocks.2", "network.conv_dropout.2")
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


def a_plan(url: str, trials: int = 4, **changes: Any) -> Search:
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
    ledger.note(trial, **facts)
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


def _opens(plan: Search, owner: str, folder: Path) -> list[int]:
    os.chdir(folder)
    _barrier.wait(60)
    return [trial.number for trial in open_ledger(plan, owner).trials()]


def _claims(plan: Search, owner: str, folder: Path) -> list[int]:
    os.chdir(folder)
    ledger = open_ledger(plan, owner)
    _barrier.wait(60)
    return claim_all(ledger)


def _recovers(plan: Search, owner: str, folder: Path) -> None:
    os.chdir(folder)
    ledger = open_ledger(plan, owner)
    _barrier.wait(60)
    ledger.recover()


def _recovers_stale(plan: Search, owner: str, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "STALE_S", -1000.0)
        _recovers(plan, owner, folder)


@pytest.fixture(scope="module")
def hosts() -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    # Not multiprocessing.Pool, which replaces for ever a process that dies at its start.
    with ProcessPoolExecutor(HOSTS, context, _become_host, (context.Barrier(HOSTS),)) as pool:
        yield pool


def at_once(hosts: ProcessPoolExecutor, task: Callable[[Search, str, Path], Any], plan: Search, top: Path) -> list[Any]:
    """What the task returned to each host."""
    begun = [hosts.submit(task, plan, f"host {i}", top) for i in range(HOSTS)]
    return [one.result() for one in begun]


# The beginning


def test_a_new_study_has_its_trials_and_the_base_is_the_first(opened: Open) -> None:
    ledger = opened(trials=4)
    assert states(ledger) == [WAITING] * 4
    assert ledger.study.directions == [StudyDirection.MAXIMIZE]
    assert ledger.study.user_attrs == {
        "baseline": "lesson",
        "objectives": ["validation accuracy"],
        "epochs": 1,
        "train_images": 1024,
        "seed": 0,
        "begun": True,
    }
    first, *others = (claimed(ledger) for _ in range(4))
    assert (first.number, first.user_attrs["role"]) == (0, "baseline")
    assert first.params == space.baseline(ledger.plan.sweep.space, LESSON)
    assert params.Variant.model_validate(first.user_attrs["variant"]) == LESSON
    assert [trial.user_attrs["role"] for trial in others] == ["search"] * 3
    assert ledger.claim() is None


@pytest.mark.parametrize(("minimise", "named"), [("flop", "FLOPs"), ("parameters", "parameters")])
def test_a_second_objective_is_minimised(opened: Open, minimise: str, named: str) -> None:
    ledger = opened(minimise=minimise)
    assert ledger.study.directions == [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    assert ledger.study.user_attrs["objectives"] == ["validation accuracy", named]
    assert isinstance(ledger.study.pruner, optuna.pruners.NopPruner)
    end(ledger, claimed(ledger), 0.5, 1000.0)
    assert ledger.trial(0).values == [0.5, 1000.0]


def test_its_mlflow_run_is_one_however_often_it_is_opened(opened: Open) -> None:
    assert opened().parent == opened(trials=5).parent
    run = track.client().get_run(opened().parent)
    assert run.info.status == "FINISHED"
    assert run.data.tags["optuna.study"] == a_plan("").study
    assert run.data.params["base"] == "lesson"


def test_opened_again_it_has_no_more_than_is_planned(opened: Open) -> None:
    first = opened(trials=4)
    for number in (0, 1):
        claimed(first)
        first.fail(number, "no reason")  # its next attempt is no further trial of the plan
    again = opened(trials=4, owner="there")
    assert len(again.trials()) == 6
    assert [trial.user_attrs.get("role") for trial in again.trials()].count("baseline") == 2  # both attempts
    assert len(opened(trials=6).trials()) == 8
    assert len(opened(trials=2).trials()) == 8
    end(again, claimed(again), 0.5)
    assert len(opened(trials=6).trials()) == 8


def test_a_study_whose_maker_died_at_once_gets_its_baseline(
    opened: Open, storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "BEGINNING_S", 0.0)
    plan = a_plan(storage_url)
    optuna.create_study(study_name=plan.study, storage=study.open_storage(storage_url), direction="maximize")
    ledger = opened()
    assert [trial.user_attrs.get("role") for trial in ledger.trials()] == ["baseline", None, None, None]
    assert ledger.study.user_attrs["seed"] == 0


def test_hosts_that_begin_it_at_once_begin_it_once(
    hosts: ProcessPoolExecutor, opened: Open, storage_url: str, top: Path
) -> None:
    at_once(hosts, _opens, a_plan(storage_url, trials=5), top)
    ledger = opened(trials=5)
    assert [trial.user_attrs.get("role") for trial in ledger.trials()] == ["baseline", *[None] * 4]


def test_hosts_that_extend_it_at_once_extend_it_once(
    hosts: ProcessPoolExecutor, opened: Open, storage_url: str, top: Path
) -> None:
    opened(trials=2)
    at_once(hosts, _opens, a_plan(storage_url, trials=8), top)
    assert len(opened(trials=8).trials()) == 8


# Claims


def test_a_claimed_trial_knows_its_owner_and_its_variant(opened: Open) -> None:
    ledger = opened(owner="somebody")
    before = time.time()
    claimed(ledger)
    trial = claimed(ledger)
    attrs = trial.user_attrs
    assert (trial.number, trial.state) == (1, RUNNING)
    told = {name: attrs[name] for name in ("original", "attempt", "role", "owner")}
    assert told == {"original": 1, "attempt": 1, "role": "search", "owner": "somebody"}
    assert before <= attrs["heartbeat"] <= time.time()
    assert attrs["variant"] == space.apply(LESSON, trial.params).model_dump()
    assert set(trial.params) <= set(KEYS)


def test_hosts_claim_every_trial_once(hosts: ProcessPoolExecutor, opened: Open, storage_url: str, top: Path) -> None:
    opened(trials=20)
    claims = at_once(hosts, _claims, a_plan(storage_url, trials=20), top)
    assert sorted(number for numbers in claims for number in numbers) == [*range(20)]
    ledger = opened(trials=20)
    assert states(ledger) == [RUNNING] * 20
    owners = {trial.number: trial.user_attrs["owner"] for trial in ledger.trials()}
    assert owners == {number: f"host {i}" for i, numbers in enumerate(claims) for number in numbers}


def test_values_that_make_no_variant_fail_once_and_for_all(storage_url: str, top: Path) -> None:
    plan = a_plan(storage_url, trials=1)
    searched = {key: plan.sweep.space[key].model_copy(update={"when": {}}) for key in KEYS[3:]}
    base = LESSON.model_copy(update={"optimizer": params.Optimizer(name="sgd", learning_rate=0.01)})
    plan = dataclasses.replace(plan, base=base, sweep=plan.sweep.model_copy(update={"space": searched}))
    ledger = open_ledger(plan, "here")
    claimed(ledger)
    ledger.study.enqueue_trial({"optimizer.name": "adam", "optimizer.momentum": 0.9})
    assert ledger.claim() is None
    trial = ledger.trial(1)
    assert trial.state is FAIL
    assert trial.user_attrs["reason"].startswith("Invalid combination in sweep.space. ")
    assert len(ledger.trials()) == 2
    end(ledger, ledger.trial(0), 0.5)
    assert ledger.is_done()


def test_a_heartbeat_is_renewed_unless_the_trial_has_ended(opened: Open) -> None:
    ledger = opened()
    for trial in (claimed(ledger), claimed(ledger)):
        ledger.note(trial, heartbeat=0.0)
    end(ledger, ledger.trial(0), 0.5)
    before = time.time()
    ledger.beat([0, 1])
    assert ledger.trial(0).user_attrs["heartbeat"] == 0.0
    assert before <= ledger.trial(1).user_attrs["heartbeat"] <= time.time()


# Attempts


def test_a_trial_is_tried_three_times(opened: Open) -> None:
    ledger = opened(trials=2)
    first = claimed(ledger)
    ledger.fail(first.number, "out of luck")
    other = claimed(ledger)
    assert ledger.trial(0).user_attrs["reason"] == "out of luck"
    for attempt in (2, 3):
        assert not ledger.is_done()
        trial = claimed(ledger)
        attrs = trial.user_attrs
        assert (attrs["original"], attrs["attempt"], attrs["role"]) == (0, attempt, "baseline")
        assert (trial.params, attrs["variant"]) == (first.params, first.user_attrs["variant"])
        ledger.fail(trial.number, "out of luck")
    assert ledger.claim() is None
    assert attempts(ledger, 0) == [(1, FAIL), (2, FAIL), (3, FAIL)]
    end(ledger, other, 0.5)
    assert ledger.is_done()


def test_a_certain_failure_is_not_tried_again(opened: Open) -> None:
    ledger = opened(trials=1)
    ledger.note(claimed(ledger), reason="wrong settings", retry="no")
    ledger.fail(0, "its process ended with status 1")
    assert attempts(ledger, 0) == [(1, FAIL)]
    assert ledger.trial(0).user_attrs["reason"] == "wrong settings"
    assert ledger.is_done()


def test_an_interruption_does_not_count_as_an_attempt(opened: Open) -> None:
    ledger = opened(trials=1)
    for _ in range(5):
        trial = claimed(ledger)
        assert trial.user_attrs["attempt"] == 1
        ledger.note(trial, reason="interrupted", retry="continue")
        ledger.fail(trial.number)
    assert attempts(ledger, 0) == [(1, FAIL)] * 5 + [(1, WAITING)]


def test_a_trial_that_has_ended_does_not_fail(opened: Open) -> None:
    ledger = opened(trials=1)
    end(ledger, claimed(ledger), 0.5)
    ledger.fail(0, "too late")
    assert attempts(ledger, 0) == [(1, COMPLETE)]
    assert "reason" not in ledger.trial(0).user_attrs


# Recovery


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
    ledger.note(trial, heartbeat=time.time() + 10_000)
    ledger.recover()
    assert ledger.trial(0).state is RUNNING
    ledger.note(trial, heartbeat=time.time())
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
    here.note(old, heartbeat=time.time() - 1000)
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
    task = _recovers_stale if killed_while_failing else _recovers
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
        dead.note(trial, **dict([*attrs.items()][:noted]))
    ledger = opened(trials=2, owner="another")
    monkeypatch.setattr(study, "STALE_S", -1000.0)
    ledger.recover()
    ledger.agree()
    first, second = claimed(ledger), claimed(ledger)
    assert ledger.claim() is None
    assert first.user_attrs["variant"] == LESSON.model_dump()  # the base's own values
    told = [(t.user_attrs["original"], t.user_attrs["attempt"], t.user_attrs["role"]) for t in (first, second)]
    assert told == [(0, 2, "baseline"), (1, 2, "search")]


# MLflow


def told(ledger: Ledger) -> dict[int, tuple[str, str, str]]:
    """Status, state and reason of every trial of the study as MLflow shows it."""
    runs = track.children(ledger.parent)
    tags = [run.data.tags for run in runs]
    rows = {
        int(tag["optuna.trial"]): (run.info.status, tag["optuna.state"], tag.get("reason", ""))
        for run, tag in zip(runs, tags, strict=True)
    }
    assert len(rows) == len(runs)
    return rows


def started(ledger: Ledger, trial: FrozenTrial) -> track.Run:
    """The trial's run as its process starts it."""
    shown = entry(ledger.plan, ledger.parent, trial)
    return track.Run.start(shown.key or "", shown.experiment, shown.title, {}, shown.tags)


def test_mlflow_agrees_with_the_study_row_by_row(opened: Open) -> None:
    ledger = opened(trials=6)
    complete, pruned, failed, _ = (claimed(ledger) for _ in range(4))
    end(ledger, complete, 0.5)
    end(ledger, pruned, state=PRUNED)
    ledger.fail(failed.number, "out of luck")
    for _ in range(2):
        ledger.agree()
        assert told(ledger) == {
            0: ("FINISHED", "COMPLETE", ""),
            1: ("FINISHED", "PRUNED", ""),
            2: ("FAILED", "FAIL", "out of luck"),
        }


def test_mlflow_is_corrected_where_it_says_otherwise(opened: Open) -> None:
    ledger = opened(trials=4)
    trials = [claimed(ledger) for _ in range(4)]
    runs = [started(ledger, trial) for trial in trials]
    runs[0].finish("FAILED")  # told before the study was
    runs[1].set_tags({"optuna.state": "COMPLETE"})
    runs[1].finish()
    runs[2].finish("KILLED")
    runs[3].set_tags({"optuna.state": "COMPLETE"})
    runs[3].finish()
    end(ledger, trials[0], 0.5)
    end(ledger, trials[1], state=PRUNED)
    ledger.fail(2, "out of luck")
    ledger.fail(3, "out of memory")
    ledger.agree()
    assert told(ledger) == {
        0: ("FINISHED", "COMPLETE", ""),
        1: ("FINISHED", "PRUNED", ""),
        2: ("FAILED", "FAIL", "out of luck"),
        3: ("FAILED", "FAIL", "out of memory"),
    }
    known = {run.data.tags["optuna.trial"]: run.info.run_id for run in track.children(ledger.parent)}
    assert known == {str(i): run.id for i, run in enumerate(runs)}


def test_a_run_that_its_process_left_open_is_closed(opened: Open) -> None:
    dead = opened(trials=1)
    run = started(dead, claimed(dead))
    run.set_tags({"note": "on disk"})
    run._sender.close()  # as a kill does, without a word to MLflow
    ledger = opened(trials=1, owner="another")
    ledger.recover()
    ledger.agree()
    assert told(ledger) == {0: ("FAILED", "FAIL", "the sweep's process on its host died or was stopped")}
    assert track.client().get_run(run.id).data.tags["note"] == "on disk"


# A server that goes away


@pytest.mark.parametrize("touch", ["progress", "status", "alone", "claim", "agree"])
def test_a_server_that_is_away_for_a_while_delays_and_breaks_nothing(
    touch: str, postgres: Postgres, database: str, top: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = a_plan(database)
    ledger = open_ledger(plan, "here")

    def lock() -> None:
        with study.alone(ledger.study):
            pass

    touches: dict[str, Callable[[], object]] = {
        "progress": Progress(ledger).show,
        "status": lambda: status(plan),
        "alone": lock,
        "claim": ledger.claim,
        "agree": ledger.agree,
    }
    postgres.stop()
    back = threading.Timer(2.0, postgres.start)
    back.start()
    try:
        touches[touch]()
    finally:
        back.join()
        ledger.study._storage.remove_session()
    assert ledger.planned() == 4
