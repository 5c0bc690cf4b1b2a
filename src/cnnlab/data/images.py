"""Image files as an array: TensorFlow decodes, crops and resizes them when they are accessed."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from cnnlab.errors import UserError

UNREADABLE = (tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.PermissionDeniedError)


class ImageFiles:
    """The files `names` below `root` as an array: uint8 (count, size, size, 3), the centre square of each image.

    Files are JPEG (including greyscale and CMYK), PNG, BMP or GIF (first frame). Greyscale images get three equal
    channels.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, root: Path, names: Sequence[str], size: int) -> None:
        self.shape = (len(names), size, size, 3)
        self._paths = np.array([str(root / name) for name in names], np.bytes_)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Size in bytes of the whole array once decoded."""
        return math.prod(self.shape)

    def __getitem__(self, rows: Any) -> npt.NDArray[np.uint8]:
        """The images at `rows`: an index, a slice or an array of indices. Raises UserError for an unreadable file."""
        indices = np.arange(len(self))[rows]
        flat = indices.reshape(-1)
        out = np.empty((len(flat), *self.shape[1:]), np.uint8)
        try:
            for i, image in enumerate(self.read(flat).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()):
                out[i] = image
        except UNREADABLE as error:
            raise unreadable(error) from error
        return out.reshape(*indices.shape, *self.shape[1:])

    def read(self, rows: np.ndarray, crops: np.ndarray | None = None) -> tf.data.Dataset:
        """The images at `rows` (n,), one by one in that order, decoded in parallel.

        `crops` (n, 4) are float32 rows of `augment.draw_crops`; None takes the centre squares.
        """
        paths, size = tf.constant(self._paths), self.shape[1]

        def decode(row: tf.Tensor, crop: tf.Tensor) -> tf.Tensor:
            image = decoded(tf.io.read_file(paths[row]))
            box = _centre(tf.shape(image)) if crops is None else _random(tf.shape(image), crop)
            cropped = tf.image.crop_to_bounding_box(image, *tf.unstack(box))
            resized = tf.image.resize(cropped, (size, size), antialias=True)
            return tf.ensure_shape(tf.cast(tf.round(tf.clip_by_value(resized, 0, 255)), tf.uint8), (size, size, 3))

        draws = np.zeros((len(rows), 4), np.float32) if crops is None else crops
        inputs = tf.data.Dataset.from_tensor_slices((rows, draws))
        return inputs.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def decoded(content: tf.Tensor) -> tf.Tensor:
    """A file's content as uint8 (height, width, 3); raises InvalidArgumentError if it is not a complete image."""
    return tf.io.decode_image(content, channels=3, expand_animations=False)


def unreadable(error: Exception) -> UserError:
    """The error for an image that has become unreadable since it was preprocessed."""
    return UserError(
        "Cannot read an image. Expected: the files that were preprocessed. Received: "
        f"{str(getattr(error, 'message', error)).splitlines()[0]} To fix this, run: dvc repro -f fetch && dvc repro"
    )


def _centre(shape: tf.Tensor) -> tf.Tensor:
    side = tf.minimum(shape[0], shape[1])
    return tf.stack([(shape[0] - side) // 2, (shape[1] - side) // 2, side, side])


def _random(shape: tf.Tensor, crop: tf.Tensor) -> tf.Tensor:
    """Row, column, height and width of a crop with its area and aspect ratio, as far as the image is large enough."""
    size = tf.cast(shape[:2], tf.float32)
    area, ratio = crop[0] * size[0] * size[1], crop[1]
    sides = tf.stack([tf.sqrt(area / ratio), tf.sqrt(area * ratio)])
    sides = tf.clip_by_value(tf.round(sides), 1.0, size)
    first = tf.floor(crop[2:] * (size - sides + 1))
    return tf.cast(tf.concat([first, sides], 0), tf.int32)
