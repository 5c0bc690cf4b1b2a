"""Folders of pictures in ImageNet's format: `train/<class>/<picture>` and `val/<class>/<picture>`."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from tqdm import tqdm

from cnnlab.data.decode import Labels
from cnnlab.errors import UserError

PARTS = {"train": "train", "test": "val"}
NAMED = 5  # broken files that are named on stderr; the card names all


class Broken(TypedDict):
    """A file that is no readable picture."""

    file: str
    reason: str


@dataclass(frozen=True)
class Folder:
    """What lies in a folder: the classes in alphabetical order, and of each part the files below `root`."""

    root: Path
    classes: list[str]
    files: dict[str, list[str]]  # part -> paths, in alphabetical order

    def labels(self, part: str) -> Labels:
        """The label of each file of a part, int32."""
        number = {name: label for label, name in enumerate(self.classes)}
        return np.array([number[file.split("/")[1]] for file in self.files[part]], np.int32)


def scan(root: Path) -> Folder:
    """List a folder. Hidden files are passed over.

    Raises UserError where train/ or val/ is missing, their classes differ, a class has no file, or there is but one.
    """
    found = {part: _part(root, folder) for part, folder in PARTS.items()}
    classes = sorted(found["train"])
    if strange := sorted(found["train"].keys() ^ found["test"].keys()):
        where = "train" if strange[0] in found["train"] else "val"
        raise _invalid(root, "the same classes in train/ and val/", f"{strange[0]} in {where}/ alone")
    if len(classes) < 2:  # nothing to tell apart
        raise _invalid(root, "two classes or more, a folder each", f"{len(classes)} in {root}/train")
    for part, members in found.items():
        if empty := [name for name in classes if not members[name]]:
            raise _invalid(root, "a picture or more in each class", f"none in {PARTS[part]}/{empty[0]}")
    files = {part: [file for name in classes for file in members[name]] for part, members in found.items()}
    return Folder(root, classes, files)


def _part(root: Path, folder: str) -> dict[str, list[str]]:
    top = root / folder
    if not top.is_dir():
        raise _invalid(root, "folders train and val, with a folder for each class", f"no folder {top}")
    return {
        place.name: sorted(
            f"{folder}/{place.name}/{path.name}"
            for path in place.iterdir()
            if path.is_file() and not path.name.startswith(".")
        )
        for place in top.iterdir()
        if place.is_dir() and not place.name.startswith(".")
    }


def _invalid(root: Path, expected: str, received: str) -> UserError:
    return UserError(f"Invalid folder of pictures {root}. Expected: {expected}. Received: {received}.")


def examine(folder: Folder, most_broken: int) -> tuple[Folder, dict[str, list[bytes]], list[Broken]]:
    """Read and decode every file; return the folder without the broken ones, each file's sha256, and the broken ones.

    They are named on stderr. Raises UserError for more than `most_broken` of them, or where a class has none left.
    """
    digests: dict[str, list[bytes]] = {}
    broken: list[Broken] = []
    good = {}
    for part, names in folder.files.items():
        with ThreadPoolExecutor() as threads:
            paths = [folder.root / name for name in names]
            told = list(tqdm(threads.map(_read, paths), f"reading {part}", len(names), unit=" pictures", disable=None))
        broken += [Broken(file=name, reason=why) for name, (_, why) in zip(names, told, strict=True) if why]
        good[part] = [name for name, (_, why) in zip(names, told, strict=True) if not why]
        digests[part] = [digest for digest, why in told if not why]
    _tell(folder.root, broken)
    if len(broken) > most_broken:
        first = f"{broken[0]['file']}: {broken[0]['reason']}"
        expected = f"at most {most_broken} unreadable files, as its key broken in params.yaml says"
        raise _invalid(folder.root, expected, f"{len(broken)}, first {first}")
    left = Folder(folder.root, folder.classes, good)
    for part in good:
        if len(bare := set(range(len(folder.classes))) - set(left.labels(part).tolist())):
            name = folder.classes[min(bare)]
            raise _invalid(folder.root, "a readable picture or more in each class", f"none in {PARTS[part]}/{name}")
    return left, digests, broken


def _tell(root: Path, broken: Sequence[Broken]) -> None:
    for entry in broken[:NAMED]:
        tqdm.write(f"{root / entry['file']} is left out: {entry['reason']}")
    if len(broken) > NAMED:
        tqdm.write(f"and {len(broken) - NAMED} more files of {root}; the card names them")


def _read(path: Path) -> tuple[bytes, str]:
    """The sha256 of a file, and why it is no picture, or nothing."""
    import tensorflow as tf  # noqa: PLC0415  # data sets that are arrays are preprocessed without it

    from cnnlab.data.pictures import decoded  # noqa: PLC0415

    content = b""
    try:
        content = path.read_bytes()
        with tf.device("CPU"):
            decoded(tf.constant(content))
    except (OSError, tf.errors.InvalidArgumentError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", str(error))
        return b"", " ".join(str(reason).split())[:200]
    return hashlib.sha256(content).digest(), ""
