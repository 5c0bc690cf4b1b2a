"""Picture files as an array: decoded, cut to a square and scaled when they are asked for, by TensorFlow."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from cnnlab.errors import UserError

UNREADABLE = (tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.PermissionDeniedError)


class Pictures:
    """The files `names` below `root` as an array: uint8 (count, size, size, 3), the centre square of each picture.

    JPEG (grey and CMYK included), PNG, BMP, and a GIF's first frame; grey ones get three equal channels.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, root: Path, names: Sequence[str], size: int) -> None:
        self.shape = (len(names), size, size, 3)
        self._paths = np.array([str(root / name) for name in names], np.bytes_)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array, if it were decoded."""
        return math.prod(self.shape)

    def __getitem__(self, rows: Any) -> npt.NDArray[np.uint8]:
        """The pictures at `rows`: an index, a slice or an array of indices. Raises UserError as `refuse`."""
        asked = np.arange(len(self))[rows]
        flat = asked.reshape(-1)
        out = np.empty((len(flat), *self.shape[1:]), np.uint8)
        try:
            for i, picture in enumerate(self.read(flat).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()):
                out[i] = picture
        except UNREADABLE as error:
            raise refuse(error) from error
        return out.reshape(*asked.shape, *self.shape[1:])

    def read(self, rows: np.ndarray, crops: np.ndarray | None = None) -> tf.data.Dataset:
        """The pictures at `rows` (n,), one by one in that order, decoded by as many threads as it takes.

        `crops` (n, 4) are float32 rows of `augment.draw_crops`, None for the centre square.
        """
        paths, size = tf.constant(self._paths), self.shape[1]

        def decode(row: tf.Tensor, crop: tf.Tensor) -> tf.Tensor:
            picture = decoded(tf.io.read_file(paths[row]))
            box = _centre(tf.shape(picture)) if crops is None else _random(tf.shape(picture), crop)
            cut = tf.image.crop_to_bounding_box(picture, *tf.unstack(box))
            small = tf.image.resize(cut, (size, size), antialias=True)
            return tf.ensure_shape(tf.cast(tf.round(tf.clip_by_value(small, 0, 255)), tf.uint8), (size, size, 3))

        drawn = np.zeros((len(rows), 4), np.float32) if crops is None else crops
        ahead = tf.data.Dataset.from_tensor_slices((rows, drawn))
        return ahead.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def decoded(content: tf.Tensor) -> tf.Tensor:
    """A file's content as uint8 (height, width, 3); raises InvalidArgumentError where it is no whole picture."""
    return tf.io.decode_image(content, channels=3, expand_animations=False)


def refuse(error: Exception) -> UserError:
    """What to tell of a picture that was good when it was preprocessed."""
    return UserError(
        f"A picture cannot be read any more. Expected the files that were preprocessed. "
        f"Received: {str(getattr(error, 'message', error)).splitlines()[0]} To mend it: dvc repro"
    )


def _centre(shape: tf.Tensor) -> tf.Tensor:
    side = tf.minimum(shape[0], shape[1])
    return tf.stack([(shape[0] - side) // 2, (shape[1] - side) // 2, side, side])


def _random(shape: tf.Tensor, crop: tf.Tensor) -> tf.Tensor:
    """Row, column, height and width of a crop, its area and ratio kept as far as the picture is large enough."""
    whole = tf.cast(shape[:2], tf.float32)
    area, stretch = crop[0] * whole[0] * whole[1], crop[1]
    sides = tf.stack([tf.sqrt(area / stretch), tf.sqrt(area * stretch)])
    sides = tf.clip_by_value(tf.round(sides), 1.0, whole)
    first = tf.floor(crop[2:] * (whole - sides + 1))
    return tf.cast(tf.concat([first, sides], 0), tf.int32)
