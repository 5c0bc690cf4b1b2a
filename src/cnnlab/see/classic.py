"""Recognising pictures before neural networks: templates, strokes and holes, hand-made features; with scikit-learn.

Slides, «Поиск характерных элементов»: raster, structural and feature classification.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.tree import DecisionTreeClassifier

if TYPE_CHECKING:
    from cnnlab.data.pictures import Pictures

Features = Callable[[np.ndarray], np.ndarray]  # uint8 pictures (n, height, width, channels) -> float32 (n, features)

DIRECTIONS = 9  # of edges, over 180°
CELLS = 4  # parts of the height and of the width in which directions are counted
NEIGHBOURS = 3
CHUNK = 1000  # pictures at a time, which a processor's caches nearly hold: three times as fast as all at once


@dataclass(frozen=True)
class Method:
    """A way to classify pictures: what it looks at, and the scikit-learn classifier that learns on it."""

    features: Features
    classifier: Callable[[], Any]
    size: Callable[[Any, np.ndarray], int]  # the numbers that a fitted classifier keeps, given its training features


def grey(images: np.ndarray) -> np.ndarray:
    """uint8 pictures (n, height, width, channels) as float32 (n, height, width) in [0, 1]; colours are averaged."""
    return np.asarray(np.asarray(images, np.float32).mean(axis=3) / 255)


def pixels(images: np.ndarray) -> np.ndarray:
    """Pixels of the pictures at half their height and width, each picture shifted to mean 0 and scaled to length 1.

    The product of two such rows is the correlation of their pictures, which light and contrast do not change. At full
    size every comparison takes four times as long.
    """
    count, height, width, channels = images.shape
    even = np.asarray(images[:, : height // 2 * 2, : width // 2 * 2], np.float32)
    rows = even.reshape(count, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4)).reshape(count, -1) / 255
    rows = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
    length = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-4)  # of an even picture only rounding is left
    return np.asarray(rows / length, np.float32)


def edge_directions(images: np.ndarray) -> np.ndarray:
    """Histograms of the edges' directions, as HOG has them (Dalal, Triggs 2005, doi:10.1109/CVPR.2005.177).

    Each 2×2 of `direction_cells` are scaled to length 1, cut at 0.2 and scaled again; (n, features).
    """
    cells = direction_cells(images)
    corners = [cells[:, y : CELLS - 1 + y, x : CELLS - 1 + x] for y in (0, 1) for x in (0, 1)]
    blocks = np.minimum(_scaled(np.concatenate(corners, axis=3)), 0.2)
    return np.asarray(_scaled(blocks).reshape(len(images), -1), np.float32)


def direction_cells(images: np.ndarray) -> np.ndarray:
    """How strong edges of each direction are in each part of uint8 `images`: (n, `CELLS`, `CELLS`, `DIRECTIONS`).

    Of every pixel's strongest channel the gradient's strength is shared by the two nearest directions; direction d is
    that of a gradient at d · 180° / `DIRECTIONS` from the right, downwards.
    """
    pictures = np.asarray(images, np.float32)  # whole numbers, so that equal channels stay equal whatever the light
    down, right = np.zeros_like(pictures), np.zeros_like(pictures)
    down[:, 1:-1] = pictures[:, 2:] - pictures[:, :-2]
    right[:, :, 1:-1] = pictures[:, :, 2:] - pictures[:, :, :-2]
    strongest = (down**2 + right**2).argmax(axis=3)[..., None]
    down, right = (np.take_along_axis(a, strongest, 3)[..., 0] for a in (down, right))
    strength, place = np.hypot(down, right) / 255, np.arctan2(down, right) % np.pi * (DIRECTIONS / np.pi)
    lower = place.astype(int)
    count, height, width = strength.shape
    band, column = np.arange(height) * CELLS // height, np.arange(width) * CELLS // width
    cell = (np.arange(count)[:, None, None] * CELLS + band[:, None]) * CELLS + column
    cells = sum(
        np.bincount((cell * DIRECTIONS + near % DIRECTIONS).ravel(), part.ravel(), count * CELLS**2 * DIRECTIONS)
        for near, part in ((lower, strength * (1 - place + lower)), (lower + 1, strength * (place - lower)))
    )
    return np.reshape(cells, (count, CELLS, CELLS, DIRECTIONS))


def ink(images: np.ndarray) -> np.ndarray:
    """Where uint8 pictures are brighter than half-way between their darkest and brightest: bool (n, height, width)."""
    shades = grey(images)
    middle = (shades.min(axis=(1, 2), keepdims=True) + shades.max(axis=(1, 2), keepdims=True)) / 2
    return np.asarray(shades > middle)


def strokes_and_holes(images: np.ndarray) -> np.ndarray:
    """What a drawing is made of: how often lines cut it, its holes, where its ink lies; of photographs, their bright
    parts.

    Columns: strokes cut by every row and every column, the number of holes, the centre of the ink and how far it
    spreads, down and across.
    """
    drawn = ink(images)
    framed = np.pad(drawn, ((0, 0), (1, 1), (1, 1)))
    rows = (framed[:, 1:-1, 1:] & ~framed[:, 1:-1, :-1]).sum(axis=2)
    columns = (framed[:, 1:, 1:-1] & ~framed[:, :-1, 1:-1]).sum(axis=1)
    ways = np.zeros((3, 3, 3), int)
    ways[1] = ndimage.generate_binary_structure(2, 1)  # within a picture, not from one to the next
    parts, _ = ndimage.label(~framed, ways)  # numbered picture after picture; the paper around a drawing is a part, too
    holes = np.diff(parts.max(axis=(1, 2)), prepend=0) - 1
    places = [_centre_and_spread(drawn.sum(axis=axis)) for axis in (2, 1)]
    return np.concatenate([rows, columns, holes[:, None], *places], axis=1).astype(np.float32)


METHODS: dict[str, Method] = {
    "mean template of each class": Method(pixels, NearestCentroid, lambda c, _: c.centroids_.size),
    "strokes and holes with a decision tree": Method(
        strokes_and_holes,
        lambda: DecisionTreeClassifier(min_samples_leaf=5, random_state=0),
        lambda c, _: _tree_size(c),
    ),
    "edge directions with a linear classifier": Method(
        edge_directions, lambda: RidgeClassifier(alpha=1.0), lambda c, _: c.coef_.size + c.intercept_.size
    ),
    "edge directions with nearest pictures": Method(
        edge_directions, lambda: KNeighborsClassifier(NEIGHBOURS, algorithm="brute"), lambda _, x: x.size
    ),
    "every picture a template": Method(
        pixels, lambda: KNeighborsClassifier(NEIGHBOURS, algorithm="brute"), lambda _, x: x.size
    ),
}


def trial(
    name: str, train: tuple["np.ndarray | Pictures", np.ndarray], test: tuple["np.ndarray | Pictures", np.ndarray]
) -> tuple[dict[str, Any], np.ndarray]:
    """Fit a method of `METHODS` on `train`, uint8 pictures and labels, and say what it takes the test pictures for.

    Returns a row (`method`, `train_images`, `parameters`: numbers kept, `fit_seconds`, `images_per_s` of telling,
    `accuracy`), features included in the times, and the predicted labels. Equal input gives equal output.
    """
    method = METHODS[name]
    begun = time.perf_counter()
    features = _in_parts(method.features, train[0])
    classifier = method.classifier().fit(features, train[1])
    fitted = time.perf_counter()
    predicted = classifier.predict(_in_parts(method.features, test[0]))
    told = time.perf_counter()
    row = {
        "method": name,
        "train_images": len(train[0]),
        "parameters": int(method.size(classifier, features)),
        "fit_seconds": fitted - begun,
        "images_per_s": len(predicted) / (told - fitted),
        "accuracy": float((predicted == test[1]).mean()),
    }
    return row, predicted


def _in_parts(features: Features, images: "np.ndarray | Pictures") -> np.ndarray:
    return np.concatenate([features(images[at : at + CHUNK]) for at in range(0, len(images), CHUNK)])


def _scaled(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.sqrt((rows**2).sum(axis=-1, keepdims=True) + 1e-4))


def _centre_and_spread(ink: np.ndarray) -> np.ndarray:
    """Mean and deviation of the place of ink, (n, places) counts of pixels; (n, 2)."""
    places = np.arange(ink.shape[1])
    total = np.maximum(ink.sum(axis=1), 1)
    mean = (ink @ places) / total
    return np.stack([mean, np.sqrt((ink * (places - mean[:, None]) ** 2).sum(axis=1) / total)], axis=1)


def _tree_size(tree: Any) -> int:
    """A feature, a threshold for each branching, and a class for each leaf."""
    leaves = int(tree.get_n_leaves())
    return 2 * (int(tree.tree_.node_count) - leaves) + leaves
