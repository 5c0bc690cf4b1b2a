"""What the loop reports, and when it stops: against hand computations and Keras's `predict`."""

import json
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy.special import log_softmax
from train.small import CLASSES, SHAPE, make_loop, one_call, pictures, same, timeless, values

from cnnlab.data.batches import STEPS_PER_CALL, epoch_blocks
from cnnlab.params import Optimizer, Schedule
from cnnlab.train import optimizers as recipe
from cnnlab.train.history import History, Progress, Sums
from cnnlab.train.loop import EVALUATION_BATCH, Interrupted, Loop, fit

DATA = pictures(70)
TRAIN, VALIDATION = np.arange(52, dtype=np.int32), np.arange(52, 70, dtype=np.int32)
STILL = Optimizer(name="sgd", learning_rate=1e-30)  # weights that never move: every image is scored by the same ones
SGD = Optimizer(name="sgd", learning_rate=0.05)


def by_hand(loop: Loop, index: np.ndarray) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of images, each once."""
    logits = loop.model(DATA[0][index] / np.float64(255)).numpy()
    labels = DATA[1][index]
    losses = -log_softmax(logits, axis=1)[np.arange(len(index)), labels]
    return losses.mean(), (logits.argmax(axis=1) == labels).mean()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("batch", [1, 7, 52, 100])
def test_an_epochs_metrics_count_each_image_once(replicas: tf.distribute.Strategy, batch: int) -> None:
    loop = make_loop(replicas, DATA, STILL, batch_size=batch)
    history = fit(loop, TRAIN, VALIDATION, 2)
    loss, accuracy = by_hand(loop, TRAIN)
    val_loss, val_accuracy = by_hand(loop, VALIDATION)
    for row in history.epochs:
        np.testing.assert_allclose([row["loss"], row["val_loss"]], [loss, val_loss], rtol=1e-12)
        assert (row["accuracy"], row["val_accuracy"]) == (accuracy, val_accuracy)


@pytest.mark.parametrize("batch", [1, 8])
def test_history_and_curve(one_replica: tf.distribute.Strategy, batch: int) -> None:
    history = fit(make_loop(one_replica, DATA, SGD, batch_size=batch), TRAIN, VALIDATION, 3)
    assert [row["epoch"] for row in history.epochs] == [1, 2, 3]
    assert {row["learning_rate"] for row in history.epochs} == {float(np.float32(0.05))}
    for row in history.epochs:
        np.testing.assert_allclose(row["images_per_s"] * row["seconds"], len(TRAIN))
    seen = {1: [32, 52], 8: [52]}[batch]  # as many images as a full call of 32 steps holds, or what is left
    images = np.array([point["images"] for point in history.curve])
    assert images.tolist() == [epoch * 52 + count for epoch in range(3) for count in seen]
    weights = np.diff(images, prepend=0).reshape(3, -1)
    for metric in ("loss", "accuracy"):
        points = np.reshape([point[metric] for point in history.curve], (3, -1))
        means = (points * weights).sum(axis=1) / 52
        np.testing.assert_allclose(means, [row[metric] for row in history.epochs], rtol=1e-12)


def test_learning_lowers_the_loss(one_replica: tf.distribute.Strategy) -> None:
    history = fit(make_loop(one_replica, DATA, SGD, batch_size=4), TRAIN, VALIDATION, 15)
    assert history.epochs[-1]["val_loss"] < 0.8 * history.epochs[0]["val_loss"]
    assert history.epochs[-1]["val_accuracy"] > 0.8


@pytest.mark.parametrize("count", [1, EVALUATION_BATCH - 1, EVALUATION_BATCH, 2 * EVALUATION_BATCH + 1])
def test_logits_equal_predict(replicas: tf.distribute.Strategy, count: int) -> None:
    data = pictures(2 * EVALUATION_BATCH + 1)
    index = np.random.default_rng(0).permutation(len(data[1]))[:count]
    loop = make_loop(replicas, data, SGD, batch_size=8)
    logits = loop.logits(loop.data, index)
    twin = keras.models.clone_model(loop.model)
    twin.set_weights(loop.model.get_weights())
    expected = twin.predict(data[0][index] / np.float32(255), verbose=0)
    assert logits.shape == (count, CLASSES)
    np.testing.assert_allclose(logits, expected, atol=1e-6)


def test_dropout_and_normalisation_know_training_from_inference(one_replica: tf.distribute.Strategy) -> None:
    parts = [layers.BatchNormalization(), layers.Flatten(), layers.Dropout(0.5), layers.Dense(CLASSES)]
    network = partial(keras.Sequential, [keras.Input(SHAPE), *parts])
    loop = make_loop(one_replica, DATA, STILL, batch_size=26, network=network)
    first, again = (loop.logits(loop.data, VALIDATION) for _ in range(2))
    assert np.array_equal(first, again)
    losses = [one_call(loop, TRAIN[None, :26]).losses[0] for _ in range(2)]
    assert losses[0] != losses[1]  # dropout draws again
    assert not np.array_equal(loop.logits(loop.data, VALIDATION), first)  # moving averages have moved
    mean = parts[0].moving_mean.numpy()
    batch_mean = (DATA[0][TRAIN[:26]] / 255.0).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(mean, batch_mean * (1 - 0.99**2), rtol=1e-5)  # Keras's momentum, two steps from 0


class Counter(keras.callbacks.Callback):
    """Counts batch hooks; stops after `stop_after` of them."""

    def __init__(self, stop_after: int = 0) -> None:
        super().__init__()
        self.begun: list[int] = []
        self.ended: list[tuple[int, dict[str, float]]] = []
        self._stop_after = stop_after

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.begun.append(batch)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.ended.append((batch, dict(logs or {})))
        if len(self.ended) == self._stop_after:
            self.model.stop_training = True


def test_batch_hooks_come_once_a_compiled_call(one_replica: tf.distribute.Strategy) -> None:
    """As with Keras's `steps_per_execution`: begin with the first step of the call, end with its last."""
    counter = Counter()
    history = fit(make_loop(one_replica, DATA, SGD, batch_size=1), TRAIN, VALIDATION, 2, callbacks=[counter])
    assert STEPS_PER_CALL == 32
    assert counter.begun == [0, 32, 0, 32]
    assert [batch for batch, _ in counter.ended] == [31, 51, 31, 51]
    points = [{k: point[k] for k in ("loss", "accuracy")} for point in history.curve]
    assert [logs for _, logs in counter.ended] == points


def test_a_callback_stops_in_the_middle_of_an_epoch(one_replica: tf.distribute.Strategy) -> None:
    counter = Counter(stop_after=3)
    history = fit(make_loop(one_replica, DATA, SGD, batch_size=1), TRAIN, VALIDATION, 9, callbacks=[counter])
    assert len(counter.ended) == 3
    assert len(history.epochs) == 2
    assert [point["images"] for point in history.curve] == [32, 52, 52 + 32]
    np.testing.assert_allclose(history.epochs[1]["loss"], history.curve[-1]["loss"])
    assert history.progress == Progress()


def test_a_stop_before_a_points_images_are_together_leaves_none(one_replica: tf.distribute.Strategy) -> None:
    """One point per 32 batches of 3: an epoch of 52 images gives one, at its end."""
    counter = Counter(stop_after=1)
    assert len(epoch_blocks(TRAIN, 3, STEPS_PER_CALL, 5, 0)) == 2
    history = fit(make_loop(one_replica, DATA, SGD, batch_size=3), TRAIN, VALIDATION, 9, callbacks=[counter])
    assert history.curve == []
    assert len(history.epochs) == 1


@pytest.mark.parametrize("when", ["on_train_begin", "on_epoch_begin", "on_epoch_end"])
def test_a_callback_can_stop_at_any_hook(one_replica: tf.distribute.Strategy, when: str) -> None:
    loop = make_loop(one_replica, DATA, SGD, batch_size=26)
    stop = keras.callbacks.Callback()
    setattr(stop, when, lambda *_: setattr(loop.model, "stop_training", True))
    history = fit(loop, TRAIN, VALIDATION, 3, callbacks=[stop])
    assert len(history.epochs) == (0 if when == "on_train_begin" else 1)


class Interrupter(keras.callbacks.Callback):
    """Interrupts the loop during a compiled call, as a signal does."""

    def __init__(self, loop: Loop, call: int) -> None:
        super().__init__()
        self._loop = loop
        self._calls = call

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._calls -= 1
        self._loop.interrupt |= self._calls == 0


@pytest.mark.parametrize(("call", "epochs", "step"), [(1, 0, 32), (2, 0, 52), (3, 1, 32), (4, 1, 52)])
def test_an_interrupt_stops_after_the_present_call(
    one_replica: tf.distribute.Strategy, call: int, epochs: int, step: int
) -> None:
    loop = make_loop(one_replica, DATA, SGD, batch_size=1)
    history, counter = History(), Counter()
    with pytest.raises(Interrupted):
        fit(loop, TRAIN, VALIDATION, 3, history=history, callbacks=[Interrupter(loop, call), counter])
    assert len(counter.ended) == call  # its hooks have seen it
    assert (len(history.epochs), history.progress.step) == (epochs, step)
    assert history.progress.total.images == step
    assert loop.model.optimizer.iterations.numpy() == epochs * 52 + step


def test_an_interrupted_training_continues(one_replica: tf.distribute.Strategy) -> None:
    """In the middle of an epoch, and again at the end of its last call, before validation."""
    whole, parts = (make_loop(one_replica, DATA, SGD, batch_size=1) for _ in range(2))
    expected = fit(whole, TRAIN, VALIDATION, 2)
    history = History()
    for _ in range(4):
        parts.interrupt = True
        with pytest.raises(Interrupted):
            fit(parts, TRAIN, VALIDATION, 2, history=history)
    parts.interrupt = False
    fit(parts, TRAIN, VALIDATION, 2, history=history)
    assert timeless(history.epochs) == timeless(expected.epochs)
    assert history.curve == expected.curve
    assert same(values(parts.model), values(whole.model))


def test_a_history_is_the_same_after_json() -> None:
    history = History(
        [{"epoch": 1, "loss": 1 / 3}],
        [{"epoch": 1, "images": 32, "loss": 1e-17}],
        Progress(3, Sums(96, 1 / 7, 5), Sums(32, 0.1, 2), 0.25),
    )
    assert History.fromdict(json.loads(json.dumps(history.asdict()))) == history


def test_it_continues_after_the_epochs_of_a_history(one_replica: tf.distribute.Strategy) -> None:
    whole, parts = (make_loop(one_replica, DATA, SGD, batch_size=8) for _ in range(2))
    expected = fit(whole, TRAIN, VALIDATION, 3)
    history = fit(parts, TRAIN, VALIDATION, 1)
    assert fit(parts, TRAIN, VALIDATION, 3, history=history) is history
    assert timeless(history.epochs) == timeless(expected.epochs)
    assert history.curve == expected.curve
    assert same(values(parts.model), values(whole.model))


@pytest.mark.parametrize(("decay", "steps"), [(0.0, 6), (0.5, 6), (1e-6, 1563)])
def test_the_learning_rate_falls_as_keras_2_did(decay: float, steps: int) -> None:
    knobs = Optimizer(name="rmsprop", learning_rate=1e-4, schedule=Schedule(name="inverse_time", decay=decay))
    made = recipe.optimizer(knobs, 2000)
    assert isinstance(made, keras.optimizers.RMSprop)
    weight = keras.Variable([1.0])
    made.build([weight])
    made.iterations.assign(steps)
    np.testing.assert_allclose(made.learning_rate.numpy(), 1e-4 / (1 + decay * steps), rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
def test_optimizers_are_keras_own_with_its_defaults(name: str) -> None:
    made = recipe.optimizer(Optimizer(name=name, learning_rate=0.25), 10)
    theirs = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop}[name]
    unused = {"name": "", "ema_momentum": 0}  # there is no average
    assert made.get_config() | unused == theirs(0.25).get_config() | unused
