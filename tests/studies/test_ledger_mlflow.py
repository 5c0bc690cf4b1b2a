"""The runs of a study in MLflow, and a database server that goes away."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial
from studies.ledgers import PRUNED, Open, a_plan, claimed, end
from studies.postgres import Postgres

from cnnlab.studies import ledger as study
from cnnlab.studies.ledger import Ledger, mlflow_entry, open_ledger
from cnnlab.studies.progress import StudyProgress, status
from cnnlab.tracking import runs as track
from cnnlab.tracking import store as tracking_store

# MLflow


def in_mlflow(ledger: Ledger) -> dict[int, tuple[str, str, str]]:
    """Status, state and reason of every trial of the study as MLflow shows it."""
    runs = track.children(ledger.parent)
    tags = [run.data.tags for run in runs]
    rows = {
        int(tag["optuna.trial"]): (run.info.status, tag["optuna.state"], tag.get("reason", ""))
        for run, tag in zip(runs, tags, strict=True)
    }
    assert len(rows) == len(runs)
    return rows


def started(ledger: Ledger, trial: FrozenTrial) -> track.TrackedRun:
    """The trial's run as its process starts it."""
    shown = mlflow_entry(ledger.plan, ledger.parent, trial)
    return track.TrackedRun.start(shown.key or "", shown.experiment, shown.title, {}, shown.tags)


def test_mlflow_agrees_with_the_study_row_by_row(opened: Open) -> None:
    ledger = opened(trials=6)
    complete, pruned, failed, _ = (claimed(ledger) for _ in range(4))
    end(ledger, complete, 0.5)
    end(ledger, pruned, state=PRUNED)
    ledger.fail(failed.number, "out of luck")
    for _ in range(2):
        ledger.sync_mlflow()
        assert in_mlflow(ledger) == {
            0: ("FINISHED", "COMPLETE", ""),
            1: ("FINISHED", "PRUNED", ""),
            2: ("FAILED", "FAIL", "out of luck"),
        }


def test_mlflow_is_corrected_where_it_says_otherwise(opened: Open) -> None:
    ledger = opened(trials=4)
    trials = [claimed(ledger) for _ in range(4)]
    runs = [started(ledger, trial) for trial in trials]
    runs[0].finish("FAILED")  # reported before the study was
    runs[1].set_tags({"optuna.state": "COMPLETE"})
    runs[1].finish()
    runs[2].finish("KILLED")
    runs[3].set_tags({"optuna.state": "COMPLETE"})
    runs[3].finish()
    end(ledger, trials[0], 0.5)
    end(ledger, trials[1], state=PRUNED)
    ledger.fail(2, "out of luck")
    ledger.fail(3, "out of memory")
    ledger.sync_mlflow()
    assert in_mlflow(ledger) == {
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
    ledger.sync_mlflow()
    assert in_mlflow(ledger) == {0: ("FAILED", "FAIL", "the study's process on its host died or was stopped")}
    assert tracking_store.client().get_run(run.id).data.tags["note"] == "on disk"


# A server that goes away


@pytest.mark.parametrize("touch", ["progress", "status", "locked", "claim", "agree"])
def test_a_server_that_is_away_for_a_while_delays_and_breaks_nothing(
    touch: str, postgres: Postgres, database: str, top: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = a_plan(database)
    ledger = open_ledger(plan, "here")

    def lock() -> None:
        with study.locked(ledger.study):
            pass

    touches: dict[str, Callable[[], object]] = {
        "progress": StudyProgress(ledger).show,
        "status": lambda: status(plan),
        "locked": lock,
        "claim": ledger.claim,
        "agree": ledger.sync_mlflow,
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
