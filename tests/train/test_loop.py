"""What the loop reports, and when it stops: against hand computations and Keras's `predict`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy.special import log_softmax
from train.small import CLASSES, SHAPE, make_loop, pictures

from cnnlab.data.batches import Resident
from cnnlab.params import Augment, Optimizer
from cnnlab.train import recipe
from cnnlab.train.loop import EVALUATION_BATCH, STEPS_PER_CALL, Loop, fit

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
    keras.utils.set_random_seed(0)
    with one_replica.scope():
        parts = [layers.BatchNormalization(), layers.Flatten(), layers.Dropout(0.5), layers.Dense(CLASSES)]
        model = keras.Sequential([keras.Input(SHAPE), *parts])
        recipe.prepare(model, STILL)
        loop = Loop(model, Resident(*DATA), one_replica, batch_size=26, augment=Augment(), seed=0)
    first, again = (loop.logits(loop.data, VALIDATION) for _ in range(2))
    assert np.array_equal(first, again)
    losses = [loop.train(TRAIN[None, :26], 0, 0)[0][0] for _ in range(2)]
    assert losses[0] != losses[1]  # dropout draws anew
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
    assert history.curve[-1]["images"] == 52 + 32
    np.testing.assert_allclose(history.epochs[1]["loss"], history.curve[-1]["loss"])


def test_it_continues_after_the_epochs_of_a_history(one_replica: tf.distribute.Strategy) -> None:
    whole, parts = (make_loop(one_replica, DATA, SGD, batch_size=8) for _ in range(2))
    expected = fit(whole, TRAIN, VALIDATION, 3)
    history = fit(parts, TRAIN, VALIDATION, 1)
    assert fit(parts, TRAIN, VALIDATION, 3, history=history) is history
    for measured in ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
        assert [row[measured] for row in history.epochs] == [row[measured] for row in expected.epochs]
    assert history.curve == expected.curve
    for mine, its in zip(parts.model.get_weights(), whole.model.get_weights(), strict=True):
        assert np.array_equal(mine, its)


@pytest.mark.parametrize(("decay", "steps"), [(0.0, 6), (0.5, 6), (1e-6, 1563)])
def test_the_learning_rate_falls_as_keras_2_did(decay: float, steps: int) -> None:
    made = recipe.optimizer(Optimizer(name="rmsprop", learning_rate=1e-4, decay=decay))
    assert isinstance(made, keras.optimizers.RMSprop)
    weight = keras.Variable([1.0])
    made.build([weight])
    made.iterations.assign(steps)
    np.testing.assert_allclose(made.learning_rate.numpy(), 1e-4 / (1 + decay * steps), rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
def test_optimizers_are_keras_own_with_its_defaults(name: str) -> None:
    made = recipe.optimizer(Optimizer(name=name, learning_rate=0.25))
    theirs = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop}[name]
    assert made.get_config() | {"name": ""} == theirs(0.25).get_config() | {"name": ""}
