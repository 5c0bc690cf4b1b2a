"""What is measured of a data set before it is trained on: an order, statistics, digests, duplicates."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, TypedDict

import numpy as np
import numpy.typing as npt

from cnnlab.data import decode
from cnnlab.data.decode import Images, Labels

Indices = npt.NDArray[np.int32]


class Duplicates(TypedDict):
    """Images that are equal byte for byte, in groups; a group of n within one split makes n(n-1)/2 pairs."""

    groups: int
    pairs: int
    groups_with_different_labels: int
    indices: list[list[int]] | list[dict[str, list[int]]]  # across: by split


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
    train: tuple[Sequence[bytes], Labels], test: tuple[Sequence[bytes], Labels]
) -> dict[Literal["train", "test", "across"], Duplicates]:
    """Find equal images within each split and across the two, by digests of their content; labels (count,)."""
    (train_digests, train_labels), (test_digests, test_labels) = train, test
    in_train, in_test = _by_content(train_digests), _by_content(test_digests)
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


def digests(images: Images) -> list[bytes]:
    """The sha256 of each image's pixels; images uint8 (count, h, w, channels)."""
    return [hashlib.sha256(image).digest() for image in np.ascontiguousarray(images)]


def _by_content(digests: Sequence[bytes]) -> dict[bytes, list[int]]:
    groups = defaultdict(list)
    for index, digest in enumerate(digests):
        groups[digest].append(index)
    return groups


def _within(groups: dict[bytes, list[int]], labels: Labels) -> Duplicates:
    repeated = [group for group in groups.values() if len(group) > 1]
    return {
        "groups": len(repeated),
        "pairs": sum(len(group) * (len(group) - 1) // 2 for group in repeated),
        "groups_with_different_labels": sum(len(set(labels[group])) > 1 for group in repeated),
        "indices": repeated,
    }


def digest_of_files(content: Sequence[bytes], labels: Labels) -> str:
    """As `order_free_digest`, of files by their sha256: a record is the label, four bytes, and that."""
    records = [int(label).to_bytes(4) + digest for digest, label in zip(content, labels, strict=True)]
    return hashlib.sha256(b"".join(sorted(hashlib.sha256(record).digest() for record in records))).hexdigest()
