"""Feeding: every image once per epoch in an order that is a function of seed and epoch; resident and streamed alike."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from cnnlab.data import batches

seeds = st.integers(0, 2**31 - 1)
sizes, batch_sizes = st.integers(1, 300), st.integers(1, 70)
call_lengths = st.sampled_from([1, 2, 4, 8, 16, 32])  # what divides STEPS_PER_CALL
Kind = Literal["resident", "streamed"]
KINDS: list[Kind] = ["resident", "streamed"]


def rows_of(blocks: list[batches.Block]) -> list[int]:
    return [row for block in blocks for row in block.rows.ravel().tolist()]


@given(size=sizes, batch=batch_sizes, steps=call_lengths, seed=seeds, epoch=st.integers(0, 1000))
def test_an_epoch_has_every_image_once(size: int, batch: int, steps: int, seed: int, epoch: int) -> None:
    index = np.random.default_rng(seed).choice(10_000, size, replace=False)
    before = index.copy()
    blocks = batches.epoch_blocks(index, batch, steps, seed, epoch)
    assert sorted(rows_of(blocks)) == sorted(index.tolist())
    assert {block.rows.dtype for block in blocks} == {np.dtype(np.int32)}
    assert np.array_equal(index, before)


@given(size=sizes, batch=batch_sizes, steps=call_lengths, seed=seeds, epoch=st.integers(0, 1000))
def test_steps_are_numbered_without_gap(size: int, batch: int, steps: int, seed: int, epoch: int) -> None:
    blocks = batches.epoch_blocks(np.arange(size), batch, steps, seed, epoch)
    assert blocks[0].first_step == 0
    assert all(block.end == block.first_step + len(block.rows) for block in blocks)
    assert all(left.end == right.first_step for left, right in pairwise(blocks))
    assert blocks[-1].end == -(-size // batch)


@given(size=sizes, batch=batch_sizes, steps=call_lengths, seed=seeds, epoch=st.integers(0, 1000))
def test_blocks_have_one_shape_but_for_the_remainders(size: int, batch: int, steps: int, seed: int, epoch: int) -> None:
    """Each shape is compiled once more."""
    blocks = batches.epoch_blocks(np.arange(size), batch, steps, seed, epoch)
    full, rest = divmod(size, batch)
    whole = [block.rows.shape for block in blocks if block.rows.shape[1] == batch]
    short = [block for block in blocks if block.rows.shape[1] != batch]
    assert [count for count, _ in whole[:-1]] == [steps] * (len(whole) - 1)
    assert sum(count for count, _ in whole) == full
    assert all(1 <= count <= steps for count, _ in whole)
    assert [block.rows.shape for block in short] == ([(1, rest)] if rest else [])
    assert all(block.first_step % batches.STEPS_PER_CALL == 0 or block.first_step == full for block in short)


@given(size=st.integers(0, 300), batch=batch_sizes, seed=seeds, epoch=st.integers(0, 1000))
def test_an_epoch_is_a_function_of_seed_and_epoch(size: int, batch: int, seed: int, epoch: int) -> None:
    index = np.random.default_rng(seed).choice(10_000, size, replace=False)
    first, again = (batches.epoch_blocks(index, batch, 4, seed, epoch) for _ in range(2))
    assert [(block.first_step, block.rows.tolist()) for block in first] == [
        (block.first_step, block.rows.tolist()) for block in again
    ]


@given(seed=seeds, epoch=st.integers(0, 1000), other=st.tuples(seeds, st.integers(0, 1000)))
def test_another_seed_or_epoch_gives_another_order(seed: int, epoch: int, other: tuple[int, int]) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return rows_of(batches.epoch_blocks(np.arange(100), 10, 4, seed, epoch))

    assert (order(seed, epoch) == order(*other)) == ((seed, epoch) == other)
    assert order(seed, epoch) != order(seed, epoch + 1)


@pytest.mark.parametrize(("whole", "places"), [(70, [0, 32, 64, 70]), (64, [0, 32, 64]), (3, [0, 3]), (0, [0])])
def test_the_short_batch_is_equally_often_at_every_place(whole: int, places: list[int]) -> None:
    """Five standard deviations of a binomial; the epochs are always the same ones."""
    found = []
    for epoch in range(600):
        (place,) = (
            block.first_step
            for block in batches.epoch_blocks(np.arange(7 * whole + 2), 7, 4, 3, epoch)
            if block.rows.shape[1] == 2
        )
        found.append(place)
    assert sorted(set(found)) == places
    share = 1 / len(places)
    for place in places:
        assert abs(found.count(place) - 600 * share) <= 5 * (600 * share * (1 - share)) ** 0.5


@pytest.mark.parametrize(
    "size",
    [100, 103, 1003],
)
def test_the_steps_do_not_depend_on_how_they_are_cut_into_calls(size: int) -> None:
    """So feeding and memory, which decide a call's length, change no result."""
    for epoch in range(5):
        cuts = [batches.epoch_blocks(np.arange(size), 10, steps, 5, epoch) for steps in (1, 4, 32)]
        steps = [[row.tolist() for block in blocks for row in block.rows] for blocks in cuts]
        assert steps[0] == steps[1] == steps[2]


@given(size=st.integers(0, 300), batch=batch_sizes)
def test_evaluation_keeps_the_order(size: int, batch: int) -> None:
    index = np.random.default_rng(size).choice(10_000, size, replace=False)
    blocks = batches.blocks(index, batch)
    assert rows_of(blocks) == index.tolist()
    assert [block.first_step for block in blocks] == [*range(-(-size // batch))]
    shapes = [block.rows.shape for block in blocks]
    assert shapes == [(1, batch)] * (size // batch) + [(1, size % batch)] * bool(size % batch)


@given(batch=st.integers(1, 40), replicas=st.integers(1, 9), halo=st.integers(0, 1))
def test_shares_are_equal_and_complete(batch: int, replicas: int, halo: int) -> None:
    shares = [batches.share(batch, replica, replicas, halo).tolist() for replica in range(replicas)]
    sizes = [batches.share_size(batch, replica, replicas) for replica in range(replicas)]
    own = [share[halo:][:size] for share, size in zip(shares, sizes, strict=True)]
    assert [column for share in own for column in share] == [*range(batch)]
    assert max(sizes) - min(sizes) <= 1
    assert [len(share) for share in shares] == [halo + max(size, 1) for size in sizes]  # a stand-in for an empty one
    for share in shares:
        assert share[:halo] == [(share[halo] - 1) % batch][:halo]  # before column 0 comes the last one


@pytest.fixture
def arrays() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (50, 4, 5, 3), np.uint8)
    images[0].flat[:2] = [0, 255]
    return images, random.integers(0, 10, 50)


@pytest.fixture
def device() -> tf.distribute.Strategy:
    return tf.distribute.OneDeviceStrategy("CPU:0")


@pytest.fixture(params=["float32", "float64"])
def floatx(request: pytest.FixtureRequest) -> Iterator[str]:
    keras.config.set_floatx(request.param)
    yield request.param
    keras.config.set_floatx("float32")


def taken(data: batches.Data, blocks: list[batches.Block], strategy: tf.distribute.Strategy) -> list[Any]:
    """Images and labels of every step, on the only replica."""
    return [
        strategy.run(data.take, (source, step))
        for block, source in data.feed(blocks, strategy)
        for step in range(len(block.rows))
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_images_come_as_shares_of_255(
    arrays: tuple[np.ndarray, np.ndarray], floatx: str, kind: Kind, device: tf.distribute.Strategy
) -> None:
    images, labels = arrays
    rows = np.array([[0, 49], [3, 3], [17, 0]], np.int32)
    data = batches.place(images, labels, device, kind)
    steps = taken(data, [batches.Block(rows, 0)], device)
    assert len(steps) == 3
    for (pixels, classes), row in zip(steps, rows, strict=True):
        assert (pixels.dtype, classes.dtype) == (floatx, tf.int64)
        assert np.array_equal(pixels.numpy(), images[row].astype(floatx) / np.asarray(255, floatx))
        assert np.array_equal(classes.numpy(), labels[row])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_labels_on_the_host(
    arrays: tuple[np.ndarray, np.ndarray], kind: Kind, dtype: type, device: tf.distribute.Strategy
) -> None:
    images, labels = arrays
    data = batches.place(images, labels.astype(dtype), device, kind)
    assert isinstance(data.labels, np.ndarray)
    assert data.labels.tolist() == labels.tolist()


def test_a_memory_mapped_file_is_streamed(
    arrays: tuple[np.ndarray, np.ndarray], tmp_path: Path, device: tf.distribute.Strategy
) -> None:
    for name, array in zip(("images", "labels"), arrays, strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    images, labels = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("images", "labels"))
    assert isinstance(images, np.memmap)
    data = batches.place(images, labels, device, "streamed")
    blocks = batches.epoch_blocks(np.arange(50), 8, 3, 1, 0)
    expected = [row for block in blocks for row in block.rows]
    for (pixels, classes), row in zip(taken(data, blocks, device), expected, strict=True):
        assert np.array_equal(pixels.numpy(), arrays[0][row] / np.float32(255))
        assert np.array_equal(classes.numpy(), arrays[1][row])


def test_the_size_decides_how_a_set_is_fed(
    arrays: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch, device: tf.distribute.Strategy
) -> None:
    assert arrays[0].nbytes == 50 * 4 * 5 * 3
    for limit, auto in ((3000, batches.Resident), (2999, batches.Streamed)):
        monkeypatch.setattr(batches, "RESIDENT_BYTES", limit)
        assert type(batches.place(*arrays, device)) is auto
        assert type(batches.place(*arrays, device, "auto")) is auto
        assert type(batches.place(*arrays, device, "resident")) is batches.Resident
        assert type(batches.place(*arrays, device, "streamed")) is batches.Streamed


def test_a_streamed_block_fits_the_memory(
    arrays: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = batches.Streamed(*arrays)  # an image has 60 bytes
    for limit, steps in ((2**26, batches.STEPS_PER_CALL), (4 * 600, 4), (4 * 600 - 1, 2), (600, 1), (1, 1)):
        monkeypatch.setattr(batches, "STREAMED_BYTES", limit)
        assert data.steps_per_call(10) == steps


@pytest.mark.parametrize("kind", KINDS)
def test_no_blocks_feed_nothing(
    arrays: tuple[np.ndarray, np.ndarray], kind: Kind, device: tf.distribute.Strategy
) -> None:
    assert [*batches.place(*arrays, device, kind).feed([], device)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_feeding_can_end_early(
    arrays: tuple[np.ndarray, np.ndarray], kind: Kind, device: tf.distribute.Strategy
) -> None:
    feed = batches.place(*arrays, device, kind).feed(batches.epoch_blocks(np.arange(50), 1, 2, 0, 0), device)
    assert next(iter(feed))[0].first_step == 0
    feed.close()
