"""A trained network taken apart: its filters, its layers' answers to pictures, its last hidden layer on a plane."""

import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from cnnlab.errors import UserError
from cnnlab.nets.anatomy import layer_table

BATCH = 250
ACTIVATING = (layers.Activation, layers.LeakyReLU)
POOLS = (layers.MaxPooling2D, layers.AveragePooling2D)
LINE_WIDTH = 2  # pixels, of the bar that is turned


def as_floats(images: np.ndarray) -> np.ndarray:
    """uint8 pictures as what the networks take: float32 in [0, 1]."""
    return np.asarray(images, np.float32) / 255


def up_to(model: keras.Model, layer: keras.Layer) -> list[keras.Layer]:
    """The network's layers as far as `layer`."""
    return model.layers[: model.layers.index(layer) + 1]  # type: ignore[no-any-return]


def through(stack: Sequence[keras.Layer], given: Any) -> Any:
    """What the last of the layers answers when the first gets `given`, dropout off.

    Layer by layer, not as a Keras model from `layer.output`: a saved Sequential is built anew with each layer that is
    added, and the outputs that its layers remember belong to different ones of these.
    """
    for layer in stack:
        given = layer(given, training=False)
    return tf.cast(given, tf.float32)  # of a network in bfloat16, too


def filters(model: keras.Model) -> np.ndarray:
    """The kernel of the first convolution, (F, F, channels, filters)."""
    return np.asarray(next(layer for layer in model.layers if isinstance(layer, layers.Conv2D)).kernel)


def mapped(model: keras.Model, *, pools: bool = True) -> list[keras.Layer]:
    """The layers whose answers are maps to look at: convolutions after their activation, and pools.

    A convolution without an activation of its own gives way to the layer that activates it.
    """
    found = []
    for layer in model.layers:
        if len(layer.output.shape) != 4:
            continue
        own = isinstance(layer, layers.Conv2D) and layer.activation is not keras.activations.linear
        if own or isinstance(layer, ACTIVATING) or (pools and isinstance(layer, POOLS)):
            found.append(layer)
    return found


def answers(model: keras.Model, images: np.ndarray, layer: keras.Layer) -> np.ndarray:
    """What a layer says to uint8 `images` (n, height, width, channels), dropout off; float32, a row a picture."""
    part = up_to(model, layer)
    pieces = [through(part, as_floats(images[at : at + BATCH])) for at in range(0, len(images), BATCH)]
    return np.concatenate([np.asarray(answer) for answer in pieces])


def feature_maps(model: keras.Model, picture: np.ndarray) -> dict[str, np.ndarray]:
    """The maps (height, width, channels) of each of `mapped` layers for one uint8 picture, by the layer's name."""
    return {layer.name: answers(model, picture[None], layer)[0] for layer in mapped(model)}


def hidden(model: keras.Model) -> keras.Layer:
    """The last hidden layer: the one that the classifier reads, dropout left aside."""
    last = max(place for place, layer in enumerate(model.layers) if isinstance(layer, layers.Dense))
    return next(layer for layer in reversed(model.layers[:last]) if not isinstance(layer, layers.Dropout))


def embedding(features: np.ndarray, seed: int) -> np.ndarray:
    """Rows of features (n, any) on a plane, (n, 2), so that neighbours stay neighbours: t-SNE.

    van der Maaten, Hinton 2008, JMLR 9; it begins with the two directions of the largest variance. Equal seeds give
    equal planes; distances between far groups, and the axes, mean nothing. Needs 6 rows or more. Raises UserError where
    features are not finite.
    """
    if not np.isfinite(features).all():
        raise UserError("The network's last hidden layer gives numbers that are not finite. Train it again.")
    if features.shape[1] < 2 or not np.ptp(features, axis=0).any():  # one unit, or one answer to all: nothing to spread
        return np.pad(features, ((0, 0), (0, 1)))[:, :2]
    reduced = PCA(min(50, *features.shape), random_state=seed).fit_transform(features)
    perplexity = min(30.0, (len(features) - 1) / 3)
    with threadpool_limits(1):  # two threads wait for each other: 10 s in place of 5 beside other work
        plane = TSNE(perplexity=perplexity, init="pca", max_iter=500, random_state=seed).fit_transform(reduced)
    return np.asarray(plane)


def bars(side: int, channels: int, degrees: np.ndarray) -> np.ndarray:
    """White bars on black, turned by `degrees` from the horizontal against the clock: uint8, a row an angle."""
    middle = (side - 1) / 2
    down, right = np.mgrid[:side, :side] - middle
    turn = np.deg2rad(degrees)[:, None, None]
    distance = np.abs(right * np.sin(turn) + down * np.cos(turn))
    shade = np.clip(LINE_WIDTH / 2 + 0.5 - distance, 0, 1)  # half a pixel wide ramps, so that turning is smooth
    return np.repeat((255 * shade).round().astype(np.uint8)[..., None], channels, axis=3)


def tuning(model: keras.Model, degrees: np.ndarray) -> np.ndarray:
    """The largest answer of each first-layer unit to a bar at each angle, (angles, units).

    As Hubel and Wiesel (1968, doi:10.1113/jphysiol.1968.sp008455) measured cells of the visual cortex. The bar's ends,
    which lie at the picture's edge, are left out.
    """
    height, width, channels = model.input_shape[1:]
    first = mapped(model)[0]
    side = max(height, width)
    maps = answers(model, bars(side, channels, degrees)[:, :height, :width], first)
    edge = maps.shape[1] // 4
    return np.asarray(maps[:, edge:-edge, edge:-edge].max(axis=(1, 2)))


def field_of(model: keras.Model, layer: keras.Layer) -> tuple[int, int, int]:
    """Side, jump and start in pixels of what the units of a layer see, see `anatomy.layer_table`."""
    row = layer_table(model.layers, model.input_shape[1:])[model.layers.index(layer)]
    return row["receptive_field"], row["jump"], row["start"]


def exciting(
    model: keras.Model, layer: keras.Layer, images: np.ndarray, units: int, best: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The parts of uint8 `images` to which a layer's units answer most.

    Of each unit its largest answer in a picture counts; shown are the `units` whose `best` pictures stand out most from
    the unit's mean over all pictures, in deviations. Returns the units (units,), the pictures' places in `images`
    (units, best), strongest first, and the corner (row, column) of the field seen there (units, best, 2), which may lie
    outside the picture (Zeiler, Fergus 2014, arXiv:1311.2901).
    """
    strongest, where = [], []
    for at in range(0, len(images), BATCH):
        maps = answers(model, images[at : at + BATCH], layer)
        flat = maps.reshape(len(maps), -1, maps.shape[-1])
        strongest.append(flat.max(axis=1))
        where.append(np.stack(np.unravel_index(flat.argmax(axis=1), maps.shape[1:3]), axis=-1))
    peak, place = np.concatenate(strongest), np.concatenate(where)
    order = np.argsort(-peak, axis=0, kind="stable")[:best].T
    top = np.take_along_axis(peak.T, order, axis=1).mean(axis=1)
    chosen = np.argsort(-(top - peak.mean(axis=0)) / (peak.std(axis=0) + 1e-6), kind="stable")[:units]
    _, jump, start = field_of(model, layer)
    return chosen, order[chosen], start + jump * place[order[chosen], chosen[:, None]]


def crops(images: np.ndarray, corners: np.ndarray, side: int) -> np.ndarray:
    """Squares of `side` pixels of uint8 pictures, one from each of `corners` (n, 2) on; grey outside the picture."""
    padded = np.pad(images, ((0, 0), (side, side), (side, side), (0, 0)), constant_values=128)
    picked = []
    for image, (row, column) in zip(padded, corners + side, strict=True):
        picked.append(image[row : row + side, column : column + side])
    return np.stack(picked)


def told_per_s(model: keras.Model, images: np.ndarray) -> float:
    """Pictures a second that a network tells apart, graphs built before; uint8 `images`."""
    batches = [tf.constant(as_floats(images[at : at + BATCH])) for at in range(0, len(images), BATCH)]
    tell = tf.function(lambda batch: model(batch, training=False))
    for batch in (batches[0], batches[-1]):  # the last may be shorter, which is a graph of its own
        tell(batch).numpy()
    begun = time.perf_counter()
    for batch in batches:
        tell(batch).numpy()
    return len(images) / (time.perf_counter() - begun)
