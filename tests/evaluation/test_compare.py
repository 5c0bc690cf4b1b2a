"""The table of `cnnlab compare`: by SQL and by MLflow's own client, from one store."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from cnnlab.errors import UserError
from cnnlab.evaluation.compare import compare
from cnnlab.tracking import local
from cnnlab.tracking import runs as track

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")  # of its own code
TRANSFER = {
    "transfer.network": "small",
    "transfer.mode": "frozen",
    "transfer.source": "lesson",
    "transfer.share": "0.1",
}


@pytest.fixture(autouse=True)
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, without a store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    mlflow.set_tracking_uri(None)


def finish(variant: str, data: str, seed: int, accuracy: float, status: str = "FINISHED", rate: float = 0.1) -> None:
    """A run with a recipe and its accuracies."""
    recipe = {"variant": variant, "data": data, "seed": seed, "rate": rate}
    tags = TRANSFER if variant == "small" else {}
    run = track.TrackedRun.start(f"{variant} {data} {seed} {rate}", data, variant, recipe, tags)
    run.log_metrics([(1, {"test_accuracy": accuracy, "validation_accuracy": accuracy, "loss": float("nan")})])
    run.finish(status)


def test_both_ways_give_the_same_table(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish("improved", "mnist", 0, 0.5, rate=0.2)  # an earlier recipe
    for seed, accuracy in enumerate((0.9, 0.8)):
        finish("improved", "mnist", seed, accuracy)
    finish("improved", "cifar10", 0, 0.7)
    finish("lesson", "cifar10", 0, 0.6)
    finish("lesson", "cifar10", 1, 0.1, status="FAILED")
    finish("small", "mnist", 0, 0.4)
    table = compare()
    rows = [line.split() for line in table.splitlines()]
    assert ["improved", "85.00", "(2)", "70.00", "(1)"] in rows
    assert ["lesson", "–", "60.00", "(1)"] in rows
    assert ["small", "frozen", "lesson", "0.1", "40.00", "(1)"] in rows
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{top}/mlruns/mlflow.db")
    assert local.query("select 1") is None
    assert compare() == table


def test_no_store_and_a_damaged_one_are_left_to_mlflow(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local.query("select 1") is None
    with pytest.raises(UserError, match=r"^No finished training in MLflow\. .* make repro"):
        compare()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow's set_tracking_uri sets it
    assert local.query("select 1") == [(1,)]
    (top / "mlruns/mlflow.db").write_bytes(bytes(4096))
    assert local.query("select count(*) from runs") is None


def test_it_needs_neither_mlflow_nor_tensorflow() -> None:
    program = "import sys, cnnlab.evaluation.compare; print(sorted({'mlflow', 'tensorflow', 'keras'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
