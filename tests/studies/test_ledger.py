"""A study's beginning, claims and attempts, in a journal and in PostgreSQL."""

import dataclasses
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import optuna
import pytest
from optuna.study import StudyDirection
from studies import ledgers
from studies.ledgers import (
    COMPLETE,
    FAIL,
    KEYS,
    LESSON,
    RUNNING,
    WAITING,
    Open,
    a_plan,
    at_once,
    attempts,
    claimed,
    end,
    states,
)

from cnnlab import params
from cnnlab.studies import ledger as study
from cnnlab.studies import overrides
from cnnlab.studies.ledger import open_ledger
from cnnlab.studies.search import space
from cnnlab.tracking import store as tracking_store

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
    run = tracking_store.client().get_run(opened().parent)
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
    monkeypatch.setattr(study, "INITIALISATION_S", 0.0)
    plan = a_plan(storage_url)
    optuna.create_study(study_name=plan.study, storage=study.open_storage(storage_url), direction="maximize")
    ledger = opened()
    assert [trial.user_attrs.get("role") for trial in ledger.trials()] == ["baseline", None, None, None]
    assert ledger.study.user_attrs["seed"] == 0


def test_hosts_that_begin_it_at_once_begin_it_once(
    hosts: ProcessPoolExecutor, opened: Open, storage_url: str, top: Path
) -> None:
    at_once(hosts, ledgers.opens, a_plan(storage_url, trials=5), top)
    ledger = opened(trials=5)
    assert [trial.user_attrs.get("role") for trial in ledger.trials()] == ["baseline", *[None] * 4]


def test_hosts_that_extend_it_at_once_extend_it_once(
    hosts: ProcessPoolExecutor, opened: Open, storage_url: str, top: Path
) -> None:
    opened(trials=2)
    at_once(hosts, ledgers.opens, a_plan(storage_url, trials=8), top)
    assert len(opened(trials=8).trials()) == 8


# Claims


def test_a_claimed_trial_knows_its_owner_and_its_variant(opened: Open) -> None:
    ledger = opened(owner="somebody")
    before = time.time()
    claimed(ledger)
    trial = claimed(ledger)
    attrs = trial.user_attrs
    assert (trial.number, trial.state) == (1, RUNNING)
    known = {name: attrs[name] for name in ("original", "attempt", "role", "owner")}
    assert known == {"original": 1, "attempt": 1, "role": "search", "owner": "somebody"}
    assert before <= attrs["heartbeat"] <= time.time()
    assert attrs["variant"] == overrides.apply(LESSON, trial.params).model_dump()
    assert set(trial.params) <= set(KEYS)


def test_hosts_claim_every_trial_once(hosts: ProcessPoolExecutor, opened: Open, storage_url: str, top: Path) -> None:
    opened(trials=20)
    claims = at_once(hosts, ledgers.claims, a_plan(storage_url, trials=20), top)
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
        ledger.set_attrs(trial, heartbeat=0.0)
    end(ledger, ledger.trial(0), 0.5)
    before = time.time()
    ledger.renew_heartbeats([0, 1])
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
    ledger.set_attrs(claimed(ledger), reason="wrong settings", retry="no")
    ledger.fail(0, "its process ended with status 1")
    assert attempts(ledger, 0) == [(1, FAIL)]
    assert ledger.trial(0).user_attrs["reason"] == "wrong settings"
    assert ledger.is_done()


def test_an_interruption_does_not_count_as_an_attempt(opened: Open) -> None:
    ledger = opened(trials=1)
    for _ in range(5):
        trial = claimed(ledger)
        assert trial.user_attrs["attempt"] == 1
        ledger.set_attrs(trial, reason="interrupted", retry="continue")
        ledger.fail(trial.number)
    assert attempts(ledger, 0) == [(1, FAIL)] * 5 + [(1, WAITING)]


def test_a_trial_that_has_ended_does_not_fail(opened: Open) -> None:
    ledger = opened(trials=1)
    end(ledger, claimed(ledger), 0.5)
    ledger.fail(0, "too late")
    assert attempts(ledger, 0) == [(1, COMPLETE)]
    assert "reason" not in ledger.trial(0).user_attrs
