"""The training loop against the lesson's own script, in pairs: images/s on the lesson's CIFAR-10 network at batch 32.

The lesson's script (handout, cell In [6]) is ported as it stands: Keras `fit` with `ImageDataGenerator`. Both sides
train on the same images in the same process, in turn, so that a change of the machine's speed meets both.
Needs data/processed/cifar10 (`make repro`). Usage: python benchmarks/lesson_script.py [--pairs 5] [--images 6400]
"""

import argparse
import json
import platform
import statistics
import time
import warnings

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from cnnlab import errors
from cnnlab.data.batches import Resident
from cnnlab.data.catalog import lookup
from cnnlab.data.store import open_processed
from cnnlab.nets.build import build
from cnnlab.params import load, runs
from cnnlab.train import recipe
from cnnlab.train.loop import Loop, fit
from cnnlab.train.strategy import strategy as make_strategy

BATCH = 32


def handout_network() -> keras.Model:
    """The handout's CIFAR-10 network, letter for letter but for Keras 3's spelling of the input."""
    model = keras.Sequential()
    model.add(keras.Input((32, 32, 3)))
    model.add(layers.Conv2D(32, (3, 3), padding="same"))
    model.add(layers.Activation("relu"))
    model.add(layers.Conv2D(32, (3, 3)))
    model.add(layers.Activation("relu"))
    model.add(layers.MaxPooling2D(pool_size=(2, 2)))
    model.add(layers.Dropout(0.25))
    model.add(layers.Conv2D(64, (3, 3), padding="same"))
    model.add(layers.Activation("relu"))
    model.add(layers.Conv2D(64, (3, 3)))
    model.add(layers.Activation("relu"))
    model.add(layers.MaxPooling2D(pool_size=(2, 2)))
    model.add(layers.Dropout(0.25))
    model.add(layers.Flatten())
    model.add(layers.Dense(512))
    model.add(layers.Activation("relu"))
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(10))
    model.add(layers.Activation("softmax"))
    rate = keras.optimizers.schedules.InverseTimeDecay(0.0001, decay_steps=1, decay_rate=1e-6)
    model.compile(loss="categorical_crossentropy", optimizer=keras.optimizers.RMSprop(rate), metrics=["accuracy"])
    return model


class LessonScript:
    """The handout's script: `fit` on an `ImageDataGenerator`."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self._model = handout_network()
        generator = tf.keras.preprocessing.image.ImageDataGenerator(
            width_shift_range=0.1, height_shift_range=0.1, fill_mode="nearest", horizontal_flip=True
        )
        targets = keras.utils.to_categorical(labels, 10)
        self._flow = generator.flow(images.astype("float32") / 255, targets, batch_size=BATCH)

    def epoch(self) -> None:
        """Train once on every image."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras asks the legacy generator for arguments it does not take
            self._model.fit(self._flow, epochs=1, verbose=0)


class OurLoop:
    """cnnlab's loop with variant `lesson` of params.yaml."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, strategy: tf.distribute.Strategy) -> None:
        run = runs(load(), "lesson")[0]
        self._index = np.arange(len(labels))
        with strategy.scope():
            model = build(run.network, lookup("cifar10"))
            recipe.prepare(model, run.optimizer)
            data = Resident(images, labels)
            self._loop = Loop(model, data, strategy, batch_size=BATCH, augment=run.augment, seed=0)

    def epoch(self) -> None:
        """Train once on every image; one validation image, as `fit` here has none."""
        fit(self._loop, self._index, self._index[:1], 1)


def main() -> None:
    """Print, and return in JSON on the last line, images/s of both sides and the ratio pair by pair."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--images", type=int, default=6400)
    arguments = parser.parse_args()
    strategy = make_strategy()
    data = open_processed("cifar10")
    images, labels = np.asarray(data.train_images[: arguments.images]), data.train_labels[: arguments.images]
    sides = {"lesson's script": LessonScript(images, labels), "cnnlab": OurLoop(images, labels, strategy)}
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for pair in range(arguments.pairs + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            side.epoch()
            if pair:  # the first pair compiles
                speeds[name].append(len(labels) / (time.perf_counter() - start))
    ratios = [ours / theirs for theirs, ours in zip(*speeds.values(), strict=True)]
    result = {
        "machine": f"{platform.machine()}, {tf.config.threading.get_intra_op_parallelism_threads()} threads",
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "batch": BATCH,
        "pairs": arguments.pairs,
        **{f"{name}, images/s, median": round(statistics.median(values)) for name, values in speeds.items()},
        "ratio": {
            "median": round(statistics.median(ratios), 2),
            "low": round(min(ratios), 2),
            "high": round(max(ratios), 2),
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    errors.run(main)
