"""What a trained network tells of picture files: named ones, folders, patterns, standard input."""

import glob
import io
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from cnnlab.classifier import BATCH, Classifier
from cnnlab.data.decode import any_picture
from cnnlab.errors import UserError

STDIN = "-"
Source = tuple[str, Path | BinaryIO]  # how a picture is called, and where it is


def predict(classifier: Classifier, names: Sequence[str], top: int) -> None:
    """Print a line a picture: its name, and the `top` likeliest classes with their probabilities, in percent.

    `names` are files, folders (all pictures below them), patterns such as `*.png`, and `-` for standard input: one
    picture, or the names of pictures, a line each. A picture that cannot be read gets its line on standard error, the
    others go on, and a UserError at the end counts them.
    """
    broken, waiting = 0, list[tuple[str, np.ndarray]]()
    found = [*sources(names)]
    width = max((len(name) for name, _ in found), default=0)
    for name, source in found:
        try:
            if isinstance(source, Path) and not source.exists():
                raise UserError(f"No such picture: {name}.")
            waiting.append((name, any_picture(source, name)))
        except UserError as error:
            broken += 1
            print(f"{name:{width}}  {error}", file=sys.stderr, flush=True)
        if len(waiting) == BATCH:
            _tell(classifier, waiting, top, width)
            waiting = []
    _tell(classifier, waiting, top, width)
    if broken:
        raise UserError(f"{broken} of {len(found)} pictures could not be read, as said above.")


def sources(names: Sequence[str]) -> Iterator[Source]:
    """The pictures that `names` mean, in order; a name that means none is a file that does not exist.

    Raises UserError for a folder without pictures.
    """
    for name in names:
        path = Path(name)
        if name == STDIN:
            yield from _standard_input()
        elif path.is_dir():
            inside = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in _suffixes()]
            if not inside:
                raise UserError(f"No picture in folder {name}. Expected files whose names end as in cat.png, cat.jpg.")
            yield from ((str(file), file) for file in inside)
        else:
            matching = [] if path.exists() else sorted(glob.glob(name, recursive=True))
            yield from ((file, Path(file)) for file in matching or [name])


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


@cache
def _suffixes() -> tuple[str, ...]:
    """Of the picture formats that can be read."""
    return tuple(sorted(suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN))
