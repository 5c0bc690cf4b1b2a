"""Layers of a trained network: filters, activations, receptive fields, and the last hidden layer in two dimensions."""

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
LINE_WIDTH = 2  # of the rotated bar, in pixels


def as_floats(images: np.ndarray) -> np.ndarray:
    """Convert uint8 images to the input of the networks: float32 in [0, 1]."""
    return np.asarray(images, np.float32) / 255


def up_to(model: keras.Model, layer: keras.Layer) -> list[keras.Layer]:
    """The layers of a network from the first to `layer`."""
    return model.layers[: model.layers.index(layer) + 1]  # type: ignore[no-any-return]


def forward(stack: Sequence[keras.Layer], inputs: Any) -> Any:
    """The output of consecutive layers for `inputs`, in inference mode; float32.

    The layers are called one by one, because a Keras model from `layer.output` can fail: a saved Sequential is rebuilt
    with each layer added, and the outputs that its layers hold belong to different rebuilds.
    """
    for layer in stack:
        inputs = layer(inputs, training=False)
    return tf.cast(inputs, tf.float32)  # from bfloat16, too


def filters(model: keras.Model) -> np.ndarray:
    """The kernel of the first convolution, shape (F, F, channels, filters)."""
    return np.asarray(next(layer for layer in model.layers if isinstance(layer, layers.Conv2D)).kernel)


def map_layers(model: keras.Model, *, pools: bool = True) -> list[keras.Layer]:
    """The layers whose feature maps are shown: convolutions after their activation and, with `pools`, pooling layers.

    A convolution without its own activation is represented by the activation layer that follows it.
    """
    found = []
    for layer in model.layers:
        if len(layer.output.shape) != 4:
            continue
        activated = isinstance(layer, layers.Conv2D) and layer.activation is not keras.activations.linear
        if activated or isinstance(layer, ACTIVATING) or (pools and isinstance(layer, POOLS)):
            found.append(layer)
    return found


def activations(model: keras.Model, images: np.ndarray, layer: keras.Layer) -> np.ndarray:
    """Activations of a layer for uint8 `images` (n, height, width, channels); float32, one row per image."""
    part = up_to(model, layer)
    batches = [forward(part, as_floats(images[at : at + BATCH])) for at in range(0, len(images), BATCH)]
    return np.concatenate([np.asarray(batch) for batch in batches])


def feature_maps(model: keras.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    """Feature maps (height, width, channels) of a uint8 image, by the name of each of `map_layers`."""
    return {layer.name: activations(model, image[None], layer)[0] for layer in map_layers(model)}


def last_hidden(model: keras.Model) -> keras.Layer:
    """The layer that the classifier reads, ignoring dropout."""
    classifier = max(index for index, layer in enumerate(model.layers) if isinstance(layer, layers.Dense))
    return next(layer for layer in reversed(model.layers[:classifier]) if not isinstance(layer, layers.Dropout))


def embedding(features: np.ndarray, seed: int) -> np.ndarray:
    """Embed features (n, any) in two dimensions, (n, 2), by t-SNE with a PCA initialisation.

    van der Maaten, Hinton 2008, JMLR 9. Equal seeds give equal results. Needs at least 6 rows. Raises UserError if
    features are not finite.
    """
    if not np.isfinite(features).all():
        raise UserError(
            "Invalid activations of the last hidden layer. Expected: finite numbers. Received: NaN or infinity. "
            "To fix this, train the network again."
        )
    if features.shape[1] < 2 or not np.ptp(features, axis=0).any():  # t-SNE aborts the process on constant features
        return np.pad(features, ((0, 0), (0, 1)))[:, :2]
    reduced = PCA(min(50, *features.shape), random_state=seed).fit_transform(features)
    perplexity = min(30.0, (len(features) - 1) / 3)
    with threadpool_limits(1):  # 5 s rather than 10 on busy cores: the threads of t-SNE wait for each other
        points = TSNE(perplexity=perplexity, init="pca", max_iter=500, random_state=seed).fit_transform(reduced)
    return np.asarray(points)


def bars(side: int, channels: int, degrees: np.ndarray) -> np.ndarray:
    """White bars on black, rotated counter-clockwise from horizontal by `degrees` (angles,).

    Shape (angles, side, side, channels), uint8.
    """
    middle = (side - 1) / 2
    down, right = np.mgrid[:side, :side] - middle
    angle = np.deg2rad(degrees)[:, None, None]
    distance = np.abs(right * np.sin(angle) + down * np.cos(angle))
    shade = np.clip(LINE_WIDTH / 2 + 0.5 - distance, 0, 1)  # edges half a pixel wide make the rotation smooth
    return np.repeat((255 * shade).round().astype(np.uint8)[..., None], channels, axis=3)


def tuning(model: keras.Model, degrees: np.ndarray) -> np.ndarray:
    """Orientation tuning: the maximum activation of each first-layer unit for a bar at each angle, (angles, units).

    The experiment of Hubel and Wiesel (1968, doi:10.1113/jphysiol.1968.sp008455) on cells of the visual cortex. The
    ends of the bar, at the edges of the image, are excluded.
    """
    height, width, channels = model.input_shape[1:]
    side = max(height, width)
    maps = activations(model, bars(side, channels, degrees)[:, :height, :width], map_layers(model)[0])
    edge = maps.shape[1] // 4
    return np.asarray(maps[:, edge:-edge, edge:-edge].max(axis=(1, 2)))


def selectivity(degrees: np.ndarray, responses: np.ndarray) -> np.ndarray:
    """Orientation selectivity index of each unit, 0 (all angles alike) to 1 (one angle only), (units,).

    One minus the circular variance (Ringach et al. 2002, doi:10.1523/JNEUROSCI.22-13-05639.2002). `responses` (angles,
    units) are not negative; `degrees` are equally spaced and cover 180° once. A unit without a response has index 0.
    """
    turns = np.exp(2j * np.deg2rad(degrees))
    total = responses.sum(axis=0)
    return np.asarray(np.abs(turns @ responses) / np.where(total > 0, total, 1))


def receptive_field(model: keras.Model, layer: keras.Layer) -> tuple[int, int, int]:
    """Side, jump and start in pixels of the receptive fields of a layer; see `anatomy.layer_table`."""
    row = layer_table(model.layers, model.input_shape[1:])[model.layers.index(layer)]
    return row["receptive_field"], row["jump"], row["start"]


def most_selective(
    model: keras.Model, layer: keras.Layer, images: np.ndarray, units: int, top: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The most selective units of a layer, and where they are activated most (Zeiler, Fergus 2014, arXiv:1311.2901).

    The activation of a unit for an image is its maximum over the map. Selectivity is the mean of its `top` activations
    above the mean over all uint8 `images`, in standard deviations. Returns the units (units,), the indices of their
    `top` images (units, top), strongest first, and the corners (row, column) of the receptive fields there (units, top,
    2), which may be outside the image.
    """
    strongest, where = [], []
    for at in range(0, len(images), BATCH):
        maps = activations(model, images[at : at + BATCH], layer)
        flat = maps.reshape(len(maps), -1, maps.shape[-1])
        strongest.append(flat.max(axis=1))
        where.append(np.stack(np.unravel_index(flat.argmax(axis=1), maps.shape[1:3]), axis=-1))
    peak, place = np.concatenate(strongest), np.concatenate(where)
    order = np.argsort(-peak, axis=0, kind="stable")[:top].T
    mean = np.take_along_axis(peak.T, order, axis=1).mean(axis=1)
    chosen = np.argsort(-(mean - peak.mean(axis=0)) / (peak.std(axis=0) + 1e-6), kind="stable")[:units]
    _, jump, start = receptive_field(model, layer)
    return chosen, order[chosen], start + jump * place[order[chosen], chosen[:, None]]


def crops(images: np.ndarray, corners: np.ndarray, side: int) -> np.ndarray:
    """Crop a square of `side` pixels from each uint8 image at its corner (n, 2); grey outside the image."""
    padded = np.pad(images, ((0, 0), (side, side), (side, side), (0, 0)), constant_values=128)
    pairs = zip(padded, corners + side, strict=True)
    return np.stack([image[row : row + side, column : column + side] for image, (row, column) in pairs])


def images_per_s(model: keras.Model, images: np.ndarray) -> float:
    """Inference throughput on uint8 `images`, in images/s, without compilation."""
    batches = [tf.constant(as_floats(images[at : at + BATCH])) for at in range(0, len(images), BATCH)]
    predict = tf.function(lambda batch: model(batch, training=False))
    for batch in (batches[0], batches[-1]):  # the last may be shorter and is compiled separately
        predict(batch).numpy()
    started = time.perf_counter()
    for batch in batches:
        predict(batch).numpy()
    return len(images) / (time.perf_counter() - started)
