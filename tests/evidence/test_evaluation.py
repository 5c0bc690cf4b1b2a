"""The evaluation of finished runs: means and intervals by hand, tables, pictures, MLflow."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from evidence.finished import IMAGES, answers, is_picture, write_run
from PIL import Image
from scipy import stats

from cnnlab import params, track
from cnnlab.data.catalog import lookup
from cnnlab.errors import UserError
from cnnlab.evidence import figures
from cnnlab.evidence.evaluation import EVALUATION, evaluate_variant, run_folder, summary

pytestmark = pytest.mark.filterwarnings("ignore:.*``noload``")  # in MLflow's own code


def table(accuracies: list[float]) -> pd.DataFrame:
    row = {"variant": "a", "data": "mnist", "run_id": "x", "test_accuracy_low": 0.11, "test_accuracy_high": 0.99}
    rows = [{**row, "seed": seed, "test_accuracy": value, "epochs": 3} for seed, value in enumerate(accuracies)]
    return pd.DataFrame(rows)


def test_one_seed_has_the_interval_of_its_images() -> None:
    assert summary(table([0.5])) == {
        "seeds": 1,
        "interval": "95 % Wilson over test images",
        "test_accuracy_low": 0.11,
        "test_accuracy_high": 0.99,
        "test_accuracy": 0.5,
        "epochs": 3.0,
    }


def test_several_seeds_have_students_interval() -> None:
    """Mean 0.42, deviation 0.02, t(0.975; 2) = 4.302653: half width 0.02 · 4.302653 / √3 = 0.049683."""
    assert summary(table([0.40, 0.42, 0.44])) == {
        "seeds": 3,
        "interval": "95 % Student t over seeds",
        "test_accuracy_low": pytest.approx(0.42 - 0.0496828, abs=1e-6),
        "test_accuracy_high": pytest.approx(0.42 + 0.0496828, abs=1e-6),
        "test_accuracy": pytest.approx(0.42),
        "epochs": 3.0,
    }


@pytest.fixture(scope="module")
def evaluated(top: Path, two_seeds: params.Params, run_ids: dict[str, list[str]]) -> Path:
    evaluate_variant(params.runs(two_seeds, "lesson"))
    return top / EVALUATION / "lesson"


def test_seeds_lie_in_folders_of_their_own(two_seeds: params.Params) -> None:
    folders = [str(run_folder(run)) for run in params.runs(two_seeds, "lesson")]
    assert folders == ["models/cifar10/lesson", "models/cifar10/lesson/seed-1"]


def test_metrics_and_runs_by_hand(evaluated: Path, run_ids: dict[str, list[str]]) -> None:
    metrics = json.loads((evaluated / "metrics.json").read_text())
    assert (metrics["seeds"], metrics["test_accuracy"]) == (2, pytest.approx((22 + 23) / 2 / IMAGES))
    assert metrics["test_accuracy_high"] == pytest.approx(0.45 + stats.t.ppf(0.975, 1) * 0.01)
    assert (metrics["parameters"], metrics["test_loss"]) == (1000, 1.25)
    runs = pd.read_csv(evaluated / "runs.csv")
    assert runs["run_id"].tolist() == run_ids["lesson"]
    assert runs["test_accuracy"].tolist() == [0.44, 0.46]
    for row in runs.itertuples():
        wilson = stats.binomtest(round(row.test_accuracy * IMAGES), IMAGES).proportion_ci(method="wilson")
        assert (row.test_accuracy_low, row.test_accuracy_high) == pytest.approx((wilson.low, wilson.high))


def test_the_confusion_table_is_of_the_first_seed(evaluated: Path) -> None:
    logits, labels = answers(22)
    pairs = pd.read_csv(evaluated / "confusion.csv")
    names = np.array(lookup("cifar10").classes)
    assert pairs["actual"].tolist() == names[labels].tolist()
    assert pairs["predicted"].tolist() == names[logits.argmax(axis=1)].tolist()
    assert sorted(path.name for path in evaluated.iterdir()) == [
        *("confusion.csv", "confusion.png", "curves.png", "metrics.json", "runs.csv")
    ]


def test_pictures_are_readable_and_lie_in_mlflow(evaluated: Path, top: Path, run_ids: dict[str, list[str]]) -> None:
    store = mlflow.MlflowClient(track.tracking_uri())
    contents = []
    for run_id in run_ids["lesson"]:
        assert store.get_run(run_id).info.status == "FINISHED"
        for name in ("confusion.png", "curves.png"):
            path = Path(store.download_artifacts(run_id, f"figures/{name}"))
            assert is_picture(path)
            contents.append(path.read_bytes())
    first_confusion, first_curves, second_confusion, _ = contents
    assert first_confusion != second_confusion
    assert (evaluated / "confusion.png").read_bytes() == first_confusion
    assert (evaluated / "curves.png").read_bytes() == first_curves


def test_a_run_that_mlflow_lost_is_evaluated_all_the_same(
    top: Path, two_seeds: params.Params, run_ids: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    run = params.runs(two_seeds, "slides")[0].model_copy(update={"variant": "lost"})
    write_run(run, 40)
    (run_folder(run) / "run.json").write_text(json.dumps({"run_id": "0" * 32}))
    evaluate_variant([run])
    assert f"MLflow run {'0' * 32} is not in the tracking store" in capsys.readouterr().out
    metrics = json.loads((EVALUATION / "lost" / "metrics.json").read_text())
    assert (metrics["test_accuracy"], metrics["interval"]) == (0.8, "95 % Wilson over test images")


@pytest.mark.parametrize("name", ["metrics.json", "run.json", "predictions.npz"])
def test_a_missing_run_is_named_and_nothing_written(top: Path, two_seeds: params.Params, name: str) -> None:
    run = params.runs(two_seeds, "slides")[1].model_copy(update={"variant": f"missing-{name[:3]}"})
    write_run(run, 40)
    (run_folder(run) / name).unlink()
    with pytest.raises(UserError) as refusal:
        evaluate_variant([run])
    path, command = run_folder(run) / name, f"make train VARIANT={run.variant}"
    assert str(refusal.value) == f"Run {run.variant} seed 1 is missing. Expected {path}. Run: {command}"
    assert not (EVALUATION / run.variant).exists()


def test_smoothing_weighs_by_images() -> None:
    """Forty points, so windows of two: each is the mean over the images of its point and its neighbour."""
    images = np.cumsum(np.tile([30, 10], 20))
    curve = pd.DataFrame({"images": images, "loss": np.tile([1.0, 5.0], 20)})
    smooth = figures.smooth(curve, "loss").to_numpy()
    assert smooth[0] in (1.0, 2.0)  # alone at the edge, or with its neighbour
    np.testing.assert_allclose(smooth[1:], (30 * 1 + 10 * 5) / 40)
    few = curve.head(10)
    np.testing.assert_allclose(figures.smooth(few, "loss"), few["loss"])


def test_a_confusion_matrix_shows_true_classes_down_and_predicted_across(tmp_path: Path) -> None:
    """Matrices with one full cell each: where the black of their pictures lies."""
    centre = {}
    for cell in np.ndindex(2, 2):
        matrix = np.zeros((2, 2), int)
        matrix[cell] = 10
        figures.confusion(tmp_path / "a.png", matrix, ["a", "b"], "title")
        assert is_picture(tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            black = np.asarray(image.convert("L")) < 40
        assert black.mean() > 0.05
        centre[cell] = np.argwhere(black).mean(axis=0)
    assert centre[0, 0][0] < centre[1, 0][0] - 50
    assert centre[0, 1][0] < centre[1, 1][0] - 50
    assert centre[0, 0][1] < centre[0, 1][1] - 50
    assert centre[1, 0][1] < centre[1, 1][1] - 50
