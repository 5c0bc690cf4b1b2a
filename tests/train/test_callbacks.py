"""What happens beside the steps: checkpoints within and after epochs, early stopping, logging, and divergence."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given
from hypothesis import strategies as st
from train.small import make_loop, pictures, same, values

from cnnlab.data import batches
from cnnlab.errors import UserError
from cnnlab.params import Optimizer, Schedule
from cnnlab.train import checkpoints as state
from cnnlab.train.callbacks import EarlyStopping, Logger, Saver
from cnnlab.train.history import History, Progress
from cnnlab.train.loop import Loop, fit

DATA = pictures(70)
TRAIN, VALIDATION = np.arange(52), np.arange(52, 70)
SGD = Optimizer(name="sgd", learning_rate=0.05)
ALWAYS, NEVER = 1e-9, 1e9  # minutes


def restored(path: Path, model: keras.Model) -> state.State:
    return state.restore(state.read(path, "recipe"), model, path)


# Checkpoints


class Copier(keras.callbacks.Callback):
    """After every hook of `Saver`: the checkpoint's bytes, and what it should hold."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.found: list[tuple[bytes, list[np.ndarray]]] = []
        self._path = path

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.found.append((self._path.read_bytes() if self._path.exists() else b"", values(self.model)))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.on_train_batch_end(epoch)


def saved(loop: Loop, folder: Path, minutes: float, epochs: int) -> tuple[Copier, state.State, Path]:
    path, standing = folder / "a.npz", state.State(run_id="id")
    saver, copier = Saver(path, standing, "recipe", minutes, keep_best=False), Copier(path)
    fit(loop, TRAIN, VALIDATION, epochs, history=standing.history, callbacks=[saver, copier])
    assert not saver.best.exists()
    return copier, standing, path


def test_it_saves_within_an_epoch(tmp_path: Path, one_replica: tf.distribute.Strategy) -> None:
    """After each call and each epoch, all there is; test_state.py continues from there."""
    loop, twin = (make_loop(one_replica, DATA, SGD, batch_size=1) for _ in range(2))
    copier, standing, path = saved(loop, tmp_path, ALWAYS, 2)
    steps = []
    for content, expected in copier.found:
        found = state.restore(content, twin.model, path)
        assert (found.key, found.run_id) == (standing.key, "id")
        assert same(values(twin.model), expected)
        steps.append((len(found.history.epochs), found.history.progress.step))
    assert steps == [(0, 32), (0, 52), (1, 0), (1, 32), (1, 52), (2, 0)]
    assert restored(path, twin.model) == standing


def test_it_saves_after_each_epoch_alone_within_the_minutes(
    tmp_path: Path, one_replica: tf.distribute.Strategy
) -> None:
    loop, twin = (make_loop(one_replica, DATA, SGD, batch_size=1) for _ in range(2))
    copier, _, path = saved(loop, tmp_path, NEVER, 2)
    contents = [content for content, _ in copier.found]
    assert contents[0] == contents[1] == b""
    assert contents[2] == contents[3] == contents[4] != contents[5]
    standings = [state.restore(contents[i], twin.model, path) for i in (2, 5)]
    assert [len(standing.history.epochs) for standing in standings] == [1, 2]
    assert [standing.history.progress for standing in standings] == [Progress(), Progress()]


def test_minutes_count_from_the_last_save(
    tmp_path: Path, one_replica: tf.distribute.Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that goes on by 20 s a look; a save takes one more of them."""
    now = iter(range(0, 10_000, 20))
    monkeypatch.setattr("cnnlab.train.callbacks.time", SimpleNamespace(monotonic=lambda: next(now)))
    path, standing = tmp_path / "a.npz", state.State()
    saver = Saver(path, standing, "recipe", 1, keep_best=False)
    saver.set_model(make_loop(one_replica, DATA, SGD, batch_size=26).model)
    saves = []
    for call in range(9):
        path.unlink(missing_ok=True)
        saver.on_train_batch_end(call)
        saves.append(path.exists())
    assert saves == [False, False, True] * 3


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_overflowed_are_not_saved(tmp_path: Path, one_replica: tf.distribute.Strategy, bad: float) -> None:
    model = make_loop(one_replica, DATA, SGD, batch_size=26).model
    saver = Saver(tmp_path / "a.npz", state.State(), "recipe", ALWAYS, keep_best=False)
    saver.set_model(model)
    saver.on_train_batch_end(0)
    before = (tmp_path / "a.npz").read_bytes()
    model.trainable_variables[-1].assign([0, bad, 0, 0])
    saver.on_train_batch_end(1)
    assert (tmp_path / "a.npz").read_bytes() == before


def test_the_best_epoch_is_kept_apart(tmp_path: Path, one_replica: tf.distribute.Strategy) -> None:
    """Validation losses of 3, 2, 2, 1, 4: the epochs that were best when they came are the first, second and fourth."""
    model = make_loop(one_replica, DATA, SGD, batch_size=26).model
    standing = state.State()
    saver = Saver(tmp_path / "seed-0.npz", standing, "recipe", NEVER, keep_best=True)
    saver.set_model(model)
    best = []
    for epoch, loss in enumerate([3.0, 2.0, 2.0, 1.0, 4.0]):
        standing.history.epochs.append({"epoch": epoch + 1, "val_loss": loss})
        model.trainable_variables[-1].assign(np.full(4, epoch))
        saver.on_epoch_end(epoch)
        content = [state.read(path, "recipe") for path in (saver.best, tmp_path / "seed-0.npz")]
        best.append(len(state.restore(content[0], model, saver.best).history.epochs))
        assert model.trainable_variables[-1].numpy().tolist() == [best[-1] - 1] * 4
        assert len(state.restore(content[1], model, saver.best).history.epochs) == epoch + 1
    assert best == [1, 2, 2, 4, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed-0.best.npz", "seed-0.npz"]


# Early stopping

losses = st.lists(st.integers(0, 5), min_size=1, max_size=12)  # ties are no better


def stops_after(history: list[float], patience: int | None, first: int = 0) -> int:
    """Epochs until ours stops or the losses end, where `first` were there when the process began."""
    standing = History([{"val_loss": loss} for loss in history[:first]])
    model = SimpleNamespace(stop_training=False)
    callback = EarlyStopping(standing, patience)
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, loss in enumerate(history[first:], first):
        if model.stop_training:
            return epoch
        standing.epochs.append({"val_loss": loss})
        callback.on_epoch_end(epoch)
    return len(history)


@given(history=losses, patience=st.integers(1, 5))
@example([1, 2, 3], 1)
@example([1, 1, 1, 1], 2)
def test_it_stops_where_keras_does(history: list[float], patience: int) -> None:
    model = SimpleNamespace(stop_training=False)
    theirs = keras.callbacks.EarlyStopping("val_loss", patience=patience)
    theirs.set_model(model)
    theirs.on_train_begin()
    expected = len(history)
    for epoch, loss in enumerate(history):
        theirs.on_epoch_end(epoch, {"val_loss": loss})
        if model.stop_training:
            expected = epoch + 1
            break
    for first in range(expected + 1):  # restarted after this many epochs
        assert stops_after(history, patience, first) == expected


@given(history=losses)
def test_without_patience_it_never_stops(history: list[float]) -> None:
    assert stops_after(history, None) == len(history)


# Logging

SYSTEM = ["system/cpu_utilization_percentage", "system/system_memory_usage_megabytes", "system/disk_usage_percentage"]


class Tracker:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.records: list[tuple[Any, int | None]] = []

    def log_metrics(self, points: Any, time_ms: int | None = None) -> None:
        self.records.append((list(points), time_ms))


def test_an_epoch_is_one_record(one_replica: tf.distribute.Strategy) -> None:
    history, tracker = History(), Tracker()
    loop = make_loop(one_replica, DATA, SGD, batch_size=1)
    fit(loop, TRAIN, VALIDATION, 2, history=history, callbacks=[Logger(tracker, history)])
    assert len(tracker.records) == 2
    for epoch, (points, time_ms) in enumerate(tracker.records):
        row = history.epochs[epoch]
        assert time_ms == row["time"]
        own = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds", "images_per_s")
        curve = [
            (point["images"], {"curve_loss": point["loss"], "curve_accuracy": point["accuracy"]})
            for point in history.curve[2 * epoch : 2 * epoch + 2]
        ]
        step, values = points[0]
        load = {name: value for name, value in values.items() if name.startswith("system/")}
        assert load.keys() >= {*SYSTEM}
        assert all(0 <= load[name] <= 100 for name in load if name.endswith("percentage"))
        assert [(step, {k: v for k, v in values.items() if k not in load}), *points[1:]] == [
            (epoch + 1, {name: row[name] for name in own}),
            *curve,
        ]
    again = Tracker()
    fit(loop, TRAIN, VALIDATION, 2, history=history, callbacks=[Logger(again, history)])
    for points, _ in tracker.records:  # a continued training logs again what a kill may have left out, but for the load
        for name in [name for name in points[0][1] if name.startswith("system/")]:
            del points[0][1][name]
    assert again.records == tracker.records


# Divergence


def diverged(text: str) -> tuple[str, int, int, float]:
    """Name, step, epoch and learning rate that an error names."""
    found = re.match(
        r"The training diverged: (.*) (?:nan|inf) at step (\d+) of epoch (\d+), learning rate (\S+)\. ", text
    )
    assert found, text
    return found[1], int(found[2]), int(found[3]), float(found[4])


class Heat(keras.callbacks.Callback):
    """Raises the learning rate beyond all bounds after some calls."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self._calls = calls

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._calls -= 1
        if not self._calls:
            self.model.optimizer.learning_rate = 3e38


@pytest.mark.parametrize(("calls", "epochs", "step"), [(1, 0, 32), (2, 1, 0), (3, 1, 32)])
def test_the_last_good_checkpoint_stays(
    tmp_path: Path, replicas: tf.distribute.Strategy, calls: int, epochs: int, step: int
) -> None:
    data = pictures(122)  # an epoch is two calls of batches of 2
    loop = make_loop(replicas, data, SGD, batch_size=2)
    path, standing = tmp_path / "a.npz", state.State()
    saver = Saver(path, standing, "recipe", ALWAYS, keep_best=True)
    train, validation = np.arange(104), np.arange(104, 122)
    with pytest.raises(UserError) as refusal:
        fit(loop, train, validation, 3, history=standing.history, callbacks=[saver, Heat(calls)])
    name, bad, epoch, rate = diverged(str(refusal.value))
    assert (name, epoch, rate) == ("loss", epochs + 1, 3e38)
    assert step < bad < step + 32
    history = restored(path, loop.model).history
    assert (len(history.epochs), history.progress.step) == ((0, 32) if calls == 1 else (1, step))
    assert state.is_finite(loop.model)
    loop.model.optimizer.learning_rate = 0.05  # and from there it can go on
    assert len(fit(loop, train, validation, 3, history=history).epochs) == 3


def test_the_step_and_its_learning_rate_are_named(
    one_replica: tf.distribute.Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when each call is a single step; the rate rises by 2e36 a step, until numbers overflow."""
    knobs = Optimizer(name="sgd", learning_rate=2e38, schedule=Schedule(name="constant", warm_up=0.5))
    messages = []
    for steps in (32, 1):
        monkeypatch.setattr(batches, "STEPS_PER_CALL", steps)
        loop = make_loop(one_replica, DATA, knobs, batch_size=1, steps=200)
        with pytest.raises(UserError) as refusal:
            fit(loop, TRAIN, VALIDATION, 3)
        messages.append(diverged(str(refusal.value)))
    name, step, epoch, rate = messages[0]
    assert messages[0] == messages[1]
    assert (name, epoch) == ("loss", 1)
    assert 0 < step < 32
    np.testing.assert_allclose(rate, 2e36 * (step + 1), rtol=1e-3)


@pytest.mark.filterwarnings("ignore::RuntimeWarning:scipy")  # of infinite logits
def test_an_epochs_last_step_shows_in_the_validation_loss(tmp_path: Path, one_replica: tf.distribute.Strategy) -> None:
    loop = make_loop(one_replica, DATA, Optimizer(name="sgd", learning_rate=3e38), batch_size=len(TRAIN))
    standing = state.State()
    saver = Saver(tmp_path / "a.npz", standing, "recipe", ALWAYS, keep_best=True)
    with pytest.raises(UserError) as refusal:
        fit(loop, TRAIN, VALIDATION, 3, history=standing.history, callbacks=[saver])
    assert diverged(str(refusal.value)) == ("validation loss", 1, 1, 3e38)
    assert standing.history.epochs == []
    for path in tmp_path.iterdir():
        restored(path, loop.model)
        assert state.is_finite(loop.model)
