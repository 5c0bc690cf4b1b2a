"""Checkpoints: bit for bit, of one recipe only, whole or absent, and good enough to continue from."""

import io
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from train.small import make_loop, pictures, tiny

from cnnlab.errors import UserError
from cnnlab.params import Augment, Optimizer
from cnnlab.train import state
from cnnlab.train.loop import History, Loop, fit

DATA = pictures(70)
TRAIN, VALIDATION = np.arange(52, dtype=np.int32), np.arange(52, 70, dtype=np.int32)
DECAYING = Optimizer(name="rmsprop", learning_rate=0.003, decay=0.01)
HISTORY = History([{"epoch": 1, "loss": 1 / 3, "accuracy": 0.1}], [{"images": 52, "loss": 1e-17, "accuracy": 0.0}])


def loop_with_dropout(strategy: tf.distribute.Strategy, optimizer: Optimizer = DECAYING, seed: int = 5) -> Loop:
    augment = Augment(shift=0.1, flip=True)
    network = partial(tiny, 0.5)
    return make_loop(strategy, DATA, optimizer, batch_size=8, network=network, augment=augment, seed=seed)


def values(model: keras.Model) -> list[np.ndarray]:
    return [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]


def same(left: list[np.ndarray], right: list[np.ndarray]) -> bool:
    return len(left) == len(right) and all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("optimizer", [DECAYING, Optimizer(name="adam", learning_rate=0.01)])
def test_a_round_trip_is_bit_for_bit(tmp_path: Path, replicas: tf.distribute.Strategy, optimizer: Optimizer) -> None:
    trained, fresh = loop_with_dropout(replicas, optimizer), loop_with_dropout(replicas, optimizer, seed=6)
    fit(trained, TRAIN, VALIDATION, 1)
    before = values(trained.model)
    assert not same(before, values(fresh.model))
    assert trained.model.optimizer.iterations.numpy() == 7
    state.save(tmp_path / "a.npz", trained.model, state.State(HISTORY, "run-id"), "recipe")
    assert state.restore(tmp_path / "a.npz", fresh.model, "recipe") == state.State(HISTORY, "run-id")
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
    state.save(tmp_path / "a", before.model, state.State(fit(before, TRAIN, VALIDATION, 1), "id"), "recipe")
    keras.utils.set_random_seed(99)  # what a new process has drawn by then
    restored = state.restore(tmp_path / "a", after.model, "recipe")
    assert restored is not None
    history = fit(after, TRAIN, VALIDATION, epochs, history=restored.history)
    assert same(values(after.model), values(never.model))
    assert history.curve == expected.curve
    assert [row["val_loss"] for row in history.epochs] == [row["val_loss"] for row in expected.epochs]


def test_there_is_none(tmp_path: Path, one_replica: tf.distribute.Strategy) -> None:
    assert state.restore(tmp_path / "a.npz", loop_with_dropout(one_replica).model, "recipe") is None


def test_another_recipes_is_left_alone(tmp_path: Path, one_replica: tf.distribute.Strategy) -> None:
    loop, other = loop_with_dropout(one_replica), loop_with_dropout(one_replica, seed=6)
    path = tmp_path / "a.npz"
    state.save(path, loop.model, state.State(HISTORY, "run-id"), "recipe")
    content, before = path.read_bytes(), values(other.model)
    assert state.restore(path, other.model, "another recipe") is None
    assert path.read_bytes() == content
    assert same(values(other.model), before)


@pytest.fixture
def saved(tmp_path: Path, one_replica: tf.distribute.Strategy) -> tuple[Path, keras.Model]:
    model = loop_with_dropout(one_replica).model
    path = tmp_path / "a.npz"
    state.save(path, model, state.State(HISTORY, "run-id"), "recipe")
    return path, model


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """One bit of the last array's data changed: the archive's checksum tells."""
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
        state.restore(path, model, "recipe")
    assert str(refusal.value).startswith(f"Invalid checkpoint {path}. Expected a file that cnnlab wrote. Received: ")
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
        state.save(path, model, state.State(HISTORY, "run-id"), "recipe")
    assert failure.value.filename == str(path)
    assert path.read_bytes() == b"earlier"
    assert [*tmp_path.iterdir()] == [path]
