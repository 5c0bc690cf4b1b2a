"""Whole small trainings with each knob that changes the loop: feeding, averages, views, precision, XLA."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy.special import log_softmax
from train.small import CLASSES, SHAPE, make_loop, pictures, same, step_losses, timeless, tiny, values

from cnnlab.data import batches
from cnnlab.params import TTA, Augment, Optimizer
from cnnlab.train.history import History
from cnnlab.train.loop import Loop, fit

DATA = pictures(70)
TRAIN, VALIDATION = np.arange(52), np.arange(52, 70)
ADAM = Optimizer(name="adam", learning_rate=0.01)
SGD = Optimizer(name="sgd", learning_rate=0.05)
EVERYTHING = Augment(
    shift=0.2,
    fill="reflect",
    flip="alternating",
    rotation=10,
    brightness=0.1,
    contrast=0.1,
    cutout=0.4,
    mixup=0.4,
    cutmix=1.0,
)


LIGHT = Augment(flip="alternating", cutout=0.4, mixup=0.4)


def images(rows: np.ndarray) -> np.ndarray:
    return DATA[0][rows] / np.asarray(255, keras.config.floatx())


# Feeding


def trained(
    strategy: tf.distribute.Strategy,
    batch_size: int,
    feeding: Any,
    augment: Augment = LIGHT,
    data: tuple[np.ndarray, np.ndarray] = DATA,
) -> tuple[Loop, History]:
    network = partial(tiny, 0.5)
    loop = make_loop(strategy, data, ADAM, batch_size=batch_size, network=network, augment=augment, feeding=feeding)
    return loop, fit(loop, TRAIN, VALIDATION, 2)


def assert_same_training(left: tuple[Loop, History], right: tuple[Loop, History]) -> None:
    assert same(values(left[0].model), values(right[0].model))
    assert timeless(left[1].epochs) == timeless(right[1].epochs)


@pytest.mark.parametrize(("batch_size", "augment"), [(5, LIGHT), (7, EVERYTHING)], ids=["5", "7"])
def test_streamed_data_train_as_resident_ones(
    replicas: tf.distribute.Strategy, batch_size: int, augment: Augment
) -> None:
    """Bit for bit; batches of 5 are 10 and one of 2, of 7 are 7 and one of 3."""
    resident, streamed = (trained(replicas, batch_size, feeding, augment) for feeding in ("resident", "streamed"))
    assert type(streamed[0].data) is batches.Streamed
    assert_same_training(resident, streamed)
    assert resident[1].curve == streamed[1].curve


def test_batches_of_one_image_are_streamed_too(one_replica: tf.distribute.Strategy) -> None:
    assert_same_training(*(trained(one_replica, 1, feeding) for feeding in ("resident", "streamed")))


@pytest.mark.parametrize("batch_size", [4, 7])
def test_shorter_calls_change_nothing(
    replicas: tf.distribute.Strategy, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps a call; batches of 4 are 13, of 7 are 7 and one of 3."""
    resident = trained(replicas, batch_size, "resident")
    monkeypatch.setattr(batches, "STREAMED_BYTES", 3 * batch_size * DATA[0][0].nbytes)
    streamed = trained(replicas, batch_size, "streamed")
    assert streamed[0].data.steps_per_call(batch_size) == 2
    assert_same_training(resident, streamed)
    assert resident[1].curve == streamed[1].curve


def test_a_memory_mapped_file_trains_as_an_array(tmp_path: Path, one_replica: tf.distribute.Strategy) -> None:
    np.save(tmp_path / "images.npy", DATA[0])
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert_same_training(
        trained(one_replica, 7, "resident"), trained(one_replica, 7, "streamed", data=(mapped, DATA[1]))
    )


# The running average of the weights


class Raw(keras.callbacks.Callback):
    """The weights after each epoch, not averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[list[np.ndarray]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.weights.append([variable.numpy() for variable in self.model.trainable_variables])


def averages(weights: list[list[np.ndarray]], momentum: float) -> list[list[np.ndarray]]:
    """After each step, beginning with the first one's weights."""
    result = [weights[0]]
    for step in weights[1:]:
        result.append([momentum * a + (1 - momentum) * w for a, w in zip(result[-1], step, strict=True)])
    return result


def loss_of(weights: list[np.ndarray]) -> float:
    """The validation loss of `tiny` with these weights."""
    model = tiny()
    model.set_weights(weights)
    logits = np.asarray(model(images(VALIDATION)))
    return -float(log_softmax(logits, axis=1)[np.arange(len(VALIDATION)), DATA[1][VALIDATION]].mean())


@pytest.mark.usefixtures("float64")
def test_averaged_weights_are_scored(replicas: tf.distribute.Strategy) -> None:
    """Every epoch is one step."""
    knobs = ADAM.model_copy(update={"ema": 0.7})
    loop = make_loop(replicas, DATA, knobs, batch_size=len(TRAIN))
    history = fit(loop, TRAIN, VALIDATION, 4, callbacks=[raw := Raw()])
    expected = [loss_of(weights) for weights in averages(raw.weights, 0.7)]
    np.testing.assert_allclose([row["val_loss"] for row in history.epochs], expected, rtol=1e-7)  # the rate is float32
    assert not np.allclose(expected[1:], [loss_of(weights) for weights in raw.weights[1:]], rtol=1e-3)
    with loop.averaged():
        for mine, its in zip(loop.model.get_weights(), averages(raw.weights, 0.7)[-1], strict=True):
            np.testing.assert_allclose(mine, its, rtol=1e-7)
    assert same(loop.model.get_weights(), raw.weights[-1])


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_scoring_averages_leaves_no_trace(replicas: tf.distribute.Strategy, name: Any) -> None:
    """Weights end bit for bit as without any validation, the average too; without it they end the same as well."""
    knobs = Optimizer(name=name, learning_rate=0.01, ema=0.9)
    network = partial(tiny, 0.5)
    scored, unscored, without = (
        make_loop(replicas, DATA, optimizer, batch_size=8, network=network)
        for optimizer in (knobs, knobs, knobs.model_copy(update={"ema": 0.0}))
    )
    fit(scored, TRAIN, VALIDATION, 3)
    for loop in (unscored, without):
        step_losses(loop, TRAIN, 3)
    assert same(values(scored.model), values(unscored.model))
    assert same(scored.model.get_weights(), without.model.get_weights())


def test_weights_return_after_an_error(one_replica: tf.distribute.Strategy) -> None:
    loop = make_loop(one_replica, DATA, ADAM.model_copy(update={"ema": 0.9}), batch_size=8)
    step_losses(loop, TRAIN, 1)
    before = values(loop.model)

    def fail() -> None:
        with loop.averaged():
            assert not same(values(loop.model), before)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert same(values(loop.model), before)


def test_without_an_average_the_weights_stay(one_replica: tf.distribute.Strategy) -> None:
    loop = make_loop(one_replica, DATA, ADAM, batch_size=8)
    before = values(loop.model)
    with loop.averaged():
        assert same(values(loop.model), before)


# Test-time views


def shifted(pictures: np.ndarray, down: int, right: int) -> np.ndarray:
    """Moved by whole pixels, filled by reflection."""
    most = max(abs(down), abs(right))
    padded = np.pad(pictures, [(0, 0), (most, most), (most, most), (0, 0)], "reflect")
    height, width = pictures.shape[1:3]
    return padded[:, most - down : most - down + height, most - right : most - right + width]


@pytest.mark.parametrize(
    ("views", "count"),
    [(TTA(), 1), (TTA(flip=True), 2), (TTA(shift=1), 3), (TTA(flip=True, shift=2), 6)],
    ids=["none", "flip", "shift", "both"],
)
def test_logits_are_the_mean_over_views(replicas: tf.distribute.Strategy, views: TTA, count: int) -> None:
    loop = make_loop(replicas, DATA, SGD, batch_size=8, tta=views)
    pixels, s = images(VALIDATION), views.shift
    made = [pixels, *([shifted(pixels, s, s), shifted(pixels, -s, -s)] if s else [])]
    made += [np.flip(view, 2) for view in made] if views.flip else []
    assert len(made) == count
    expected = np.mean([loop.model(view).numpy() for view in made], axis=0)
    np.testing.assert_allclose(loop.logits(loop.data, VALIDATION), expected, atol=1e-6)
    if count > 1:
        assert not np.allclose(loop.model(pixels), expected, atol=1e-3)


def test_validation_is_scored_by_views(one_replica: tf.distribute.Strategy) -> None:
    still = Optimizer(name="sgd", learning_rate=1e-30)
    loop = make_loop(one_replica, DATA, still, batch_size=8, tta=TTA(flip=True))
    pixels = images(VALIDATION)
    logits = (loop.model(pixels).numpy() + loop.model(np.flip(pixels, 2)).numpy()) / 2
    loss = -log_softmax(logits, axis=1)[np.arange(len(VALIDATION)), DATA[1][VALIDATION]].mean()
    (row,) = fit(loop, TRAIN, VALIDATION, 1).epochs
    np.testing.assert_allclose(row["val_loss"], loss, rtol=1e-5)


# Precision


@pytest.fixture
def bfloat16() -> Iterator[None]:
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("network", [tiny, partial(tiny, 0.2)], ids=["plain", "dropout"])
def test_bfloat16_learns(replicas: tf.distribute.Strategy, network: Any) -> None:
    loop = make_loop(replicas, DATA, ADAM.model_copy(update={"ema": 0.5}), batch_size=4, network=network)
    assert {layer.compute_dtype for layer in loop.model.layers} == {"bfloat16"}
    history = fit(loop, TRAIN, VALIDATION, 15)
    assert history.epochs[-1]["val_loss"] < 0.8 * history.epochs[0]["val_loss"]
    assert history.epochs[-1]["val_accuracy"] > 0.8
    kinds = {array.dtype.name for array in values(loop.model) if array.dtype.kind not in "ui"}
    assert kinds == {"float32"}
    logits = loop.logits(loop.data, VALIDATION)
    assert logits.dtype == np.float32
    rounded = logits.astype(tf.bfloat16.as_numpy_dtype).astype(np.float32)
    assert np.array_equal(logits, rounded)  # but computed in bfloat16


# XLA


def plain() -> keras.Model:
    """Convolution, normalisation and a dense layer, no random numbers."""
    parts = [layers.Conv2D(4, 3, activation="tanh"), layers.LayerNormalization(), layers.Flatten()]
    return keras.Sequential([keras.Input(SHAPE), *parts, layers.Dense(CLASSES)])


def test_xla_computes_the_same(replicas: tf.distribute.Strategy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs, 7 batches of 7 and one of 3: close in single precision."""
    ended, losses = [], []
    for xla in (False, True):
        monkeypatch.setattr("cnnlab.train.loop.uses_xla", lambda _, on=xla: on)
        loop = make_loop(replicas, DATA, SGD, batch_size=7, network=plain, augment=LIGHT)
        losses.append(step_losses(loop, TRAIN, 2))
        ended.append(loop.model.get_weights())
        assert loop.logits(loop.data, VALIDATION).shape == (len(VALIDATION), CLASSES)
    np.testing.assert_allclose(*losses, rtol=1e-4)
    for mine, its in zip(*ended, strict=True):
        np.testing.assert_allclose(mine, its, atol=1e-5)


@pytest.mark.parametrize(
    "normalisation",
    [layers.BatchNormalization, partial(layers.BatchNormalization, synchronized=True)],
    ids=["own", "synchronised"],
)
def test_xla_normalises_batches(
    one_replica: tf.distribute.Strategy, normalisation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def network() -> keras.Model:
        parts = [layers.Conv2D(4, 3), normalisation(), layers.Flatten(), layers.Dense(CLASSES)]
        return keras.Sequential([keras.Input(SHAPE), *parts])

    ended = []
    for xla in (False, True):
        monkeypatch.setattr("cnnlab.train.loop.uses_xla", lambda _, on=xla: on)
        loop = make_loop(one_replica, DATA, SGD, batch_size=7, network=network)
        step_losses(loop, TRAIN, 2)
        ended.append(loop.model.get_weights())
    for mine, its in zip(*ended, strict=True):
        np.testing.assert_allclose(mine, its, atol=1e-5)


def test_dropout_draws_anew_under_xla(replicas: tf.distribute.Strategy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnlab.train.loop.uses_xla", lambda _: True)
    still = Optimizer(name="sgd", learning_rate=1e-30)
    loop = make_loop(replicas, DATA, still, batch_size=len(TRAIN), network=partial(tiny, 0.5))
    assert len({round(loss, 6) for loss in step_losses(loop, TRAIN, 3)}) == 3


KINDS: list[Literal["sgd", "adam", "rmsprop", "muon"]] = ["sgd", "adam", "rmsprop", "muon"]


@pytest.mark.parametrize("name", KINDS)
def test_every_optimizer_learns(one_replica: tf.distribute.Strategy, name: Any) -> None:
    """With every knob beside it on."""
    rate = {"sgd": 0.05, "adam": 0.01, "rmsprop": 0.005, "muon": 0.02}[name]
    momentum = {"momentum": 0.9} if name in ("sgd", "muon") else {}
    knobs = Optimizer(name=name, learning_rate=rate, weight_decay=1e-3, clip_norm=1.0, ema=0.5, **momentum)
    history = fit(make_loop(one_replica, DATA, knobs, batch_size=4), TRAIN, VALIDATION, 15)
    assert history.epochs[-1]["val_loss"] < 0.8 * history.epochs[0]["val_loss"]
    assert history.epochs[-1]["val_accuracy"] > 0.8
