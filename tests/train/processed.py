"""A small MNIST in data/processed, written by the pipeline's own functions. Imports no TensorFlow."""

from pathlib import Path

import numpy as np
from data.small_sets import idx_bytes, small

from cnnlab import files
from cnnlab.catalog import CATALOG
from cnnlab.data import store

TRAIN, TEST, VALIDATION = 300, 40, 60


def write_mnist(top: Path) -> None:
    """Write `data/processed/mnist` below `top`: 300 and 40 noisy images with a bright row where their class says."""
    random = np.random.default_rng(7)
    content = {}
    for originals, count in ((CATALOG["mnist"].train, TRAIN), (CATALOG["mnist"].test, TEST)):
        labels = np.arange(count) % 10
        images = random.integers(0, 120, (count, 28, 28))
        images[np.arange(count), 4 + 2 * labels] += 135
        content[originals[0].name] = idx_bytes(images.astype(np.uint8))
        content[originals[1].name] = idx_bytes(labels.astype(np.uint8))
    mnist = small("mnist", content, (TRAIN, TEST), {})
    raw = mnist.plain(top / "originals") / "mnist"
    store.preprocess(mnist.data_set, raw, top / files.PROCESSED / "mnist", validation=VALIDATION, seed=0)
