"""Properties of a data set that preprocessing computes: a stratified order, statistics, digests, duplicates."""

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
    """Groups of images that are equal byte for byte; a group of n within one split has n(n-1)/2 pairs."""

    groups: int
    pairs: int
    groups_with_different_labels: int
    indices: list[list[int]] | list[dict[str, list[int]]]  # across: by split


def stratified_order(labels: Labels, seed: int) -> Indices:
    """Return a seeded permutation (int32) of images with `labels` (count,) every prefix of which is stratified.

    The images of each of the C classes are shuffled; the j-th of n_c gets the rank (j + 1/2) / n_c. All images are then
    sorted by rank, with ties broken at random. A prefix up to rank t has n_c t ± 1/2 images of class c, so a prefix of
    k of the n images has k n_c / n ± (1/2 + (C - 2) n_c / (2 n)) of them: less than 1 off if the classes are of equal
    size. A window is a difference of two prefixes, and off by at most twice that.
    """
    generator = np.random.default_rng(seed)
    shuffle, ties = generator.random(len(labels)), generator.random(len(labels))
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[members[np.argsort(shuffle[members])]] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((ties, rank)).astype(np.int32)


def channel_statistics(images: Images) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation of each channel of images (count, h, w, channels) scaled to [0, 1].

    The sums are exact integers, so the order of the images does not change the result.
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
    """Return the SHA-256 (hex) of the sorted SHA-256 digests of all records (label byte, then one plane per channel).

    Two collections with the same labelled images have the same digest, whatever their order.
    """
    digests = sorted(hashlib.sha256(record).digest() for record in decode.records(images, labels))
    return hashlib.sha256(b"".join(digests)).hexdigest()


def duplicates(
    train: tuple[Sequence[bytes], Labels], test: tuple[Sequence[bytes], Labels]
) -> dict[Literal["train", "test", "across"], Duplicates]:
    """Find equal images within and across two splits from the digests of their content; labels (count,)."""
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
    """The SHA-256 of the pixels of each image, uint8 (count, h, w, channels)."""
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
    """As `order_free_digest`, for files: a record is the label (four bytes), then the SHA-256 of the file."""
    records = [int(label).to_bytes(4) + digest for digest, label in zip(content, labels, strict=True)]
    return hashlib.sha256(b"".join(sorted(hashlib.sha256(record).digest() for record in records))).hexdigest()
