import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from damage import DAMAGES
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from small_sets import Small

from cnnlab import catalog, files
from cnnlab.data import measure, store
from cnnlab.errors import UserError


@pytest.fixture
def processed(small_mnist: Small, tmp_path: Path) -> store.Processed:
    raw = small_mnist.plain(tmp_path / "raw") / "mnist"
    store.preprocess(small_mnist.data_set, raw, tmp_path / "mnist", validation=60, seed=3)
    return store.open_processed("mnist", tmp_path / "mnist")


# The stratified order


@given(labels=arrays(np.int32, st.integers(1, 120), elements=st.integers(0, 6)), seed=st.integers(0, 2**31 - 1))
def test_every_prefix_and_window_is_stratified(labels: np.ndarray, seed: int) -> None:
    """Class c of a prefix of k is off its share p_c k by at most 1/2 + (C - 2) p_c / 2, of a window by twice that.

    Proof: at the rank t where the prefix ends, |a_c - n_c t| <= 1/2 for each class, d_c = a_c - n_c t. The prefix has
    k = sum a, so a_c - p_c k = d_c - p_c sum d = (1 - p_c) d_c - p_c (sum of the other d), at most
    ((1 - p_c) + p_c (C - 1)) / 2 = 1/2 + (C - 2) p_c / 2.
    """
    order = measure.stratified_order(labels, seed)
    assert sorted(order) == list(range(len(labels)))
    assert order.dtype == np.int32
    classes, counts = np.unique(labels, return_counts=True)
    share = counts / len(labels)
    bound = 0.5 + (len(classes) - 2) * share / 2
    prefixes = np.cumsum(labels[order][:, None] == classes, axis=0)
    prefixes = np.concatenate([np.zeros((1, len(classes)), int), prefixes])
    excess = prefixes - np.arange(len(labels) + 1)[:, None] * share
    assert (np.abs(excess) <= bound + 1e-9).all()
    windows = excess[:, None] - excess[None, :]
    assert (np.abs(windows) <= 2 * bound + 1e-9).all()


@given(classes=st.integers(2, 10), each=st.integers(1, 12), seed=st.integers(0, 2**31 - 1))
def test_balanced_classes_differ_by_at_most_one(classes: int, each: int, seed: int) -> None:
    labels = np.repeat(np.arange(classes, dtype=np.int32), each)
    ordered = labels[measure.stratified_order(labels, seed)]
    for size in range(len(labels) + 1):
        counts = np.bincount(ordered[:size], minlength=classes)
        assert counts.max() - counts.min() <= 1


def test_the_order_is_a_function_of_the_seed() -> None:
    labels = np.arange(1000, dtype=np.int32) % 10
    assert np.array_equal(measure.stratified_order(labels, 5), measure.stratified_order(labels, 5))
    assert not np.array_equal(measure.stratified_order(labels, 5), measure.stratified_order(labels, 6))


def test_parts_are_nested_and_disjoint(processed: store.Processed) -> None:
    train, validation = processed.split(60)
    fewer, same = processed.split(60, 100)
    assert np.array_equal(fewer, train[:100])
    assert np.array_equal(same, validation)
    assert np.array_equal(processed.split(90)[1][:60], validation)
    assert sorted([*train, *validation]) == list(range(300))


def test_each_fold_sets_aside_other_images(processed: store.Processed) -> None:
    folds = [processed.split(60, fold=fold) for fold in range(6)]
    assert sorted(np.concatenate([validation for _, validation in folds[:5]])) == list(range(300))
    for train, validation in folds:
        assert sorted([*train, *validation]) == list(range(300))
    assert np.array_equal(folds[5][1], folds[0][1])


@pytest.mark.parametrize(("validation", "train"), [(300, None), (-1, None), (60, 241), (60, 0), (60, -5)])
def test_impossible_parts_are_refused(processed: store.Processed, validation: int, train: int | None) -> None:
    with pytest.raises(UserError, match=r"Invalid .* of mnist\. Expected: .* Received: "):
        processed.split(validation, train)


# The card


@given(images=arrays(np.uint8, st.tuples(st.integers(1, 40), st.just(3), st.just(2), st.sampled_from([1, 3]))))
def test_channel_statistics_agree_with_numpy(images: np.ndarray) -> None:
    mean, std = measure.channel_statistics(images)
    scaled = images.astype(np.float64) / 255
    assert mean == pytest.approx(scaled.mean(axis=(0, 1, 2)), abs=1e-12)
    assert std == pytest.approx(scaled.std(axis=(0, 1, 2)), abs=1e-9)


def test_duplicates_are_found_within_and_across() -> None:
    train, test = np.zeros((6, 2, 2, 1), np.uint8), np.zeros((4, 2, 2, 1), np.uint8)
    train[:, 0, 0, 0], test[:, 0, 0, 0] = [1, 2, 1, 1, 3, 4], [4, 1, 7, 7]
    labels = np.array([0, 0, 0, 5, 0, 0], np.int32), np.array([0, 0, 2, 2], np.int32)
    found = measure.duplicates((measure.digests(train), labels[0]), (measure.digests(test), labels[1]))
    assert found["train"] == {"groups": 1, "pairs": 3, "groups_with_different_labels": 1, "indices": [[0, 2, 3]]}
    assert found["test"] == {"groups": 1, "pairs": 1, "groups_with_different_labels": 0, "indices": [[2, 3]]}
    across = [{"train": [0, 2, 3], "test": [1]}, {"train": [5], "test": [0]}]
    assert found["across"] == {"groups": 2, "pairs": 4, "groups_with_different_labels": 1, "indices": across}


def test_the_digest_ignores_the_order_and_nothing_else(processed: store.Processed) -> None:
    images, labels = np.array(processed.test_images), np.array(processed.test_labels)
    digest = measure.order_free_digest(images, labels)
    assert measure.order_free_digest(images[::-1], labels[::-1]) == digest == processed.card["digests"]["test"]
    assert measure.order_free_digest(images, (labels + 1) % 10) != digest
    images[0, 0, 0, 0] ^= 1
    assert measure.order_free_digest(images, labels) != digest


CIFAR10_DIGESTS = {  # published in the design, computed by others from the official archive
    "train": "55a61f79a40ece2ceda9fb5f9f7078f6ea2fc4952489cef56682bcf92cfcc260",
    "test": "325704b01eb92e1e2a6215ae6a916bb7db7de054af0c496be1c7be2e0fcfbf5f",
}


def test_the_real_cifar10_card(real_cifar10: Path, tmp_path: Path) -> None:
    data_set = catalog.CATALOG["cifar10"]
    store.preprocess(data_set, real_cifar10, tmp_path / "cifar10", validation=5000, seed=0)
    opened = store.open_processed("cifar10", tmp_path / "cifar10")
    assert opened.card["digests"] == CIFAR10_DIGESTS
    assert opened.card["counts"] == {"train": [4500] * 10, "validation": [500] * 10, "test": [1000] * 10}
    mean, std = measure.channel_statistics(opened.train_images)  # of all 50,000: the figures everyone prints
    assert mean == pytest.approx([0.4914, 0.4822, 0.4465], abs=5e-5)
    assert std == pytest.approx([0.2470, 0.2435, 0.2616], abs=5e-5)
    assert opened.card["mean"] == measure.channel_statistics(opened.train_images[opened.split(5000)[0]])[0]


# The folder


def test_the_folder_is_the_same_bytes_each_time(small_mnist: Small, tmp_path: Path) -> None:
    raw = small_mnist.plain(tmp_path / "raw") / "mnist"
    for name in ("one", "two", "two"):
        store.preprocess(small_mnist.data_set, raw, tmp_path / name, validation=60, seed=3)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "one", "two"}


def test_arrays_hold_what_the_files_held(processed: store.Processed, small_mnist: Small) -> None:
    assert np.array(processed.train_images).tobytes() == small_mnist.content["train-images-idx3-ubyte"][16:]
    assert processed.test_labels.astype(np.uint8).tobytes() == small_mnist.content["t10k-labels-idx1-ubyte"][8:]
    assert isinstance(processed.train_images, np.memmap)
    kinds = (processed.train_images.dtype, processed.train_labels.dtype, processed.order.dtype)
    assert kinds == (np.uint8, np.int32, np.int32)
    assert sum(processed.card["counts"]["train"]) == 240


@pytest.mark.parametrize("damage", ["corrupted", "truncated", "swapped", "absent"])
def test_wrong_raw_files_are_never_decoded(small_cifar10: Small, tmp_path: Path, damage: str) -> None:
    raw = small_cifar10.plain(tmp_path) / "cifar10"
    first, second = raw / "data_batch_1.bin", raw / "data_batch_2.bin"
    content = first.read_bytes()
    if damage == "absent":
        first.unlink()
    elif damage == "swapped":
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)
    else:
        first.write_bytes(content[:-1] + (b"" if damage == "truncated" else bytes([content[-1] ^ 1])))
    message = (
        r"Invalid file .*data_batch_1\.bin\. Expected: sha256 .* Received: .* "
        r"To fix this, run: python pipeline/fetch\.py"
    )
    with pytest.raises(UserError, match=message):
        store.preprocess(small_cifar10.data_set, raw, tmp_path / "processed", validation=10, seed=0)
    assert {path.name for path in tmp_path.iterdir()} == {"cifar10"}


def test_an_impossible_validation_part_writes_nothing(small_mnist: Small, tmp_path: Path) -> None:
    raw = small_mnist.plain(tmp_path) / "mnist"
    with pytest.raises(
        UserError,
        match=r"^Invalid validation size of mnist\. Expected: 0\.\.299\. Received: 300\. .* preprocess\.validation in",
    ):
        store.preprocess(small_mnist.data_set, raw, tmp_path / "processed", validation=300, seed=0)
    assert not (tmp_path / "processed").exists()


FILES = ["train_images.npy", "train_labels.npy", "test_labels.npy", "splits.npz", "card.json", files.MANIFEST]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.usefixtures("processed")
def test_a_damaged_folder_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    DAMAGES[damage](tmp_path / "mnist" / name)
    with pytest.raises(UserError) as refusal:
        store.open_processed("mnist", tmp_path / "mnist")
    (line,) = str(refusal.value).splitlines()
    assert line.startswith(("Invalid file ", "Cannot check "))
    flipped_digest = name == files.MANIFEST and damage.startswith("flip")  # looks as if its file were damaged
    assert flipped_digest or f"mnist/{name}" in line
    assert line.endswith(f"To fix this, run: rm -rf {tmp_path}/mnist && dvc repro preprocess")


def test_a_card_of_another_set_is_refused(processed: store.Processed, tmp_path: Path) -> None:
    card = {**processed.card, "shape": [32, 32, 3]}
    (tmp_path / "mnist" / "card.json").write_text(json.dumps(card))
    files.write_manifest(tmp_path / "mnist")
    with pytest.raises(UserError, match=r"shapes .* instead of"):
        store.open_processed("mnist", tmp_path / "mnist")


def test_the_stages_import_no_heavy_library() -> None:
    heavy = "{'tensorflow', 'keras', 'mlflow', 'pandas'}"
    code = f"import sys; sys.path.insert(0, 'pipeline'); import fetch, preprocess; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_a_processed_set_cannot_be_changed(processed: store.Processed) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        processed.name = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        processed.train_images[0] = 0
