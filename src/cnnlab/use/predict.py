"""What a trained network tells of picture files: named ones, folders, patterns, standard input."""

import glob
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cnnlab.classifier import BATCH, Classifier, fitted
from cnnlab.data.decode import SUFFIXES, any_picture
from cnnlab.errors import UserError

STDIN = "-"
Source = tuple[str, Path | BinaryIO]  # how a picture is called, and where it is


def predict(classifier: Classifier, names: Sequence[str], top: int) -> None:
    """Print a line a picture: its name, and the `top` likeliest classes with their probabilities, in percent.

    `names` are files, folders (all pictures below them), patterns such as `*.png`, and `-` for standard input: one
    picture, or the names of pictures, a line each. A picture that cannot be read gets its line on standard error, the
    others go on, and a UserError at the end counts them.
    """
    found = [*sources(names)]
    width = max((len(name) for name, _ in found), default=0)
    shape = classifier.network.input_shape[1:]
    broken = 0
    for start in range(0, len(found), BATCH):
        waiting = []
        for name, source in found[start : start + BATCH]:
            try:
                waiting.append((name, fitted(any_picture(source, name), shape)))  # whole ones would fill the memory
            except UserError as error:
                broken += 1
                print(f"{name:{width}}  {error}", file=sys.stderr, flush=True)
        _tell(classifier, waiting, top, width)
    if broken:
        raise UserError(f"{broken} of {len(found)} pictures could not be read, as said above.")


def sources(names: Sequence[str]) -> Iterator[Source]:
    """The pictures that `names` mean, in order; a name that means none stands for itself."""
    for name in names:
        if name == STDIN:
            yield from _standard_input()
        else:
            yield from ((str(file), file) for file in _files(name) or [Path(name)])


def _files(name: str) -> list[Path]:
    """The pictures of a folder, or the files of a pattern; none where there are none, or where they cannot be read."""
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
    except UnicodeDecodeError:  # no picture format of any use is text
        yield "standard input", io.BytesIO(content)
    else:
        yield from sources([line for line in lines if line.strip() not in ("", STDIN)])


def _tell(classifier: Classifier, pictures: Sequence[tuple[str, np.ndarray]], top: int, width: int) -> None:
    told = classifier.probabilities([picture for _, picture in pictures])
    longest = max(map(len, classifier.classes))
    for (name, _), row in zip(pictures, told, strict=True):
        best = np.argsort(-row, kind="stable")[:top]
        classes = "  ".join(f"{classifier.classes[index]:{longest}} {100 * row[index]:5.1f} %" for index in best)
        print(f"{name:{width}}  {classes}", flush=True)
