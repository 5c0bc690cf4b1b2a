"""Augmentation of image batches, for training and test time: drawn on the host, applied in the graph.

All draws are functions of (seed, epoch, step), so a resumed training is bit-identical and any number of replicas sees
the same images. The graph uses only gathers and arithmetic, which XLA can compile.
"""

from enum import IntEnum
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from cnnlab.params import TTA, Augment
from cnnlab.params.recipe import Transform


class PerImage(IntEnum):
    """Columns of `draw`: the random choice that each uniform number of an image determines."""

    VERTICAL = 0
    HORIZONTAL = 1
    FLIP = 2
    ROTATION = 3
    BRIGHTNESS = 4
    CONTRAST = 5
    CUTOUT_ROW = 6
    CUTOUT_COLUMN = 7


class PerStep(IntEnum):
    """Entries of `draw_mixing`: the weight of the image itself (λ), the centre of the box, and whether it is cutmix."""

    SHARE = 0
    BOX_ROW = 1
    BOX_COLUMN = 2
    CUTMIX = 3


TRANSFORMS = {
    name: transform
    for name, field in Augment.model_fields.items()
    for transform in field.metadata
    if isinstance(transform, Transform)
}
DRAWS = len(PerImage) + sum(transform.draws for transform in TRANSFORMS.values())
MAX_ASPECT_RATIO = np.float32(4 / 3)  # of a random crop
MIXING = len(PerStep)


class _Draws(IntEnum):
    """Last word of a generator seed. Never 0: NumPy takes [seed, epoch, 0] for [seed, epoch], the seed of the order."""

    IMAGES = 1
    STEP = 2
    ROWS = 3
    CROPS = 4


def draw(knobs: Augment, seed: int, epoch: int, step: int, rows: np.ndarray) -> np.ndarray:
    """Random numbers in [0, 1) for the images of one global batch: (batch, DRAWS) float32.

    Columns are those of `PerImage`, then those of each `Transform`. `rows` (batch,) are the indices of the images in
    the data set. All columns are always drawn, so a setting does not change the draws of another. An image is mirrored
    if FLIP is below ½; with `flip: alternating`, a fixed bit of (seed, row) decides in even epochs and its opposite in
    odd ones (Jordan 2024, arXiv:2404.00498, section 3.6).
    """
    # Drawn column by column, so that a column appended later does not change the others.
    draws = np.random.default_rng([seed, epoch, step, _Draws.IMAGES]).random((DRAWS, len(rows)), np.float32).T
    if knobs.flip == "alternating":
        # Drawn in the order of the data set: the bits of its first rows do not depend on how many rows follow.
        bits = np.random.default_rng([seed, 0, 0, _Draws.ROWS]).integers(2, size=rows.max(initial=0) + 1, dtype=bool)
        draws[:, PerImage.FLIP] = np.where(bits[rows] ^ (epoch % 2 == 1), 0.0, 0.75)
    return draws


def draw_mixing(knobs: Augment, seed: int, epoch: int, step: int) -> np.ndarray:
    """Random numbers for the mixing of one global batch: (MIXING,) float32, entries as in `PerStep`.

    λ ~ Beta(α, α), one per batch as in the code of both papers; the centre of the box is uniform in [0, 1). If both
    mixup and cutmix are on, a fair coin per step chooses one; with neither, λ is 1.
    """
    random = np.random.default_rng([seed, epoch, step, _Draws.STEP])
    row, column, coin = random.random(3, np.float32)
    cutmix = knobs.cutmix > 0 and (knobs.mixup == 0 or coin < 0.5)
    alpha = knobs.cutmix if cutmix else knobs.mixup
    share = random.beta(alpha, alpha) if alpha else 1.0
    return np.array([share, row, column, cutmix], np.float32)


def draw_crops(smallest: float, seed: int, epoch: int, step: int, batch: int) -> np.ndarray:
    """The random crops of one global batch: (batch, 4) float32.

    Columns: the area as a share of the image, from `smallest` to 1; width / height, log-uniform from 3:4 to 4:3; the
    vertical and horizontal position of the crop, in [0, 1).
    """
    # Drawn column by column, as in `draw`.
    area, ratio, *place = np.random.default_rng([seed, epoch, step, _Draws.CROPS]).random((4, batch), np.float32)
    return np.stack([smallest + (1 - smallest) * area, MAX_ASPECT_RATIO ** (2 * ratio - 1), *place], axis=1)


def mixes(knobs: Augment) -> bool:
    """Whether images are mixed, so that targets must be distributions."""
    return knobs.mixup > 0 or knobs.cutmix > 0


def augment(images: tf.Tensor, draws: tf.Tensor, knobs: Augment) -> tf.Tensor:
    """Augment each image of a float batch (batch, height, width, channels) in [0, 1] by its row of `draws`.

    Height, width and channels must be static. The steps, in order:
    shift, flip and rotation: the image is rotated about its centre by a uniform angle, shifted uniformly, and mirrored,
    in one linear interpolation; `fill` nearest repeats the edge pixel, reflect mirrors without repeating it. With the
    defaults this equals the lesson's `ImageDataGenerator` with fill_mode="nearest".
    contrast: x → m + (1 + u) · (x − m), m the mean over all pixels and channels (torchvision: of the greyscale image).
    brightness: x → x + u. After either of these two, the image is clipped to [0, 1].
    cutout: a square of side round(cutout · height) is set to the mean of the image; its centre is uniform over the
    pixels, and it is clipped at the border (DeVries and Taylor 2017, arXiv:1708.04552).
    every `Transform` of `Augment`, in the order of its fields.
    """
    images = _move(images, draws, knobs)
    if knobs.contrast:
        scale = 1 + _uniform(images, draws[:, PerImage.CONTRAST], knobs.contrast)
        images = scale * images + (1 - scale) * tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    if knobs.brightness:
        images += _uniform(images, draws[:, PerImage.BRIGHTNESS], knobs.brightness)
    if knobs.contrast or knobs.brightness:
        images = tf.clip_by_value(images, 0, 1)
    if knobs.cutout:
        images = _cut_out(images, draws, round(knobs.cutout * images.shape[1]))
    return _transformed(images, draws, knobs)


def mix(images: tf.Tensor, targets: tf.Tensor, mixing: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mix each of the images (n + 1, height, width, channels) except the first with its predecessor.

    Returns n images and n targets. `targets` (n + 1, classes) are distributions, `mixing` comes from `draw_mixing`.
    mixup: λ · image + (1 − λ) · predecessor, and targets likewise (Zhang et al. 2018, arXiv:1710.09412). cutmix: a box
    of relative side √(1 − λ), clipped at the border, is copied from the predecessor, and λ becomes the share of the
    other pixels (Yun et al. 2019, arXiv:1905.04899; sides truncated to even numbers of pixels as in its authors' code).
    """
    share = mixing[PerStep.SHARE]

    def box(size: int, centre: tf.Tensor) -> tf.Tensor:
        return _span(size, centre, 2 * tf.floor(tf.floor(size * tf.sqrt(1 - share)) / 2))

    _, height, width, channels = images.shape
    inside = box(height, mixing[PerStep.BOX_ROW])[:, None] & box(width, mixing[PerStep.BOX_COLUMN])
    own = tf.where(mixing[PerStep.CUTMIX] > 0.5, tf.cast(~inside, share.dtype), share)
    pixels = tf.cast(tf.repeat(own[..., None], channels, axis=2), images.dtype)
    weight = tf.cast(tf.reduce_mean(own), targets.dtype)
    return (
        pixels * images[1:] + (1 - pixels) * images[:-1],
        weight * targets[1:] + (1 - weight) * targets[:-1],
    )


def views(images: Any, knobs: TTA) -> list[Any]:
    """Test-time views of images (batch, height, width, channels), each of the same shape; the first is unchanged.

    `images` is a tensor, or Keras's symbolic input of a model.

    `shift` adds the images shifted by that many pixels down and right, and up and left, filled by reflection; `flip`
    adds the mirror image of each view. Both give six views, as in multi-crop evaluation (Jordan 2024,
    arXiv:2404.00498, section 3.5). `shift` must be less than height and width.
    """
    result = [images]
    if knobs.shift:
        margin = [knobs.shift, knobs.shift]
        padded = keras.ops.pad(images, [[0, 0], margin, margin, [0, 0]], "reflect")
        double = 2 * knobs.shift
        result += [padded[:, :-double, :-double], padded[:, double:, double:]]
    if knobs.flip:
        result += [keras.ops.flip(view, axis=2) for view in result]
    return result


def _transformed(images: tf.Tensor, draws: tf.Tensor, knobs: Augment) -> tf.Tensor:
    """Apply every `Transform` of `Augment`, in the order of its fields."""
    column = len(PerImage)
    for name, transform in TRANSFORMS.items():
        own = range(column, column + transform.draws)
        column += transform.draws
        setting = getattr(knobs, name)  # without :=, which AutoGraph cannot convert
        if setting:
            numbers = [tf.cast(draws[:, i], images.dtype)[:, None, None, None] for i in own]
            images = tf.clip_by_value(transform.function(images, setting, *numbers), 0, 1)
    return images


def _move(images: tf.Tensor, draws: tf.Tensor, knobs: Augment) -> tf.Tensor:
    """Shift, flip and rotation."""
    if not (knobs.shift or knobs.flip or knobs.rotation):
        return images
    if knobs.shift and not knobs.whole_pixels and not knobs.rotation:
        return _slide(images, draws, knobs)
    _, height, width, _ = images.shape
    rows = _positions(height, draws[:, PerImage.VERTICAL], knobs)
    columns = _positions(width, draws[:, PerImage.HORIZONTAL], knobs)
    if knobs.flip:  # reversing the columns that are gathered is free
        columns = tf.where(draws[:, PerImage.FLIP, None] < 0.5, tf.reverse(columns, [1]), columns)
    if knobs.rotation:
        return _turn(images, rows, columns, draws[:, PerImage.ROTATION], knobs)
    if knobs.shift:
        images = tf.gather(images, tf.cast(_inside(rows, height, knobs.fill), tf.int32), axis=1, batch_dims=1)
    return tf.gather(images, tf.cast(_inside(columns, width, knobs.fill), tf.int32), axis=2, batch_dims=1)


def _slide(images: tf.Tensor, draws: tf.Tensor, knobs: Augment) -> tf.Tensor:
    """Shift by fractions of a pixel, and flip.

    The fraction is constant over an image, so one extra row and column are gathered once, and neighbours are
    interpolated along either axis. Written as a gather because Keras's RandomTranslation switches off XLA for the whole
    step. On two cores it takes 0.6 of the time of one gather per neighbour and axis; an interpolation matrix takes 1.1
    and ImageProjectiveTransformV3 1.5 of it.
    """
    _, height, width, channels = images.shape
    down, right = ((2 * draws[:, i] - 1) * knobs.shift for i in (PerImage.VERTICAL, PerImage.HORIZONTAL))
    rows, row_weight = _neighbours(height, down * height, knobs.fill)
    columns, column_weight = _neighbours(width, right * width, knobs.fill)
    if knobs.flip:
        mirrored = draws[:, PerImage.FLIP] < 0.5
        columns = tf.where(mirrored[:, None], tf.reverse(columns, [1]), columns)
        column_weight = tf.where(mirrored, 1 - column_weight, column_weight)
    above = (tf.range(tf.shape(images)[0])[:, None] * height + rows) * width
    pixels = tf.gather(tf.reshape(images, (-1, channels)), above[:, :, None] + columns[:, None, :])
    pixels = tf.reshape(pixels, (-1, height + 1, (width + 1) * channels))
    near, far = pixels[:, :-1], pixels[:, 1:]
    pixels = near + tf.cast(row_weight, images.dtype)[:, None, None] * (far - near)
    near, far = pixels[:, :, :-channels], pixels[:, :, channels:]
    pixels = near + tf.cast(column_weight, images.dtype)[:, None, None] * (far - near)
    return tf.reshape(pixels, (-1, height, width, channels))


def _neighbours(size: int, offset: tf.Tensor, fill: Literal["nearest", "reflect"]) -> tuple[tf.Tensor, tf.Tensor]:
    """For shifts by `offset` (batch,) pixels: indices to read (batch, size + 1), and the weight of the later one."""
    lower = tf.floor(offset)
    places = _inside(tf.range(size + 1, dtype=offset.dtype) + lower[:, None], size, fill)
    return tf.cast(places, tf.int32), offset - lower


def _positions(size: int, draw: tf.Tensor, knobs: Augment) -> tf.Tensor:
    """The coordinates that the output rows or columns are read from, before `fill`: (batch, size), in pixels."""
    if knobs.whole_pixels:
        most = round(knobs.shift * size)
        offset = tf.floor(draw * (2 * most + 1)) - most
    else:
        offset = (2 * draw - 1) * knobs.shift * size
    return tf.range(size, dtype=draw.dtype) + offset[:, None]


def _inside(position: tf.Tensor, size: int, fill: Literal["nearest", "reflect"]) -> tf.Tensor:
    """Map coordinates outside [0, size − 1] to those that `fill` repeats there."""
    if fill == "reflect" and size > 1:
        position = size - 1 - tf.abs(tf.math.floormod(position, 2 * (size - 1)) - (size - 1))
    return tf.clip_by_value(position, 0, size - 1)


def _turn(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, draw: tf.Tensor, knobs: Augment) -> tf.Tensor:
    """Sample `images` on the grid `rows` × `columns` rotated about the centre, with bilinear interpolation.

    Four gathers from the flattened pixels cost 1.6 times as much as the lesson's shift and flip; two gathers of pairs
    cost 1.9 to 2.2 times and one of all four 2.5 times as much, because they copy the images first.
    """
    _, height, width, channels = images.shape
    angle = (2 * draw - 1) * np.deg2rad(knobs.rotation)
    cos, sin = tf.cos(angle)[:, None, None], tf.sin(angle)[:, None, None]
    down, right = rows[:, :, None] - (height - 1) / 2, columns[:, None, :] - (width - 1) / 2
    row = _inside((cos * down + (height - 1) / 2) - sin * right, height, knobs.fill)
    column = _inside(sin * down + (cos * right + (width - 1) / 2), width, knobs.fill)
    top, left = tf.floor(row), tf.floor(column)
    below, across = (tf.cast(x, images.dtype)[..., None] for x in (row - top, column - left))

    pixels = tf.reshape(images, (-1, channels))
    first = tf.range(tf.shape(images)[0])[:, None, None] * (height * width)
    left = tf.cast(left, tf.int32)
    beside = tf.minimum(left + 1, width - 1)

    def along(row: tf.Tensor) -> tf.Tensor:
        start = first + row * width
        near, far = tf.gather(pixels, start + left), tf.gather(pixels, start + beside)
        return near + across * (far - near)

    top = tf.cast(top, tf.int32)
    upper, lower = along(top), along(tf.minimum(top + 1, height - 1))
    return upper + below * (lower - upper)


def _cut_out(images: tf.Tensor, draws: tf.Tensor, side: int) -> tf.Tensor:
    """Set one square of each image to the image's mean.

    Columns and channels are merged: a mask broadcast over a last axis of size three costs 2.6 times as much.
    """
    _, height, width, channels = images.shape
    rows = _span(height, draws[:, PerImage.CUTOUT_ROW, None], side)
    columns = tf.repeat(_span(width, draws[:, PerImage.CUTOUT_COLUMN, None], side), channels, axis=1)
    lines = tf.reshape(images, (-1, height, width * channels))
    mean = tf.reduce_mean(lines, axis=(1, 2), keepdims=True)
    return tf.reshape(tf.where(rows[:, :, None] & columns[:, None, :], mean, lines), (-1, height, width, channels))


def _span(size: int, draw: tf.Tensor, side: int | tf.Tensor) -> tf.Tensor:
    """A boolean mask of `size` pixels: the `side` pixels around the one that `draw` in [0, 1) selects."""
    first = tf.floor(draw * size) - side // 2
    pixel = tf.range(size, dtype=draw.dtype)
    return (pixel >= first) & (pixel < first + side)


def _uniform(images: tf.Tensor, draw: tf.Tensor, limit: float) -> tf.Tensor:
    """Uniform in ± `limit`, one value per image, in a shape and dtype that broadcast with `images`."""
    return tf.cast((2 * draw - 1) * limit, images.dtype)[:, None, None, None]
