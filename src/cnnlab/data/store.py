"""A data set's processed folder: `{train,test}_{images,labels}.npy`, `splits.npz` and `card.json`.

Of a folder of pictures `files.json` stands for the images: they stay where they are, and are decoded when asked for.
"""

import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt

from cnnlab import files
from cnnlab.data import decode, folders, measure
from cnnlab.data.catalog import DataSet
from cnnlab.data.decode import Images, Labels
from cnnlab.data.folders import Broken
from cnnlab.data.measure import Duplicates, Indices
from cnnlab.errors import UserError

if TYPE_CHECKING:
    from cnnlab.data.pictures import Pictures

UNAVAILABLE = "not-available.txt"  # of a data set without which the pipeline goes on: why its sources were out of reach
_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_MEASURED = 2000  # pictures of a folder that mean and deviation are computed from: decoding all would take hours


class Facts(TypedDict):
    """What a card says of the data set as it was published."""

    name: str
    shape: list[int]
    classes: list[str]
    digests: dict[Literal["train", "test"], str]  # order-free, of the whole published splits
    duplicates: dict[Literal["train", "test", "across"], Duplicates]
    raw: dict[str, str]  # original file -> sha256
    source: str  # URL or folder
    superclasses: dict[str, list[str]]  # superclass -> classes, where the data set has them
    broken: list[Broken]  # files left out
    mirrored: bool  # whether the mirror image of a picture is one of the same class


class Card(Facts):
    """What `card.json` says of a processed data set."""

    split: dict[Literal["validation", "seed"], int]  # the default validation part, which "train" below excludes
    counts: dict[Literal["train", "validation", "test"], list[int]]  # images of each class
    mean: list[float]  # of each channel, over the train part, images scaled to [0, 1]
    std: list[float]


@dataclass(frozen=True, eq=False)
class Processed:
    """A processed data set. Images uint8 (count, height, width, channels) and labels int32 (count,), memory-mapped.

    Images of a folder are `Pictures`, decoded when they are asked for. `order` (int32) is a permutation of the train
    images, see `measure.stratified_order`.
    """

    name: str
    train_images: "Images | Pictures"
    train_labels: Labels
    test_images: "Images | Pictures"
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


def preprocess(data_set: DataSet, raw: Path, destination: Path, *, validation: int, seed: int) -> None:
    """Decode the original files in the folder `raw` and write the whole processed folder `destination`, or nothing.

    `validation` train images, drawn with `seed`, are left out of the card's mean and deviation.
    Raises UserError if a file is missing or wrong, or `validation` leaves no train image.
    """
    for file in data_set.files:
        _verify(raw / file.name, file.sha256, f"python pipeline/fetch.py {data_set.name}")
    train, test = decode.split(data_set, raw, "train"), decode.split(data_set, raw, "test")
    order = _order(train[1], validation, seed)
    facts: Facts = {
        "name": data_set.name,
        "shape": list(data_set.shape),
        "classes": list(data_set.classes),
        "digests": {"train": measure.order_free_digest(*train), "test": measure.order_free_digest(*test)},
        "duplicates": measure.duplicates((measure.digests(train[0]), train[1]), (measure.digests(test[0]), test[1])),
        "raw": {file.name: file.sha256 for file in data_set.files},
        "source": data_set.downloads[0].url,
        "superclasses": {name: list(members) for name, members in data_set.superclasses.items()},
        "broken": [],
        "mirrored": data_set.mirrored,
    }
    statistics = measure.channel_statistics(train[0][np.sort(order[validation:])])
    card = _card(facts, train[1], test[1], order, validation, seed, statistics)
    with _whole(destination) as partial:
        arrays: tuple[npt.NDArray[Any], ...] = (*train, *test)
        for name, array in zip(_ARRAYS, arrays, strict=True):
            _save(partial / f"{name}.npy", array)
        _finish(partial, card, order)


def preprocess_pictures(
    name: str, root: Path, destination: Path, *, size: int, most_broken: int, mirrored: bool, validation: int, seed: int
) -> None:
    """Read every file of the folder of pictures `root`, and write the whole processed folder, or nothing.

    The pictures stay where they are; `size` is the side in pixels that they are decoded to. Up to `most_broken` files
    that are no pictures are left out. Raises UserError as `folders.scan` and `examine`, or for such a `validation`.
    """
    from cnnlab.data.pictures import Pictures  # noqa: PLC0415  # needs TensorFlow, which arrays do not

    found, content, broken = folders.examine(folders.scan(root), most_broken)
    train, test = found.labels("train"), found.labels("test")
    order = _order(train, validation, seed)
    facts: Facts = {
        "name": name,
        "shape": [size, size, 3],
        "classes": found.classes,
        "digests": {
            "train": measure.digest_of_files(content["train"], train),
            "test": measure.digest_of_files(content["test"], test),
        },
        "duplicates": measure.duplicates((content["train"], train), (content["test"], test)),
        "raw": {},
        "source": str(root),
        "superclasses": {},
        "broken": broken,
        "mirrored": mirrored,
    }
    pictures = Pictures(root, found.files["train"], size)
    statistics = measure.channel_statistics(pictures[np.sort(order[validation:][:_MEASURED])])
    card = _card(facts, train, test, order, validation, seed, statistics)
    with _whole(destination) as partial:
        _save(partial / "train_labels.npy", train)
        _save(partial / "test_labels.npy", test)
        files.write_text(partial / "files.json", json.dumps({"root": str(root), **found.files}, indent=0) + "\n")
        _finish(partial, card, order)


def imagenet_card() -> Card:
    """ImageNet's card, for a network that is derived without having its 150 GB of pictures; counts are totals.

    Russakovsky et al. 2015, arXiv:1409.0575, table 2: its 50,000 validation pictures are what is tested on here.
    """
    counts: dict[Literal["train", "validation", "test"], list[int]] = {
        "train": [1_281_167],
        "validation": [0],
        "test": [50_000],
    }
    return {
        "name": "imagenet",
        "shape": [224, 224, 3],
        "classes": [str(number) for number in range(1000)],
        "digests": {},
        "duplicates": {},
        "raw": {},
        "source": "",
        "superclasses": {},
        "broken": [],
        "mirrored": True,
        "split": {},
        "counts": counts,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }


def _order(labels: Labels, validation: int, seed: int) -> Indices:
    if not 0 <= validation < len(labels):
        raise UserError(f"Invalid preprocess.validation. Expected: 0..{len(labels) - 1}. Received: {validation}.")
    return measure.stratified_order(labels, seed)


@contextmanager
def _whole(destination: Path) -> Iterator[Path]:
    """A folder to fill, which replaces `destination` when the block ends, and a failed block leaves none."""
    partial = destination.with_name(f".{destination.name}.partial")  # fixed: what a killed process left is replaced
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        shutil.rmtree(destination, ignore_errors=True)
        partial.rename(destination)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _finish(partial: Path, card: Card, order: Indices) -> None:
    with files.atomic(partial / "splits.npz") as stream:
        np.savez(stream, order=order)
    files.write_text(partial / "card.json", json.dumps(card, indent=1) + "\n")


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
    facts: Facts,
    train: Labels,
    test: Labels,
    order: Indices,
    validation: int,
    seed: int,
    statistics: tuple[list[float], list[float]],
) -> Card:
    parts: dict[Literal["train", "validation", "test"], Labels]
    parts = {"train": train[order[validation:]], "validation": train[order[:validation]], "test": test}
    counts = {part: np.bincount(labels, minlength=len(facts["classes"])).tolist() for part, labels in parts.items()}
    mean, std = statistics
    return {
        **facts,
        "split": {"validation": validation, "seed": seed},
        "counts": counts,
        "mean": mean,
        "std": std,
    }


def read_card(name: str, folder: Path | None = None) -> Card:
    """What `card.json` says of the processed data set `name`; raises as `open_processed`."""
    folder = files.PROCESSED / name if folder is None else folder
    refuse_unavailable(name, folder)
    try:
        card: Card = json.loads((folder / "card.json").read_text())
    except (OSError, ValueError) as error:
        raise _damaged(folder, str(error)) from error
    return card


def open_processed(name: str, folder: Path | None = None) -> Processed:
    """Open the processed data set `name` in `folder` (None: its place under data/processed), memory-mapped read-only.

    Raises UserError if it is absent, truncated or not what its card says, and where its sources were out of reach.
    """
    folder = files.PROCESSED / name if folder is None else folder
    card = read_card(name, folder)
    try:
        listed = folder / "files.json"
        arrays = [_pictures(listed, part, card) for part in folders.PARTS] if listed.exists() else []
        train_images, test_images = arrays or (_mapped(folder / "train_images"), _mapped(folder / "test_images"))
        train_labels, test_labels = _mapped(folder / "train_labels"), _mapped(folder / "test_labels")
        with (folder / "splits.npz").open("rb") as stream, np.load(stream, allow_pickle=False) as splits:
            order = splits["order"]
        counts = {part: sum(values) for part, values in card["counts"].items()}
        train, test = counts["train"] + counts["validation"], counts["test"]
        expected = [(train, *card["shape"]), (train,), (test, *card["shape"]), (test,), (train,)]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(folder, str(error)) from error
    received = [array.shape for array in (train_images, train_labels, test_images, test_labels, order)]
    if received != expected:
        raise _damaged(folder, f"shapes {received} instead of {expected}")
    return Processed(name, train_images, train_labels, test_images, test_labels, order, card)


def _mapped(path: Path) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
    return array


def _pictures(listed: Path, part: str, card: Card) -> "Pictures":
    from cnnlab.data.pictures import Pictures  # noqa: PLC0415  # needs TensorFlow, which arrays do not

    names = json.loads(listed.read_text())
    return Pictures(Path(names["root"]), names[part], card["shape"][0])


def write_unavailable(folder: Path, reason: str) -> None:
    """Make `folder` say that its data set is not available, and why."""
    shutil.rmtree(folder, ignore_errors=True)
    files.write_text(folder / UNAVAILABLE, reason + "\n")


def unavailable(folder: Path) -> str | None:
    """Why the data set of the folder is not available; None where nothing says so."""
    note = folder / UNAVAILABLE
    return note.read_text().strip() if note.exists() else None


def refuse_unavailable(name: str, folder: Path) -> None:
    """Raise UserError where the folder says that its data set is not available."""
    if reason := unavailable(folder):
        raise UserError(f"Data set {name} is not available. {reason}")


def _damaged(folder: Path, reason: str) -> UserError:
    return UserError(f"Cannot open the processed data in {folder}: {reason}. To mend it: dvc repro preprocess")
