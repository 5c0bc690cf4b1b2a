"""Decode original files to arrays: images uint8 (count, height, width, channels), labels int32 (count,).

Every function raises UserError for a malformed file, with its name, what was expected and what was received.
"""

import hashlib
import io
import json
import math
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from cnnlab.catalog import DataSet, Split
from cnnlab.errors import UserError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int32]
Shape = tuple[int, int, int]

# Of users' images. Pillow reads more formats, but passes some of them to external programs.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


def split(data_set: DataSet, raw: Path, part: Split) -> tuple[Images, Labels]:
    """Decode one split of a data set from its original files in the folder `raw`.

    Returns images uint8 (count, *data_set.shape) and labels int32 (count,), in the order of the files.
    """
    paths = [raw / file.name for file in getattr(data_set, part)]
    if data_set.format == "idx":
        images, labels = idx_images(paths[0], data_set.shape), idx_labels(paths[1], len(data_set.classes))
    else:
        batches = [cifar(path, data_set.shape, len(data_set.classes)) for path in paths]
        images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    _expect(len(images) == len(labels), paths[0], f"{len(labels)} images, one per label", len(images))
    _expect(len(images) == data_set.counts[part], paths[0], f"{data_set.counts[part]} images", len(images))
    return images, labels


def idx_images(path: Path, shape: Shape) -> Images:
    """Decode an IDX file of greyscale images of `shape` (height, width, 1) to uint8 (count, *shape)."""
    images = _idx(path, rank=3)
    _expect((*images.shape[1:], 1) == shape, path, f"images of {shape[:2]}", images.shape[1:])
    return images[..., np.newaxis]


def idx_labels(path: Path, classes: int) -> Labels:
    """Decode an IDX file of labels in 0..classes-1 to int32 (count,)."""
    return _checked_labels(_idx(path, rank=1), path, classes)


def _idx(path: Path, rank: int) -> npt.NDArray[np.uint8]:
    # IDX: two zero bytes, a type (8: unsigned byte), the rank, big-endian sizes, then the values.
    content = path.read_bytes()
    header = 4 + 4 * rank
    _expect(len(content) >= header, path, f"a header of {header} bytes", f"{len(content)} bytes")
    magic = bytes([0, 0, 8, rank])
    _expect(content[:4] == magic, path, f"first bytes {magic.hex()}", content[:4].hex())
    shape = struct.unpack_from(f">{rank}I", content, 4)
    expected = header + math.prod(shape)
    _expect(len(content) == expected, path, f"{expected} bytes for shape {shape}", f"{len(content)} bytes")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def cifar(path: Path, shape: Shape, classes: int) -> tuple[Images, Labels]:
    """Decode a CIFAR binary batch, whose records are one label byte followed by one plane per channel.

    Returns contiguous images uint8 (count, *shape) and labels int32 (count,).
    """
    height, width, channels = shape
    content = np.fromfile(path, np.uint8)
    record = 1 + math.prod(shape)
    _expect(content.size % record == 0, path, f"records of {record} bytes", f"{content.size} bytes")
    records = content.reshape(-1, record)
    planes = records[:, 1:].reshape(-1, channels, height, width)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), _checked_labels(records[:, 0], path, classes)


def records(images: Images, labels: Labels) -> npt.NDArray[np.uint8]:
    """Inverse of `cifar`: images (count, height, width, channels) to uint8 records (count, 1 + values per image)."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels.astype(np.uint8)[:, np.newaxis], planes], axis=1)


def in_order(records: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Sort records by their SHA-256: the order of the canonical files if sources differ in theirs."""
    order = sorted(range(len(records)), key=lambda i: hashlib.sha256(records[i].data).digest())
    return records[order]


def without_coarse(content: bytes, origin: str, data_set: DataSet) -> npt.NDArray[np.uint8]:
    """Remove the superclass label, the first byte, from CIFAR-100's official records; it must match the class.

    Returns uint8 (count, 1 + values per image). `origin` names the file in errors.
    """
    record = 2 + math.prod(data_set.shape)
    _expect(len(content) % record == 0, origin, f"records of {record} bytes", f"{len(content)} bytes")
    labelled = np.frombuffer(content, np.uint8).reshape(-1, record)
    groups = [group for group, members in enumerate(data_set.superclasses.values()) for _ in members]
    names = [name for members in data_set.superclasses.values() for name in members]
    coarse = np.full(256, 256)
    coarse[[data_set.classes.index(name) for name in names]] = groups
    wrong = np.flatnonzero(coarse[labelled[:, 1]] != labelled[:, 0])
    _expect(not len(wrong), origin, "each class in its superclass", f"labels {labelled[wrong[:1], :2].tolist()}")
    return labelled[:, 1:]


def sheet(content: bytes, origin: str, count: int, shape: Shape) -> Images:
    """Decode a PNG sheet, one row of height * width RGB pixels per image, to uint8 (count, *shape).

    `origin` names the sheet in errors.
    """
    height, width, channels = shape
    return png(content, origin, (count, height * width, channels)).reshape(count, *shape)


def png(content: bytes, origin: str, shape: Shape) -> Images:
    """Decode an RGB PNG of `shape` (height, width, 3) to uint8; `origin` names it in errors.

    The size is checked before any pixel is decoded.
    """
    height, width, _ = shape
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            _expect(image.mode == "RGB", origin, "mode RGB", image.mode)
            _expect(image.size == (width, height), origin, f"{width} x {height} pixels", image.size)
            return np.asarray(image)
    # What Pillow raises for a damaged PNG
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"Invalid file {origin}. Expected: a PNG image. Received: {error}.") from error


def read_image(source: Path | BinaryIO, name: str = "") -> Images:
    """Read an image file of any common format to uint8 (height, width, 3), rotated according to its EXIF data.

    Transparent areas become white. Raises UserError, with `name` or the path, if the file cannot be read.
    """
    Image.init()  # otherwise only the most common formats are known
    try:
        with Image.open(source, formats=FORMATS) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"mode {image.mode}, more than 8 bits per channel")
            upright = ImageOps.exif_transpose(image).convert("RGBA")
            white = Image.new("RGBA", upright.size, "white")
            return np.asarray(Image.alpha_composite(white, upright).convert("RGB"), np.uint8)
    except Exception as error:  # Pillow's decoders raise many kinds for damaged files
        raise UserError(
            f"Invalid image {name or source}. Expected: an image file such as PNG or JPEG. Received: {error}."
        ) from error


def label_list(content: bytes, origin: str, classes: int) -> Labels:
    """Decode a JSON list of labels in 0..classes-1 to int32 (count,); `origin` names the list in errors."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"Invalid file {origin}. Expected: a JSON list. Received: {error}.") from error
    good = isinstance(values, list) and all(type(value) is int and 0 <= value < classes for value in values)
    _expect(good, origin, f"a list of integers in 0..{classes - 1}", "something else")
    return np.array(values, np.int32)


def _checked_labels(values: npt.NDArray[np.uint8], path: Path, classes: int) -> Labels:
    largest = int(values.max(initial=0))
    _expect(largest < classes, path, f"labels in 0..{classes - 1}", largest)
    return values.astype(np.int32)


def _expect(condition: bool, origin: Path | str, expected: str, received: object) -> None:
    if not condition:
        raise UserError(f"Invalid file {origin}. Expected: {expected}. Received: {received}.")
