"""Feeding: the batches of an epoch and each replica's share of them, resident on the devices or streamed from disk.

Small sets are copied to every device as uint8 and gathered in the graph; large sets are read ahead by tf.data. Both
yield the same images in the same order.
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
from cnnlab.data.images import UNREADABLE, ImageFiles, unreadable

STEPS_PER_CALL = 32  # long enough to hide the overhead of a call, short enough for a live progress bar
RESIDENT_BYTES = 2**31  # CIFAR-10 takes 154 MB; leaves room for the network in the memory of any GPU
STREAMED_BYTES = 2**26  # of one block of streamed images; tf.data prefetches two


@dataclass(frozen=True)
class Block:
    """Steps of one epoch that run in one compiled call: `rows` of the data set, (steps, batch) int32."""

    rows: np.ndarray
    first_step: int
    key: tuple[int, int] | None = None  # seed and epoch, which determine random crops; None for evaluation

    @property
    def end(self) -> int:
        """The step after the last one."""
        return self.first_step + len(self.rows)

    def after(self, step: int) -> "Block":
        """The remaining steps, starting at `step`."""
        done = max(0, step - self.first_step)
        return Block(self.rows[done:], self.first_step + done, self.key)


def epoch_blocks(index: np.ndarray, batch_size: int, steps_per_call: int, seed: int, epoch: int) -> list[Block]:
    """The steps of one training epoch over `index`, shuffled as a function of (seed, epoch).

    `steps_per_call`, the length of the blocks, must divide STEPS_PER_CALL; it does not change the steps.
    A last batch that is smaller than the others is moved to a random multiple of STEPS_PER_CALL steps: as the last step
    before every evaluation, its noisy gradient cost the lesson's network 2.6 points (docs/LOG.md, 2026-11-22).
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(index)
    whole, rest = divmod(len(order), batch_size)
    before = random.choice([*range(0, whole, STEPS_PER_CALL), whole]) if rest else whole
    cut = before * batch_size
    parts = [*_calls(order[:cut], batch_size, steps_per_call), *_calls(order[cut : cut + rest], rest, 1)]
    return _numbered([*parts, *_calls(order[cut + rest :], batch_size, steps_per_call)], (seed, epoch))


def blocks(index: np.ndarray, batch_size: int) -> list[Block]:
    """`index` in its own order for evaluation: one step per block; the last batch may be smaller."""
    whole = len(index) // batch_size * batch_size
    return _numbered([*_calls(index[:whole], batch_size, 1), *_calls(index[whole:], len(index) - whole, 1)])


def _calls(order: np.ndarray, batch_size: int, steps_per_call: int) -> list[np.ndarray]:
    """Split `order`, a multiple of `batch_size`, into (steps, batch) arrays of up to `steps_per_call` steps."""
    if not len(order):
        return []
    steps = order.astype(np.int32).reshape(-1, batch_size)
    return [steps[first : first + steps_per_call] for first in range(0, len(steps), steps_per_call)]


def _numbered(parts: list[np.ndarray], key: tuple[int, int] | None = None) -> list[Block]:
    first_steps = np.cumsum([0, *map(len, parts)]).tolist()
    return [Block(rows, first, key) for rows, first in zip(parts, first_steps[:-1], strict=True)]


def share(batch: int, replica: int, replicas: int, halo: int = 0) -> np.ndarray:
    """The columns of a global batch that one replica trains on. Shares are as equal as possible and do not overlap.

    They are preceded by the `halo` columns before them, wrapping around at column 0. With fewer images than replicas,
    an empty share gets one column, because some layers fail on empty batches; its `share_size` is 0.
    """
    first, size = batch * replica // replicas, share_size(batch, replica, replicas)
    return np.arange(first - halo, first + max(size, 1)) % batch


def share_size(batch: int, replica: int, replicas: int) -> int:
    """The number of images of a global batch that one replica trains on."""
    return batch * (replica + 1) // replicas - batch * replica // replicas


def distribute_sizes(batch: int, strategy: tf.distribute.Strategy) -> Any:
    """The size of each replica's share, scalar int32 tensors."""
    return _per_replica(strategy, lambda r: tf.constant(share_size(batch, r, strategy.num_replicas_in_sync)))


def distribute(arrays: Sequence[np.ndarray], strategy: tf.distribute.Strategy, halo: int = 0) -> Any:
    """Give each replica its columns of arrays (steps, batch, …); returns a tuple of per-replica tensors."""
    batch, replicas = arrays[0].shape[1], strategy.num_replicas_in_sync

    def columns(replica: int) -> tuple[tf.Tensor, ...]:
        return tuple(tf.constant(array[:, share(batch, replica, replicas, halo)]) for array in arrays)

    return _per_replica(strategy, columns)


class Resident:
    """Images and labels in the memory of every device of a strategy.

    `images` are uint8 (n, height, width, channels), `labels` integers (n,).
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, strategy: tf.distribute.Strategy) -> None:
        self.labels = np.asarray(labels)
        # Tensors, because the chief would send variables to all workers, for which uint8 has no kernel.
        self._arrays = _per_replica(strategy, lambda _: (tf.constant(images), tf.constant(labels, tf.int64)))

    def steps_per_call(self, batch_size: int) -> int:
        """The number of steps per block for batches of `batch_size` images."""
        return STEPS_PER_CALL

    def feed(
        self, blocks: Sequence[Block], strategy: tf.distribute.Strategy, halo: int = 0
    ) -> Iterator[tuple[Block, Any]]:
        """Yield each block and the per-replica source for `take`: the complete data set and the block's rows."""
        for block in blocks:
            yield block, (self._arrays, distribute([block.rows], strategy, halo))

    def take(self, source: Any, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One replica's images at `step` of a block, as Keras's float type in [0, 1], and its labels, int64."""
        (images, labels), (rows,) = source
        return _as_floats(tf.gather(images, rows[step])), tf.gather(labels, rows[step])


class Streamed:
    """Images and labels that are read from disk; `images` is usually memory-mapped. Shapes and types as `Resident`."""

    def __init__(self, images: np.ndarray | ImageFiles, labels: np.ndarray) -> None:
        self._images = images
        self.labels = np.asarray(labels)

    def steps_per_call(self, batch_size: int) -> int:
        """The number of steps that fit in `STREAMED_BYTES`: a power of two, so that it divides STEPS_PER_CALL."""
        steps = STREAMED_BYTES // (batch_size * int(np.prod(self._images.shape[1:])))
        return min(STEPS_PER_CALL, 1 << max(0, steps.bit_length() - 1))

    def feed(
        self, blocks: Sequence[Block], strategy: tf.distribute.Strategy, halo: int = 0
    ) -> Iterator[tuple[Block, Any]]:
        """Yield each block and the per-replica source for `take`: its images and labels, prefetched by tf.data."""
        numbers = strategy.experimental_distribute_values_from_function(
            lambda c: tf.constant(c.replica_id_in_sync_group)
        )
        local = [int(number) for number in strategy.experimental_local_results(numbers)]
        replicas = strategy.num_replicas_in_sync
        ahead = self._ahead(blocks, lambda batch: [share(batch, replica, replicas, halo) for replica in local])
        for block, sources in zip(blocks, ahead.prefetch(2), strict=True):
            yield block, _per_replica(strategy, dict(zip(local, sources, strict=True)).__getitem__)

    def _ahead(self, blocks: Sequence[Block], columns: Callable[[int], list[np.ndarray]]) -> tf.data.Dataset:
        """The images and labels of each block for each local replica, whose `columns` depend on the batch size."""

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
    """Image files, decoded ahead of each step; training uses random crops if `smallest_crop` is above 0."""

    def __init__(self, images: ImageFiles, labels: np.ndarray, smallest_crop: float) -> None:
        super().__init__(images, labels)
        self._files = images
        self._smallest_crop = smallest_crop

    def feed(
        self, blocks: Sequence[Block], strategy: tf.distribute.Strategy, halo: int = 0
    ) -> Iterator[tuple[Block, Any]]:
        """As `Streamed.feed`; raises UserError for a file that has become unreadable."""
        try:
            yield from super().feed(blocks, strategy, halo)
        except UNREADABLE as error:
            raise unreadable(error) from error

    def _ahead(self, blocks: Sequence[Block], columns: Callable[[int], list[np.ndarray]]) -> tf.data.Dataset:
        replicas = len(columns(1))
        runs = [list(run) for _, run in groupby(blocks, lambda block: block.rows.shape)]
        sources = [[self._read(run, columns(run[0].rows.shape[1])[i]) for run in runs] for i in range(replicas)]
        return tf.data.Dataset.zip(tuple(reduce(tf.data.Dataset.concatenate, source) for source in sources))

    def _read(self, run: Sequence[Block], columns: np.ndarray) -> tf.data.Dataset:
        """The images and labels in the given columns of consecutive blocks of one shape."""
        rows = np.stack([block.rows[:, columns] for block in run])
        crops = np.concatenate([self._crops(block)[:, columns] for block in run]) if self._cropped(run) else None
        decoded = self._files.read(rows.reshape(-1), None if crops is None else crops.reshape(-1, 4))
        images = decoded.batch(rows[0].size, drop_remainder=True).map(
            lambda flat: tf.reshape(flat, (*rows.shape[1:], *self._files.shape[1:]))
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
    images: np.ndarray | ImageFiles,
    labels: np.ndarray,
    strategy: tf.distribute.Strategy,
    feeding: Literal["auto", "resident", "streamed"] = "auto",
    smallest_crop: float = 0.0,
) -> Data:
    """Make the data set resident on the devices or stream it from disk; `auto` decides by size (`RESIDENT_BYTES`).

    Image files are always streamed; `smallest_crop` is the `crop` of section augment.
    """
    if isinstance(images, ImageFiles):
        return Decoded(images, labels, smallest_crop)
    resident = images.nbytes <= RESIDENT_BYTES if feeding == "auto" else feeding == "resident"
    return Resident(images, labels, strategy) if resident else Streamed(images, labels)


def _as_floats(images: tf.Tensor) -> tf.Tensor:
    return tf.cast(images, keras.config.floatx()) / 255


def _per_replica(strategy: tf.distribute.Strategy, value: Callable[[int], Any]) -> Any:
    """Compute `value` for each local replica, given its number among the replicas of all processes, on its device."""
    devices = strategy.extended.worker_devices

    def placed(context: Any) -> Any:
        replica = context.replica_id_in_sync_group
        with tf.device(devices[replica % len(devices)]):
            return value(replica)

    return strategy.experimental_distribute_values_from_function(placed)
