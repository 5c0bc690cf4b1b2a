"""Feeding: every image once an epoch, in an order that is a function of seed and epoch."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlab.data import batches

seeds = st.integers(0, 2**31 - 1)


@given(size=st.integers(1, 300), batch=st.integers(1, 70), steps=st.integers(1, 40), seed=seeds)
def test_an_epoch_is_cut_without_loss(size: int, batch: int, steps: int, seed: int) -> None:
    index = np.random.default_rng(seed).choice(10_000, size, replace=False)
    order = batches.epoch_order(index, seed, 0)
    blocks = [*batches.calls(order, batch, steps)]
    assert np.array_equal(np.concatenate([block.ravel() for block in blocks]), order)
    full, rest = divmod(size, batch)
    *whole, last = [block.shape for block in blocks]
    if rest:
        assert last == (1, rest)
    else:
        whole.append(last)
    assert sum(count for count, _ in whole) == full
    assert {columns for _, columns in whole} <= {batch}
    assert all(count == steps for count, _ in whole[:-1])
    assert all(1 <= count <= steps for count, _ in whole)


@given(size=st.integers(0, 300), seed=seeds, epoch=st.integers(0, 1000))
def test_the_order_is_a_permutation(size: int, seed: int, epoch: int) -> None:
    index = np.random.default_rng(seed).choice(10_000, size, replace=False).astype(np.int32)
    before = index.copy()
    order = batches.epoch_order(index, seed, epoch)
    assert order.dtype == np.int32
    assert np.array_equal(np.sort(order), np.sort(index))
    assert np.array_equal(index, before)
    assert np.array_equal(order, batches.epoch_order(index, seed, epoch))


@given(seed=seeds, epoch=st.integers(0, 1000), other=st.tuples(seeds, st.integers(0, 1000)))
def test_another_seed_or_epoch_gives_another_order(seed: int, epoch: int, other: tuple[int, int]) -> None:
    index = np.arange(100)
    same = np.array_equal(batches.epoch_order(index, seed, epoch), batches.epoch_order(index, *other))
    assert same == ((seed, epoch) == other)
    assert not np.array_equal(batches.epoch_order(index, seed, epoch), batches.epoch_order(index, seed, epoch + 1))


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (50, 4, 5, 3), np.uint8)
    images[0].flat[:2] = [0, 255]
    return images, random.integers(0, 10, 50)


@pytest.mark.parametrize("floatx", ["float32", "float64"])
def test_images_come_as_shares_of_255(pictures: tuple[np.ndarray, np.ndarray], floatx: str) -> None:
    images, labels = pictures
    index = np.array([0, 49, 3, 3, 17], np.int32)
    keras.config.set_floatx(floatx)
    try:
        taken, classes = batches.Resident(images, labels).take(index)
    finally:
        keras.config.set_floatx("float32")
    assert taken.dtype == floatx
    assert np.array_equal(taken.numpy(), images[index].astype(floatx) / np.asarray(255, floatx))
    assert np.array_equal(classes.numpy(), labels[index])


def test_labels_on_the_host(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = pictures
    index = np.array([5, 0, 5])
    found = batches.Resident(images, labels).labels(index)
    assert (found.dtype.kind, found.tolist()) == ("i", labels[index].tolist())
