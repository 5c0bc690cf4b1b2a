"""A whole training of two seeds on a small MNIST: its files, its MLflow runs, and what a failure leaves."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss
from train.processed import TEST, TRAIN, VALIDATION, write_mnist

from cnnlab import files, track
from cnnlab.data.catalog import lookup
from cnnlab.data.store import open_processed
from cnnlab.errors import UserError
from cnnlab.nets.build import build
from cnnlab.params import Augment, HomeworkNetwork, Optimizer, Run
from cnnlab.train.experiment import Experiment, train_variant
from cnnlab.train.strategy import strategy

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow", "ignore:::keras")  # their own, in their own code
RUN = Run(
    variant="tiny",
    seed=0,
    data="mnist",
    network=HomeworkNetwork(name="homework", filters=[4], conv_dropout=0.25, dense_units=8, dense_dropout=0.5),
    validation=VALIDATION,
    train_images=None,
    epochs=2,
    batch_size=16,
    optimizer=Optimizer(name="rmsprop", learning_rate=0.003, decay=1e-6),
    augment=Augment(shift=0.1, flip=True),
    replicas=1,
)
NAMES = {"model.keras", "history.csv", "curve.csv", "metrics.json", "predictions.npz", "run.json"}
CHECKPOINT = files.CHECKPOINTS / "mnist" / "tiny"


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder, with data and an MLflow store of its own."""
    folder = tmp_path_factory.mktemp("checkout")
    write_mnist(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")  # MLflow sets it when it logs a model: forgotten with this fixture
        patch.delenv("MLFLOW_TRACKING_URI")
        patch.chdir(folder)
        yield folder
        mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def trained(top: Path) -> Path:
    """The folder of a training of two seeds."""
    train_variant([RUN, RUN.model_copy(update={"seed": 1})])
    return files.MODELS / "mnist" / "tiny"


@pytest.fixture(params=[0, 1])
def seed_folder(request: pytest.FixtureRequest, trained: Path) -> tuple[int, Path]:
    return request.param, trained / "seed-1" if request.param else trained


def rows(path: Path) -> list[dict[str, float]]:
    with path.open() as stream:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_folder_holds_every_file_and_nothing_else(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} == NAMES | {"seed-1"}
    assert {path.name for path in (trained / "seed-1").iterdir()} == NAMES
    assert [*trained.parent.iterdir()] == [trained]
    assert not CHECKPOINT.exists()


def test_the_record_says_what_was_run(seed_folder: tuple[int, Path]) -> None:
    seed, folder = seed_folder
    record = read(folder / "run.json")
    run_id = record.pop("run_id")
    assert Run.model_validate(record) == RUN.model_copy(update={"seed": seed})
    assert track.client().get_run(run_id).info.run_name == f"tiny seed {seed}"


def test_metrics_equal_a_recomputation_from_the_predictions(seed_folder: tuple[int, Path]) -> None:
    folder = seed_folder[1]
    metrics, data = read(folder / "metrics.json"), open_processed("mnist")
    validation = data.split(VALIDATION)[1]
    labels = {"validation": data.train_labels[validation], "test": data.test_labels}
    with np.load(folder / "predictions.npz", allow_pickle=False) as predictions:
        for part, truth in labels.items():
            logits = predictions[f"{part}_logits"].astype(np.float64)
            assert np.array_equal(predictions[f"{part}_labels"], truth)
            probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            loss = log_loss(truth, probabilities, labels=range(10))
            np.testing.assert_allclose(metrics[f"{part}_loss"], loss, rtol=1e-6)
            assert metrics[f"{part}_accuracy"] == accuracy_score(truth, logits.argmax(axis=1))
    history = rows(folder / "history.csv")
    assert metrics["validation_loss"] == history[-1]["val_loss"]
    assert {k: metrics[f"train_{k}"] for k in ("loss", "accuracy")} == {k: history[-1][k] for k in ("loss", "accuracy")}
    assert (metrics["epochs"], metrics["train_seconds"]) == (2, sum(row["seconds"] for row in history))
    # 28 → 26 → 13: 13·13 positions of 4 filters enter the dense layer
    assert metrics["parameters"] == (9 * 4 + 4) + (36 * 4 + 4) + (13 * 13 * 4 + 1) * 8 + 9 * 10


def test_history_and_curve_tell_every_epoch_once(seed_folder: tuple[int, Path]) -> None:
    folder = seed_folder[1]
    assert [row["epoch"] for row in rows(folder / "history.csv")] == [1, 2]
    assert [row["images"] for row in rows(folder / "curve.csv")] == [TRAIN - VALIDATION, 2 * (TRAIN - VALIDATION)]


def logits_of(model: keras.Model) -> np.ndarray:
    return np.asarray(model.predict(open_processed("mnist").test_images / np.float32(255), verbose=0))


def test_the_saved_model_gives_the_saved_predictions(seed_folder: tuple[int, Path]) -> None:
    folder = seed_folder[1]
    with np.load(folder / "predictions.npz", allow_pickle=False) as predictions:
        assert predictions["test_logits"].shape == (TEST, 10)
        model = keras.saving.load_model(folder / "model.keras")
        np.testing.assert_allclose(logits_of(model), predictions["test_logits"], atol=1e-5)


def test_seeds_differ(trained: Path) -> None:
    first, second = (keras.saving.load_model(trained / part / "model.keras").get_weights() for part in ("", "seed-1"))
    assert not any(np.array_equal(a, b) for a, b in zip(first, second, strict=True) if a.ndim > 1)


@pytest.mark.usefixtures("top")
def test_the_seed_gives_the_initial_weights(tmp_path: Path) -> None:
    """With a rate that moves nothing they are still there at the end."""
    still = Optimizer(name="sgd", learning_rate=1e-30)
    run = RUN.model_copy(update={"variant": "still", "seed": 3, "epochs": 1, "optimizer": still})
    Experiment(run, strategy(1), tmp_path / "checkpoint.npz").execute(tmp_path)
    keras.utils.set_random_seed(3)
    expected = build(RUN.network, lookup("mnist")).get_weights()
    found = keras.saving.load_model(tmp_path / "model.keras").get_weights()
    assert all(np.allclose(a, b, rtol=0, atol=1e-20) for a, b in zip(found, expected, strict=True))


def test_mlflow_has_one_finished_run_a_seed(seed_folder: tuple[int, Path], top: Path) -> None:
    seed, folder = seed_folder
    store = mlflow.MlflowClient(f"sqlite:///{top}/mlruns/mlflow.db")
    experiment = store.get_experiment_by_name("mnist")
    found = [run for run in store.search_runs([experiment.experiment_id]) if run.data.tags["seed"] == str(seed)]
    assert [(run.info.run_id, run.info.status) for run in found] == [(read(folder / "run.json")["run_id"], "FINISHED")]
    run, history = found[0], rows(folder / "history.csv")
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "images_per_s", "seconds"):
        points = store.get_metric_history(run.info.run_id, name)
        expected = {1: history[0][name], 2: history[1][name]}
        assert len(points) == 2
        assert {point.step: point.value for point in points} == pytest.approx(expected)
    curve = store.get_metric_history(run.info.run_id, "curve_loss")
    assert [(point.step, point.value) for point in curve] == [
        (row["images"], pytest.approx(row["loss"])) for row in rows(folder / "curve.csv")
    ]
    metrics = read(folder / "metrics.json")
    assert {k: run.data.metrics[k] for k in ("test_accuracy", "test_loss")} == pytest.approx(
        {k: metrics[k] for k in ("test_accuracy", "test_loss")}
    )
    assert run.data.params["network.filters"] == "[4]"
    assert run.data.params["optimizer.learning_rate"] == "0.003"
    assert run.data.params["parameters"] == str(metrics["parameters"])
    assert run.data.tags["variant"] == "tiny"
    digests = open_processed("mnist").card["digests"]
    inputs = {i.dataset.name: (i.dataset.digest, i.tags[0].value) for i in run.inputs.dataset_inputs}
    assert inputs == {
        "mnist train": (digests["train"][:36], "training"),
        "mnist test": (digests["test"][:36], "testing"),
    }


def test_the_logged_model_can_be_loaded_and_tried(seed_folder: tuple[int, Path], top: Path) -> None:
    folder = seed_folder[1]
    mlflow.set_tracking_uri(f"sqlite:///{top}/mlruns/mlflow.db")
    uri = f"runs:/{read(folder / 'run.json')['run_id']}/model"
    loaded = mlflow.pyfunc.load_model(uri)
    signature = loaded.metadata.signature
    assert [spec.shape for spec in (*signature.inputs, *signature.outputs)] == [(-1, 28, 28, 1), (-1, 10)]
    with np.load(folder / "predictions.npz", allow_pickle=False) as predictions:
        images = open_processed("mnist").test_images / np.float32(255)
        np.testing.assert_allclose(loaded.predict(images), predictions["test_logits"], atol=1e-5)
        validation = predictions["validation_logits"][:2]
    np.testing.assert_allclose(loaded.predict(np.asarray(loaded.input_example, np.float32)), validation, atol=1e-5)
    np.testing.assert_allclose(
        logits_of(mlflow.tensorflow.load_model(uri)), logits_of(keras.saving.load_model(folder / "model.keras"))
    )


def test_a_training_that_fails_continues_in_the_same_run(top: Path, trained: Path) -> None:
    """The folder it should write to is missing: it fails after its last epoch, and again does the rest only."""
    run = RUN.model_copy(update={"variant": "fails"})
    experiment = Experiment(run, strategy(1), Path(".checkpoints/fails.npz"))
    with pytest.raises(OSError, match="missing/folder"):
        experiment.execute(Path("missing/folder"))
    store = track.client()
    ids = [store.get_experiment_by_name("mnist").experiment_id]
    (failed,) = store.search_runs(ids, "tags.variant = 'fails'")
    assert failed.info.status == "FAILED"
    Path("again").mkdir()
    experiment.execute(Path("again"))
    (finished,) = store.search_runs(ids, "tags.variant = 'fails'")
    assert (finished.info.run_id, finished.info.status) == (failed.info.run_id, "FINISHED")
    assert [row["epoch"] for row in rows(Path("again/history.csv"))] == [1, 2]
    assert sorted(point.step for point in store.get_metric_history(finished.info.run_id, "val_loss")) == [1, 2]
    with np.load("again/predictions.npz") as again, np.load(trained / "predictions.npz") as first:
        assert np.array_equal(again["test_logits"], first["test_logits"])  # the same recipe, seed and data


def test_a_refused_training_leaves_the_earlier_one(trained: Path) -> None:
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="Invalid validation size of mnist"):
        train_variant([RUN.model_copy(update={"validation": TRAIN})])
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before
    assert [*trained.parent.iterdir()] == [trained]


def test_experiments_made_later_keep_their_artifacts_in_mlruns(top: Path, trained: Path) -> None:
    """Logging a model makes MLflow set MLFLOW_TRACKING_URI in this process; the store is still the local one."""
    run = track.Run.start("later", "name", {}, {})
    run.log_file(trained / "metrics.json")
    location = track.client().get_experiment_by_name("later").artifact_location
    assert location == (top / "mlruns" / "artifacts").as_uri()
