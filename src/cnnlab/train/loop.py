"""The training loop: Keras models, optimizers, losses and callbacks under any tf.distribute strategy.

Keras's `fit` is not used: it trains the same network slower, and fails under MultiWorkerMirroredStrategy
(keras#20585). Here one compiled call runs many steps on data that is on the devices.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from cnnlab.data import augment as augmentation
from cnnlab.data.batches import STEPS_PER_CALL, Block, Data, blocks, distribute, distribute_sizes, epoch_blocks
from cnnlab.errors import UserError
from cnnlab.params import TTA, Augment
from cnnlab.train.history import History, Progress, Sums
from cnnlab.train.scores import score
from cnnlab.train.strategy import is_chief, sum_over_workers, uses_xla

EVALUATION_BATCH = 1000
# Images per gradient computation on a CPU; more would not fit its caches. At batch 128 the homework network trains 1.10
# times faster this way (1.08 to 1.14; parts of 32: 1.09; of 16: 0.96), paired runs on two cores, docs/LOG.md.
PART = 64


class Interrupted(KeyboardInterrupt):
    """The training stopped between two compiled calls because `Loop.interrupt` was set on one of the workers."""


@dataclass(frozen=True)
class Call:
    """Result of one compiled call: for each step the sum of the losses and the number of correct predictions."""

    batch: int
    losses: np.ndarray
    hits: np.ndarray
    interrupted: bool

    def sums(self) -> Sums:
        """Over all steps."""
        return Sums(len(self.losses) * self.batch, float(self.losses.sum()), int(self.hits.sum()))


class Loop:
    """A compiled model with its data on the devices of a strategy.

    Build it inside the strategy's scope, after `optimizers.prepare`. Set `interrupt` to stop `fit` after its current
    call.
    """

    def __init__(
        self,
        model: keras.Model,
        data: Data,
        strategy: tf.distribute.Strategy,
        *,
        batch_size: int,
        seed: int,
        augment: Augment = Augment(),  # noqa: B008  # frozen
        tta: TTA = TTA(),  # noqa: B008  # frozen
    ) -> None:
        self.model = model
        self.data = data
        self.strategy = strategy
        self.batch_size = batch_size
        self.seed = seed
        self.interrupt = False
        self._augment = augment
        self._tta = tta
        self._halo = int(augmentation.mixes(augment))  # each image is mixed with its predecessor in the global batch
        self._classes = model.output_shape[-1]
        self._generators = [v for v in model.non_trainable_variables if v.path.endswith("seed_generator_state")]
        self._train_call = tf.function(self._train_steps)
        self._logits_call = tf.function(self._all_logits)
        norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        if strategy.num_replicas_in_sync > 1 and not all(norm.synchronized for norm in norms):
            raise ValueError(
                "Several replicas need BatchNormalization(synchronized=True); otherwise their statistics differ."
            )
        # XLA cannot compile a synchronised normalisation, whose sums run over replicas.
        gpu = uses_xla(strategy)
        xla = gpu and not any(norm.synchronized for norm in norms)
        self._differentiate = tf.function(self._gradients, jit_compile=True) if xla else self._gradients
        self._parts = 1 if gpu or norms else -(-batch_size // PART)  # normalisation needs all images of a batch

    def stop(self) -> None:
        """Set `interrupt`."""
        self.interrupt = True

    def feed(self, index: np.ndarray, epoch: int, first_step: int = 0) -> Iterator[tuple[Block, Any]]:
        """Blocks of one epoch over the rows `index`, from `first_step` on, each with the data source for `train`."""
        steps = self.data.steps_per_call(self.batch_size)
        blocks = epoch_blocks(index, self.batch_size, steps, self.seed, epoch)
        ahead = [block.after(first_step) for block in blocks if block.end > first_step]
        return self.data.feed(ahead, self.strategy, self._halo)

    def train(self, block: Block, source: Any, epoch: int) -> Call:
        """Train on a block from `feed` in one compiled call; augmentation is a function of (seed, epoch, step)."""
        steps = range(block.first_step, block.end)
        rows = zip(steps, block.rows, strict=True)
        draws = np.stack([augmentation.draw(self._augment, self.seed, epoch, step, row) for step, row in rows])
        mixing = np.stack([augmentation.draw_mixing(self._augment, self.seed, epoch, step) for step in steps])
        done = self._train_call(
            source,
            distribute([draws], self.strategy, self._halo),
            tf.constant(mixing),
            distribute_sizes(block.rows.shape[1], self.strategy),
            *map(tf.constant, block.rows.shape),
        )
        record = np.append(done.numpy().astype(np.float64), float(self.interrupt))
        *sums, interrupted = sum_over_workers(self.strategy, record)
        losses, hits = np.reshape(sums, (2, -1))
        return Call(block.rows.shape[1], losses, hits, bool(interrupted))

    def logits(self, data: Data, index: np.ndarray) -> np.ndarray:
        """Logits (n, classes) of the images `index` of `data` in inference mode, averaged over the TTA views."""
        found = []
        for block, source in data.feed(blocks(index, EVALUATION_BATCH), self.strategy):
            sizes = distribute_sizes(block.rows.shape[1], self.strategy)
            found.append(self._logits_call(data, source, sizes).numpy())
        return np.concatenate(found)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """In the block the weights are their moving average, if the optimizer has one.

        Keras's SwapEMAWeights swaps by adding and subtracting, which rounds the weights at every validation.
        """
        optimizer = self.model.optimizer
        pairs = (
            list(zip(self.model.trainable_variables, optimizer._model_variables_moving_average, strict=True))
            if optimizer.use_ema
            else []
        )
        own = [variable.numpy() for variable, _ in pairs]
        for variable, average in pairs:
            variable.assign(average)
        try:
            yield
        finally:
            for (variable, _), value in zip(pairs, own, strict=True):
                variable.assign(value)

    def _train_steps(
        self, source: Any, draws: Any, mixing: tf.Tensor, sizes: Any, steps: tf.Tensor, batch: tf.Tensor
    ) -> tf.Tensor:
        """Sums of the losses, then numbers of correct predictions, each (steps,), over this process's replicas."""
        variables = self.model.trainable_variables
        losses, hits = (tf.TensorArray(keras.config.floatx(), steps) for _ in range(2))
        for i in tf.range(steps):
            gradients, loss, hit = self.strategy.run(self._replica_step, (source, draws, mixing, sizes, i, batch))
            # Summed first and applied once, so that clipping and weight averages see the full gradient.
            pairs = [(gradient, v.value) for gradient, v in zip(gradients, variables, strict=True)]
            self.model.optimizer.apply(self.strategy.extended.batch_reduce_to("SUM", pairs), variables)
            losses = losses.write(i, tf.add_n(self.strategy.experimental_local_results(loss)))
            hits = hits.write(i, tf.add_n(self.strategy.experimental_local_results(hit)))
        return tf.concat([losses.stack(), hits.stack()], 0)

    def _replica_step(
        self,
        source: Any,
        draws: tuple[tf.Tensor],
        mixing: tf.Tensor,
        size: tf.Tensor,
        i: tf.Tensor,
        batch: tf.Tensor,
    ) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        images, labels = self.data.take(source, i)
        images = augmentation.augment(images, draws[0][i], self._augment)
        targets = tf.one_hot(labels, self._classes, dtype=images.dtype)
        if self._halo:
            images, targets = augmentation.mix(images, targets, mixing[i])
        # Divided by the global batch: gradients are summed over replicas, whose shares may differ in size or be empty.
        weight = tf.cast(tf.minimum(size, 1), images.dtype)
        *gradients, loss, hits = self._over_parts(images, targets, weight / tf.cast(batch, images.dtype))
        return gradients, weight * loss, weight * hits

    def _over_parts(self, images: tf.Tensor, targets: tf.Tensor, weight: tf.Tensor) -> list[tf.Tensor]:
        """`_gradients` of the replica's share of the batch, summed over its parts."""
        if self._parts == 1:
            self._reseed(0)
            return self._differentiate(images, targets, weight)
        sums = [tf.zeros_like(v.value) for v in self.model.trainable_variables] + [tf.zeros((), images.dtype)] * 2
        for part in tf.range(-(-tf.shape(images)[0] // PART)):
            self._reseed(part)
            rows = slice(part * PART, (part + 1) * PART)
            sums = [a + b for a, b in zip(sums, self._differentiate(images[rows], targets[rows], weight), strict=True)]
        return sums

    def _reseed(self, part: int | tf.Tensor) -> None:
        """Make dropout a function of (seed, step, part, replica); Keras draws the same masks on every replica."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for state in self._generators:  # pairs of a layer's seed and a counter
            step, turn, place = (tf.cast(n, state.dtype) for n in (self.model.optimizer.iterations, part, replica))
            count = (step * self._parts + turn) * self.strategy.num_replicas_in_sync + place
            state.assign(tf.stack([state[0], count]))

    def _gradients(self, images: tf.Tensor, targets: tf.Tensor, weight: tf.Tensor) -> list[tf.Tensor]:
        """Gradients, the sum of the losses and the number of correct predictions."""
        with tf.GradientTape() as tape:
            logits = tf.cast(self.model(images, training=True), targets.dtype)
            losses = self.model.loss(targets, logits)
            loss = weight * tf.reduce_sum(losses)
        correct = tf.argmax(logits, axis=-1) == tf.argmax(targets, axis=-1)
        gradients = tape.gradient(loss, self.model.trainable_variables)
        return [*gradients, tf.reduce_sum(losses), tf.reduce_sum(tf.cast(correct, losses.dtype))]

    def _all_logits(self, data: Data, source: Any, sizes: Any) -> tf.Tensor:
        return self.strategy.gather(self.strategy.run(self._replica_logits, (data, source, sizes)), axis=0)

    def _replica_logits(self, data: Data, source: Any, size: tf.Tensor) -> tf.Tensor:
        images, _ = data.take(source, 0)
        views = augmentation.views(images, self._tta)
        logits = tf.add_n([tf.cast(self.model(view, training=False), images.dtype) for view in views]) / len(views)
        return logits[:size]


def fit(
    loop: Loop,
    train: np.ndarray,
    validation: np.ndarray,
    epochs: int,
    *,
    history: History | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    title: str = "training",
) -> History:
    """Train for `epochs` epochs or until a callback sets `model.stop_training`; continue where `history` ends.

    `train` and `validation` are row indices of the loop's data. Callbacks get Keras's calls and logs; as with Keras's
    `steps_per_execution`, batch hooks are called once per compiled call. The chief prints one line per epoch, and a
    progress bar on a terminal. Raises Interrupted after `loop.interrupt`, and UserError for a loss that is not finite.
    """
    history = history or History()
    hooks = keras.callbacks.CallbackList(list(callbacks), model=loop.model)
    loop.model.stop_training = False
    logs: dict[str, float] = {}
    hooks.on_train_begin()
    for epoch in range(len(history.epochs), epochs):
        if loop.model.stop_training:
            break
        hooks.on_epoch_begin(epoch)
        row = {"epoch": epoch + 1, **_train_one(loop, train, history, hooks, f"{title} {epoch + 1}/{epochs}")}
        hooks.on_test_begin()
        with loop.averaged():
            checked = score(loop.logits(loop.data, validation), loop.data.labels[validation])
        hooks.on_test_end(checked)
        _raise_if_diverged(loop, np.array([checked["loss"]]), "validation loss", epoch, history.progress.step)
        row |= {f"val_{name}": value for name, value in checked.items()} | {"time": time.time_ns() // 10**6}
        history.epochs.append(row)
        history.progress = Progress()
        if is_chief(loop.strategy):
            _print_epoch(row, epochs, title)
        logs = {k: row[k] for k in ("loss", "accuracy", "val_loss", "val_accuracy")}
        hooks.on_epoch_end(epoch, logs)
    hooks.on_train_end(logs)
    return history


def _train_one(loop: Loop, train: np.ndarray, history: History, hooks: Any, title: str) -> dict[str, float]:
    """Run one epoch or the rest of it, with progress bar, batch hooks and curve; returns loss, accuracy and speed."""
    epoch, progress = len(history.epochs), history.progress
    start = time.perf_counter() - progress.seconds
    disable = None if is_chief(loop.strategy) else True  # None: only on a terminal
    with tqdm(total=len(train), desc=title, unit=" images", unit_scale=True, leave=False, disable=disable) as bar:
        bar.update(progress.total.images)
        for block, source in loop.feed(train, epoch, progress.step):
            hooks.on_train_batch_begin(block.first_step)
            call = loop.train(block, source, epoch)
            _raise_if_diverged(loop, call.losses, "loss", epoch, block.first_step)
            _advance(history, call, block, len(train), loop)
            progress.seconds = time.perf_counter() - start
            bar.update(block.rows.size)
            hooks.on_train_batch_end(block.end - 1, call.sums().means())
            if call.interrupted:
                raise Interrupted
            if loop.model.stop_training:
                break
    return {
        **progress.total.means(),
        "learning_rate": float(loop.model.optimizer.learning_rate.numpy()),
        "seconds": progress.seconds,
        "images_per_s": progress.total.images / progress.seconds,
    }


def _advance(history: History, call: Call, block: Block, images: int, loop: Loop) -> None:
    """Add a call to the epoch's progress, and a point to the curve once it covers enough images."""
    progress, epoch = history.progress, len(history.epochs)
    progress.step, progress.total, progress.point = (
        block.end,
        progress.total + call.sums(),
        progress.point + call.sums(),
    )
    # A point covers at least the images of a full call, so that an epoch's short last call is no outlier.
    if progress.point.images >= STEPS_PER_CALL * loop.batch_size or progress.total.images == images:
        seen = epoch * images + progress.total.images
        history.curve.append({"epoch": epoch + 1, "images": seen, **progress.point.means()})
        progress.point = Sums()


def _raise_if_diverged(loop: Loop, losses: np.ndarray, name: str, epoch: int, first_step: int) -> None:
    """Raise UserError if one of the `losses`, those of the optimizer's last steps, is not finite."""
    if np.isfinite(losses).all():
        return
    bad = int(np.argmin(np.isfinite(losses)))
    optimizer = loop.model.optimizer
    optimizer.iterations.assign_sub(len(losses) - bad)
    raise UserError(
        f"The training diverged: {name} {losses[bad]} at step {first_step + bad} of epoch {epoch + 1}, learning rate "
        f"{optimizer.learning_rate.numpy():.4g}. Expected a finite value. Lower optimizer.learning_rate, or set "
        "optimizer.clip_norm or optimizer.schedule.warm_up. The last good checkpoint remains."
    )


def _print_epoch(row: dict[str, float], epochs: int, title: str) -> None:
    left = (epochs - row["epoch"]) * row["seconds"]
    print(
        f"{title}  epoch {row['epoch']:.0f}/{epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}  "
        f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}  "
        f"{row['images_per_s']:,.0f} images/s  {left:.0f} s left",
        flush=True,
    )
