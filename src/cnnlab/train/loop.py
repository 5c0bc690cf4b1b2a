"""The training loop, the only one: Keras models, optimizers, losses and callbacks under any tf.distribute strategy.

Keras's own `fit` is not used: the same network trains slower in it, and it fails under MultiWorkerMirroredStrategy
(keras#20585). Here many steps run in one compiled call on data that lies on the devices.
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
from cnnlab.params import Augment, Views
from cnnlab.train.evaluate import score
from cnnlab.train.history import History, Progress, Sums
from cnnlab.train.strategy import is_chief, sum_over_workers, uses_xla

EVALUATION_BATCH = 1000
# Images whose gradients are computed at a time on a CPU, whose caches more overflow: at batch 128 the homework network
# trains 1.10 times faster so (1.08 to 1.14; parts of 32: 1.09; of 16: 0.96), in pairs on two cores, docs/LOG.md.
PART = 64


class Interrupted(KeyboardInterrupt):
    """The training stopped between two compiled calls because `Loop.interrupt` was set on one of its workers."""


@dataclass(frozen=True)
class Call:
    """What one compiled call did: for each of its steps the sum of the losses and the count of right answers."""

    batch: int
    losses: np.ndarray
    hits: np.ndarray
    interrupted: bool

    def sums(self) -> Sums:
        """Over all steps."""
        return Sums(len(self.losses) * self.batch, float(self.losses.sum()), int(self.hits.sum()))


class Loop:
    """A compiled model with its data on the devices of a strategy.

    Build it inside the strategy's scope, after `recipe.prepare`. Set `interrupt` to stop `fit` after its present call.
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
        views: Views = Views(),  # noqa: B008  # frozen
    ) -> None:
        self.model = model
        self.data = data
        self.strategy = strategy
        self.batch_size = batch_size
        self.seed = seed
        self.interrupt = False
        self._augment = augment
        self._views = views
        self._halo = int(augmentation.mixes(augment))  # an image is mixed with the one before it in the global batch
        self._classes = model.output_shape[-1]
        self._generators = [v for v in model.non_trainable_variables if v.path.endswith("seed_generator_state")]
        self._train_call = tf.function(self._train_steps)
        self._logits_call = tf.function(self._everywhere)
        norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        if strategy.num_replicas_in_sync > 1 and not all(norm.synchronized for norm in norms):
            raise ValueError(
                "Several replicas need BatchNormalization(synchronized=True); else each keeps its own mean."
            )
        # XLA cannot compile a synchronised normalisation, whose sums run over replicas.
        gpu = uses_xla(strategy)
        xla = gpu and not any(norm.synchronized for norm in norms)
        self._differentiate = tf.function(self._gradients, jit_compile=True) if xla else self._gradients
        self._parts = 1 if gpu or norms else -(-batch_size // PART)  # a batch is normalised as a whole

    def stop(self) -> None:
        """Set `interrupt`."""
        self.interrupt = True

    def feed(self, index: np.ndarray, epoch: int, first_step: int = 0) -> Iterator[tuple[Block, Any]]:
        """The blocks of one epoch over the rows `index`, from `first_step` on, each with what `train` needs of it."""
        steps = self.data.steps_per_call(self.batch_size)
        blocks = epoch_blocks(index, self.batch_size, steps, self.seed, epoch)
        ahead = [block.after(first_step) for block in blocks if block.end > first_step]
        return self.data.feed(ahead, self.strategy, self._halo)

    def train(self, block: Block, source: Any, epoch: int) -> Call:
        """Train on a block that `feed` gave in one compiled call; augmentation is a function of (seed, epoch, step)."""
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
        """The model's answers in inference mode, the mean over its views, for `data` at `index`: (n, classes)."""
        answers = []
        for block, source in data.feed(blocks(index, EVALUATION_BATCH), self.strategy):
            sizes = distribute_sizes(block.rows.shape[1], self.strategy)
            answers.append(self._logits_call(data, source, sizes).numpy())
        return np.concatenate(answers)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the running average of the weights in their place, where the optimizer keeps one.

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
        """Sums of the losses, then counts of right answers, each (steps,), over this process's replicas."""
        variables = self.model.trainable_variables
        losses, hits = (tf.TensorArray(keras.config.floatx(), steps) for _ in range(2))
        for i in tf.range(steps):
            gradients, loss, hit = self.strategy.run(self._replica_step, (source, draws, mixing, sizes, i, batch))
            # Summed first and applied once, so that clipping and averages of weights see the whole gradient.
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
        # Divided by the whole batch: gradients are summed over replicas, whose shares may differ in size or be empty.
        weight = tf.cast(tf.minimum(size, 1), images.dtype)
        *gradients, loss, hits = self._over_parts(images, targets, weight / tf.cast(batch, images.dtype))
        return gradients, weight * loss, weight * hits

    def _over_parts(self, images: tf.Tensor, targets: tf.Tensor, weight: tf.Tensor) -> list[tf.Tensor]:
        """What `_gradients` gives for the replica's share of the batch, summed over its parts."""
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
        """Make dropout a function of (seed, step, part, replica); Keras alone draws the same masks on every replica."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for state in self._generators:  # Keras's pairs of a layer's seed and a counter
            step, turn, place = (tf.cast(n, state.dtype) for n in (self.model.optimizer.iterations, part, replica))
            count = (step * self._parts + turn) * self.strategy.num_replicas_in_sync + place
            state.assign(tf.stack([state[0], count]))

    def _gradients(self, images: tf.Tensor, targets: tf.Tensor, weight: tf.Tensor) -> list[tf.Tensor]:
        """The gradients, the sum of the losses and the count of right answers."""
        with tf.GradientTape() as tape:
            logits = tf.cast(self.model(images, training=True), targets.dtype)
            losses = self.model.loss(targets, logits)
            loss = weight * tf.reduce_sum(losses)
        right = tf.argmax(logits, axis=-1) == tf.argmax(targets, axis=-1)
        gradients = tape.gradient(loss, self.model.trainable_variables)
        return [*gradients, tf.reduce_sum(losses), tf.reduce_sum(tf.cast(right, losses.dtype))]

    def _everywhere(self, data: Data, source: Any, sizes: Any) -> tf.Tensor:
        return self.strategy.gather(self.strategy.run(self._replica_logits, (data, source, sizes)), axis=0)

    def _replica_logits(self, data: Data, source: Any, size: tf.Tensor) -> tf.Tensor:
        images, _ = data.take(source, 0)
        views = augmentation.views(images, self._views)
        answers = tf.add_n([tf.cast(self.model(view, training=False), images.dtype) for view in views]) / len(views)
        return answers[:size]


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
    """Train until `epochs` are done or a callback sets `model.stop_training`; continue where `history` ends.

    `train` and `validation` are rows of the loop's data. Keras callbacks get Keras's calls and logs; as with Keras's
    `steps_per_execution`, batch hooks are called once a compiled call. The chief prints a line an epoch, and a bar on a
    terminal. Raises Interrupted after `loop.interrupt`, and UserError for a loss that is not finite.
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
        _refuse_divergence(loop, np.array([checked["loss"]]), "validation loss", epoch, history.progress.step)
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
    """One epoch, or what is left of it, with progress bar, batch hooks and curve; returns loss, accuracy, speed."""
    epoch, progress = len(history.epochs), history.progress
    start = time.perf_counter() - progress.seconds
    silent = None if is_chief(loop.strategy) else True  # None: only on a terminal
    with tqdm(total=len(train), desc=title, unit=" images", unit_scale=True, leave=False, disable=silent) as bar:
        bar.update(progress.total.images)
        for block, source in loop.feed(train, epoch, progress.step):
            hooks.on_train_batch_begin(block.first_step)
            call = loop.train(block, source, epoch)
            _refuse_divergence(loop, call.losses, "loss", epoch, block.first_step)
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
    """Add a call to the epoch's progress, and a point to the curve where enough images came together."""
    progress, epoch = history.progress, len(history.epochs)
    progress.step, progress.total, progress.point = (
        block.end,
        progress.total + call.sums(),
        progress.point + call.sums(),
    )
    # A point stands for as many images as a full call, so that an epoch's short last call is no outlier.
    if progress.point.images >= STEPS_PER_CALL * loop.batch_size or progress.total.images == images:
        seen = epoch * images + progress.total.images
        history.curve.append({"epoch": epoch + 1, "images": seen, **progress.point.means()})
        progress.point = Sums()


def _refuse_divergence(loop: Loop, losses: np.ndarray, name: str, epoch: int, first_step: int) -> None:
    """Raise UserError where one of the `losses`, those of the steps up to the optimizer's last one, is not finite."""
    if np.isfinite(losses).all():
        return
    bad = int(np.argmin(np.isfinite(losses)))
    optimizer = loop.model.optimizer
    optimizer.iterations.assign_sub(len(losses) - bad)
    raise UserError(
        f"The training diverged: {name} {losses[bad]} at step {first_step + bad} of epoch {epoch + 1}, learning rate "
        f"{optimizer.learning_rate.numpy():.4g}. Expected a finite one. Lower optimizer.learning_rate, or set "
        "optimizer.clip_norm or optimizer.schedule.warm_up. The last good checkpoint was kept."
    )


def _print_epoch(row: dict[str, float], epochs: int, title: str) -> None:
    left = (epochs - row["epoch"]) * row["seconds"]
    print(
        f"{title}  epoch {row['epoch']:.0f}/{epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}  "
        f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}  "
        f"{row['images_per_s']:,.0f} images/s  {left:.0f} s left",
        flush=True,
    )
