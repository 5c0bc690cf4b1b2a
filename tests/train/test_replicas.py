"""Two logical CPUs against one: the same batches, the same losses, every image once."""

from collections.abc import Callable
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from train.small import SHAPE, make_loop, pictures, step_losses, tiny

from cnnlab.data import batches
from cnnlab.errors import UserError
from cnnlab.nets.homework import homework
from cnnlab.params import Augment, Optimizer
from cnnlab.train.strategy import strategy

LESSON = Augment(shift=0.1, flip=True)
RMSPROP = Optimizer(name="rmsprop", learning_rate=1e-4, decay=1e-6)  # the handout's
without_dropout = partial(homework, classifier_activation=None, conv_dropout=0.0, dense_dropout=0.0)


def both(one: tf.distribute.Strategy, two: tf.distribute.Strategy, run: Callable[..., np.ndarray]) -> np.ndarray:
    """The largest relative difference between what the two strategies give, step by step."""
    alone, together = run(one), run(two)
    assert len(alone) == len(together) > 0
    assert np.isfinite(alone).all()
    assert alone.std() > 0
    return np.abs(together / alone - 1).max()


def train_homework(
    mirrored: tf.distribute.Strategy, optimizer: Optimizer, *, size: int, batch: int, epochs: int
) -> np.ndarray:
    data = pictures(size, (32, 32, 3), 10)
    loop = make_loop(mirrored, data, optimizer, batch_size=batch, network=without_dropout, augment=LESSON)
    losses = step_losses(loop, np.arange(size, dtype=np.int32), epochs)
    assert len(losses) == 100
    return losses


def test_the_bar_100_steps_of_the_homework_network(
    one_replica: tf.distribute.Strategy, two_replicas: tf.distribute.Strategy
) -> None:
    """Four epochs of 24 batches of 32 and one of 7, within 1e-4 relative.

    With SGD, because RMSprop magnifies float32's rounding: there a single replica is off by up to 3e-3 from itself when
    the images of each batch change places, exactly as much as two replicas are. The next test is free of rounding.
    """
    sgd = Optimizer(name="sgd", learning_rate=0.003)
    run = partial(train_homework, optimizer=sgd, size=24 * 32 + 7, batch=32, epochs=4)
    assert both(one_replica, two_replicas, run) < 1e-4


@pytest.mark.usefixtures("float64")
def test_the_bar_in_double_precision(one_replica: tf.distribute.Strategy, two_replicas: tf.distribute.Strategy) -> None:
    """The handout's RMSprop, ten epochs of 9 batches of 4 and one of a single image, so an empty share: within 1e-8."""
    run = partial(train_homework, optimizer=RMSPROP, size=9 * 4 + 1, batch=4, epochs=10)
    assert both(one_replica, two_replicas, run) < 1e-8


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("size", "batch"), [(1, 4), (15, 1), (36, 5), (38, 7), (40, 40)])
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_odd_batches(
    size: int, batch: int, name: str, one_replica: tf.distribute.Strategy, two_replicas: tf.distribute.Strategy
) -> None:
    data = pictures(40)
    knobs = Optimizer(name=name, learning_rate=0.01)
    trained = {}

    def run(mirrored: tf.distribute.Strategy) -> np.ndarray:
        loop = make_loop(mirrored, data, knobs, batch_size=batch, augment=LESSON)
        losses = step_losses(loop, np.arange(size, dtype=np.int32), 3)
        trained[mirrored] = loop.model.get_weights()
        return losses

    assert both(one_replica, two_replicas, run) < 1e-10
    for alone, together in zip(*trained.values(), strict=True):
        np.testing.assert_allclose(together, alone, rtol=1e-8, atol=1e-12)


def test_replicas_stay_equal(two_replicas: tf.distribute.Strategy) -> None:
    loop = make_loop(two_replicas, pictures(40), RMSPROP, batch_size=7, network=partial(tiny, 0.5))
    step_losses(loop, np.arange(40, dtype=np.int32), 2)
    for variable in (*loop.model.trainable_variables, *loop.model.optimizer.variables):
        copies = two_replicas.experimental_local_results(variable.value)
        assert len(copies) == 2
        assert np.array_equal(copies[0].numpy(), copies[1].numpy())


def test_augmentation_depends_on_the_seed(one_replica: tf.distribute.Strategy) -> None:
    def losses(loop_seed: int) -> np.ndarray:
        loop = make_loop(one_replica, pictures(40), RMSPROP, batch_size=8, augment=LESSON, seed=5)
        loop.seed = loop_seed
        return loop.train(np.arange(40, dtype=np.int32).reshape(5, 8), 0, 0)[0]

    assert np.array_equal(losses(1), losses(1))
    assert (losses(1) != losses(2)).all()


def test_augmentation_counts_steps_not_calls(one_replica: tf.distribute.Strategy) -> None:
    """Five steps in one compiled call equal the same five in calls of 2, 2 and 1."""
    block = np.arange(40, dtype=np.int32).reshape(5, 8)
    whole = make_loop(one_replica, pictures(40), RMSPROP, batch_size=8, augment=LESSON)
    parts = make_loop(one_replica, pictures(40), RMSPROP, batch_size=8, augment=LESSON)
    at_once = whole.train(block, 3, 0)[0]
    in_parts = [parts.train(block[first : first + 2], 3, first)[0] for first in (0, 2, 4)]
    assert np.array_equal(at_once, np.concatenate(in_parts))


@settings(max_examples=60)
@given(steps=st.integers(1, 4), batch=st.integers(1, 20), two=st.booleans())
def test_every_column_goes_to_one_replica(
    one_replica: tf.distribute.Strategy, two_replicas: tf.distribute.Strategy, steps: int, batch: int, two: bool
) -> None:
    mirrored = two_replicas if two else one_replica
    block = np.random.default_rng(batch).permutation(steps * batch).astype(np.int32).reshape(steps, batch)
    rows, positions = (mirrored.experimental_local_results(part) for part in batches.distribute(block, mirrored))
    assert np.array_equal(np.concatenate([share.numpy() for share in rows], axis=1), block)
    assert np.array_equal(np.concatenate([share.numpy() for share in positions]), np.arange(batch))
    sizes = [len(share) for share in positions]
    assert [share.shape for share in rows] == [(steps, size) for size in sizes]
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == mirrored.num_replicas_in_sync


def test_data_lies_on_every_device(two_replicas: tf.distribute.Strategy) -> None:
    images, labels = pictures(9)
    with two_replicas.scope():
        resident = batches.Resident(images, labels)

    def mine() -> tuple[tf.Tensor, tf.Tensor]:
        return resident.take(tf.range(9))

    for taken, classes in zip(*map(two_replicas.experimental_local_results, two_replicas.run(mine)), strict=True):
        assert np.array_equal(taken.numpy(), images / np.float32(255))
        assert np.array_equal(classes.numpy(), labels)
    assert images.shape[1:] == SHAPE


def test_more_replicas_than_the_process_has_are_refused() -> None:
    with pytest.raises(UserError, match=r"Cannot split the CPU into 3 replicas\. Expected a fresh process\."):
        strategy(3)
    assert strategy(2).num_replicas_in_sync == 2
    assert strategy(1).num_replicas_in_sync == 1
    assert keras.config.floatx() == "float32"
