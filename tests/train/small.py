"""Small trainings that the tests of the loop share."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from cnnlab.data import batches
from cnnlab.params import Augment, Optimizer
from cnnlab.train import recipe
from cnnlab.train.loop import STEPS_PER_CALL, Loop

SHAPE = (6, 6, 3)
CLASSES = 4


def tiny(dropout: float = 0.0) -> keras.Model:
    """A network of every kind of layer the lesson trains, 6×6×3 pictures in, 4 logits out."""
    model = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(5, 3, activation="tanh"), layers.MaxPooling2D(2)])
    if dropout:
        model.add(layers.Dropout(dropout))
    model.add(layers.Flatten())
    model.add(layers.Dense(CLASSES))
    return model


def pictures(count: int, shape: tuple[int, int, int] = SHAPE, classes: int = CLASSES) -> tuple[np.ndarray, np.ndarray]:
    """Noise, brighter in the rows that belong to the class: something can be learnt of it."""
    random = np.random.default_rng(count)
    labels = random.integers(0, classes, count)
    images = random.integers(0, 160, (count, *shape))
    for image, label in zip(images, labels, strict=True):
        image[label % shape[0] :: classes] += 95
    return images.astype(np.uint8), labels.astype(np.int32)


def make_loop(
    strategy: tf.distribute.Strategy,
    data: tuple[np.ndarray, np.ndarray],
    optimizer: Optimizer,
    *,
    batch_size: int,
    network: Callable[[], keras.Model] = tiny,
    augment: Augment | None = None,
    seed: int = 5,
) -> Loop:
    """A loop ready to train, with the initial weights of `seed`."""
    keras.utils.set_random_seed(seed)
    with strategy.scope():
        model = network()
        recipe.prepare(model, optimizer)
        return Loop(
            model, batches.Resident(*data), strategy, batch_size=batch_size, augment=augment or Augment(), seed=seed
        )


def step_losses(loop: Loop, index: np.ndarray, epochs: int) -> np.ndarray:
    """Train and return the mean loss of each step."""
    losses = []
    for epoch in range(epochs):
        step = 0
        for block in batches.calls(batches.epoch_order(index, loop.seed, epoch), loop.batch_size, STEPS_PER_CALL):
            sums, _ = loop.train(block, epoch, step)
            losses.append(sums / block.shape[1])
            step += len(block)
    return np.concatenate(losses)


class OurOrder(keras.utils.PyDataset):
    """The batches of our epochs, for Keras's own `fit`; `follow` is a callback that it needs to know the epoch."""

    def __init__(self, data: tuple[np.ndarray, np.ndarray], index: np.ndarray, batch_size: int, seed: int) -> None:
        super().__init__()
        self._data = data
        self._index = index
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0
        self.follow = keras.callbacks.LambdaCallback(on_epoch_begin=self._begin)

    def __len__(self) -> int:
        return -(-len(self._index) // self._batch_size)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        order = batches.epoch_order(self._index, self._seed, self._epoch)
        rows = order[i * self._batch_size : (i + 1) * self._batch_size]
        return self._data[0][rows] / np.asarray(255, keras.config.floatx()), self._data[1][rows]

    def _begin(self, epoch: int, _: object) -> None:
        self._epoch = epoch


def keras_twin(loop: Loop, optimizer: keras.optimizers.Optimizer, network: Callable[[], keras.Model]) -> keras.Model:
    """The same network with the same weights, compiled for Keras's own `fit`."""
    model = network()
    model.set_weights(loop.model.get_weights())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    return model
