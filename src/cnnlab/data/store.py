"""The processed folder of a data set: `{train,test}_{images,labels}.npy`, `splits.npz`, `card.json`, `SHA256SUMS`.

An image folder has `files.json` in place of the image arrays: its images stay where they are and are decoded on access.
"""

import json
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt

from cnnlab import files
from cnnlab.catalog import DataSet
from cnnlab.data import decode, folders, measure
from cnnlab.data.decode import Images, Labels
from cnnlab.data.folders import Broken
from cnnlab.data.measure import Duplicates, Indices
from cnnlab.errors import UserError

if TYPE_CHECKING:
    from cnnlab.data.images import ImageFiles

UNAVAILABLE = "not-available.txt"  # in the folder of an optional data set that could not be fetched: the reason
_LISTING = "files.json"
_SAMPLE = 2000  # images of a folder for mean and standard deviation; decoding all of them could take hours


class Facts(TypedDict):
    """The part of a card that describes the data set as published."""

    name: str
    shape: list[int]
    classes: list[str]
    digests: dict[Literal["train", "test"], str]  # of the complete splits, independent of their order
    duplicates: dict[Literal["train", "test", "across"], Duplicates]
    raw: dict[str, str]  # original file -> SHA-256
    source: str  # URL or folder
    superclasses: dict[str, list[str]]  # superclass -> classes, if the data set has them
    broken: list[Broken]  # files that were skipped
    mirrored: bool  # whether a mirrored image still belongs to its class


class Card(Facts):
    """`card.json`: the description of a processed data set."""

    split: dict[Literal["validation", "seed"], int]  # the default validation part, which is excluded from "train" below
    counts: dict[Literal["train", "validation", "test"], list[int]]  # images per class
    mean: list[float]  # of each channel, over the train part, with pixels scaled to [0, 1]
    std: list[float]


@dataclass(frozen=True, eq=False)
class Processed:
    """A processed data set: images uint8 (count, height, width, channels), labels int32 (count,), both memory-mapped.

    The images of an image folder are `ImageFiles`. `order` (int32) is a permutation of the training images, see
    `measure.stratified_order`.
    """

    name: str
    train_images: "Images | ImageFiles"
    train_labels: Labels
    test_images: "Images | ImageFiles"
    test_labels: Labels
    order: Indices
    card: Card

    def split(self, validation: int, train: int | None = None, fold: int = 0) -> tuple[Indices, Indices]:
        """Return the indices of `train` training images (None: all that are left) and of `validation` others.

        Both are stratified and nested: a smaller part is a prefix of a larger one. Each `fold` has other validation
        images, as in cross-validation, until all training images have been among them; then it starts again.
        Raises UserError if there are too few training images.
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
        order = np.roll(self.order, -fold * validation)
        return order[validation:end], order[:validation]


def preprocess(data_set: DataSet, raw: Path, destination: Path, *, validation: int, seed: int) -> None:
    """Decode the original files in `raw` and write the processed folder `destination`, completely or not at all.

    `validation` training images, drawn with `seed`, are excluded from the card's mean and standard deviation.
    Raises UserError if a file is missing or wrong, or if `validation` leaves no training image.
    """
    for file in data_set.files:
        files.check(raw / file.name, file.sha256, f"python pipeline/fetch.py {data_set.name}")
    train, test = decode.split(data_set, raw, "train"), decode.split(data_set, raw, "test")
    order = _order(data_set.name, train[1], validation, seed, "preprocess.validation")
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
    arrays: dict[str, npt.NDArray[Any]]
    arrays = {"train_images": train[0], "train_labels": train[1], "test_images": test[0], "test_labels": test[1]}
    statistics = measure.channel_statistics(train[0][np.sort(order[validation:])])
    card = _card(facts, train[1], test[1], order, {"validation": validation, "seed": seed}, statistics)
    _write(destination, card, order, arrays)


def preprocess_images(
    name: str, root: Path, destination: Path, *, size: int, max_broken: int, mirrored: bool, validation: int, seed: int
) -> None:
    """Read the image folder `root` and write the processed folder `destination`, completely or not at all.

    The images stay in `root`; they are decoded to `size`×`size` pixels. Up to `max_broken` unreadable files are
    skipped. Raises UserError as `folders.scan` and `folders.examine`, or if `validation` leaves no training image.
    """
    from cnnlab.data.images import ImageFiles  # noqa: PLC0415  # needs TensorFlow, which arrays do not

    found, digests, broken = folders.examine(folders.scan(root), max_broken)
    train, test = found.labels("train"), found.labels("test")
    order = _order(name, train, validation, seed, f"data.{name}.validation or preprocess.validation")
    facts: Facts = {
        "name": name,
        "shape": [size, size, 3],
        "classes": found.classes,
        "digests": {
            "train": measure.digest_of_files(digests["train"], train),
            "test": measure.digest_of_files(digests["test"], test),
        },
        "duplicates": measure.duplicates((digests["train"], train), (digests["test"], test)),
        "raw": {},
        "source": str(root),
        "superclasses": {},
        "broken": broken,
        "mirrored": mirrored,
    }
    images = ImageFiles(root, found.files["train"], size)
    statistics = measure.channel_statistics(images[np.sort(order[validation:][:_SAMPLE])])
    card = _card(facts, train, test, order, {"validation": validation, "seed": seed}, statistics)
    listing = {"root": str(root), **found.files}
    _write(destination, card, order, {"train_labels": train, "test_labels": test}, listing)


def imagenet_card() -> Card:
    """ImageNet's card, to derive a network for it without its 150 GB of images; counts are totals.

    Russakovsky et al. 2015, arXiv:1409.0575, table 2; its 50,000 validation images serve as the test set.
    """
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
        "counts": {"train": [1_281_167], "validation": [0], "test": [50_000]},
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }


def identity(card: Card) -> dict[str, Any]:
    """The parts of a data set's card that decide the results of a training."""
    return {key: value for key, value in card.items() if key in ("digests", "shape", "split", "mean", "std")}


def _order(name: str, labels: Labels, validation: int, seed: int, keys: str) -> Indices:
    if not 0 <= validation < len(labels):
        raise UserError(
            f"Invalid validation size of {name}. Expected: 0..{len(labels) - 1}. Received: {validation}. "
            f"To fix this, set {keys} in params.yaml."
        )
    return measure.stratified_order(labels, seed)


def _card(
    facts: Facts,
    train: Labels,
    test: Labels,
    order: Indices,
    split: dict[Literal["validation", "seed"], int],
    statistics: tuple[list[float], list[float]],
) -> Card:
    validation = split["validation"]
    parts: dict[Literal["train", "validation", "test"], Labels]
    parts = {"train": train[order[validation:]], "validation": train[order[:validation]], "test": test}
    counts = {part: np.bincount(labels, minlength=len(facts["classes"])).tolist() for part, labels in parts.items()}
    return {**facts, "split": split, "counts": counts, "mean": statistics[0], "std": statistics[1]}


def _write(
    destination: Path,
    card: Card,
    order: Indices,
    arrays: dict[str, npt.NDArray[Any]],
    listing: dict[str, Any] | None = None,
) -> None:
    with files.atomic_folder(destination) as partial:
        for name, array in arrays.items():
            with files.atomic(partial / f"{name}.npy") as stream:
                # np.save would do, but on a full disk its error names neither the file nor the reason.
                np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
                stream.write(np.ascontiguousarray(array).data)
        if listing:
            files.write_text(partial / _LISTING, json.dumps(listing, indent=0) + "\n")
        with files.atomic(partial / "splits.npz") as stream:
            np.savez(stream, order=order)
        files.write_text(partial / "card.json", json.dumps(card, indent=1) + "\n")
        files.write_manifest(partial)


def read_card(name: str, folder: Path | None = None) -> Card:
    """Read `card.json` of the processed data set `name`; raises as `open_processed`."""
    folder = files.PROCESSED / name if folder is None else folder
    if reason := unavailable(folder):
        raise UserError(f"Data set {name} is not available. {reason}")
    if not folder.is_dir():
        raise _damaged(folder, "no such folder")
    try:
        card: Card = json.loads(_verified(folder / "card.json").read_text())
    except (OSError, ValueError) as error:
        raise _damaged(folder, str(error)) from error
    return card


def open_processed(name: str, folder: Path | None = None) -> Processed:
    """Open the processed data set `name` in `folder` (None: data/processed/<name>), memory-mapped and read-only.

    Raises UserError if the data set is missing or not available, or if a file does not match its digest or the card.
    """
    folder = files.PROCESSED / name if folder is None else folder
    card = read_card(name, folder)
    try:
        listing = folder / _LISTING
        images = [_image_files(listing, part, card) for part in folders.PARTS] if os.path.lexists(listing) else []
        train_images, test_images = images or (_mapped(folder / "train_images"), _mapped(folder / "test_images"))
        train_labels, test_labels = _mapped(folder / "train_labels"), _mapped(folder / "test_labels")
        with _verified(folder / "splits.npz").open("rb") as stream, np.load(stream, allow_pickle=False) as splits:
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
    array: npt.NDArray[Any] = np.load(_verified(path.with_suffix(".npy")), mmap_mode="r", allow_pickle=False)
    return array


def _image_files(listing: Path, part: str, card: Card) -> "ImageFiles":
    from cnnlab.data.images import ImageFiles  # noqa: PLC0415  # needs TensorFlow, which arrays do not

    names = json.loads(_verified(listing).read_text())
    return ImageFiles(Path(names["root"]), names[part], card["shape"][0])


def write_unavailable(folder: Path, reason: str) -> None:
    """Replace `folder` by a note that its data set is not available, with the reason."""
    shutil.rmtree(folder, ignore_errors=True)
    files.write_text(folder / UNAVAILABLE, reason + "\n")


def unavailable(folder: Path) -> str | None:
    """The reason why the data set of `folder` is not available; None if there is no such note."""
    note = folder / UNAVAILABLE
    return note.read_text().strip() if note.is_file() else None


def forget_unavailable() -> None:
    """Remove data/raw/<set> of every data set that is not available, so that DVC fetches it again."""
    for note in files.RAW.glob(f"*/{UNAVAILABLE}"):
        shutil.rmtree(note.parent)


def _verified(path: Path) -> Path:
    return files.verified(path, _command(path.parent))


def _command(folder: Path) -> str:
    # Without removing the folder, DVC, which compares sizes and times, might not notice the damage.
    return f"rm -rf {folder} && dvc repro preprocess"


def _damaged(folder: Path, reason: str) -> UserError:
    return UserError(f"Cannot open the processed data in {folder}: {reason}. To fix this, run: {_command(folder)}")
