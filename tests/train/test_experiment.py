"""A whole training of two seeds on a small MNIST: its files, its MLflow runs, and what a failure leaves."""

import csv
import json
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
import tensorflow as tf
from cards import card
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score
from train.processed import TEST, TRAIN, VALIDATION, write_mnist
from train.small import timeless

from cnnlab import files, track
from cnnlab.data.store import open_processed
from cnnlab.errors import UserError
from cnnlab.nets.build import build
from cnnlab.params import Augment, HomeworkNetwork, Optimizer, Run, Schedule, Strategy, Train
from cnnlab.train import state
from cnnlab.train.callbacks import Logger
from cnnlab.train.experiment import Experiment, train_variant
from cnnlab.train.loop import Call, Interrupted, Loop
from cnnlab.train.strategy import strategy

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow", "ignore:::keras")  # their own, in their own code
RUN = Run(
    variant="tiny",
    seed=0,
    data="mnist",
    network=HomeworkNetwork(
        name="homework", filters=[4], blocks=[2], conv_dropout=[0.25], dense_units=8, dense_dropout=0.5
    ),
    validation=VALIDATION,
    train_images=None,
    epochs=2,
    batch_size=16,
    optimizer=Optimizer(name="rmsprop", learning_rate=0.003, schedule=Schedule(name="inverse_time", decay=1e-6)),
    augment=Augment(shift=0.1, flip="random"),
)
KNOBS = Train(feeding="auto", checkpoint_minutes=5)
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
    train_variant([RUN, RUN.model_copy(update={"seed": 1})], Strategy(), KNOBS)
    return files.MODELS / "mnist" / "tiny"


@pytest.fixture(params=[0, 1])
def seed_folder(request: pytest.FixtureRequest, trained: Path) -> tuple[int, Path]:
    return request.param, trained / "seed-1" if request.param else trained


def made(run: Run, checkpoint: Path, devices: tf.distribute.Strategy | None = None) -> Experiment:
    entry = track.Entry(run.data, f"{run.variant} seed {run.seed}")
    return Experiment(run, devices or strategy(Strategy()), KNOBS, checkpoint, entry)


class Recorder:
    """In MLflow's place: keeps how the run ended and what was logged last."""

    id = "recorder"

    def __init__(self) -> None:
        self.status: list[str] = []
        self.final: dict[str, float] = {}

    def log_metrics(self, points: Any, time_ms: int | None = None) -> None:
        self.final = dict(points[-1][1])

    def log_data(self, *_: Any) -> None: ...

    def log_model(self, *_: Any) -> None: ...

    def propose(self, *_: Any) -> None: ...

    def finish(self, status: str = "FINISHED") -> None:
        self.status.append(status)


@pytest.fixture
def recorder(top: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    monkeypatch.setattr(track.Run, "start", lambda *_, **__: made)
    return made


@pytest.fixture
def precision() -> Iterator[None]:
    """Forgets the precision of the last training."""
    yield
    keras.config.set_dtype_policy("float32")


def loaded(folder: Path) -> list[np.ndarray]:
    return keras.saving.load_model(folder / "model.keras").get_weights()


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


@pytest.mark.parametrize("warm_up", [0.0, 0.5])
def test_the_saved_model_carries_no_optimizer(recorder: Recorder, tmp_path: Path, warm_up: float) -> None:
    """So nobody needs cnnlab to load it."""
    schedule = Schedule(name="cosine", warm_up=warm_up)
    optimizer = Optimizer(name="muon", learning_rate=0.01, momentum=0.9, schedule=schedule)
    made(RUN.model_copy(update={"epochs": 1, "optimizer": optimizer}), tmp_path / "a.npz").execute(tmp_path / "out")
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
    made(run, tmp_path / "checkpoint.npz").execute(tmp_path)
    keras.utils.set_random_seed(3)
    expected = build(RUN.network, card("mnist")).get_weights()
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
    experiment = made(run, Path(".checkpoints/fails.npz"))
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
        train_variant([RUN.model_copy(update={"validation": TRAIN})], Strategy(), KNOBS)
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before
    assert [*trained.parent.iterdir()] == [trained]


def test_experiments_made_later_keep_their_artifacts_in_mlruns(top: Path, trained: Path) -> None:
    """Logging a model makes MLflow set MLFLOW_TRACKING_URI in this process; the store is still the local one."""
    run = track.Run.start("key", "later", "name", {}, {})
    run.log_file(trained / "metrics.json")
    run.finish()
    location = track.client().get_experiment_by_name("later").artifact_location
    assert location == (top / "mlruns" / "artifacts").as_uri()


# Averages, early stopping, precision


def test_the_final_model_holds_the_average(recorder: Recorder, tmp_path: Path) -> None:
    """Two epochs of one step: half of each epoch's weights."""
    whole = RUN.model_copy(update={"batch_size": TRAIN - VALIDATION})
    weights = []
    for name, epochs, ema in (("first", 1, 0.0), ("second", 2, 0.0), ("average", 2, 0.5)):
        optimizer = Optimizer(name="adam", learning_rate=0.01, ema=ema)
        run = whole.model_copy(update={"epochs": epochs, "optimizer": optimizer})
        made(run, tmp_path / f"{name}.npz").execute(tmp_path / name)
        weights.append(loaded(tmp_path / name))
    for first, second, average in zip(*weights, strict=True):
        np.testing.assert_allclose(average, (first + second) / 2, rtol=1e-5, atol=1e-7)
        assert not np.allclose(average, second, rtol=1e-3)
    model = keras.saving.load_model(tmp_path / "average" / "model.keras")
    with np.load(tmp_path / "average" / "predictions.npz", allow_pickle=False) as predictions:
        np.testing.assert_allclose(logits_of(model), predictions["test_logits"], atol=1e-5)


PATIENCE = 2
STOPPING = RUN.model_copy(
    update={
        "epochs": 14,
        "optimizer": Optimizer(name="rmsprop", learning_rate=0.05),  # nothing is learnt: the loss goes up and down
        "early_stopping": PATIENCE,
    }
)


@pytest.fixture(scope="module")
def stopped(top: Path) -> Path:
    """The folder of a training that was stopped early; its checkpoints stay."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(track.Run, "start", lambda *_, **__: Recorder())
        made(STOPPING, Path("stopped/a.npz")).execute(Path("stopped/out"))
    return Path("stopped/out")


def test_early_stopping_saves_the_best_epoch(recorder: Recorder, stopped: Path, tmp_path: Path) -> None:
    """Against trainings without it: of all epochs, to see where it should stop, and of those up to the best one."""
    free = STOPPING.model_copy(update={"early_stopping": None})
    made(free, tmp_path / "free.npz").execute(tmp_path / "free")
    losses = [row["val_loss"] for row in rows(tmp_path / "free" / "history.csv")]
    bests = [int(np.argmin(losses[:end])) for end in range(1, len(losses) + 1)]
    end, best = next((end, best + 1) for end, best in enumerate(bests, 1) if end - (best + 1) >= PATIENCE)
    assert end < 14
    assert [row["val_loss"] for row in rows(stopped / "history.csv")] == losses[:end]
    metrics = read(stopped / "metrics.json")
    assert metrics["epochs"] == end
    assert metrics["validation_loss"] == losses[best - 1] == min(losses[:end])

    made(free.model_copy(update={"epochs": best}), tmp_path / "best.npz").execute(tmp_path / "best")
    for mine, its in zip(loaded(stopped), loaded(tmp_path / "best"), strict=True):
        assert np.array_equal(mine, its)
    with np.load(stopped / "predictions.npz") as mine, np.load(tmp_path / "best" / "predictions.npz") as its:
        assert all(np.array_equal(mine[name], its[name]) for name in its.files)


def no_training(*_: Any) -> None:
    raise AssertionError("trained on")


def assert_same_outcome(left: Path, right: Path) -> None:
    assert all(np.array_equal(a, b) for a, b in zip(loaded(left), loaded(right), strict=True))
    for table in ("history.csv", "curve.csv"):
        assert timeless(rows(left / table)) == timeless(rows(right / table))
    with np.load(left / "predictions.npz") as mine, np.load(right / "predictions.npz") as its:
        assert all(np.array_equal(mine[name], its[name]) for name in its.files)


def test_a_stopped_training_goes_on_no_more(
    recorder: Recorder, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Loop, "train", no_training)
    made(STOPPING, stopped.parent / "a.npz").execute(tmp_path / "again")
    assert_same_outcome(tmp_path / "again", stopped)


@pytest.mark.parametrize("number", range(1, 5))
def test_early_stopping_continues_from_wherever_it_was_killed(
    recorder: Recorder, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Before each of the first writes of a checkpoint: the first epochs' best ones and their usual ones."""
    written = []

    def killed(*arguments: Any) -> None:
        if len(written) == number:
            raise KeyboardInterrupt
        written.append(arguments[0])
        saving(*arguments)

    saving = state.save
    with monkeypatch.context() as patch:
        patch.setattr(state, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            made(STOPPING, tmp_path / "a.npz").execute(tmp_path / "out")
    assert recorder.status == ["KILLED"]
    assert not (tmp_path / "out").exists()
    made(STOPPING, tmp_path / "a.npz").execute(tmp_path / "out")
    assert recorder.status == ["KILLED", "FINISHED"]
    assert_same_outcome(tmp_path / "out", stopped)


@pytest.mark.usefixtures("precision")
def test_bfloat16_leaves_float32_weights(recorder: Recorder, tmp_path: Path, replicas: tf.distribute.Strategy) -> None:
    run = RUN.model_copy(update={"precision": "bfloat16", "epochs": 1})
    made(run, tmp_path / "a.npz", replicas).execute(tmp_path / "out")
    assert {array.dtype.name for array in loaded(tmp_path / "out")} == {"float32"}
    with np.load(tmp_path / "out" / "predictions.npz", allow_pickle=False) as predictions:
        assert predictions["test_logits"].dtype == np.float32
    assert recorder.status == ["FINISHED"]
    made(RUN.model_copy(update={"epochs": 1}), tmp_path / "b.npz").execute(tmp_path / "float32")
    model = keras.saving.load_model(tmp_path / "float32" / "model.keras")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


@pytest.mark.usefixtures("precision")
def test_mlflow_takes_a_bfloat16_model(top: Path, tmp_path: Path) -> None:
    run = RUN.model_copy(update={"variant": "bfloat16", "precision": "bfloat16", "epochs": 1})
    made(run, tmp_path / "a.npz").execute(tmp_path / "out")
    mlflow.set_tracking_uri(f"sqlite:///{top}/mlruns/mlflow.db")
    model = mlflow.pyfunc.load_model(f"runs:/{read(tmp_path / 'out' / 'run.json')['run_id']}/model")
    images = open_processed("mnist").test_images[:3] / np.float32(255)
    with np.load(tmp_path / "out" / "predictions.npz", allow_pickle=False) as predictions:
        np.testing.assert_allclose(np.asarray(model.predict(images), np.float32), predictions["test_logits"][:3])


# Interruption and errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_present_steps(
    recorder: Recorder, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """It comes after the first epoch of two; the second's only call is the present one."""
    handler = signal.getsignal(number)
    ending = Logger.on_epoch_end

    def signalled(self: Logger, epoch: int, logs: Any = None) -> None:
        ending(self, epoch, logs)
        signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(Logger, "on_epoch_end", signalled)
        with pytest.raises(Interrupted) as told:
            made(RUN, tmp_path / "a.npz").execute(tmp_path / "out")
    assert str(told.value) == (
        "interrupted: tiny seed 0 was saved after 1 epochs and 15 steps; the same command continues it"
    )
    assert recorder.status == ["KILLED"]
    assert signal.getsignal(number) is handler
    made(RUN, tmp_path / "a.npz").execute(tmp_path / "out")
    assert_same_outcome(tmp_path / "out", trained)


# Decay by more than float32 holds: the first step's loss is finite, what its update leaves is not.
HOT = RUN.model_copy(
    update={
        "batch_size": TRAIN - VALIDATION,
        "optimizer": Optimizer(name="sgd", learning_rate=3e38, weight_decay=1e3),
    }
)


def test_an_interruption_saves_no_overflow(recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Loop.train

    def interrupted(self: Loop, *arguments: Any) -> Call:
        self.interrupt = True
        return training(self, *arguments)

    monkeypatch.setattr(Loop, "train", interrupted)
    with pytest.raises(Interrupted):
        made(HOT, tmp_path / "a.npz").execute(tmp_path / "out")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert all(np.isfinite(file[name]).all() for name in file.files if name != "state")


@pytest.mark.filterwarnings("ignore::RuntimeWarning:scipy")  # of infinite logits
def test_a_diverged_training_fails(recorder: Recorder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"The training diverged: .* of epoch 1, learning rate 3e\+38\."):
        made(HOT, tmp_path / "a.npz").execute(tmp_path / "out")
    assert recorder.status == ["FAILED"]
    assert not (tmp_path / "out").exists()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert all(np.isfinite(file[name]).all() for name in file.files if name != "state")


class Refused(tf.errors.ResourceExhaustedError):
    def __init__(self) -> None:
        super().__init__(None, None, "OOM when allocating tensor with shape[8]\nmore\nlines")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Refused(), "OOM when allocating tensor with shape[8]"),
        (MemoryError("Unable to allocate 9 TiB."), "Unable to allocate 9 TiB"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_too_little_memory_is_told_in_a_line(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def train(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Loop, "train", train)
    with pytest.raises(UserError) as refusal:
        made(RUN, tmp_path / "a.npz").execute(tmp_path / "out")
    assert str(refusal.value) == (
        "Out of memory: tiny seed 0. Expected a network, batches and data that fit the device. "
        f"Received: {told}. Lower batch_size, filters or dense_units, or set train.feeding to streamed."
    )
    assert refusal.value.__cause__ is error
    assert recorder.status == ["FAILED"]


def test_a_single_process_loses_no_worker(recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow's error stays: it is a mistake of ours."""

    def train(*_: Any) -> None:
        raise tf.errors.InternalError(None, None, "a kernel failed")

    monkeypatch.setattr(Loop, "train", train)
    with pytest.raises(tf.errors.InternalError, match="a kernel failed"):
        made(RUN, tmp_path / "a.npz").execute(tmp_path / "out")


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
