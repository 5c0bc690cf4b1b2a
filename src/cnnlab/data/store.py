"""A data set's processed folder: `{train,test}_{images,labels}.npy`, `splits.npz` and `card.json`."""

import hashlib
import json
import shutil
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt

from cnnlab import files
from cnnlab.data import decode
from cnnlab.data.catalog import DataSet
from cnnlab.data.decode import Images, Labels
from cnnlab.errors import UserError

Indices = npt.NDArray[np.int32]
_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


class Duplicates(TypedDict):
    """Images that are equal byte for byte, in groups; a group of n within one split makes n(n-1)/2 pairs."""

    groups: int
    pairs: int
    groups_with_different_labels: int
    indices: list[list[int]] | list[dict[str, list[int]]]  # across: by split


class Card(TypedDict):
    """What `card.json` says of a processed data set."""

    name: str
    shape: list[int]
    classes: list[str]
    split: dict[Literal["validation", "seed"], int]  # the default validation part, which "train" below excludes
    counts: dict[Literal["train", "validation", "test"], list[int]]  # images of each class
    mean: list[float]  # of each channel, over the train part, images scaled to [0, 1]
    std: list[float]
    digests: dict[Literal["train", "test"], str]  # order-free, of the whole published splits
    duplicates: dict[Literal["train", "test", "across"], Duplicates]
    raw: dict[str, str]  # original file -> sha256


@dataclass(frozen=True, eq=False)
class Processed:
    """A processed data set. Images uint8 (count, height, width, channels) and labels int32 (count,), memory-mapped.

    `order` (int32) is a permutation of the train images, see `stratified_order`.
    """

    name: str
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    order: Indices
    card: Card

    def split(self, validation: int, train: int | None = None) -> tuple[Indices, Indices]:
        """Return the indices of `train` training images (None: all that are left) and of `validation` others.

        Both are stratified and nested: a smaller part of the same kind is a prefix of a larger one.
        Raises UserError if the train images do not suffice.
        """
        count = len(self.order)
        if not 0 <= validation < count:
            raise UserError(
                f"Invalid validation size of {self.name}. Expected: 0..{count - 1}. Received: {validation}."
            )
        if train is not None and not 1 <= train <= count - validation:
            expected = f"1..{count - validation} beside {validation} for validation"
            raise UserError(
                f"Invalid number of training images of {self.name}. Expected: {expected}. Received: {train}."
            )
        end = count if train is None else validation + train
        return self.order[validation:end], self.order[:validation]


def stratified_order(labels: Labels, seed: int) -> Indices:
    """Return a seeded permutation (int32) of the images with `labels` (count,) of which every prefix is stratified.

    Within each of the C classes the images are shuffled; the j-th of n_c gets the rank (j + 1/2) / n_c, and all are
    sorted by rank, ties at random. A prefix up to rank t holds n_c t images of class c, give or take 1/2, so a prefix
    of k of the n images holds k n_c / n of them, give or take 1/2 + (C - 2) n_c / (2 n): less than 1 if the classes are
    equally large. A window is a difference of two prefixes: at most twice that.
    """
    generator = np.random.default_rng(seed)
    shuffle, ties = generator.random(len(labels)), generator.random(len(labels))
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[members[np.argsort(shuffle[members])]] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((ties, rank)).astype(np.int32)


def channel_statistics(images: Images) -> tuple[list[float], list[float]]:
    """Return each channel's mean and standard deviation over images (count, h, w, channels) scaled to [0, 1].

    The sums are exact integers, so the result does not depend on the order of the images.
    """
    channels = images.shape[-1]
    histogram = np.zeros((channels, 256), np.int64)
    for block in np.array_split(images, max(1, len(images) // 1000)):
        for channel in range(channels):
            histogram[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    values = np.arange(256)
    count = int(histogram[0].sum())
    sums, squares = [int(x) for x in histogram @ values], [int(x) for x in histogram @ values**2]
    mean = [s / (255 * count) for s in sums]
    std = [(count * q - s * s) ** 0.5 / (255 * count) for s, q in zip(sums, squares, strict=True)]
    return mean, std


def order_free_digest(images: Images, labels: Labels) -> str:
    """Return the hex sha256 of the sorted sha256 digests of all records (label byte, then the channels' planes).

    It tells whether two collections hold the same labelled images, in whatever order.
    """
    digests = sorted(hashlib.sha256(record).digest() for record in decode.records(images, labels))
    return hashlib.sha256(b"".join(digests)).hexdigest()


def duplicates(
    train: tuple[Images, Labels], test: tuple[Images, Labels]
) -> dict[Literal["train", "test", "across"], Duplicates]:
    """Find equal images within each split and across the two; images uint8 (count, h, w, channels), labels (count,)."""
    (train_images, train_labels), (test_images, test_labels) = train, test
    in_train, in_test = _by_content(train_images), _by_content(test_images)
    shared = [(in_train[content], in_test[content]) for content in in_train if content in in_test]
    return {
        "train": _within(in_train, train_labels),
        "test": _within(in_test, test_labels),
        "across": {
            "groups": len(shared),
            "pairs": sum(len(a) * len(b) for a, b in shared),
            "groups_with_different_labels": sum(len({*train_labels[a], *test_labels[b]}) > 1 for a, b in shared),
            "indices": [{"train": a, "test": b} for a, b in shared],
        },
    }


def _by_content(images: Images) -> dict[bytes, list[int]]:
    groups = defaultdict(list)
    for index, image in enumerate(np.ascontiguousarray(images)):
        groups[hashlib.sha256(image).digest()].append(index)
    return groups


def _within(groups: dict[bytes, list[int]], labels: Labels) -> Duplicates:
    repeated = [group for group in groups.values() if len(group) > 1]
    return {
        "groups": len(repeated),
        "pairs": sum(len(group) * (len(group) - 1) // 2 for group in repeated),
        "groups_with_different_labels": sum(len(set(labels[group])) > 1 for group in repeated),
        "indices": repeated,
    }


def preprocess(data_set: DataSet, raw: Path, destination: Path, *, validation: int, seed: int) -> None:
    """Decode the original files in the folder `raw` and write the whole processed folder `destination`, or nothing.

    `validation` train images, drawn with `seed`, are left out of the card's mean and deviation.
    Raises UserError if a file is missing or wrong, or `validation` leaves no train image.
    """
    for file in data_set.files:
        _verify(raw / file.name, file.sha256, f"python pipeline/fetch.py {data_set.name}")
    train, test = decode.split(data_set, raw, "train"), decode.split(data_set, raw, "test")
    order = stratified_order(train[1], seed)
    if not 0 <= validation < len(order):
        raise UserError(f"Invalid preprocess.validation. Expected: 0..{len(order) - 1}. Received: {validation}.")
    card = _card(data_set, train, test, order, validation, seed)
    partial = destination.with_name(f".{destination.name}.partial")  # fixed: what a killed process left is replaced
    shutil.rmtree(partial, ignore_errors=True)
    arrays: tuple[npt.NDArray[Any], ...] = (*train, *test)
    try:
        for name, array in zip(_ARRAYS, arrays, strict=True):
            _save(partial / f"{name}.npy", array)
        with files.atomic(partial / "splits.npz") as stream:
            np.savez(stream, order=order)
        files.write_text(partial / "card.json", json.dumps(card, indent=1) + "\n")
        shutil.rmtree(destination, ignore_errors=True)
        partial.rename(destination)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _verify(path: Path, expected: str, command: str) -> None:
    received = f"sha256 {files.sha256(path)}" if path.exists() else "no file"
    if received != f"sha256 {expected}":
        raise UserError(
            f"Invalid file {path}. Expected: sha256 {expected}. Received: {received}. To mend it: {command}"
        )


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    # np.save would do, but on a full disk its error names neither the file nor the reason.
    with files.atomic(path) as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
        stream.write(np.ascontiguousarray(array).data)


def _card(
    data_set: DataSet,
    train: tuple[Images, Labels],
    test: tuple[Images, Labels],
    order: Indices,
    validation: int,
    seed: int,
) -> Card:
    (images, labels), (test_images, test_labels) = train, test
    kept, held_out = np.sort(order[validation:]), order[:validation]
    mean, std = channel_statistics(images[kept])
    return {
        "name": data_set.name,
        "shape": list(data_set.shape),
        "classes": list(data_set.classes),
        "split": {"validation": validation, "seed": seed},
        "counts": {
            "train": _counts(data_set, labels[kept]),
            "validation": _counts(data_set, labels[held_out]),
            "test": _counts(data_set, test_labels),
        },
        "mean": mean,
        "std": std,
        "digests": {"train": order_free_digest(images, labels), "test": order_free_digest(test_images, test_labels)},
        "duplicates": duplicates(train, test),
        "raw": {file.name: file.sha256 for file in data_set.files},
    }


def _counts(data_set: DataSet, labels: Labels) -> list[int]:
    return [int(count) for count in np.bincount(labels, minlength=len(data_set.classes))]


def open_processed(name: str, folder: Path | None = None) -> Processed:
    """Open the processed data set `name` in `folder` (None: its place under data/processed), memory-mapped read-only.

    Raises UserError if it is absent, truncated or not what its card says.
    """
    folder = files.PROCESSED / name if folder is None else folder
    try:
        card: Card = json.loads((folder / "card.json").read_text())
        arrays = [np.load(folder / f"{array}.npy", mmap_mode="r", allow_pickle=False) for array in _ARRAYS]
        with (folder / "splits.npz").open("rb") as stream, np.load(stream, allow_pickle=False) as splits:
            order = splits["order"]
        counts = {part: sum(values) for part, values in card["counts"].items()}
        train, test = counts["train"] + counts["validation"], counts["test"]
        expected = [(train, *card["shape"]), (train,), (test, *card["shape"]), (test,), (train,)]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(folder, str(error)) from error
    received = [array.shape for array in (*arrays, order)]
    if received != expected:
        raise _damaged(folder, f"shapes {received} instead of {expected}")
    train_images, train_labels, test_images, test_labels = arrays
    return Processed(name, train_images, train_labels, test_images, test_labels, order, card)


def _damaged(folder: Path, reason: str) -> UserError:
    return UserError(f"Cannot open the processed data in {folder}: {reason}. To mend it: dvc repro preprocess")
