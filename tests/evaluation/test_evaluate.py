"""Evaluation of finished runs: means and intervals by hand, tables, figures, MLflow."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from damage import DAMAGES
from finished import IMAGES, is_picture, predictions, write_run
from PIL import Image
from scipy import stats

from cnnlab import params
from cnnlab.catalog import CATALOG
from cnnlab.errors import UserError
from cnnlab.evaluation.evaluate import evaluate_variant, summary
from cnnlab.evaluation.results import EVALUATION, Evaluation
from cnnlab.files import write_manifest
from cnnlab.report import plots as figures
from cnnlab.tracking import runs as track
from cnnlab.tracking import store as tracking_store
from cnnlab.train.outputs import Outputs


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


def test_each_further_seed_has_its_own_folder(two_seeds: params.Params) -> None:
    folders = [str(Outputs.of(run).folder) for run in params.runs(two_seeds, "lesson")]
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
    logits, labels = predictions(22)
    pairs = pd.read_csv(evaluated / "confusion.csv")
    names = np.array(CATALOG["cifar10"].classes)
    assert pairs["actual"].tolist() == names[labels].tolist()
    assert pairs["predicted"].tolist() == names[logits.argmax(axis=1)].tolist()
    assert sorted(path.name for path in evaluated.iterdir()) == [
        *("SHA256SUMS", "calibration.csv", "classes.csv", "confusion.csv", "confusion.png", "curves.csv", "curves.png"),
        *("errors.csv", "metrics.json", "recipe.json", "runs.csv"),
    ]


def test_the_tables_of_classes_and_errors_by_hand(evaluated: Path, run_ids: dict[str, list[str]]) -> None:
    """Five images of each class; the first 22 (or 23) are right, the others are taken for the next class."""
    classes = pd.read_csv(evaluated / "classes.csv")
    assert classes["seed"].tolist() == [0] * 10 + [1] * 10
    assert set(classes["images"]) == {5}
    assert classes["recall"].tolist() == pytest.approx([0.6, 0.6, *[0.4] * 8, 0.6, 0.6, 0.6, *[0.4] * 7])
    errors = pd.read_csv(evaluated / "errors.csv")
    first = errors[errors["seed"] == 0]
    names = CATALOG["cifar10"].classes
    assert sorted(first["image"]) == [*range(22, IMAGES)]
    assert [*first["actual"]] == [names[image % 10] for image in first["image"]]
    assert [*first["predicted"]] == [names[(image + 1) % 10] for image in first["image"]]
    assert first["confidence"].tolist() == pytest.approx([np.exp(4) / (np.exp(4) + 9)] * len(first))
    assert errors.groupby("run_id", sort=False).size().to_dict() == dict(zip(run_ids["lesson"], (28, 27), strict=True))


def test_calibration_and_errors_are_in_every_row(evaluated: Path) -> None:
    """All images have one confidence, so the calibration error is its distance from the accuracy."""
    confidence = np.exp(4) / (np.exp(4) + 9)
    runs, bins = pd.read_csv(evaluated / "runs.csv"), pd.read_csv(evaluated / "calibration.csv")
    assert runs["confidence"].tolist() == pytest.approx([confidence] * 2)
    assert runs["calibration_error"].tolist() == pytest.approx([confidence - 0.44, confidence - 0.46])
    assert runs[["errors", "confident_errors"]].to_numpy().tolist() == [[28, 0], [27, 0]]
    assert bins["images"].tolist() == [IMAGES, IMAGES]
    assert bins["accuracy"].tolist() == pytest.approx([0.44, 0.46])


def test_curves_and_recipe_are_of_the_first_seed(evaluated: Path, two_seeds: params.Params) -> None:
    curves = pd.read_csv(evaluated / "curves.csv").groupby("split")[["images", "loss", "accuracy"]]
    assert curves.get_group("training").to_numpy().tolist()[0] == [100, 2.3, 0.1]
    assert curves.get_group("validation").to_numpy().tolist() == [[200, 2.0, 0.3], [400, 1.5, 0.4]]
    recipe = json.loads(params.runs(two_seeds, "lesson")[0].model_dump_json())
    assert recipe.items() <= Evaluation("lesson").recipe().items()


def test_the_confusion_matrix_is_read_back(evaluated: Path) -> None:
    matrix = Evaluation("lesson").confusion(list(CATALOG["cifar10"].classes))
    assert matrix.diagonal().tolist() == [3, 3, *[2] * 8]
    assert matrix[9, 0] == 3
    assert matrix.sum() == IMAGES


READERS: dict[str, Callable[[Evaluation], object]] = {
    "metrics.json": Evaluation.metrics,
    "recipe.json": Evaluation.recipe,
    **{f"{name}.csv": lambda evaluation, name=name: evaluation.table(name) for name in ("runs", "classes", "curves")},
    "confusion.csv": lambda evaluation: evaluation.confusion(list(CATALOG["cifar10"].classes)),
    "SHA256SUMS": Evaluation.metrics,
}


@pytest.mark.parametrize(("name", "damage"), [
    (name, damage) for name in READERS for damage in DAMAGES
    if not (name == "SHA256SUMS" and "flip" in damage)  # which may hit the line of a figure, which is not read
])  # fmt: skip
def test_a_damaged_file_is_named_and_not_used(evaluated: Path, name: str, damage: str) -> None:
    path = evaluated / name
    content = path.read_bytes()
    DAMAGES[damage](path)
    with pytest.raises(UserError) as refusal:
        READERS[name](Evaluation("lesson"))
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.write_bytes(content)
    assert str(EVALUATION / "lesson" / name) in str(refusal.value)
    assert str(refusal.value).endswith(" To fix this, run: python pipeline/evaluate.py lesson --seeds 2")
    assert "\n" not in str(refusal.value)
    READERS[name](Evaluation("lesson"))


def test_evaluating_again_repairs_any_damage(evaluated: Path, two_seeds: params.Params) -> None:
    content = {path.name: path.read_bytes() for path in evaluated.iterdir()}
    DAMAGES["directory"](evaluated / "runs.csv")
    DAMAGES["dangling link"](evaluated / "confusion.png")
    evaluate_variant(params.runs(two_seeds, "lesson"))
    assert {path.name: path.read_bytes() for path in evaluated.iterdir()} == content


def test_figures_are_readable_and_in_mlflow(evaluated: Path, top: Path, run_ids: dict[str, list[str]]) -> None:
    store = mlflow.MlflowClient(tracking_store.tracking_uri())
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


def parents(experiment: str, variant: str) -> list[mlflow.entities.Run]:
    """The runs of an experiment that stand for recipes of a variant."""
    store = tracking_store.client()
    experiment_id = store.get_experiment_by_name(experiment).experiment_id
    found = store.search_runs([experiment_id], f"tags.variant = '{variant}'")
    return [run for run in found if "mlflow.parentRunId" not in run.data.tags]


@pytest.mark.usefixtures("evaluated")
def test_a_parent_run_has_the_mean_of_its_seeds(run_ids: dict[str, list[str]]) -> None:
    (parent,) = parents("cifar10", "lesson")
    assert {run.info.run_id for run in track.children(parent.info.run_id)} == {*run_ids["lesson"]}
    assert (parent.info.run_name, parent.info.status) == ("lesson", "FINISHED")
    means = Evaluation("lesson").metrics()
    low, high = (f"{100 * means[f'test_accuracy_{end}']:.1f}" for end in ("low", "high"))
    interval = f"{low}–{high} % (95 % Student t over seeds)"
    assert parent.data.tags["interval"] == interval
    assert f"test accuracy 45.0 %, interval {interval}, n = 2." in parent.data.tags["mlflow.note.content"]
    del means["interval"]
    assert parent.data.metrics == pytest.approx(means)
    recipe = {
        name: value for name, value in Evaluation("lesson").recipe().items() if name not in ("run_id", "seed", "fold")
    }
    assert parent.data.params == {name: str(value) for name, value in track.flatten(recipe).items()}


def test_seeds_trained_later_join_the_same_parent(top: Path, two_seeds: params.Params) -> None:
    first, second = (
        run.model_copy(update={"variant": "later", "fold": run.seed}) for run in params.runs(two_seeds, "slides")
    )
    other = first.model_copy(update={"epochs": 1 + first.epochs})
    write_run(first, 45)
    evaluate_variant([first])
    (one,) = parents("mnist", "later")
    wilson = stats.binomtest(45, IMAGES).proportion_ci(method="wilson")
    means = one.data.metrics
    assert (means["seeds"], means["test_accuracy_low"], means["test_accuracy_high"]) == (1, wilson.low, wilson.high)

    again = [write_run(first, 45), write_run(second, 40)]  # more seeds are trained together with the first
    evaluate_variant([first, second])
    (two,) = parents("mnist", "later")
    assert two.info.run_id == one.info.run_id
    assert (two.data.metrics["seeds"], two.data.metrics["test_accuracy"]) == (2, pytest.approx(0.85))
    assert {run.info.run_id for run in track.children(two.info.run_id)} == {*again}

    changed = write_run(other, 30)
    evaluate_variant([other])
    (another,) = [run for run in parents("mnist", "later") if run.info.run_id != two.info.run_id]
    assert another.data.metrics["test_accuracy"] == 0.6
    assert [run.info.run_id for run in track.children(another.info.run_id)] == [changed]
    assert tracking_store.client().get_run(two.info.run_id).data.metrics == two.data.metrics


def test_a_run_that_mlflow_lost_is_still_evaluated(
    top: Path, two_seeds: params.Params, run_ids: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    run = params.runs(two_seeds, "slides")[0].model_copy(update={"variant": "lost"})
    write_run(run, 40)
    (Outputs.of(run).folder / "run.json").write_text(json.dumps({"run_id": "0" * 32}))
    write_manifest(Outputs.of(run).folder)
    evaluate_variant([run])
    assert f"MLflow run {'0' * 32} is not in the tracking store" in capsys.readouterr().out
    metrics = json.loads((EVALUATION / "lost" / "metrics.json").read_text())
    assert (metrics["test_accuracy"], metrics["interval"]) == (0.8, "95 % Wilson over test images")


@pytest.mark.parametrize("name", ["metrics.json", "run.json", "predictions.npz", "history.csv", "curve.csv"])
def test_a_missing_run_is_named_and_nothing_written(top: Path, two_seeds: params.Params, name: str) -> None:
    run = params.runs(two_seeds, "slides")[1].model_copy(update={"variant": f"missing-{name[:3]}"})
    write_run(run, 40)
    (Outputs.of(run).folder / name).unlink()
    with pytest.raises(UserError) as refusal:
        evaluate_variant([run])
    path, command = Outputs.of(run).folder / name, f"make train VARIANT={run.variant} SEEDS=2"
    message = str(refusal.value)
    assert message.startswith(f"Invalid file {path}. Expected: sha256 ")
    assert message.endswith(f" Received: missing. To fix this, run: {command}")
    assert not (EVALUATION / run.variant).exists()


def test_smoothing_weighs_by_images() -> None:
    """Forty points, so windows of two: each is the mean over the images of its point and its neighbour."""
    images = np.cumsum(np.tile([30, 10], 20))
    curve = pd.DataFrame({"images": images, "loss": np.tile([1.0, 5.0], 20)})
    smooth = figures.smooth(curve, "loss").to_numpy()
    assert smooth[0] in (1.0, 2.0)  # a single point at the edge, or two
    np.testing.assert_allclose(smooth[1:], (30 * 1 + 10 * 5) / 40)
    few = curve.head(10)
    np.testing.assert_allclose(figures.smooth(few, "loss"), few["loss"])


def test_a_confusion_matrix_shows_true_classes_down_and_predicted_across(tmp_path: Path) -> None:
    """Matrices with one full cell each: where their figures are black."""
    centre = {}
    for cell in np.ndindex(2, 2):
        matrix = np.zeros((2, 2), int)
        matrix[cell] = 10
        figures.confusions(tmp_path / "a.png", {"title": matrix}, ["a", "b"])
        assert is_picture(tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            black = np.asarray(image.convert("L")) < 40
        assert black.mean() > 0.05
        centre[cell] = np.argwhere(black).mean(axis=0)
    assert centre[0, 0][0] < centre[1, 0][0] - 50
    assert centre[0, 1][0] < centre[1, 1][0] - 50
    assert centre[0, 0][1] < centre[0, 1][1] - 50
    assert centre[1, 0][1] < centre[1, 1][1] - 50
