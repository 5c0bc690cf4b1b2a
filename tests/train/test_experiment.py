"""A training of two seeds on a small MNIST: its files, its MLflow runs, and what a failure leaves."""

import signal
import zipfile
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
from cards import card
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score
from train.experiments import (
    KNOBS,
    RUN,
    Recorder,
    assert_same_outcome,
    logits_of,
    make_experiment,
    read_json,
    rows,
)
from train.processed import TEST, TRAIN, VALIDATION

from cnnlab import files
from cnnlab.data.store import open_processed
from cnnlab.errors import UserError
from cnnlab.nets.registry import build
from cnnlab.params import Optimizer, Run, Schedule, Strategy, Train
from cnnlab.tracking import runs as track
from cnnlab.tracking import store as tracking_store
from cnnlab.train.callbacks import Logger
from cnnlab.train.experiment import Experiment, train_variant
from cnnlab.train.loop import Interrupted
from cnnlab.train.strategy import strategy

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow", "ignore:::keras")  # their own, in their own code
NAMES = {"model.keras", "history.csv", "curve.csv", "metrics.json", "predictions.npz", "run.json", "SHA256SUMS"}
CHECKPOINT = files.CHECKPOINTS / "mnist" / "tiny"


@pytest.fixture(scope="module")
def trained(top: Path) -> Path:
    """The folder of a training of two seeds."""
    train_variant([RUN, RUN.model_copy(update={"seed": 1})], Strategy(), KNOBS)
    return files.MODELS / "mnist" / "tiny"


@pytest.fixture(params=[0, 1])
def seed_folder(request: pytest.FixtureRequest, trained: Path) -> tuple[int, Path]:
    return request.param, trained / "seed-1" if request.param else trained


def test_the_folder_holds_every_file_and_nothing_else(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} == NAMES | {"identity.txt", "seed-1"}
    assert {path.name for path in (trained / "seed-1").iterdir()} == NAMES
    assert [*trained.parent.iterdir()] == [trained]
    assert not CHECKPOINT.exists()


def test_the_record_says_what_was_run(seed_folder: tuple[int, Path]) -> None:
    seed, folder = seed_folder
    record = read_json(folder / "run.json")
    run_id = record.pop("run_id")
    assert Run.model_validate(record) == RUN.model_copy(update={"seed": seed})
    assert tracking_store.client().get_run(run_id).info.run_name == f"tiny seed {seed}"


def test_metrics_equal_a_recomputation_from_the_predictions(seed_folder: tuple[int, Path]) -> None:
    folder = seed_folder[1]
    metrics, data = read_json(folder / "metrics.json"), open_processed("mnist")
    train, validation = data.split(VALIDATION)
    labels = {
        "train": data.train_labels[train[: len(validation)]],
        "validation": data.train_labels[validation],
        "test": data.test_labels,
    }
    with np.load(folder / "predictions.npz", allow_pickle=False) as predictions:
        for part, truth in labels.items():
            logits = predictions[f"{part}_logits"].astype(np.float64)
            assert np.array_equal(predictions[f"{part}_labels"], truth)
            probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            loss = log_loss(truth, probabilities, labels=range(10))
            np.testing.assert_allclose(metrics[f"{part}_loss"], loss, rtol=1e-6)
            assert metrics[f"{part}_accuracy"] == accuracy_score(truth, logits.argmax(axis=1))
            top5 = top_k_accuracy_score(truth, logits, k=5, labels=range(10))
            assert metrics[f"{part}_top5_accuracy"] == pytest.approx(top5)
    history = rows(folder / "history.csv")
    assert metrics["validation_loss"] == history[-1]["val_loss"]
    assert (metrics["epochs"], metrics["train_seconds"]) == (2, sum(row["seconds"] for row in history))
    # 28 → 26 → 13: 13·13 positions of 4 filters enter the dense layer
    assert metrics["parameters"] == (9 * 4 + 4) + (36 * 4 + 4) + (13 * 13 * 4 + 1) * 8 + 9 * 10


def test_history_and_curve_have_every_epoch_once(seed_folder: tuple[int, Path]) -> None:
    folder = seed_folder[1]
    assert [row["epoch"] for row in rows(folder / "history.csv")] == [1, 2]
    assert [row["images"] for row in rows(folder / "curve.csv")] == [TRAIN - VALIDATION, 2 * (TRAIN - VALIDATION)]


def test_the_saved_model_gives_the_saved_predictions(seed_folder: tuple[int, Path]) -> None:
    folder = seed_folder[1]
    with np.load(folder / "predictions.npz", allow_pickle=False) as predictions:
        assert predictions["test_logits"].shape == (TEST, 10)
        model = keras.saving.load_model(folder / "model.keras")
        np.testing.assert_allclose(logits_of(model), predictions["test_logits"], atol=1e-5)


@pytest.mark.parametrize("warm_up", [0.0, 0.5])
def test_the_saved_model_carries_no_optimizer(recorder: Recorder, tmp_path: Path, warm_up: float) -> None:
    """So nobody needs cnnlab to load it."""
    schedule = Schedule(name="cosine", warm_up=warm_up)
    optimizer = Optimizer(name="muon", learning_rate=0.01, momentum=0.9, schedule=schedule)
    make_experiment(RUN.model_copy(update={"epochs": 1, "optimizer": optimizer}), tmp_path / "a.npz").execute(
        tmp_path / "out"
    )
    model = keras.saving.load_model(tmp_path / "out" / "model.keras")
    assert not model.compiled
    assert not hasattr(model, "optimizer")
    with zipfile.ZipFile(tmp_path / "out" / "model.keras") as archive:
        assert b"cnnlab" not in archive.read("config.json")


def test_seeds_differ(trained: Path) -> None:
    first, second = (keras.saving.load_model(trained / part / "model.keras").get_weights() for part in ("", "seed-1"))
    assert not any(np.array_equal(a, b) for a, b in zip(first, second, strict=True) if a.ndim > 1)


@pytest.mark.usefixtures("top")
def test_the_seed_gives_the_initial_weights(tmp_path: Path) -> None:
    """With a rate that moves nothing they are still there at the end."""
    still = Optimizer(name="sgd", learning_rate=1e-30)
    run = RUN.model_copy(update={"variant": "still", "seed": 3, "epochs": 1, "optimizer": still})
    make_experiment(run, tmp_path / "checkpoint.npz").execute(tmp_path)
    keras.utils.set_random_seed(3)
    expected = build(RUN.network, card("mnist")).get_weights()
    found = keras.saving.load_model(tmp_path / "model.keras").get_weights()
    assert all(np.allclose(a, b, rtol=0, atol=1e-20) for a, b in zip(found, expected, strict=True))


def test_mlflow_has_one_finished_run_per_seed(seed_folder: tuple[int, Path], top: Path) -> None:
    seed, folder = seed_folder
    store = mlflow.MlflowClient(f"sqlite:///{top}/mlruns/mlflow.db")
    experiment = store.get_experiment_by_name("mnist")
    found = [run for run in store.search_runs([experiment.experiment_id]) if run.data.tags["seed"] == str(seed)]
    assert [(run.info.run_id, run.info.status) for run in found] == [
        (read_json(folder / "run.json")["run_id"], "FINISHED")
    ]
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
    metrics = read_json(folder / "metrics.json")
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
    uri = f"runs:/{read_json(folder / 'run.json')['run_id']}/model"
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
    experiment = make_experiment(run, Path(".checkpoints/fails.npz"))
    with pytest.raises(OSError, match="missing/folder"):
        experiment.execute(Path("missing/folder"))
    store = tracking_store.client()
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
        train_variant([RUN.model_copy(update={"validation": TRAIN})], Strategy(), KNOBS)
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before
    assert [*trained.parent.iterdir()] == [trained]


def test_experiments_made_later_keep_their_artifacts_in_mlruns(top: Path, trained: Path) -> None:
    """Logging a model makes MLflow set MLFLOW_TRACKING_URI in this process; the store is still the local one."""
    run = track.TrackedRun.start("key", "later", "name", {}, {})
    run.log_file(trained / "metrics.json")
    run.finish()
    location = tracking_store.client().get_experiment_by_name("later").artifact_location
    assert location == (top / "mlruns" / "artifacts").as_uri()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_current_steps(
    recorder: Recorder, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """It comes after the first epoch of two; the second's only call is the current one."""
    handler = signal.getsignal(number)
    ending = Logger.on_epoch_end

    def signalled(self: Logger, epoch: int, logs: Any = None) -> None:
        ending(self, epoch, logs)
        signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(Logger, "on_epoch_end", signalled)
        with pytest.raises(Interrupted) as interruption:
            make_experiment(RUN, tmp_path / "a.npz").execute(tmp_path / "out")
    assert str(interruption.value) == (
        "interrupted: tiny seed 0 was saved after 1 epochs and 15 steps; the same command resumes it"
    )
    assert recorder.status == ["KILLED"]
    assert signal.getsignal(number) is handler
    make_experiment(RUN, tmp_path / "a.npz").execute(tmp_path / "out")
    assert_same_outcome(tmp_path / "out", trained)


def test_devices_and_feeding_change_no_result(recorder: Recorder, trained: Path, tmp_path: Path) -> None:
    knobs = Train(feeding="streamed", checkpoint_minutes=1e-9)
    Experiment(RUN, strategy(Strategy(devices="one")), knobs, tmp_path / "a.npz", track.Entry(RUN.data, "a")).execute(
        tmp_path / "out"
    )
    assert_same_outcome(tmp_path / "out", trained)
    parts = ("train", "validation", "test")
    assert recorder.final.keys() == {
        f"{part}_{metric}" for part in parts for metric in ("loss", "accuracy", "top5_accuracy")
    }
