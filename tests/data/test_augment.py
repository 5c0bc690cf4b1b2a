"""Augmentation against SciPy, and the distribution and determinism of its draws."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from cnnlab.data.augment import DRAWS, augment, draw
from cnnlab.params import Augment

LESSON = Augment(shift=0.1, flip=True)


def by_scipy(images: np.ndarray, draws: np.ndarray, knobs: Augment) -> np.ndarray:
    """The same change image by image: shift by linear interpolation with nearest fill, then the flip."""
    result = np.empty(images.shape)
    for i, (image, (rows, columns, flip)) in enumerate(zip(images, draws.astype(np.float64), strict=True)):
        height, width, _ = image.shape
        offset = (2 * rows - 1) * knobs.shift * height, (2 * columns - 1) * knobs.shift * width, 0
        result[i] = ndimage.affine_transform(image.astype(np.float64), np.eye(3), offset, order=1, mode="nearest")
        if knobs.flip and flip < 0.5:
            result[i] = result[i, :, ::-1]
    return result


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    channels=st.sampled_from([1, 3]),
    shift=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    flip=st.booleans(),
)
def test_it_equals_scipy(seed: int, height: int, width: int, channels: int, shift: float, flip: bool) -> None:
    random = np.random.default_rng(seed)
    images = random.random((4, height, width, channels), np.float32)
    draws = random.random((4, DRAWS), np.float32)
    draws[0] = [0, np.nextafter(np.float32(1), np.float32(0)), 0.5]  # the ends of the range, and no flip at one half
    knobs = Augment(shift=shift, flip=flip)
    ours = augment(tf.constant(images), tf.constant(draws), knobs).numpy()
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, by_scipy(images, draws, knobs), atol=2e-5)


def test_the_lessons_shifts_by_hand() -> None:
    """A row of 10 pixels moved by the most the lesson allows, 1 pixel, by half of that, and flipped."""
    row = np.arange(10.0, dtype=np.float32)
    images = np.tile(row, (3, 10, 1))[..., None]
    draws = np.array([[0.5, 1, 0.9], [0.5, 0.25, 0.9], [0.5, 0.5, 0.1]], np.float32)
    ours = augment(tf.constant(images), tf.constant(draws), LESSON).numpy()
    expected = [[1, 2, 3, 4, 5, 6, 7, 8, 9, 9], [0, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5], row[::-1]]
    for image, values in zip(ours, expected, strict=True):
        np.testing.assert_allclose(image, np.tile(np.array(values)[:, None], (10, 1, 1)), atol=1e-5)


def test_without_knobs_it_is_the_identity() -> None:
    images = np.random.default_rng(0).random((5, 8, 8, 3), np.float32)
    assert np.array_equal(augment(tf.constant(images), draw(1, 2, 5), Augment()).numpy(), images)


def test_the_compiled_graph_gives_the_same() -> None:
    images, draws = tf.random.stateless_uniform((6, 9, 9, 1), [1, 2]), draw(3, 4, 6)
    compiled = tf.function(lambda x, d: augment(x, d, LESSON))(images, draws)
    np.testing.assert_allclose(compiled, augment(images, draws, LESSON), atol=1e-6)


@given(
    size=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 40), max_size=3),
    seed=st.integers(0, 2**32 - 1),
    step=st.integers(0, 2**31 - 1),
)
@settings(max_examples=40)
def test_replicas_draw_what_one_replica_draws(size: int, cuts: list[int], seed: int, step: int) -> None:
    """Each replica draws for the whole batch and takes its positions: together they are one replica's draws."""
    positions = np.split(np.arange(size), sorted(min(cut, size) for cut in cuts))
    shares = [tf.gather(draw(seed, step, tf.constant(size)), share).numpy() for share in positions]
    assert np.array_equal(np.concatenate(shares), draw(seed, step, size).numpy())


def test_draws_are_a_function_of_seed_and_step() -> None:
    base = draw(7, 3, 100).numpy()
    assert base.shape == (100, DRAWS)
    assert np.array_equal(base, draw(tf.constant(7, tf.int64), tf.constant(3), tf.constant(100)).numpy())
    others = [draw(seed, step, 100).numpy() for seed, step in [(8, 3), (7, 4), (3, 7), (7 + 2**32, 3), (0, 0)]]
    for values in others:
        assert np.intersect1d(base, values).size <= 1  # 300 of 2^23 values: two in common by chance once in 10^4


def test_shifts_are_uniform_and_half_are_flipped() -> None:
    """Fixed seeds, so the counts never change; the bounds are those a right generator misses once in a million."""
    draws = np.concatenate([draw(11, step, 1000).numpy() for step in range(20)])
    assert 0 <= draws.min() <= draws.max() < 1
    for column in draws.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-6
    assert np.abs(np.corrcoef(draws.T) - np.eye(DRAWS)).max() < 5 / len(draws) ** 0.5
    row = tf.constant(np.tile(np.arange(10.0, dtype=np.float32), (1000, 10, 1))[..., None])
    images = [augment(row, draw(11, step, 1000), LESSON).numpy() for step in range(20)]
    differences = np.concatenate(images)[:, 0, 5, 0] - np.concatenate(images)[:, 0, 4, 0]  # 1, or -1 if flipped
    np.testing.assert_allclose(np.abs(differences), 1, atol=1e-5)
    assert stats.binomtest(int((differences < 0).sum()), 20_000).pvalue > 1e-6


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_move_together(channels: int) -> None:
    grey = np.random.default_rng(2).random((4, 8, 8, 1), np.float32)
    moved = augment(tf.constant(np.tile(grey, channels)), draw(0, 0, 4), LESSON).numpy()
    assert np.array_equal(moved, np.tile(moved[..., :1], channels))
    assert not np.array_equal(moved[..., :1], grey)
