"""Checkpoints: bit for bit, of one recipe only, complete or absent, and sufficient to resume."""

import io
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import pytest
import tensorflow as tf
from train.small import make_loop, pictures, same, timeless, tiny, values

from cnnlab.data import batches
from cnnlab.errors import UserError
from cnnlab.params import Augment, Optimizer, Schedule
from cnnlab.train import checkpoints as state
from cnnlab.train.history import History, Progress, Sums
from cnnlab.train.loop import Loop, fit

DATA = pictures(70)
TRAIN, VALIDATION = np.arange(52, dtype=np.int32), np.arange(52, 70, dtype=np.int32)
DECAYING = Optimizer(name="rmsprop", learning_rate=0.003, schedule=Schedule(name="inverse_time", decay=0.01))
AVERAGED = Optimizer(name="adam", learning_rate=0.01, clip_norm=1.0, weight_decay=0.01, ema=0.9)
STATE = state.State(
    History(
        [{"epoch": 1, "loss": 1 / 3, "accuracy": 0.1}],
        [{"images": 52, "loss": 1e-17, "accuracy": 0.0}],
        Progress(3, Sums(24, 1 / 7, 5), Sums(8, 0.1, 2), 0.25),
    ),
    "our key",
    "MLflow's id",
)


def loop_with_dropout(strategy: tf.distribute.Strategy, optimizer: Optimizer = DECAYING, seed: int = 5) -> Loop:
    augment = Augment(shift=0.1, flip="random")
    network = partial(tiny, 0.5)
    return make_loop(strategy, DATA, optimizer, batch_size=8, network=network, augment=augment, seed=seed)


def restored(path: Path, model: keras.Model) -> state.State:
    return state.restore(state.read(path, "recipe"), model, path)


@pytest.mark.parametrize("optimizer", [DECAYING, AVERAGED], ids=["rmsprop", "adam"])
def test_a_round_trip_is_bit_for_bit(tmp_path: Path, replicas: tf.distribute.Strategy, optimizer: Optimizer) -> None:
    trained, fresh = loop_with_dropout(replicas, optimizer), loop_with_dropout(replicas, optimizer, seed=6)
    fit(trained, TRAIN, VALIDATION, 1)
    before = values(trained.model)
    assert not same(before, values(fresh.model))
    assert trained.model.optimizer.iterations.numpy() == 7
    state.save(tmp_path / "a.npz", trained.model, STATE, "recipe")
    assert restored(tmp_path / "a.npz", fresh.model) == STATE
    assert same(values(fresh.model), before)
    # weights, dropout's random state, iterations, a rate where it is a variable, and moments: none is left out
    names = {
        variable.path.rpartition("/")[2] for variable in (*fresh.model.variables, *fresh.model.optimizer.variables)
    }
    assert {"kernel", "bias", "seed_generator_state", "iteration"} <= names


@pytest.mark.parametrize("epochs", [2, 3])
def test_continuing_equals_never_stopping(tmp_path: Path, replicas: tf.distribute.Strategy, epochs: int) -> None:
    """Dropout and augmentation on: their draws continue too."""
    never, before, after = (loop_with_dropout(replicas) for _ in range(3))
    expected = fit(never, TRAIN, VALIDATION, epochs)
    state.save(tmp_path / "a", before.model, state.State(fit(before, TRAIN, VALIDATION, 1)), "recipe")
    keras.utils.set_random_seed(99)  # what a new process has drawn by then
    history = fit(after, TRAIN, VALIDATION, epochs, history=restored(tmp_path / "a", after.model).history)
    assert same(values(after.model), values(never.model))
    assert history.curve == expected.curve
    assert timeless(history.epochs) == timeless(expected.epochs)


class Keeper(keras.callbacks.Callback):
    """Saves after every compiled call, each in a file of its own."""

    def __init__(self, folder: Path, standing: state.State) -> None:
        super().__init__()
        self.paths: list[Path] = []
        self._folder = folder
        self._standing = standing

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.paths.append(self._folder / f"{len(self.paths)}.npz")
        state.save(self.paths[-1], self.model, self._standing, "recipe")


@pytest.mark.parametrize("feeding", ["resident", "streamed"])
def test_continuing_within_an_epoch_equals_never_stopping(
    tmp_path: Path, replicas: tf.distribute.Strategy, feeding: Literal["resident", "streamed"]
) -> None:
    """From each call of two epochs, the last of an epoch included: 32 batches of 3, 8 batches of 3, one of 2."""

    def loop() -> Loop:
        knobs = Augment(flip="alternating", mixup=0.4)
        network = partial(tiny, 0.5)
        return make_loop(replicas, data, AVERAGED, batch_size=3, network=network, augment=knobs, feeding=feeding)

    data = pictures(140)
    train, validation = np.arange(122), np.arange(122, 140)
    never, after = loop(), loop()
    standing = state.State()
    keeper = Keeper(tmp_path, standing)
    expected = fit(never, train, validation, 2, history=standing.history, callbacks=[keeper])
    assert len(keeper.paths) == 6
    for i, path in enumerate(keeper.paths):
        history = restored(path, after.model).history
        assert len(history.epochs) == i // 3
        assert 0 < history.progress.step <= 41
        fit(after, train, validation, 2, history=history)
        assert same(values(after.model), values(never.model))
        assert history.curve == expected.curve
        assert timeless(history.epochs) == timeless(expected.epochs)


def test_feeding_may_change_between_a_kill_and_the_next_start(
    tmp_path: Path, one_replica: tf.distribute.Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no part of the recipe: here calls had 16 steps and have 32 when the training continues."""
    monkeypatch.setattr(batches, "STREAMED_BYTES", 16 * DATA[0][0].nbytes)
    never, after = (
        make_loop(one_replica, DATA, DECAYING, batch_size=1, feeding=feeding) for feeding in ("streamed", "resident")
    )
    standing = state.State()
    keeper = Keeper(tmp_path, standing)
    expected = fit(never, TRAIN, VALIDATION, 1, history=standing.history, callbacks=[keeper])
    history = fit(after, TRAIN, VALIDATION, 1, history=restored(keeper.paths[0], after.model).history)
    assert same(values(after.model), values(never.model))
    assert timeless(history.epochs) == timeless(expected.epochs)


def test_there_is_none(tmp_path: Path) -> None:
    assert state.read(tmp_path / "a.npz", "recipe") == b""


def test_another_recipes_is_left_alone(
    tmp_path: Path, one_replica: tf.distribute.Strategy, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.npz"
    state.save(path, loop_with_dropout(one_replica).model, STATE, "recipe")
    content = path.read_bytes()
    assert state.read(path, "another recipe") == b""
    assert capsys.readouterr().out == f"{path} belongs to another recipe: training starts from scratch\n"
    assert state.read(path, "recipe") == path.read_bytes() == content


def test_another_networks_variables_are_refused(tmp_path: Path, one_replica: tf.distribute.Strategy) -> None:
    path = tmp_path / "a.npz"
    state.save(path, loop_with_dropout(one_replica).model, STATE, "recipe")
    model = make_loop(one_replica, DATA, DECAYING, batch_size=8).model  # without dropout's random state
    before = values(model)
    with pytest.raises(UserError, match=r"Invalid checkpoint .*Received: variables of another network\. To start"):
        restored(path, model)
    assert same(values(model), before)


def test_an_overflow_is_seen(one_replica: tf.distribute.Strategy) -> None:
    model = loop_with_dropout(one_replica).model
    assert state.is_finite(model)
    for value in (np.nan, np.inf):
        bias = model.trainable_variables[-1]
        bias.assign([0, value, 0, 0])
        assert not state.is_finite(model)


@pytest.fixture
def saved(tmp_path: Path, one_replica: tf.distribute.Strategy) -> tuple[Path, keras.Model]:
    model = loop_with_dropout(one_replica).model
    path = tmp_path / "a.npz"
    state.save(path, model, STATE, "recipe")
    return path, model


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """One bit of the last array's data changed: the digest shows it."""
    middle = content.index(b"PK\x01\x02") - 1
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def without_state(_: bytes) -> bytes:
    np.savez(stream := io.BytesIO(), kernel=np.zeros(3))
    return stream.getvalue()


@pytest.mark.parametrize("damage", [truncated, flipped, without_state, lambda _: b"", lambda _: b"not an archive"])
def test_a_damaged_file_is_named(saved: tuple[Path, keras.Model], damage: Any) -> None:
    path, model = saved
    before = values(model)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError) as refusal:
        restored(path, model)
    assert str(refusal.value).startswith(
        f"Invalid checkpoint {path}. Expected a file that cnnlab wrote, with its sha256. Received: "
    )
    assert same(values(model), before)


@contextmanager
def small_files() -> Iterator[None]:
    """Limit files to 2000 bytes, which fails a write in the middle as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_failed_write_leaves_the_earlier_checkpoint(tmp_path: Path, one_replica: tf.distribute.Strategy) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"earlier")
    model = loop_with_dropout(one_replica).model
    with pytest.raises(OSError, match="too large") as failure, small_files():
        state.save(path, model, STATE, "recipe")
    assert failure.value.filename == str(path)
    assert path.read_bytes() == b"earlier"
    assert [*tmp_path.iterdir()] == [path]
