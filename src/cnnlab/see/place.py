"""Whether place matters to a trained network: its accuracy on shifted images and on images with shuffled patches."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from scipy.stats import binomtest

from cnnlab.see.layers import activations

SHIFTS = (1, 2, 4, 8)  # pixels
PATCHES = (2, 4)  # per side; after them, single pixels
UNCHANGED, SHIFTED, SHUFFLED = "unchanged", "shifted", "shuffled"


def shifted(images: np.ndarray, pixels: int, seed: int) -> np.ndarray:
    """Shift each image (n, height, width, channels) up, down, left or right by `pixels`; edge pixels are repeated."""
    directions = np.random.default_rng(seed).integers(4, size=len(images))
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), "edge")
    height, width = images.shape[1:3]
    corners = pixels * np.array([[0, 1], [2, 1], [1, 0], [1, 2]])[directions]
    return np.stack([image[y : y + height, x : x + width] for image, (y, x) in zip(padded, corners, strict=True)])


def shuffled(images: np.ndarray, patches: int, seed: int) -> np.ndarray:
    """Shuffle the `patches` × `patches` equal parts of each image, each image in its own way.

    Rows and columns that do not divide evenly stay where they are, at the bottom and on the right.
    """
    count, height, width, channels = images.shape
    tall, wide = height // patches, width // patches
    generator = np.random.default_rng(seed)
    parts = images[:, : patches * tall, : patches * wide]
    parts = parts.reshape(count, patches, tall, patches, wide, channels).swapaxes(2, 3)
    parts = parts.reshape(count, patches**2, tall, wide, channels)
    mixed = np.stack([image[generator.permutation(patches**2)] for image in parts])
    mixed = mixed.reshape(count, patches, patches, tall, wide, channels).swapaxes(2, 3)
    result = images.copy()
    result[:, : patches * tall, : patches * wide] = mixed.reshape(count, patches * tall, patches * wide, channels)
    return result


def changes(images: np.ndarray, seed: int) -> Iterator[tuple[str, int, np.ndarray]]:
    """The images unchanged, shifted and shuffled: kind, pixels or patches per side, and the changed images."""
    yield UNCHANGED, 0, images
    for pixels in SHIFTS:
        yield SHIFTED, pixels, shifted(images, pixels, seed)
    for patches in (*PATCHES, min(images.shape[1:3])):
        yield SHUFFLED, patches, shuffled(images, patches, seed)


def accuracies(model: keras.Model, images: np.ndarray, labels: np.ndarray, seed: int) -> list[dict[str, Any]]:
    """The accuracy of a network on uint8 `images` after each of `changes`.

    Rows have `kind`, `size` (pixels or patches per side), `images`, `accuracy`, and its 95 % interval over images
    (Wilson) from `low` to `high`.
    """
    rows = []
    for kind, size, changed in changes(images, seed):
        right = int((activations(model, changed, model.layers[-1]).argmax(axis=1) == labels).sum())
        interval = binomtest(right, len(images)).proportion_ci(method="wilson")
        share = {"accuracy": right / len(images), "low": float(interval.low), "high": float(interval.high)}
        rows.append({"kind": kind, "size": size, "images": len(images), **share})
    return rows
