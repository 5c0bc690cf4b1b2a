"""Feeding: a small data set lives on every device as uint8 and each replica gathers its share of a batch from it."""

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf


class Resident:
    """Images and labels held in the memory of every device of a strategy.

    `images` is (n, height, width, channels) uint8, `labels` (n,) integers. Build it inside the strategy's scope:
    a variable made there is copied to each device.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self._images = tf.Variable(np.asarray(images), trainable=False, name="images")
        # int64, because TensorFlow has no kernel that gathers from an int32 variable on a GPU.
        self._labels = tf.Variable(np.asarray(labels, dtype=np.int64), trainable=False, name="labels")

    def labels(self, index: np.ndarray) -> np.ndarray:
        """The labels at `index`, (n,) int64, on the host."""
        return np.asarray(tf.gather(self._labels, index))

    def take(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The images at `index`, floats in [0, 1] of Keras's float type, and their labels, int64."""
        images = tf.cast(tf.gather(self._images, index), keras.config.floatx()) / 255
        return images, tf.gather(self._labels, index)


def epoch_order(index: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """`index` in the order of one epoch: a permutation that is a function of (seed, epoch) alone."""
    return np.random.default_rng([seed, epoch]).permutation(index).astype(np.int32)


def calls(order: np.ndarray, batch_size: int, steps_per_call: int) -> Iterator[np.ndarray]:
    """Cut an epoch's order into (steps, batch) blocks, one a compiled call; a partial last batch is a block of its own.

    Every image of `order` is in exactly one block.
    """
    full = len(order) // batch_size * batch_size
    steps = order[:full].reshape(-1, batch_size)
    for first in range(0, len(steps), steps_per_call):
        yield steps[first : first + steps_per_call]
    if full < len(order):
        yield order[None, full:]


def distribute(block: np.ndarray, strategy: tf.distribute.Strategy) -> tuple[tf.Tensor, tf.Tensor]:
    """Give each replica its columns of a (steps, batch) block: as even as the batch allows, none twice, none dropped.

    Returns per-replica (steps, share) indices and (share,) positions in the global batch, both int32. With fewer images
    than replicas some shares are empty.
    """
    replicas = strategy.num_replicas_in_sync
    bounds = [block.shape[1] * i // replicas for i in range(replicas + 1)]

    def shares(array: np.ndarray) -> tf.Tensor:
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(array[..., slice(*bounds[(r := context.replica_id_in_sync_group) : r + 2])])
        )

    return shares(block), shares(np.arange(block.shape[1], dtype=np.int32))
