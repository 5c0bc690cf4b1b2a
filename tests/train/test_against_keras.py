"""The loop against Keras's own `fit` on the same batches in the same order: steps, metrics, callbacks."""

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from train.small import OurOrder, keras_twin, make_loop, one_call, pictures, tiny

from cnnlab.errors import UserError
from cnnlab.params import Optimizer, Schedule
from cnnlab.train.loop import PART, fit

DATA = pictures(70)
TRAIN, VALIDATION = np.arange(52, dtype=np.int32), np.arange(52, 70, dtype=np.int32)
BATCH = 8  # six batches and one of 4
LOGS = ("loss", "accuracy", "val_loss", "val_accuracy")
SGD = Optimizer(name="sgd", learning_rate=0.05)
# Keras 2's `decay` argument, written as its documentation says: rate / (1 + decay · iterations)
OPTIMIZERS: dict[str, tuple[Optimizer, Callable[[], keras.optimizers.Optimizer]]] = {
    "sgd": (SGD, lambda: keras.optimizers.SGD(0.05)),
    "adam": (Optimizer(name="adam", learning_rate=0.01), lambda: keras.optimizers.Adam(0.01)),
    "rmsprop": (
        Optimizer(name="rmsprop", learning_rate=0.003, schedule=Schedule(name="inverse_time", decay=0.5)),
        lambda: keras.optimizers.RMSprop(HyperbolicDecay(0.003, 0.5)),
    ),
}


class HyperbolicDecay(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, rate: float, decay: float) -> None:
        self._rate, self._decay = rate, decay

    def __call__(self, step: Any) -> Any:
        return self._rate / (1 + self._decay * keras.ops.cast(step, keras.config.floatx()))


def fit_keras(model: keras.Model, epochs: int, callbacks: list[keras.callbacks.Callback] | None = None) -> Any:
    images, labels = DATA[0] / np.asarray(255, keras.config.floatx()), DATA[1]
    source = OurOrder(DATA, TRAIN, BATCH, seed=5)
    check = images[VALIDATION], labels[VALIDATION]
    return model.fit(  # without `shuffle`, which would shuffle the batches
        source,
        epochs=epochs,
        shuffle=False,
        validation_data=check,
        validation_batch_size=len(VALIDATION),
        verbose=0,
        callbacks=[source.follow, *(callbacks or [])],
    ).history


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("epochs", "part"), [(1, PART), (3, PART), (3, 3)])
def test_weights_and_metrics_equal_those_of_fit(
    name: str, epochs: int, part: int, replicas: tf.distribute.Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With gradients of whole batches, and with those of batches in parts (3, 3 and 2 images)."""
    monkeypatch.setattr("cnnlab.train.loop.PART", part)
    ours, theirs = OPTIMIZERS[name]
    loop = make_loop(replicas, DATA, ours, batch_size=BATCH)
    twin = keras_twin(loop, theirs(), tiny)
    start = loop.model.get_weights()
    history = fit(loop, TRAIN, VALIDATION, epochs)
    expected = fit_keras(twin, epochs)
    for mine, its, before in zip(loop.model.get_weights(), twin.get_weights(), start, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-8, atol=2e-9)  # Keras rounds rates to float32
        assert not np.allclose(mine, before, rtol=1e-3)
    for metric in LOGS:
        np.testing.assert_allclose([row[metric] for row in history.epochs], expected[metric], rtol=1e-6)


def test_a_single_step_in_float32(one_replica: tf.distribute.Strategy) -> None:
    loop = make_loop(one_replica, DATA, SGD, batch_size=BATCH)
    twin = keras_twin(loop, keras.optimizers.SGD(0.05), tiny)
    rows = TRAIN[:BATCH]
    call = one_call(loop, rows[None])
    loss, accuracy = twin.train_on_batch(DATA[0][rows] / np.float32(255), DATA[1][rows])
    np.testing.assert_allclose(call.losses / call.batch, [loss], rtol=1e-5)
    assert call.hits.tolist() == [round(accuracy * BATCH)]
    for mine, its in zip(loop.model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(mine, its, atol=1e-6)


def halve(_: int, rate: float) -> float:
    return rate / 2


CALLBACKS: dict[str, Callable[[], list[keras.callbacks.Callback]]] = {
    "early_stopping": lambda: [
        keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=2, restore_best_weights=True)
    ],
    "schedule": lambda: [keras.callbacks.LearningRateScheduler(halve)],
    "plateau": lambda: [
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.1, patience=1, min_delta=1e9, min_lr=1e-4)
    ],
}


# Keras's own reading of a mirrored learning rate
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "epochs"), [("early_stopping", 3), ("schedule", 4), ("plateau", 4)])
def test_callbacks_steer_as_in_fit(name: str, epochs: int, one_replica: tf.distribute.Strategy) -> None:
    loop = make_loop(one_replica, DATA, SGD, batch_size=BATCH)
    twin = keras_twin(loop, keras.optimizers.SGD(0.05), tiny)
    history = fit(loop, TRAIN, VALIDATION, 4, callbacks=CALLBACKS[name]())
    expected = fit_keras(twin, 4, CALLBACKS[name]())
    assert len(history.epochs) == len(expected["loss"]) == epochs
    np.testing.assert_allclose([row["loss"] for row in history.epochs], expected["loss"], rtol=1e-6)
    np.testing.assert_allclose(loop.model.optimizer.learning_rate.numpy(), twin.optimizer.learning_rate.numpy())
    if "learning_rate" in expected:
        rates = [row["learning_rate"] for row in history.epochs]
        np.testing.assert_allclose(rates, expected["learning_rate"])
        assert len(set(rates)) > 2
    for mine, its in zip(loop.model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-8, atol=2e-9)  # Keras rounds rates to float32


class Recorder(keras.callbacks.Callback):
    """Every hook with its argument and the keys of its logs, except those of single batches."""

    HOOKS = ("on_train_begin", "on_epoch_begin", "on_test_begin", "on_test_end", "on_epoch_end", "on_train_end")

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []
        for hook in self.HOOKS:
            setattr(self, hook, self._recorder(hook))

    def _recorder(self, hook: str) -> Callable[..., None]:
        def record(*arguments: Any) -> None:
            *epoch, logs = arguments if hook.startswith("on_epoch") else (None, *arguments)
            self.calls.append((hook, *epoch, sorted(logs or {})))

        return record


def test_hooks_come_in_the_order_of_fit(one_replica: tf.distribute.Strategy) -> None:
    ours, theirs = Recorder(), Recorder()
    loop = make_loop(one_replica, DATA, SGD, batch_size=BATCH)
    twin = keras_twin(loop, keras.optimizers.SGD(0.05), tiny)
    fit(loop, TRAIN, VALIDATION, 2, callbacks=[ours])
    fit_keras(twin, 2, [theirs])
    assert ours.model is loop.model
    assert ours.calls == theirs.calls
    assert len(ours.calls) == 2 + 2 * 4


def test_a_loss_that_is_not_a_number_is_an_error_where_fit_terminates(one_replica: tf.distribute.Strategy) -> None:
    """Keras's TerminateOnNaN names the batch, counted from 0; so does the error."""
    hot = Optimizer(name="sgd", learning_rate=3e38)
    loop = make_loop(one_replica, DATA, hot, batch_size=BATCH)
    twin = keras_twin(loop, keras.optimizers.SGD(3e38), tiny)
    expected = fit_keras(twin, 3, [stopped := Stopped()])
    assert len(expected["loss"]) == 1
    assert np.isnan(expected["loss"][0])
    with pytest.raises(UserError) as refusal:
        fit(loop, TRAIN, VALIDATION, 3)
    found = re.fullmatch(
        r"The training diverged: loss (nan|inf) at step (\d) of epoch 1, learning rate 3e\+38\. "
        r"Expected a finite value\. Lower optimizer\.learning_rate, .*",
        str(refusal.value),
    )
    assert found
    assert int(found[2]) == stopped.batch > 0


class Stopped(keras.callbacks.TerminateOnNaN):
    """Remembers where it stopped."""

    batch = -1

    def on_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        super().on_batch_end(batch, logs)
        if self.model.stop_training and self.batch < 0:
            self.batch = batch
