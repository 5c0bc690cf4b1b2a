"""Feeding: the batches of an epoch, and each replica's share of them, resident on the devices or streamed from disk.

Small sets lie on every device as uint8 and are gathered in the graph; large ones stay on disk, and tf.data reads ahead.
Both give the same pictures in the same order.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import groupby
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from cnnlab.data.augment import draw_crops
from cnnlab.data.pictures import UNREADABLE, Pictures, refuse

STEPS_PER_CALL = 32  # a call of a few ms a step: long enough to hide its start, short enough for a live progress bar
RESIDENT_BYTES = 2**31  # CIFAR-10 takes 154 MB; a share of any GPU's memory that leaves the network room
STREAMED_BYTES = 2**26  # of one block of streamed images, of which tf.data holds two ahead


@dataclass(frozen=True)
class Block:
    """Some steps of one epoch, for one compiled call: `rows` of the data set, (steps, batch) int32."""

    rows: np.ndarray
    first_step: int
    key: tuple[int, int] | None = None  # seed and epoch, of which random crops are a function; None: no training

    @property
    def end(self) -> int:
        """The step after the last one."""
        return self.first_step + len(self.rows)

    def after(self, step: int) -> "Block":
        """The steps from `step` on."""
        done = max(0, step - self.first_step)
        return Block(self.rows[done:], self.first_step + done, self.key)


def epoch_blocks(index: np.ndarray, batch_size: int, steps_per_call: int, seed: int, epoch: int) -> list[Block]:
    """The steps of one training epoch over `index`: a shuffle that is a function of (seed, epoch) alone.

    `steps_per_call`, the length of the blocks, divides STEPS_PER_CALL and changes no step.
    Where the batches do not divide the images evenly, the short one comes after any multiple of STEPS_PER_CALL steps:
    as the epoch's last step it would be the noisy last word before every evaluation, which cost the lesson's network
    2.6 points (docs/LOG.md, 2026-11-22).
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(index)
    whole, rest = divmod(len(order), batch_size)
    before = random.choice([*range(0, whole, STEPS_PER_CALL), whole]) if rest else whole
    cut = before * batch_size
    parts = [*_calls(order[:cut], batch_size, steps_per_call), *_calls(order[cut : cut + rest], rest, 1)]
    return _numbered([*parts, *_calls(order[cut + rest :], batch_size, steps_per_call)], (seed, epoch))


def blocks(index: np.ndarray, batch_size: int) -> list[Block]:
    """`index` in its own order, a step a block, the last one perhaps short: for evaluation."""
    whole = len(index) // batch_size * batch_size
    return _numbered([*_calls(index[:whole], batch_size, 1), *_calls(index[whole:], len(index) - whole, 1)])


def _calls(order: np.ndarray, batch_size: int, steps_per_call: int) -> list[np.ndarray]:
    """`order`, a multiple of `batch_size`, as (steps, batch) arrays of up to `steps_per_call` steps."""
    if not len(order):
        return []
    steps = order.astype(np.int32).reshape(-1, batch_size)
    return [steps[first : first + steps_per_call] for first in range(0, len(steps), steps_per_call)]


def _numbered(parts: list[np.ndarray], key: tuple[int, int] | None = None) -> list[Block]:
    first_steps = np.cumsum([0, *map(len, parts)]).tolist()
    return [Block(rows, first, key) for rows, first in zip(parts, first_steps[:-1], strict=True)]


def share(batch: int, replica: int, replicas: int, halo: int = 0) -> np.ndarray:
    """The columns of a global batch that one replica trains on: as even as the batch allows, none twice, none dropped.

    `halo` columns before the share come first (before column 0 is the last one). With fewer images than replicas some
    shares are empty: then one column stands in, for layers that fail on nothing, and `share_size` is 0.
    """
    first, size = batch * replica // replicas, share_size(batch, replica, replicas)
    return np.arange(first - halo, first + max(size, 1)) % batch


def share_size(batch: int, replica: int, replicas: int) -> int:
    """How many images of a global batch one replica trains on."""
    return batch * (replica + 1) // replicas - batch * replica // replicas


def distribute_sizes(batch: int, strategy: tf.distribute.Strategy) -> Any:
    """The size of each replica's share, a scalar int32 tensor."""
    return _per_replica(strategy, lambda r: tf.constant(share_size(batch, r, strategy.num_replicas_in_sync)))


def distribute(arrays: Sequence[np.ndarray], strategy: tf.distribute.Strategy, halo: int = 0) -> Any:
    """Give each replica its columns of (steps, batch, …) arrays; returns a tuple of per-replica tensors."""
    batch, replicas = arrays[0].shape[1], strategy.num_replicas_in_sync

    def columns(replica: int) -> tuple[tf.Tensor, ...]:
        return tuple(tf.constant(array[:, share(batch, replica, replicas, halo)]) for array in arrays)

    return _per_replica(strategy, columns)


class Resident:
    """Images and labels held in the memory of every device of a strategy.

    `images` is (n, height, width, channels) uint8, `labels` (n,) integers.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, strategy: tf.distribute.Strategy) -> None:
        self.labels = np.asarray(labels)
        # Tensors, not variables: those would be sent from the chief to all workers, for which uint8 has no kernel.
        self._held = _per_replica(strategy, lambda _: (tf.constant(images), tf.constant(labels, tf.int64)))

    def steps_per_call(self, batch_size: int) -> int:
        """How many steps of `batch_size` images one block holds."""
        return STEPS_PER_CALL

    def feed(
        self, blocks: Sequence[Block], strategy: tf.distribute.Strategy, halo: int = 0
    ) -> Iterator[tuple[Block, Any]]:
        """Each block with what `take` needs on each replica: the whole data set and the block's rows."""
        for block in blocks:
            yield block, (self._held, distribute([block.rows], strategy, halo))

    def take(self, source: Any, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One replica's images at `step` of a block, floats in [0, 1] of Keras's float type, and labels, int64."""
        (images, labels), (rows,) = source
        return _as_floats(tf.gather(images, rows[step])), tf.gather(labels, rows[step])


class Streamed:
    """Images and labels that stay on disk; `images` is usually memory-mapped. Shapes and types as `Resident`."""

    def __init__(self, images: np.ndarray | Pictures, labels: np.ndarray) -> None:
        self._images = images
        self.labels = np.asarray(labels)

    def steps_per_call(self, batch_size: int) -> int:
        """As many steps as `STREAMED_BYTES` hold: a power of two, so that it divides STEPS_PER_CALL."""
        steps = STREAMED_BYTES // (batch_size * int(np.prod(self._images.shape[1:])))
        return min(STEPS_PER_CALL, 1 << max(0, steps.bit_length() - 1))

    def feed(
        self, blocks: Sequence[Block], strategy: tf.distribute.Strategy, halo: int = 0
    ) -> Iterator[tuple[Block, Any]]:
        """Each block with what `take` needs on each replica: its images and labels, read ahead by tf.data."""
        numbers = strategy.experimental_distribute_values_from_function(
            lambda c: tf.constant(c.replica_id_in_sync_group)
        )
        local = [int(number) for number in strategy.experimental_local_results(numbers)]
        replicas = strategy.num_replicas_in_sync
        ahead = self._ahead(blocks, lambda batch: [share(batch, replica, replicas, halo) for replica in local])
        for block, sources in zip(blocks, ahead.prefetch(2), strict=True):
            yield block, _per_replica(strategy, dict(zip(local, sources, strict=True)).__getitem__)

    def _ahead(self, blocks: Sequence[Block], columns: Callable[[int], list[np.ndarray]]) -> tf.data.Dataset:
        """Of each block, images and labels for each replica here, whose `columns` depend on the batch size."""

        def read() -> Iterator[tuple[tuple[np.ndarray, np.ndarray], ...]]:
            for block in blocks:
                mine = [block.rows[:, own] for own in columns(block.rows.shape[1])]
                yield tuple((self._images[rows], self.labels[rows].astype(np.int64)) for rows in mine)

        shape = (None, None, *self._images.shape[1:])
        signature = (tf.TensorSpec(shape, tf.uint8), tf.TensorSpec((None, None), tf.int64))
        return tf.data.Dataset.from_generator(read, output_signature=(signature,) * len(columns(1)))

    def take(self, source: Any, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """As `Resident.take`."""
        images, labels = source
        return _as_floats(images[step]), labels[step]


class Decoded(Streamed):
    """Pictures that are decoded ahead of every step; a training cuts random crops where `smallest_crop` is above 0."""

    def __init__(self, images: Pictures, labels: np.ndarray, smallest_crop: float) -> None:
        super().__init__(images, labels)
        self._pictures = images
        self._smallest_crop = smallest_crop

    def feed(
        self, blocks: Sequence[Block], strategy: tf.distribute.Strategy, halo: int = 0
    ) -> Iterator[tuple[Block, Any]]:
        """As `Streamed.feed`; raises UserError for a file that cannot be read any more."""
        try:
            yield from super().feed(blocks, strategy, halo)
        except UNREADABLE as error:
            raise refuse(error) from error

    def _ahead(self, blocks: Sequence[Block], columns: Callable[[int], list[np.ndarray]]) -> tf.data.Dataset:
        replicas = len(columns(1))
        runs = [list(run) for _, run in groupby(blocks, lambda block: block.rows.shape)]
        sources = [[self._read(run, columns(run[0].rows.shape[1])[i]) for run in runs] for i in range(replicas)]
        return tf.data.Dataset.zip(tuple(reduce(tf.data.Dataset.concatenate, source) for source in sources))

    def _read(self, run: Sequence[Block], columns: np.ndarray) -> tf.data.Dataset:
        """Of each of some blocks of one shape, the images and labels in these columns."""
        rows = np.stack([block.rows[:, columns] for block in run])
        crops = np.concatenate([self._crops(block)[:, columns] for block in run]) if self._cropped(run) else None
        pictures = self._pictures.read(rows.reshape(-1), None if crops is None else crops.reshape(-1, 4))
        images = pictures.batch(rows[0].size, drop_remainder=True).map(
            lambda flat: tf.reshape(flat, (*rows.shape[1:], *self._pictures.shape[1:]))
        )
        return tf.data.Dataset.zip((images, tf.data.Dataset.from_tensor_slices(self.labels[rows].astype(np.int64))))

    def _cropped(self, run: Sequence[Block]) -> bool:
        return self._smallest_crop > 0 and run[0].key is not None

    def _crops(self, block: Block) -> np.ndarray:
        """(steps, batch, 4), see `augment.draw_crops`."""
        seed, epoch = block.key or (0, 0)
        steps, batch = block.rows.shape
        first = block.first_step
        return np.stack(
            [draw_crops(self._smallest_crop, seed, epoch, step, batch) for step in range(first, first + steps)]
        )


Data = Resident | Streamed


def place(
    images: np.ndarray | Pictures,
    labels: np.ndarray,
    strategy: tf.distribute.Strategy,
    feeding: Literal["auto", "resident", "streamed"] = "auto",
    smallest_crop: float = 0.0,
) -> Data:
    """The data set resident on the devices or streamed from disk; `auto` decides by its size (`RESIDENT_BYTES`).

    Pictures are always streamed; `smallest_crop` is the `crop` of section augment.
    """
    if isinstance(images, Pictures):
        return Decoded(images, labels, smallest_crop)
    resident = images.nbytes <= RESIDENT_BYTES if feeding == "auto" else feeding == "resident"
    return Resident(images, labels, strategy) if resident else Streamed(images, labels)


def _as_floats(images: tf.Tensor) -> tf.Tensor:
    return tf.cast(images, keras.config.floatx()) / 255


def _per_replica(strategy: tf.distribute.Strategy, value: Callable[[int], Any]) -> Any:
    """`value` of each replica of this process, by its number among the replicas of all processes, on its device."""
    devices = strategy.extended.worker_devices

    def placed(context: Any) -> Any:
        replica = context.replica_id_in_sync_group
        with tf.device(devices[replica % len(devices)]):
            return value(replica)

    return strategy.experimental_distribute_values_from_function(placed)
