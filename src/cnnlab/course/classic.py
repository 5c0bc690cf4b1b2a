"""Image recognition before neural networks, with scikit-learn: templates, strokes and holes, hand-crafted features.

Slides, «Поиск характерных элементов»: raster, structural and feature classification.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.tree import DecisionTreeClassifier

if TYPE_CHECKING:
    from cnnlab.data.images import ImageFiles

Features = Callable[[np.ndarray], np.ndarray]  # uint8 images (n, height, width, channels) -> float32 (n, features)

DIRECTIONS = 9  # of gradients, over 180°
CELLS = 4  # per side of the image
NEIGHBOURS = 3
CHUNK = 1000  # images at a time, which nearly fit the processor's caches: three times as fast as all at once


@dataclass(frozen=True)
class Method:
    """A classification method: its features, and the scikit-learn classifier that is fitted to them.

    `size` gives the number of stored parameters of a fitted classifier, from it and its training features.
    """

    features: Features
    classifier: Callable[[], Any]
    size: Callable[[Any, np.ndarray], int]


def pixels(images: np.ndarray) -> np.ndarray:
    """Pixels of uint8 images at half resolution, each image normalised to mean 0 and length 1; (n, features).

    The product of two rows is the correlation of their images, which brightness and contrast do not change. At full
    resolution, a comparison takes four times as long.
    """
    count, height, width, channels = images.shape
    even = np.asarray(images[:, : height // 2 * 2, : width // 2 * 2], np.float32)
    rows = even.reshape(count, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4)).reshape(count, -1) / 255
    rows = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
    length = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-4)  # a uniform image leaves rounding errors
    return np.asarray(rows / length, np.float32)


# scikit-image's `hog` was measured instead (10,000 training, 2,000 test images of MNIST / CIFAR-10, k = 3): 552 / 223
# images/s against 1,552 / 1,027 here, accuracy 93.3 / 43.8 % against 94.2 / 46.1 %, and 57 MB more to install.
def hog(images: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients of uint8 images (Dalal, Triggs 2005, doi:10.1109/CVPR.2005.177); (n, features).

    Blocks of 2×2 `hog_cells` are scaled to length 1, clipped at 0.2 and scaled again.
    """
    cells = hog_cells(images)
    corners = [cells[:, y : CELLS - 1 + y, x : CELLS - 1 + x] for y in (0, 1) for x in (0, 1)]
    blocks = np.minimum(_scaled(np.concatenate(corners, axis=3)), 0.2)
    return np.asarray(_scaled(blocks).reshape(len(images), -1), np.float32)


def hog_cells(images: np.ndarray) -> np.ndarray:
    """Gradient strength by direction in each cell of uint8 `images`: (n, `CELLS`, `CELLS`, `DIRECTIONS`).

    Each pixel uses its channel with the strongest gradient and votes for the two nearest directions; direction d is d ·
    180° / `DIRECTIONS`, clockwise from the right.
    """
    values = np.asarray(images, np.float32)  # integers, so that ties between channels do not depend on brightness
    down, right = np.zeros_like(values), np.zeros_like(values)
    down[:, 1:-1] = values[:, 2:] - values[:, :-2]
    right[:, :, 1:-1] = values[:, :, 2:] - values[:, :, :-2]
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


def binarised(images: np.ndarray) -> np.ndarray:
    """Foreground of uint8 images: brighter than half-way between minimum and maximum; bool (n, height, width)."""
    shades = np.asarray(images, np.float32).mean(axis=3) / 255
    middle = (shades.min(axis=(1, 2), keepdims=True) + shades.max(axis=(1, 2), keepdims=True)) / 2
    return np.asarray(shades > middle)


def strokes_and_holes(images: np.ndarray) -> np.ndarray:
    """Structural features of uint8 images, binarised; float32 (n, features).

    Columns: the number of strokes that each row and each column crosses, the number of holes, and the mean and standard
    deviation of the position of the foreground, down and across.
    """
    drawn = binarised(images)
    framed = np.pad(drawn, ((0, 0), (1, 1), (1, 1)))
    rows = (framed[:, 1:-1, 1:] & ~framed[:, 1:-1, :-1]).sum(axis=2)
    columns = (framed[:, 1:, 1:-1] & ~framed[:, :-1, 1:-1]).sum(axis=1)
    connected = np.zeros((3, 3, 3), int)
    connected[1] = ndimage.generate_binary_structure(2, 1)  # within an image, not between images
    parts, _ = ndimage.label(~framed, connected)  # numbered image by image; the surrounding background is one part
    holes = np.diff(parts.max(axis=(1, 2)), prepend=0) - 1
    positions = [_mean_and_deviation(drawn.sum(axis=axis)) for axis in (2, 1)]
    return np.concatenate([rows, columns, holes[:, None], *positions], axis=1).astype(np.float32)


NEAREST = partial(KNeighborsClassifier, NEIGHBOURS, algorithm="brute")
METHODS: dict[str, Method] = {
    "pixels + nearest centroid": Method(pixels, NearestCentroid, lambda c, _: c.centroids_.size),
    "strokes and holes + decision tree": Method(
        strokes_and_holes,
        lambda: DecisionTreeClassifier(min_samples_leaf=5, random_state=0),
        # A feature and a threshold per split, and a class per leaf
        lambda c, _: 2 * c.tree_.node_count - c.get_n_leaves(),
    ),
    "HOG + linear classifier": Method(
        hog, lambda: RidgeClassifier(alpha=1.0), lambda c, _: c.coef_.size + c.intercept_.size
    ),
    "HOG + k-nearest neighbours": Method(hog, NEAREST, lambda _, x: x.size),
    "pixels + k-nearest neighbours": Method(pixels, NEAREST, lambda _, x: x.size),
}


def trial(
    name: str, train: tuple["np.ndarray | ImageFiles", np.ndarray], test: tuple["np.ndarray | ImageFiles", np.ndarray]
) -> tuple[dict[str, Any], np.ndarray]:
    """Fit a method of `METHODS` to `train` (uint8 images, labels) and classify the images of `test`.

    Returns a row and the predicted labels. The row has `method`, `train_images`, `parameters` (stored), `fit_seconds`,
    `images_per_s` of prediction, both including the features, and `accuracy`. Equal input gives equal predictions.
    """
    method = METHODS[name]
    started = time.perf_counter()
    features = in_chunks(method.features, train[0])
    classifier = method.classifier().fit(features, train[1])
    fitted = time.perf_counter()
    predicted = classifier.predict(in_chunks(method.features, test[0]))
    finished = time.perf_counter()
    row = {
        "method": name,
        "train_images": len(train[0]),
        "parameters": int(method.size(classifier, features)),
        "fit_seconds": fitted - started,
        "images_per_s": len(predicted) / (finished - fitted),
        "accuracy": float((predicted == test[1]).mean()),
    }
    return row, predicted


def in_chunks(features: Features, images: "np.ndarray | ImageFiles") -> np.ndarray:
    """The features of all images, computed from `CHUNK` of them at a time."""
    return np.concatenate([features(images[at : at + CHUNK]) for at in range(0, len(images), CHUNK)])


def _scaled(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.sqrt((rows**2).sum(axis=-1, keepdims=True) + 1e-4))


def _mean_and_deviation(counts: np.ndarray) -> np.ndarray:
    """Mean and standard deviation (n, 2) of the position of the foreground, given pixel counts (n, positions)."""
    places = np.arange(counts.shape[1])
    total = np.maximum(counts.sum(axis=1), 1)
    mean = (counts @ places) / total
    return np.stack([mean, np.sqrt((counts * (places - mean[:, None]) ** 2).sum(axis=1) / total)], axis=1)
