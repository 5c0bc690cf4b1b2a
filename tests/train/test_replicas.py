"""Two logical CPUs against one: the same batches, the same losses, every image once."""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from train.small import CLASSES, SHAPE, copies, make_loop, one_call, pictures, step_losses, tiny

from cnnlab.data import augment, batches
from cnnlab.errors import UserError
from cnnlab.nets.families.homework import homework
from cnnlab.params import Augment, Optimizer, Schedule, Strategy
from cnnlab.train.loop import PART
from cnnlab.train.strategy import strategy

LESSON = Augment(shift=0.1, flip="random")
RMSPROP = Optimizer(  # the handout's
    name="rmsprop", learning_rate=1e-4, schedule=Schedule(name="inverse_time", decay=1e-6)
)
without_dropout = partial(homework, classifier_activation=None, conv_dropout=(0.0, 0.0), dense_dropout=0.0)


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
        first, second = copies(loop, variable)
        assert np.array_equal(first, second)


class Masks(layers.Layer):
    """Dropout on ones: each image's mask in place of the image; each replica keeps its last 12 in a variable."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = layers.Dropout(0.5)
        self.kept = self.add_weight(shape=(12, 50), initializer="zeros", trainable=False)

    def call(self, images: Any, training: bool = False) -> Any:
        mask = self.dropout(keras.ops.ones((keras.ops.shape(images)[0], 50)), training=training)
        if training:
            self.kept.assign(keras.ops.concatenate([self.kept, mask])[-12:])
        return mask


@pytest.mark.parametrize("part", [2, 3, PART])
def test_replicas_and_parts_drop_units_of_their_own(
    part: int, two_replicas: tf.distribute.Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras's generators alone would draw the same masks on every replica; a batch of 6 is a last one."""
    monkeypatch.setattr("cnnlab.train.loop.PART", part)
    network = lambda: keras.Sequential([keras.Input(SHAPE), Masks(), layers.Dense(CLASSES)])  # noqa: E731
    loop = make_loop(two_replicas, pictures(40), RMSPROP, batch_size=9, network=network)
    for step, size in enumerate((9, 6, 9)):
        one_call(loop, np.arange(size)[None], 0, step)
    rows = np.concatenate(copies(loop, loop.model.layers[0].kept))
    assert set(np.unique(rows)) == {0.0, 2.0}
    assert len(np.unique(rows, axis=0)) == len(rows) == 24  # of 2 to the 50


# Batch normalisation


def normalised(synchronized: bool = True) -> keras.Model:
    """Convolutions with batch normalisation, one of them round a shortcut."""

    def unit(x: Any, stride: int) -> Any:
        x = layers.Conv2D(6, 3, stride, padding="same", use_bias=False)(x)
        return layers.Activation("relu")(layers.BatchNormalization(synchronized=synchronized)(x))

    inputs = keras.Input((8, 8, 3))
    first = unit(inputs, 2)
    x = layers.Flatten()(layers.Add()([first, unit(first, 1)]))
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


def train_normalised(
    mirrored: tf.distribute.Strategy, optimizer: Optimizer, trained: list[list[np.ndarray]]
) -> np.ndarray:
    """200 steps: 20 epochs of 9 batches of 6 and one of 5. Statistics are among the weights."""
    data = pictures(59, (8, 8, 3))
    loop = make_loop(mirrored, data, optimizer, batch_size=6, network=normalised, augment=LESSON)
    losses = step_losses(loop, np.arange(59, dtype=np.int32), 20)
    assert len(losses) == 200
    averages = loop.model.optimizer._model_variables_moving_average if optimizer.ema else []
    trained.append([*loop.model.get_weights(), *(average.numpy() for average in averages)])
    return losses


def test_synchronised_normalisation_in_single_precision(
    one_replica: tf.distribute.Strategy, two_replicas: tf.distribute.Strategy
) -> None:
    run = partial(train_normalised, optimizer=Optimizer(name="sgd", learning_rate=0.02), trained=[])
    assert both(one_replica, two_replicas, run) < 1e-3


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "knobs",
    [
        {"name": "rmsprop"},
        {"name": "adam", "clip_norm": 0.5, "weight_decay": 0.05, "ema": 0.9, "schedule": Schedule(name="cosine")},
    ],
    ids=["rmsprop", "adam"],
)
def test_synchronised_normalisation_in_double_precision(
    knobs: dict[str, Any], one_replica: tf.distribute.Strategy, two_replicas: tf.distribute.Strategy
) -> None:
    trained: list[list[np.ndarray]] = []
    optimizer = Optimizer(learning_rate=0.003, **knobs)
    assert both(one_replica, two_replicas, partial(train_normalised, optimizer=optimizer, trained=trained)) < 1e-8
    for alone, together in zip(*trained, strict=True):
        np.testing.assert_allclose(together, alone, rtol=1e-8, atol=1e-8)


def test_normalisation_of_each_replica_alone_is_refused(
    one_replica: tf.distribute.Strategy, two_replicas: tf.distribute.Strategy
) -> None:
    """Keras would give each replica statistics of its own, of which a checkpoint holds one."""
    data, network = pictures(40, (8, 8, 3)), partial(normalised, False)
    make_loop(one_replica, data, RMSPROP, batch_size=8, network=network)
    with pytest.raises(ValueError, match="synchronized=True"):
        make_loop(two_replicas, data, RMSPROP, batch_size=8, network=network)


def test_replicas_keep_the_same_statistics(two_replicas: tf.distribute.Strategy) -> None:
    data = pictures(40, (8, 8, 3))
    network = partial(normalised, True)
    loop = make_loop(two_replicas, data, RMSPROP, batch_size=8, network=network)
    step_losses(loop, np.arange(40, dtype=np.int32), 2)
    statistics = [v for v in loop.model.non_trainable_variables if v.name.startswith("moving")]
    assert len(statistics) == 4
    for variable in statistics:
        first, second = copies(loop, variable)
        assert np.array_equal(first, second)


@pytest.mark.parametrize("network", [partial(tiny, 0.5), normalised], ids=["dropout", "normalised"])
def test_an_empty_share_passes_every_layer(
    two_replicas: tf.distribute.Strategy, network: Callable[[], keras.Model]
) -> None:
    data = pictures(5, network().input_shape[1:])
    loop = make_loop(two_replicas, data, RMSPROP, batch_size=4, network=network)
    assert np.isfinite(step_losses(loop, np.arange(5), 2)).all()


# Augmentation and mixing


def test_augmentation_depends_on_the_seed(one_replica: tf.distribute.Strategy) -> None:
    def losses(loop_seed: int) -> np.ndarray:
        loop = make_loop(one_replica, pictures(40), RMSPROP, batch_size=8, augment=LESSON, seed=5)
        loop.seed = loop_seed
        return one_call(loop, np.arange(40, dtype=np.int32).reshape(5, 8)).losses

    assert np.array_equal(losses(1), losses(1))
    assert (losses(1) != losses(2)).all()


def test_augmentation_counts_steps_not_calls(one_replica: tf.distribute.Strategy) -> None:
    """Five steps in one compiled call equal the same five in calls of 2, 2 and 1."""
    block = np.arange(40, dtype=np.int32).reshape(5, 8)
    whole = make_loop(one_replica, pictures(40), RMSPROP, batch_size=8, augment=LESSON)
    parts = make_loop(one_replica, pictures(40), RMSPROP, batch_size=8, augment=LESSON)
    at_once = one_call(whole, block, 3, 0).losses
    in_parts = [one_call(parts, block[first : first + 2], 3, first).losses for first in (0, 2, 4)]
    assert np.array_equal(at_once, np.concatenate(in_parts))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("mixing", "batch"),
    [
        *(({name: 0.7}, batch) for name in ("mixup", "cutmix") for batch in (1, 2, 3, 5)),
        ({"mixup": 0.7, "cutmix": 1.0}, 3),
    ],
)
def test_mixing_crosses_the_border_of_replicas(
    batch: int, mixing: dict[str, float], one_replica: tf.distribute.Strategy, two_replicas: tf.distribute.Strategy
) -> None:
    """Each image is mixed with the one before it in the global batch, the first with the last. 7 images: short ones."""
    trained = []

    def run(mirrored: tf.distribute.Strategy) -> np.ndarray:
        knobs = Augment(shift=0.1, flip="random", **mixing)
        loop = make_loop(
            mirrored, pictures(40), Optimizer(name="adam", learning_rate=0.01), batch_size=batch, augment=knobs
        )
        losses = step_losses(loop, np.arange(7), 3)
        trained.append(loop.model.get_weights())
        return losses

    assert both(one_replica, two_replicas, run) < 1e-10
    for alone, together in zip(*trained, strict=True):
        np.testing.assert_allclose(together, alone, rtol=1e-10, atol=1e-12)


def cross_entropy(model: keras.Model, images: np.ndarray, targets: np.ndarray) -> float:
    logits = np.asarray(model(images))
    return float((targets * (np.log(np.exp(logits).sum(axis=1, keepdims=True)) - logits)).sum())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_mixed_step_by_hand(replicas: tf.distribute.Strategy, batch: int) -> None:
    """mixup written with np.roll: the loss of a step, and the correct predictions by the heavier label."""
    images, labels = pictures(40)
    still = Optimizer(name="sgd", learning_rate=1e-30)
    knobs = Augment(mixup=0.7)
    loop = make_loop(replicas, (images, labels), still, batch_size=batch, augment=knobs)
    for block, source in loop.feed(np.arange(10), 0):
        call = loop.train(block, source, 0)
        for loss, hits, rows, step in zip(
            call.losses, call.hits, block.rows, range(block.first_step, block.end), strict=True
        ):
            share = float(augment.draw_mixing(knobs, loop.seed, 0, step)[augment.PerStep.SHARE])
            pixels, targets = images[rows] / 255, np.eye(CLASSES)[labels[rows]]
            pixels = share * pixels + (1 - share) * np.roll(pixels, 1, axis=0)
            targets = share * targets + (1 - share) * np.roll(targets, 1, axis=0)
            np.testing.assert_allclose(loss, cross_entropy(loop.model, pixels, targets), rtol=1e-10)
            predictions = np.asarray(loop.model(pixels)).argmax(axis=1)
            assert hits == (predictions == targets.argmax(axis=1)).sum()


# Feeding


@settings(max_examples=60)
@given(steps=st.integers(1, 4), batch=st.integers(2, 20), two=st.booleans(), halo=st.integers(0, 1))
def test_every_column_goes_to_one_replica(
    one_replica: tf.distribute.Strategy,
    two_replicas: tf.distribute.Strategy,
    steps: int,
    batch: int,
    two: bool,
    halo: int,
) -> None:
    mirrored = two_replicas if two else one_replica
    block = np.random.default_rng(batch).permutation(steps * batch).astype(np.int32).reshape(steps, batch)
    (parts,) = batches.distribute([block], mirrored, halo)
    shares = [share.numpy() for share in mirrored.experimental_local_results(parts)]
    assert len(shares) == mirrored.num_replicas_in_sync
    assert np.array_equal(np.concatenate([share[:, halo:] for share in shares], axis=1), block)
    sizes = [share.shape[1] - halo for share in shares]
    assert [share.shape for share in shares] == [(steps, size + halo) for size in sizes]
    assert max(sizes) - min(sizes) <= 1
    if halo:  # the column before each share's first one
        before = np.roll(block, 1, axis=1)
        firsts = np.cumsum([0, *sizes])
        for share, first, size in zip(shares, firsts, sizes, strict=False):
            if size:
                assert np.array_equal(share[:, 0], before[:, first])


@pytest.mark.parametrize("feeding", ["resident", "streamed"])
@pytest.mark.parametrize("halo", [0, 1])
def test_each_replica_takes_its_share(replicas: tf.distribute.Strategy, feeding: Any, halo: int) -> None:
    images, labels = pictures(23)
    data = batches.place(images, labels, replicas, feeding)
    blocks = batches.epoch_blocks(np.arange(23), 5, 3, 1, 0)
    count = replicas.num_replicas_in_sync
    fed = [*data.feed(blocks, replicas, halo)]
    assert [block for block, _ in fed] == blocks
    for block, source in fed:
        for step, rows in enumerate(block.rows):
            taken = replicas.run(data.take, (source, tf.constant(step)))
            for replica, (pixels, classes) in enumerate(
                zip(*map(replicas.experimental_local_results, taken), strict=True)
            ):
                mine = rows[batches.share(len(rows), replica, count, halo)]
                assert np.array_equal(pixels.numpy(), images[mine] / np.float32(255))
                assert np.array_equal(classes.numpy(), labels[mine])


def test_data_lies_on_every_device(two_replicas: tf.distribute.Strategy) -> None:
    resident = batches.Resident(*pictures(9), two_replicas)
    ((_, ((images, labels), _)),) = resident.feed(batches.blocks(np.arange(9), 9), two_replicas)
    for held in (images, labels):
        devices = [part.device for part in two_replicas.experimental_local_results(held)]
        assert [device.rpartition(":")[2] for device in devices] == ["0", "1"]


def test_more_replicas_than_the_process_has_are_refused() -> None:
    with pytest.raises(UserError, match=r"Cannot split the CPU into 3 replicas\. Expected a new process\."):
        strategy(Strategy(replicas=3))
    assert strategy(Strategy(replicas=2)).num_replicas_in_sync == 2
    assert strategy(Strategy(replicas=1)).num_replicas_in_sync == 1
    assert keras.config.floatx() == "float32"
