"""Augmentation of image batches: random numbers drawn on the host, applied in the graph, test-time views included.

Everything random is a function of (seed, epoch, step), so a training that was killed continues as if it had not been,
and any number of replicas sees the same images. The graph holds gathers and arithmetic alone, which XLA can compile.
"""

from enum import IntEnum
from typing import Literal

import numpy as np
import tensorflow as tf

from cnnlab.params import Augment, Views


class PerImage(IntEnum):
    """Columns of `draw`: what each of an image's uniform numbers decides."""

    VERTICAL = 0
    HORIZONTAL = 1
    FLIP = 2
    ROTATION = 3
    BRIGHTNESS = 4
    CONTRAST = 5
    CUTOUT_ROW = 6
    CUTOUT_COLUMN = 7


class PerStep(IntEnum):
    """Entries of `draw_mixing`: the share of the image itself (λ), the centre of the box, and whether it is cutmix."""

    SHARE = 0
    BOX_ROW = 1
    BOX_COLUMN = 2
    CUTMIX = 3


DRAWS = len(PerImage)
MOST_STRETCHED = np.float32(4 / 3)  # ratio of a random crop's sides
MIXING = len(PerStep)


class _Stream(IntEnum):
    """Last word of a generator's key. Never 0: NumPy takes [seed, epoch, 0] and [seed, epoch], the order's, for one."""

    IMAGES = 1
    STEP = 2
    ROWS = 3
    CROPS = 4


def draw(knobs: Augment, seed: int, epoch: int, step: int, rows: np.ndarray) -> np.ndarray:
    """Random numbers in [0, 1) for the images of one global batch: (batch, DRAWS) float32, columns as in `PerImage`.

    `rows` (batch,) are the images' places in the data set. All columns are drawn whatever the knobs, so one knob does
    not move another's numbers. An image is mirrored where FLIP is below ½; with `flip: alternating` a fixed bit of
    (seed, row) decides in even epochs and its opposite in odd ones (Jordan 2024, arXiv:2404.00498, section 3.6).
    """
    # Column after column, so that a new one at the end does not change the others.
    draws = np.random.default_rng([seed, epoch, step, _Stream.IMAGES]).random((DRAWS, len(rows)), np.float32).T
    if knobs.flip == "alternating":
        # The bits are drawn in the data set's order: those of the first rows do not depend on how many follow.
        bits = np.random.default_rng([seed, 0, 0, _Stream.ROWS]).integers(2, size=rows.max(initial=0) + 1, dtype=bool)
        draws[:, PerImage.FLIP] = np.where(bits[rows] ^ (epoch % 2 == 1), 0.0, 0.75)
    return draws


def draw_mixing(knobs: Augment, seed: int, epoch: int, step: int) -> np.ndarray:
    """Random numbers for the mixing of one global batch: (MIXING,) float32, entries as in `PerStep`.

    λ ~ Beta(α, α), one a batch as in the code of both papers; the box's centre is uniform in [0, 1). With both mixup
    and cutmix on, a fair coin a step chooses; with neither, λ is 1.
    """
    random = np.random.default_rng([seed, epoch, step, _Stream.STEP])
    row, column, coin = random.random(3, np.float32)
    cutmix = knobs.cutmix > 0 and (knobs.mixup == 0 or coin < 0.5)
    alpha = knobs.cutmix if cutmix else knobs.mixup
    share = random.beta(alpha, alpha) if alpha else 1.0
    return np.array([share, row, column, cutmix], np.float32)


def draw_crops(smallest: float, seed: int, epoch: int, step: int, batch: int) -> np.ndarray:
    """The random crops of one global batch: (batch, 4) float32.

    Columns: the area as a share of the picture, `smallest` to 1; width / height, 3:4 to 4:3, its logarithm uniform;
    where the crop lies from top to bottom and from left to right, in [0, 1).
    """
    # Column after column, as in `draw`.
    area, stretch, *place = np.random.default_rng([seed, epoch, step, _Stream.CROPS]).random((4, batch), np.float32)
    return np.stack([smallest + (1 - smallest) * area, MOST_STRETCHED ** (2 * stretch - 1), *place], axis=1)


def mixes(knobs: Augment) -> bool:
    """Whether images are mixed with each other, so that targets must be distributions."""
    return knobs.mixup > 0 or knobs.cutmix > 0


def augment(images: tf.Tensor, draws: tf.Tensor, knobs: Augment) -> tf.Tensor:
    """Change each image of a (batch, height, width, channels) floating batch in [0, 1] by its row of `draws`.

    Height, width and channels must be static. In this order:
    shift, flip and rotation: uniform shifts and angles, the picture turned about its centre, then shifted, then
    mirrored, in one linear interpolation; `fill` nearest repeats the edge pixel, reflect mirrors without repeating it.
    With the defaults this is the lesson's `ImageDataGenerator` with fill_mode="nearest".
    contrast: x → m + (1 + u) · (x − m), m the mean over all pixels and channels (torchvision takes the grey image's).
    brightness: x → x + u. After either of these two the image is clipped to [0, 1].
    cutout: one square of side round(cutout · height) is set to the image's mean; its centre is uniform over the pixels
    and what falls outside is lost (DeVries and Taylor 2017, arXiv:1708.04552).
    """
    images = _move(images, draws, knobs)
    if knobs.contrast:
        scale = 1 + _swing(images, draws[:, PerImage.CONTRAST], knobs.contrast)
        images = scale * images + (1 - scale) * tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    if knobs.brightness:
        images += _swing(images, draws[:, PerImage.BRIGHTNESS], knobs.brightness)
    if knobs.contrast or knobs.brightness:
        images = tf.clip_by_value(images, 0, 1)
    if knobs.cutout:
        images = _cut_out(images, draws, round(knobs.cutout * images.shape[1]))
    return images


def mix(images: tf.Tensor, targets: tf.Tensor, mixing: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mix each of (n + 1, height, width, channels) images but the first with the one before it: n images and targets.

    `targets` (n + 1, classes) are distributions, `mixing` is from `draw_mixing`. mixup: λ · image + (1 − λ) · the one
    before, and targets likewise (Zhang et al. 2018, arXiv:1710.09412). cutmix: a box of relative side √(1 − λ), cut at
    the border, comes from the one before, and λ becomes the share of pixels left (Yun et al. 2019, arXiv:1905.04899;
    sides truncated to whole and even pixels as by its authors' code).
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


def views(images: tf.Tensor, knobs: Views) -> list[tf.Tensor]:
    """Test-time views of (batch, height, width, channels) images, each of that shape, the images themselves first.

    With `shift`, also moved by so many pixels down and right, and up and left, filled by reflection; with `flip`, all
    of these mirrored too: six views with both, as in multi-crop evaluation (Jordan 2024, arXiv:2404.00498, section
    3.5). `shift` must be less than height and width.
    """
    result = [images]
    if knobs.shift:
        margin = [knobs.shift, knobs.shift]
        padded = tf.pad(images, [[0, 0], margin, margin, [0, 0]], "REFLECT")
        double = 2 * knobs.shift
        result += [padded[:, :-double, :-double], padded[:, double:, double:]]
    if knobs.flip:
        result += [tf.reverse(view, [2]) for view in result]
    return result


def _move(images: tf.Tensor, draws: tf.Tensor, knobs: Augment) -> tf.Tensor:
    """Shift, flip and rotation."""
    if not (knobs.shift or knobs.flip or knobs.rotation):
        return images
    if knobs.shift and not knobs.whole_pixels and not knobs.rotation:
        return _slide(images, draws, knobs)
    _, height, width, _ = images.shape
    rows = _positions(height, draws[:, PerImage.VERTICAL], knobs)
    columns = _positions(width, draws[:, PerImage.HORIZONTAL], knobs)
    if knobs.flip:  # reading the columns backwards is a flip that costs nothing
        columns = tf.where(draws[:, PerImage.FLIP, None] < 0.5, tf.reverse(columns, [1]), columns)
    if knobs.rotation:
        return _turn(images, rows, columns, draws[:, PerImage.ROTATION], knobs)
    if knobs.shift:
        images = tf.gather(images, tf.cast(_inside(rows, height, knobs.fill), tf.int32), axis=1, batch_dims=1)
    return tf.gather(images, tf.cast(_inside(columns, width, knobs.fill), tf.int32), axis=2, batch_dims=1)


def _slide(images: tf.Tensor, draws: tf.Tensor, knobs: Augment) -> tf.Tensor:
    """Shift by fractions of a pixel, and flip.

    The fraction is one number an image, so one row and one column more than the picture has are gathered once, and
    neighbours are weighted twice. Written as a gather because Keras's RandomTranslation switches off XLA for the whole
    step; on two cores it takes 0.6 of the time of a gather of each neighbour along each axis, which an interpolation
    matrix (1.1 times) and ImageProjectiveTransformV3 (1.5 times) exceed.
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
    """For pictures moved by `offset` (batch,) pixels: places read, (batch, size + 1), and the later one's weight."""
    lower = tf.floor(offset)
    places = _inside(tf.range(size + 1, dtype=offset.dtype) + lower[:, None], size, fill)
    return tf.cast(places, tf.int32), offset - lower


def _positions(size: int, draw: tf.Tensor, knobs: Augment) -> tf.Tensor:
    """Where each output row or column is read, before any fill: (batch, size) pixel coordinates."""
    if knobs.whole_pixels:
        most = round(knobs.shift * size)
        offset = tf.floor(draw * (2 * most + 1)) - most
    else:
        offset = (2 * draw - 1) * knobs.shift * size
    return tf.range(size, dtype=draw.dtype) + offset[:, None]


def _inside(position: tf.Tensor, size: int, fill: Literal["nearest", "reflect"]) -> tf.Tensor:
    """The coordinates in [0, size − 1] that hold what the fill puts at `position`."""
    if fill == "reflect" and size > 1:
        position = size - 1 - tf.abs(tf.math.floormod(position, 2 * (size - 1)) - (size - 1))
    return tf.clip_by_value(position, 0, size - 1)


def _turn(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, draw: tf.Tensor, knobs: Augment) -> tf.Tensor:
    """Read `images` at the grid of `rows` × `columns` turned about the centre, interpolated between four pixels.

    Four gathers from the flat list of pixels cost 1.6 times the lesson's shift and flip; two gathers of pairs of
    neighbours 1.9 to 2.2 times and one of all four 2.5 times, because they first copy the images.
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
    """Set one square of each image to its mean.

    Columns and channels are one axis here: a mask that is broadcast over a last axis of three costs 2.6 times as much.
    """
    _, height, width, channels = images.shape
    rows = _span(height, draws[:, PerImage.CUTOUT_ROW, None], side)
    columns = tf.repeat(_span(width, draws[:, PerImage.CUTOUT_COLUMN, None], side), channels, axis=1)
    lines = tf.reshape(images, (-1, height, width * channels))
    mean = tf.reduce_mean(lines, axis=(1, 2), keepdims=True)
    return tf.reshape(tf.where(rows[:, :, None] & columns[:, None, :], mean, lines), (-1, height, width, channels))


def _span(size: int, draw: tf.Tensor, side: int | tf.Tensor) -> tf.Tensor:
    """Which of `size` pixels lie in the span of `side` pixels round the one that `draw` in [0, 1) picks: boolean."""
    first = tf.floor(draw * size) - side // 2
    pixel = tf.range(size, dtype=draw.dtype)
    return (pixel >= first) & (pixel < first + side)


def _swing(images: tf.Tensor, draw: tf.Tensor, most: float) -> tf.Tensor:
    """Uniform in ± `most`, one number an image, in a shape and dtype to compute with `images`."""
    return tf.cast((2 * draw - 1) * most, images.dtype)[:, None, None, None]
