"""Original files to arrays: images uint8 (count, height, width, channels), labels int32 (count,).

Every function raises UserError for a malformed file: its name, what was expected, what was received.
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

from cnnlab.data.catalog import DataSet, Split
from cnnlab.errors import UserError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int32]
Shape = tuple[int, int, int]

# Of pictures that users bring; Pillow knows more, of which some are handed to other programs.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


def split(data_set: DataSet, raw: Path, part: Split) -> tuple[Images, Labels]:
    """Decode a data set's `part` from its original files in the folder `raw`.

    Returns images uint8 (count, *data_set.shape) and labels int32 (count,), in the files' order.
    """
    paths = [raw / file.name for file in getattr(data_set, part)]
    if data_set.format == "idx":
        images, labels = idx_images(paths[0], data_set.shape), idx_labels(paths[1], len(data_set.classes))
    else:
        batches = [cifar(path, data_set.shape, len(data_set.classes)) for path in paths]
        images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    _expect(len(images) == len(labels), paths[0], f"{len(labels)} images, a label each", len(images))
    _expect(len(images) == data_set.counts[part], paths[0], f"{data_set.counts[part]} images", len(images))
    return images, labels


def idx_images(path: Path, shape: Shape) -> Images:
    """Decode an IDX file of grey images; returns uint8 (count, *shape), where shape is (height, width, 1)."""
    images = _idx(path, rank=3)
    _expect((*images.shape[1:], 1) == shape, path, f"images of {shape[:2]}", images.shape[1:])
    return images[..., np.newaxis]


def idx_labels(path: Path, classes: int) -> Labels:
    """Decode an IDX file of labels below `classes`; returns int32 (count,)."""
    return _checked_labels(_idx(path, rank=1), path, classes)


def _idx(path: Path, rank: int) -> npt.NDArray[np.uint8]:
    # The format: two zero bytes, a type (8: unsigned byte), the rank, big-endian sizes, then the values.
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
    """Decode a CIFAR binary batch: a record is a label byte and the channels' planes.

    Returns images uint8 (count, *shape), contiguous, and labels int32 (count,).
    """
    height, width, channels = shape
    content = np.fromfile(path, np.uint8)
    record = 1 + math.prod(shape)
    _expect(content.size % record == 0, path, f"records of {record} bytes", f"{content.size} bytes")
    records = content.reshape(-1, record)
    planes = records[:, 1:].reshape(-1, channels, height, width)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), _checked_labels(records[:, 0], path, classes)


def records(images: Images, labels: Labels) -> npt.NDArray[np.uint8]:
    """Inverse of `cifar`: images (count, height, width, channels) to uint8 records (count, 1 + values an image)."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels.astype(np.uint8)[:, np.newaxis], planes], axis=1)


def in_order(records: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Records in the order of their sha256, in which canonical files of sets without a common order stand."""
    order = sorted(range(len(records)), key=lambda i: hashlib.sha256(records[i].data).digest())
    return records[order]


def without_coarse(content: bytes, origin: str, data_set: DataSet) -> npt.NDArray[np.uint8]:
    """CIFAR-100's official records without their first byte, the superclass's label, which must be the class's own.

    Returns uint8 (count, 1 + values an image). `origin` names the file in errors.
    """
    record = 2 + math.prod(data_set.shape)
    _expect(len(content) % record == 0, origin, f"records of {record} bytes", f"{len(content)} bytes")
    whole = np.frombuffer(content, np.uint8).reshape(-1, record)
    groups = [group for group, members in enumerate(data_set.superclasses.values()) for _ in members]
    names = [name for members in data_set.superclasses.values() for name in members]
    coarse = np.full(256, 256)
    coarse[[data_set.classes.index(name) for name in names]] = groups
    wrong = np.flatnonzero(coarse[whole[:, 1]] != whole[:, 0])
    _expect(not len(wrong), origin, "each class in its superclass", f"labels {whole[wrong[:1], :2].tolist()}")
    return whole[:, 1:]


def sheet(content: bytes, origin: str, count: int, shape: Shape) -> Images:
    """Decode a PNG sheet: a row of height * width RGB pixels for each image; returns uint8 (count, *shape).

    `origin` names the sheet in errors. The size is checked before a pixel is decoded.
    """
    height, width, _ = shape
    return _png(content, origin, height * width, count).reshape(count, *shape)


def picture(content: bytes, origin: str, shape: Shape) -> Images:
    """Decode one RGB PNG picture of `shape`, (height, width, 3), to uint8; `origin` names it in errors."""
    height, width, _ = shape
    return _png(content, origin, width, height)


def any_picture(source: Path | BinaryIO, name: str = "") -> Images:
    """A picture file of any usual kind, as uint8 (height, width, 3) of its own size, turned as its EXIF says.

    Transparent parts become white. Raises UserError, which calls the picture `name` or its path, where it cannot be
    read.
    """
    Image.init()  # else it knows the commonest formats alone
    try:
        with Image.open(source, formats=FORMATS) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"{image.mode}, which has more than 8 bits a channel")
            upright = ImageOps.exif_transpose(image).convert("RGBA")
            paper = Image.new("RGBA", upright.size, "white")
            whole = Image.alpha_composite(paper, upright).convert("RGB")
    except Exception as error:  # whatever Pillow's readers of damaged files raise
        raise UserError(
            f"Invalid picture {name or source}. Expected: a picture file, as PNG or JPEG. Received: {error}."
        ) from error
    return np.asarray(whole, np.uint8)


def _png(content: bytes, origin: str, width: int, height: int) -> Images:
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            _expect(image.mode == "RGB", origin, "mode RGB", image.mode)
            _expect(image.size == (width, height), origin, f"{width} x {height} pixels", image.size)
            return np.asarray(image)
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:  # what Pillow raises for a damaged PNG
        raise UserError(f"Invalid file {origin}. Expected: a PNG picture. Received: {error}.") from error


def label_list(content: bytes, origin: str, classes: int) -> Labels:
    """Decode a JSON list of labels below `classes`; returns int32 (count,). `origin` names the list in errors."""
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
