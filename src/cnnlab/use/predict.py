"""Classify image files: named files, folders, glob patterns, standard input."""

import glob
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cnnlab.data.decode import SUFFIXES, read_image
from cnnlab.errors import UserError
from cnnlab.tracking.classifier import BATCH, Classifier, fitted

STDIN = "-"
Source = tuple[str, Path | BinaryIO]  # the name of an image, and its content


def predict(classifier: Classifier, names: Sequence[str], top: int) -> None:
    """Print one line per image: its name, and the `top` most probable classes with their probabilities in percent.

    `names` are files, folders (searched recursively), patterns such as `*.png`, and `-` for standard input: one image,
    or a list of names, one per line. An image that cannot be read is reported on standard error, the others are
    classified, and a UserError at the end counts the failures.
    """
    images = [*sources(names)]
    width = max((len(name) for name, _ in images), default=0)
    shape = classifier.network.input_shape[1:]
    failed = 0
    for start in range(0, len(images), BATCH):
        batch = []
        for name, source in images[start : start + BATCH]:
            try:
                image = fitted(read_image(source, name), shape)  # at full size, a batch could fill the memory
                batch.append((name, image))
            except UserError as error:
                failed += 1
                print(f"{name:{width}}  {error}", file=sys.stderr, flush=True)
        _print_classes(classifier, batch, top, width)
    if failed:
        raise UserError(f"{failed} of {len(images)} images could not be read; the lines above say why.")


def sources(names: Sequence[str]) -> Iterator[Source]:
    """Expand `names` to images, in order. A name without a match is yielded as a file, and fails when it is read."""
    for name in names:
        if name == STDIN:
            yield from _standard_input()
        else:
            yield from ((str(file), file) for file in _files(name) or [Path(name)])


def _files(name: str) -> list[Path]:
    """The images in a folder, or the files that match a pattern; empty for an existing file or an unreadable folder."""
    path = Path(name)
    try:
        if path.is_dir():
            return [file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES and file.is_file()]
        return [] if path.exists() else [Path(file) for file in sorted(glob.glob(name, recursive=True))]
    except OSError:
        return []


def _standard_input() -> Iterator[Source]:
    content = sys.stdin.buffer.read()
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:  # an image: no common format is valid UTF-8
        yield "standard input", io.BytesIO(content)
    else:
        yield from sources([line for line in lines if line.strip() not in ("", STDIN)])


def _print_classes(classifier: Classifier, images: Sequence[tuple[str, np.ndarray]], top: int, width: int) -> None:
    probabilities = classifier.probabilities([image for _, image in images])
    longest = max(map(len, classifier.classes))
    for (name, _), row in zip(images, probabilities, strict=True):
        best = np.argsort(-row, kind="stable")[:top]
        classes = "  ".join(f"{classifier.classes[index]:{longest}} {100 * row[index]:5.1f} %" for index in best)
        print(f"{name:{width}}  {classes}", flush=True)
