"""The tables of `cnnlab compare`: by SQL and by MLflow's own client, from one store."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from cards import write_card
from finished import IMAGES, write_run
from scipy import stats

from cnnlab import params
from cnnlab.errors import UserError
from cnnlab.evaluation.compare import compare
from cnnlab.evaluation.evaluate import evaluate_variant
from cnnlab.evaluation.results import EVALUATION
from cnnlab.tracking import local
from cnnlab.tracking import runs as track

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")  # of its own code
ROOT = Path(__file__).parents[2]
TRANSFER = {
    "transfer.network": "small",
    "transfer.mode": "frozen",
    "transfer.source": "lesson",
    "transfer.change": "tanh",
    "transfer.share": "0.1",
}


@pytest.fixture(autouse=True)
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, without a store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    write_card(tmp_path, "mnist")
    yield tmp_path
    mlflow.set_tracking_uri(None)


def finish(variant: str, data: str, seed: int, accuracy: float, status: str = "FINISHED", rate: float = 0.1) -> None:
    """A run with a recipe and its accuracies."""
    recipe = {"variant": variant, "data": data, "seed": seed, "fold": seed, "rate": rate}
    tags = TRANSFER if variant == "small" else {}
    run = track.TrackedRun.start(f"{variant} {data} {seed} {rate}", data, variant, recipe, tags)
    run.log_metrics([(1, {"test_accuracy": accuracy, "validation_accuracy": accuracy, "loss": float("nan")})])
    run.finish(status)


def train(two_seeds: params.Params, rights: tuple[int, ...], **changes: Any) -> list[params.Run]:
    """Finished trainings of variant lenet5, each with another seed and fold; `rights` of 50 test images are right."""
    first = params.runs(two_seeds, "lenet5")[0].model_copy(update=changes)
    runs = [first.model_copy(update={"seed": seed, "fold": seed}) for seed in range(len(rights))]
    for run, right in zip(runs, rights, strict=True):
        write_run(run, right)
    return runs


def rows(table: str, variant: str) -> list[list[str]]:
    """The cells of a variant's rows; the last is what is said of the recipe."""
    return [line.split(maxsplit=5) for line in table.splitlines() if line.startswith(f"{variant} ")]


def test_both_ways_give_the_same_tables(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish("improved", "mnist", 0, 0.5, rate=0.2)  # an earlier recipe
    for seed, accuracy in enumerate((0.9, 0.8)):
        finish("improved", "mnist", seed, accuracy)
    finish("improved", "cifar10", 0, 0.7)
    finish("lesson", "cifar10", 0, 0.6)
    finish("lesson", "cifar10", 1, 0.1, status="FAILED")
    finish("small", "mnist", 0, 0.4)
    table = compare()
    half = stats.t.ppf(0.975, 1) * 5
    assert rows(table, "improved") == [
        ["improved", "cifar10", "70.00", "–", "1", "not cited"],
        ["improved", "mnist", "85.00", f"{85 - half:.2f}–{85 + half:.2f}", "2", "not cited"],
        ["improved", "mnist", "50.00", "–", "1", "not cited: rate 0.2"],
    ]
    assert rows(table, "lesson") == [["lesson", "cifar10", "60.00", "–", "1", "not cited"]]
    assert ["small", "frozen", "lesson", "tanh", "0.1", "40.00", "(1)"] in [line.split() for line in table.splitlines()]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{top}/mlruns/mlflow.db")
    assert local.query("select 1") is None
    assert compare() == table


def test_the_cited_runs_come_first_and_other_recipes_are_rows_of_their_own(two_seeds: params.Params) -> None:
    evaluate_variant(train(two_seeds, (45,), epochs=7))
    train(two_seeds, (30, 35, 40), train_images=500)
    train(two_seeds, (33,), batch_size=9)
    train(two_seeds, (40,))  # trained again as one of two seeds, as by `make train SEEDS=2` after SEEDS=1
    evaluate_variant(train(two_seeds, (42, 44)))
    train(two_seeds, (0, 0, 41))
    means = json.loads((EVALUATION / "lenet5/metrics.json").read_text())
    student = [f"{100 * means[f'test_accuracy_{end}']:.2f}" for end in ("low", "high")]
    wilson = stats.binomtest(45, IMAGES).proportion_ci(method="wilson")
    half = stats.t.ppf(0.975, 2) * 10 / 3**0.5
    assert rows(compare(), "lenet5") == [
        ["lenet5", "mnist", "86.00", "–".join(student), "2", "cited by the reports"],
        ["lenet5", "mnist", "82.00", "–", "1", "not cited"],  # only the seed that the reports lack
        ["lenet5", "mnist", "66.00", "–", "1", "not cited: batch_size 9"],
        ["lenet5", "mnist", "70.00", f"{70 - half:.2f}–{70 + half:.2f}", "3", "not cited: train_images 500"],
        ["lenet5", "mnist", "90.00", f"{100 * wilson.low:.2f}–{100 * wilson.high:.2f}", "1", "not cited: epochs 7"],
    ]


def test_a_new_clone_shows_the_committed_reports(top: Path) -> None:
    shutil.copytree(ROOT / EVALUATION, EVALUATION)
    table = compare()
    for folder in EVALUATION.iterdir():
        (row,) = rows(table, folder.name)
        means = json.loads((folder / "metrics.json").read_text())
        assert row[2:] == [
            f"{100 * means['test_accuracy']:.2f}",
            f"{100 * means['test_accuracy_low']:.2f}–{100 * means['test_accuracy_high']:.2f}",
            str(means["seeds"]),
            "cited by the reports",
        ]


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
