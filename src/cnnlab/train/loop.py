"""The training loop, the only one: Keras models, optimizers, losses and callbacks under any tf.distribute strategy.

Keras's own `fit` is not used: the same network trains slower in it, and it fails under MultiWorkerMirroredStrategy
(keras#20585). Here many steps run in one compiled call on data that lies on the devices.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from cnnlab.data import augment as augmentation
from cnnlab.data import batches
from cnnlab.params import Augment
from cnnlab.train.evaluate import score

STEPS_PER_CALL = 32  # a call of a few ms a step: long enough to hide its start, short enough for a live progress bar
EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class _Sums:
    """Images trained on, the sum of their losses and the count of right answers."""

    images: int = 0
    loss: float = 0.0
    hits: int = 0

    def __add__(self, other: "_Sums") -> "_Sums":
        return _Sums(self.images + other.images, self.loss + other.loss, self.hits + other.hits)

    def means(self) -> dict[str, float]:
        return {"loss": self.loss / self.images, "accuracy": self.hits / self.images}


@dataclass
class History:
    """What a training has shown: a row an epoch, and a finer curve with a point a compiled call.

    Epoch rows: epoch (from 1), loss, accuracy (both running, in training mode), val_loss, val_accuracy, learning_rate,
    seconds and images_per_s of training without validation. Curve points: epoch, images seen, loss, accuracy.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)


class Loop:
    """A compiled model with its data on the devices of a strategy.

    Build it inside the strategy's scope, after `recipe.prepare`.
    """

    def __init__(
        self,
        model: keras.Model,
        data: batches.Resident,
        strategy: tf.distribute.Strategy,
        *,
        batch_size: int,
        augment: Augment,
        seed: int,
    ) -> None:
        self.model = model
        self.data = data
        self.strategy = strategy
        self.batch_size = batch_size
        self.seed = seed
        self._augment = augment
        self._train_call = tf.function(self._train_steps)
        self._logits_call = tf.function(self._replica_logits_everywhere)

    def train(self, block: np.ndarray, epoch: int, first_step: int) -> tuple[np.ndarray, np.ndarray]:
        """Train on a (steps, batch) block of rows in one compiled call.

        Returns for each step the sum of the loss over its images, float64, and the count of right answers.
        Augmentation is a function of (seed, epoch, step), steps counted from the epoch's `first_step`.
        """
        key = np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0]
        rows, positions = batches.distribute(block, self.strategy)
        steps, batch = block.shape
        losses, hits = self._train_call(
            rows, positions, tf.constant(key, tf.int64), *map(tf.constant, (first_step, steps, batch))
        )
        return losses.numpy().astype(np.float64), hits.numpy()

    def logits(self, data: batches.Resident, index: np.ndarray) -> np.ndarray:
        """The model's answers in inference mode for the images of `data` at `index`: (n, classes)."""
        answers = []
        for block in batches.calls(index.astype(np.int32), EVALUATION_BATCH, 1):
            rows, _ = batches.distribute(block, self.strategy)
            shares = self.strategy.experimental_local_results(self._logits_call(data, rows))
            answers.append(np.concatenate([share.numpy() for share in shares]))
        return np.concatenate(answers)

    def _train_steps(
        self,
        rows: tf.Tensor,
        positions: tf.Tensor,
        key: tf.Tensor,
        first: tf.Tensor,
        steps: tf.Tensor,
        batch: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        losses = tf.TensorArray(keras.config.floatx(), steps)
        hits = tf.TensorArray(tf.int32, steps)
        for i in tf.range(steps):
            loss, hit = self.strategy.run(self._replica_step, (rows, positions, key, i, first + i, batch))
            losses = losses.write(i, self.strategy.reduce("SUM", loss, axis=None))
            hits = hits.write(i, self.strategy.reduce("SUM", hit, axis=None))
        return losses.stack(), hits.stack()

    def _replica_step(
        self, rows: tf.Tensor, positions: tf.Tensor, key: tf.Tensor, i: tf.Tensor, step: tf.Tensor, batch: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = self.data.take(rows[i])
        draws = tf.gather(augmentation.draw(key, step, batch), positions)
        images = augmentation.augment(images, draws, self._augment)
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self.model(images, training=True)
            losses = self.model.loss(labels, logits)
            # Divided by the whole batch: the optimizer sums gradients over replicas, whose shares may differ in size.
            loss = tf.reduce_sum(losses) / tf.cast(batch, losses.dtype)
        self.model.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        right = tf.argmax(logits, axis=-1, output_type=labels.dtype) == labels
        return tf.reduce_sum(losses), tf.reduce_sum(tf.cast(right, tf.int32))

    def _replica_logits_everywhere(self, data: batches.Resident, rows: tf.Tensor) -> tf.Tensor:
        return self.strategy.run(lambda index: self.model(data.take(index[0])[0], training=False), (rows,))


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
    """Train until `epochs` are done or a callback sets `model.stop_training`; continue after those in `history`.

    `train` and `validation` are rows of the loop's data. Keras callbacks get Keras's calls and logs; as with Keras's
    `steps_per_execution`, batch hooks are called once a compiled call. Prints a line an epoch, and a bar on a terminal.
    """
    history = history or History()
    hooks = keras.callbacks.CallbackList(list(callbacks), model=loop.model)
    labels = loop.data.labels(validation)
    loop.model.stop_training = False
    logs: dict[str, float] = {}
    hooks.on_train_begin()
    for epoch in range(len(history.epochs), epochs):
        hooks.on_epoch_begin(epoch)
        row = {"epoch": epoch + 1, **_train_one(loop, train, history, hooks, f"{title} {epoch + 1}/{epochs}")}
        hooks.on_test_begin()
        checked = score(loop.logits(loop.data, validation), labels)
        hooks.on_test_end(checked)
        row |= {f"val_{name}": value for name, value in checked.items()}
        history.epochs.append(row)
        _print_epoch(row, epochs, title)
        logs = {k: row[k] for k in ("loss", "accuracy", "val_loss", "val_accuracy")}
        hooks.on_epoch_end(epoch, logs)
        if loop.model.stop_training:
            break
    hooks.on_train_end(logs)
    return history


def _train_one(loop: Loop, train: np.ndarray, history: History, hooks: Any, title: str) -> dict[str, float]:
    """One epoch with its progress bar, batch hooks and curve; returns its loss, accuracy, rate and speed."""
    epoch, step, total, point = len(history.epochs), 0, _Sums(), _Sums()
    start = time.perf_counter()
    with tqdm(total=len(train), desc=title, unit=" images", unit_scale=True, leave=False, disable=None) as bar:
        for block in batches.calls(batches.epoch_order(train, loop.seed, epoch), loop.batch_size, STEPS_PER_CALL):
            hooks.on_train_batch_begin(step)
            losses, hits = loop.train(block, epoch, step)
            call = _Sums(block.size, float(losses.sum()), int(hits.sum()))
            step, total, point = step + len(block), total + call, point + call
            bar.update(block.size)
            hooks.on_train_batch_end(step - 1, call.means())
            # A point stands for as many images as a full call, so that an epoch's short last call is no outlier.
            if (
                point.images >= STEPS_PER_CALL * loop.batch_size
                or total.images == len(train)
                or loop.model.stop_training
            ):
                history.curve.append({"epoch": epoch + 1, "images": epoch * len(train) + total.images, **point.means()})
                point = _Sums()
            if loop.model.stop_training:
                break
    seconds = time.perf_counter() - start
    return {
        **total.means(),
        "learning_rate": float(loop.model.optimizer.learning_rate.numpy()),
        "seconds": seconds,
        "images_per_s": total.images / seconds,
    }


def _print_epoch(row: dict[str, float], epochs: int, title: str) -> None:
    left = (epochs - row["epoch"]) * row["seconds"]
    print(
        f"{title}  epoch {row['epoch']:.0f}/{epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}  "
        f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}  "
        f"{row['images_per_s']:,.0f} images/s  {left:.0f} s left",
        flush=True,
    )
