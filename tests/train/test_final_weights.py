"""Which weights a training ends with: the average, the best epoch's, float32 ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
import tensorflow as tf
from train.experiments import RUN, Recorder, assert_same_outcome, loaded, logits_of, make_experiment, read_json, rows
from train.processed import TRAIN, VALIDATION

from cnnlab.data.store import open_processed
from cnnlab.params import Optimizer
from cnnlab.tracking import runs as track
from cnnlab.train import checkpoints as state
from cnnlab.train.loop import Loop

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow", "ignore:::keras")  # their own, in their own code


@pytest.fixture
def precision() -> Iterator[None]:
    """Forgets the precision of the last training."""
    yield
    keras.config.set_dtype_policy("float32")


def test_the_final_model_holds_the_average(recorder: Recorder, tmp_path: Path) -> None:
    """Two epochs of one step: half of each epoch's weights."""
    one_step = RUN.model_copy(update={"batch_size": TRAIN - VALIDATION})
    weights = []
    for name, epochs, ema in (("first", 1, 0.0), ("second", 2, 0.0), ("average", 2, 0.5)):
        optimizer = Optimizer(name="adam", learning_rate=0.01, ema=ema)
        run = one_step.model_copy(update={"epochs": epochs, "optimizer": optimizer})
        make_experiment(run, tmp_path / f"{name}.npz").execute(tmp_path / name)
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
        patch.setattr(track.TrackedRun, "start", lambda *_, **__: Recorder())
        make_experiment(STOPPING, Path("stopped/a.npz")).execute(Path("stopped/out"))
    return Path("stopped/out")


def test_early_stopping_saves_the_best_epoch(recorder: Recorder, stopped: Path, tmp_path: Path) -> None:
    """Against trainings without it: of all epochs, to see where it should stop, and of those up to the best one."""
    free = STOPPING.model_copy(update={"early_stopping": None})
    make_experiment(free, tmp_path / "free.npz").execute(tmp_path / "free")
    losses = [row["val_loss"] for row in rows(tmp_path / "free" / "history.csv")]
    bests = [int(np.argmin(losses[:end])) for end in range(1, len(losses) + 1)]
    end, best = next((end, best + 1) for end, best in enumerate(bests, 1) if end - (best + 1) >= PATIENCE)
    assert end < 14
    assert [row["val_loss"] for row in rows(stopped / "history.csv")] == losses[:end]
    metrics = read_json(stopped / "metrics.json")
    assert metrics["epochs"] == end
    assert metrics["validation_loss"] == losses[best - 1] == min(losses[:end])

    make_experiment(free.model_copy(update={"epochs": best}), tmp_path / "best.npz").execute(tmp_path / "best")
    for mine, its in zip(loaded(stopped), loaded(tmp_path / "best"), strict=True):
        assert np.array_equal(mine, its)
    with np.load(stopped / "predictions.npz") as mine, np.load(tmp_path / "best" / "predictions.npz") as its:
        assert all(np.array_equal(mine[name], its[name]) for name in its.files)


def no_training(*_: Any) -> None:
    raise AssertionError("trained on")


def test_a_stopped_training_is_not_trained_further(
    recorder: Recorder, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Loop, "train", no_training)
    make_experiment(STOPPING, stopped.parent / "a.npz").execute(tmp_path / "again")
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
            make_experiment(STOPPING, tmp_path / "a.npz").execute(tmp_path / "out")
    assert recorder.status == ["KILLED"]
    assert not (tmp_path / "out").exists()
    make_experiment(STOPPING, tmp_path / "a.npz").execute(tmp_path / "out")
    assert recorder.status == ["KILLED", "FINISHED"]
    assert_same_outcome(tmp_path / "out", stopped)


@pytest.mark.usefixtures("precision")
def test_bfloat16_leaves_float32_weights(recorder: Recorder, tmp_path: Path, replicas: tf.distribute.Strategy) -> None:
    run = RUN.model_copy(update={"precision": "bfloat16", "epochs": 1})
    make_experiment(run, tmp_path / "a.npz", replicas).execute(tmp_path / "out")
    assert {array.dtype.name for array in loaded(tmp_path / "out")} == {"float32"}
    with np.load(tmp_path / "out" / "predictions.npz", allow_pickle=False) as predictions:
        assert predictions["test_logits"].dtype == np.float32
    assert recorder.status == ["FINISHED"]
    make_experiment(RUN.model_copy(update={"epochs": 1}), tmp_path / "b.npz").execute(tmp_path / "float32")
    model = keras.saving.load_model(tmp_path / "float32" / "model.keras")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


@pytest.mark.usefixtures("precision")
def test_mlflow_takes_a_bfloat16_model(top: Path, tmp_path: Path) -> None:
    run = RUN.model_copy(update={"variant": "bfloat16", "precision": "bfloat16", "epochs": 1})
    make_experiment(run, tmp_path / "a.npz").execute(tmp_path / "out")
    mlflow.set_tracking_uri(f"sqlite:///{top}/mlruns/mlflow.db")
    model = mlflow.pyfunc.load_model(f"runs:/{read_json(tmp_path / 'out' / 'run.json')['run_id']}/model")
    images = open_processed("mnist").test_images[:3] / np.float32(255)
    with np.load(tmp_path / "out" / "predictions.npz", allow_pickle=False) as predictions:
        np.testing.assert_allclose(np.asarray(model.predict(images), np.float32), predictions["test_logits"][:3])
