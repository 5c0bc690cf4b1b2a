"""Image folders in ImageNet's format: `train/<class>/<image>` and `val/<class>/<image>`."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from tqdm import tqdm

from cnnlab.data.decode import Labels
from cnnlab.errors import UserError

PARTS = {"train": "train", "test": "val"}
MAX_LISTED = 5  # broken files that are printed; the card lists all of them


class Broken(TypedDict):
    """A file that is not a readable image."""

    file: str
    reason: str


@dataclass(frozen=True)
class Folder:
    """The contents of an image folder: its classes in alphabetical order, and the files of each part below `root`."""

    root: Path
    classes: list[str]
    files: dict[str, list[str]]  # part -> paths, in alphabetical order

    def labels(self, part: str) -> Labels:
        """The label of each file of a part, int32 (count,)."""
        number = {name: label for label, name in enumerate(self.classes)}
        return np.array([number[file.split("/")[1]] for file in self.files[part]], np.int32)


def scan(root: Path) -> Folder:
    """List an image folder; hidden files are ignored.

    Raises UserError if train/ or val/ is missing, their classes differ, a class is empty, or there is only one class.
    """
    found = {part: _files_by_class(root, folder) for part, folder in PARTS.items()}
    classes = sorted(found["train"])
    if unmatched := sorted(found["train"].keys() ^ found["test"].keys()):
        where = "train" if unmatched[0] in found["train"] else "val"
        raise _invalid(root, "the same classes in train/ and val/", f"{unmatched[0]} only in {where}/")
    if len(classes) < 2:
        raise _invalid(root, "at least two classes, one folder per class", f"{len(classes)} in {root}/train")
    for part, members in found.items():
        if empty := [name for name in classes if not members[name]]:
            raise _invalid(root, "at least one image per class", f"none in {PARTS[part]}/{empty[0]}")
    files = {part: [file for name in classes for file in members[name]] for part, members in found.items()}
    return Folder(root, classes, files)


def _files_by_class(root: Path, folder: str) -> dict[str, list[str]]:
    top = root / folder
    if not top.is_dir():
        raise _invalid(root, "folders train and val with one folder per class", f"no folder {top}")
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
    return UserError(f"Invalid image folder {root}. Expected: {expected}. Received: {received}.")


def examine(folder: Folder, max_broken: int) -> tuple[Folder, dict[str, list[bytes]], list[Broken]]:
    """Read and decode every file; return the folder of readable files, their SHA-256, and the broken files.

    Broken files are printed. Raises UserError for more than `max_broken` of them, or if a class has no others.
    """
    digests: dict[str, list[bytes]] = {}
    broken: list[Broken] = []
    readable = {}
    for part, names in folder.files.items():
        with ThreadPoolExecutor() as threads:
            paths = [folder.root / name for name in names]
            results = list(tqdm(threads.map(_read, paths), f"reading {part}", len(names), unit=" images", disable=None))
        broken += [Broken(file=name, reason=why) for name, (_, why) in zip(names, results, strict=True) if why]
        readable[part] = [name for name, (_, why) in zip(names, results, strict=True) if not why]
        digests[part] = [digest for digest, why in results if not why]
    for entry in broken[:MAX_LISTED]:
        tqdm.write(f"{folder.root / entry['file']} is skipped: {entry['reason']}")
    if len(broken) > max_broken:
        first = f"{broken[0]['file']}: {broken[0]['reason']}"
        expected = f"at most {max_broken} unreadable files, as set by the key broken in params.yaml"
        raise _invalid(folder.root, expected, f"{len(broken)}, first {first}")
    if len(broken) > MAX_LISTED:
        tqdm.write(f"and {len(broken) - MAX_LISTED} more files of {folder.root}, listed in its card")
    left = Folder(folder.root, folder.classes, readable)
    for part in readable:
        if empty := set(range(len(folder.classes))) - set(left.labels(part).tolist()):
            name = folder.classes[min(empty)]
            raise _invalid(folder.root, "at least one readable image per class", f"none in {PARTS[part]}/{name}")
    return left, digests, broken


def _read(path: Path) -> tuple[bytes, str]:
    """The SHA-256 of a file, and the reason why it is not an image, or an empty string."""
    import tensorflow as tf  # noqa: PLC0415  # data sets that are arrays are preprocessed without it

    from cnnlab.data.images import decoded  # noqa: PLC0415

    try:
        content = path.read_bytes()
        with tf.device("CPU"):
            decoded(tf.constant(content))
    except (OSError, tf.errors.InvalidArgumentError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", str(error))
        return b"", " ".join(str(reason).split())[:200]
    return hashlib.sha256(content).digest(), ""
