"""Small trainings that the tests of the loop share."""

from collections.abc import Callable
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from cnnlab.data import batches
from cnnlab.nets.families.lenet5 import LeNet5
from cnnlab.params import TTA, Augment, Optimizer, Recipe
from cnnlab.train import optimizers as recipe
from cnnlab.train.loop import Call, Loop

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
    tta: TTA | None = None,
    feeding: Literal["resident", "streamed"] = "resident",
    steps: int = 1000,
    seed: int = 5,
) -> Loop:
    """A loop ready to train for `steps` steps, with the initial weights of `seed`."""
    keras.utils.set_random_seed(seed)
    asked = Recipe(data="mnist", network=LeNet5(name="lenet5"), epochs=1, batch_size=batch_size, optimizer=optimizer)
    with strategy.scope():
        model = network()
        recipe.prepare(model, asked, steps)
        return Loop(
            model,
            batches.place(*data, strategy, feeding),
            strategy,
            batch_size=batch_size,
            augment=augment or Augment(),
            tta=tta or TTA(),
            seed=seed,
        )


def one_call(loop: Loop, rows: np.ndarray, epoch: int = 0, first_step: int = 0) -> Call:
    """Train on (steps, batch) rows of the data in one compiled call, without mixing of pictures."""
    ((block, source),) = loop.data.feed([batches.Block(rows, first_step)], loop.strategy)
    return loop.train(block, source, epoch)


def copies(loop: Loop, variable: keras.Variable) -> list[np.ndarray]:
    """A variable's value on each replica."""
    return [copy.numpy() for copy in loop.strategy.experimental_local_results(variable.value)]


def values(model: keras.Model) -> list[np.ndarray]:
    """Everything that training changes: weights, statistics, random states, the optimizer's variables."""
    return [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]


def same(left: list[np.ndarray], right: list[np.ndarray]) -> bool:
    """Bit for bit, of the same types."""
    return len(left) == len(right) and all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(left, right, strict=True)
    )


def timeless(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """Epoch rows without what a clock measured."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_s", "time")} for row in rows]


def step_losses(loop: Loop, index: np.ndarray, epochs: int) -> np.ndarray:
    """Train and return the mean loss of each step."""
    calls = [loop.train(block, source, epoch) for epoch in range(epochs) for block, source in loop.feed(index, epoch)]
    return np.concatenate([call.losses / call.batch for call in calls])


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
        steps = batches.STEPS_PER_CALL
        blocks = batches.epoch_blocks(self._index, self._batch_size, steps, self._seed, self._epoch)
        rows = [row for block in blocks for row in block.rows][i]
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
