"""Short trainings on the same images: a dense and a convolutional network, shuffled pixels, hand-crafted features.

All networks of a data set have about as many parameters as the convolutional one, and learn with Adam from the same
images in the same number of steps.
"""

import time
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import layers

from cnnlab.course import classic
from cnnlab.data.store import Processed
from cnnlab.evaluation.effects import effects

SEEDS = 3
IMAGES, BATCH, EPOCHS = 4096, 32, 2
TEST_IMAGES = 5000  # at most
CHUNK = 500  # images at a time
UNITS = 64  # of the convolutional network's hidden dense layer
PIXELS, SHUFFLED, HOG = "pixels", "shuffled pixels", "HOG"
DENSE, CONVOLUTIONAL = "dense", "convolutional"


def convolutional(shape: tuple[int, ...], classes: int) -> keras.Model:
    """The slides' MNIST network with fewer filters and units, for images of `shape`; outputs logits."""
    convolutions = [
        layer
        for filters in (8, 16)
        for layer in (layers.Conv2D(filters, 3, padding="same", activation="relu"), layers.MaxPooling2D(2))
    ]
    head = [layers.Flatten(), layers.Dense(UNITS, activation="relu"), layers.Dense(classes)]
    return keras.Sequential([keras.Input(shape), *convolutions, *head])


def dense(shape: tuple[int, ...], classes: int, parameters: int) -> keras.Model:
    """A network with one hidden dense layer and about as many `parameters`; outputs logits."""
    units = max(1, round((parameters - classes) / (np.prod(shape) + 1 + classes)))
    stack = [layers.Flatten(), layers.Dense(units, activation="relu"), layers.Dense(classes)]
    return keras.Sequential([keras.Input(shape), *stack])


def shuffled(images: np.ndarray, seed: int) -> np.ndarray:
    """Images (n, height, width, channels) with the places of their pixels permuted, in all of them alike."""
    count, height, width, channels = images.shape
    places = np.random.default_rng(seed).permutation(height * width)
    return images.reshape(count, -1, channels)[:, places].reshape(images.shape)


def compiled(model: keras.Model) -> keras.Model:
    """Prepare a network for `fit`."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.001), loss, jit_compile=False, steps_per_execution=32)
    model.optimizer.build(model.trainable_variables)
    return model


def fit(model: keras.Model, inputs: np.ndarray, labels: np.ndarray, seed: int) -> None:
    """Train `model` for `EPOCHS` in batches of `BATCH`, whose order `seed` decides; the optimizer starts afresh."""
    keras.utils.set_random_seed(seed)
    for variable, new in zip(
        model.optimizer.variables, compiled(keras.models.clone_model(model)).optimizer.variables, strict=True
    ):
        variable.assign(new)
    model.fit(inputs, labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)


def train(data: Processed, train_rows: np.ndarray) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Train every setting of a data set with `SEEDS` seeds, on at most `IMAGES` of `train_rows`.

    Returns one row per training: `data`, `setting` (network and input), `seed`, `parameters`, `train_images`, `steps`,
    `test_images`, `seconds`, and `accuracy` on them; and the weights (height, width, channels, units) of the first
    dense network that learnt from pixels, before and after. Only grey images are also shuffled: colour takes longer.
    """
    rows, tests = np.sort(train_rows[:IMAGES]), slice(TEST_IMAGES)
    images, labels = np.asarray(data.train_images[rows]), np.asarray(data.train_labels[rows])
    test_images, test_labels = np.asarray(data.test_images[tests]), np.asarray(data.test_labels[tests])
    inputs: dict[str, tuple[np.ndarray, np.ndarray]] = {PIXELS: _standardised(images, test_images)}
    settings = [(DENSE, PIXELS), (DENSE, HOG), (CONVOLUTIONAL, PIXELS)]
    if images.shape[3] == 1:
        settings += [(DENSE, SHUFFLED), (CONVOLUTIONAL, SHUFFLED)]
        learnt, tested = inputs[PIXELS]
        inputs[SHUFFLED] = shuffled(learnt, seed=0), shuffled(tested, seed=0)
    inputs[HOG] = _standardised(classic.in_chunks(classic.hog, images), classic.in_chunks(classic.hog, test_images))
    classes = len(data.card["classes"])
    size = convolutional(images.shape[1:], classes).count_params()
    found: list[dict[str, Any]] = []
    for network, name in settings:
        learnt, tested = inputs[name]
        shape = learnt.shape[1:]
        model = compiled(convolutional(shape, classes) if network == CONVOLUTIONAL else dense(shape, classes, size))
        for seed in range(SEEDS):
            started = time.perf_counter()
            keras.utils.set_random_seed(seed)
            model.set_weights(keras.models.clone_model(model).get_weights())
            initial = model.get_weights()[0]
            fit(model, learnt, labels, seed)
            predicted = _logits(model, tested).argmax(axis=1)
            if not found:
                first = [kernel.reshape(*shape, -1) for kernel in (initial, model.get_weights()[0])]
            found.append({
                "data": data.name,
                "setting": f"{data.name}, {network}, {name}",
                "network": network,
                "input": name,
                "seed": seed,
                "parameters": model.count_params(),
                "train_images": len(rows),
                "steps": EPOCHS * -(-len(rows) // BATCH),
                "test_images": len(test_labels),
                "chance": 1 / classes,
                "seconds": time.perf_counter() - started,
                "accuracy": float((predicted == test_labels).mean()),
            })  # fmt: skip
        print(f"lesson  {found[-1]['setting']}  {100 * found[-1]['accuracy']:.1f} %", flush=True)
    return pd.DataFrame(found), first[0], first[1]


def contrasts(runs: pd.DataFrame) -> pd.DataFrame:
    """Compare settings of `train`'s rows, of all data sets together; see `evaluation.effects.effects`.

    Also has the columns `data`, `compared` (what differs), and the mean `accuracy` and `base_accuracy`.
    """
    kinds = {
        "convolutional": ((CONVOLUTIONAL, PIXELS), (DENSE, PIXELS)),
        "HOG": ((DENSE, HOG), (DENSE, PIXELS)),
        "dense, shuffled": ((DENSE, SHUFFLED), (DENSE, PIXELS)),
        "convolutional, shuffled": ((CONVOLUTIONAL, SHUFFLED), (CONVOLUTIONAL, PIXELS)),
    }
    known = set(runs["setting"])
    rows = [
        {"data": data, "compared": kind, "setting": f"{data}, {', '.join(own)}", "base": f"{data}, {', '.join(base)}"}
        for data in runs["data"].unique()
        for kind, (own, base) in kinds.items()
        if f"{data}, {', '.join(own)}" in known
    ]
    pairs = pd.DataFrame(rows)
    found = effects(
        runs.assign(run_id="", training_flop=np.nan), list(zip(pairs["setting"], pairs["base"], strict=True))
    )
    means = runs.groupby("setting")["accuracy"].mean().rename("accuracy")
    columns = ["setting", "base", "n", "difference", "low", "high", "p", "verdict", "base_accuracy"]
    return pairs.merge(found[columns], on=["setting", "base"]).join(means, on="setting")


def _logits(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    """Logits of all inputs, without `predict`, which compiles for each network and prints a warning about that."""
    parts = np.array_split(inputs, max(1, len(inputs) // CHUNK))
    return np.concatenate([np.asarray(model(part, training=False)) for part in parts])


def _standardised(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Training and test inputs as float32, with the mean and standard deviation of all training values removed."""
    mean, deviation = train.mean(dtype=np.float64), train.std(dtype=np.float64)
    return np.asarray((train - mean) / deviation, np.float32), np.asarray((test - mean) / deviation, np.float32)
