"""The distribution and determinism of the random draws of augmentation.

Seeds are fixed, so results never change; a correct generator misses the bounds on p-values once in a million.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from test_augment import AIRBENCH, LESSON, SEEDS, applied, few

from cnnlab.data.augment import DRAWS, MIXING, PerImage, PerStep, draw, draw_mixing, mixes
from cnnlab.params import Augment

BY_CHANCE = 1e-6


def test_draws_are_a_function_of_seed_epoch_and_step() -> None:
    rows = np.arange(100)
    base = draw(LESSON, 7, 3, 0, rows)
    assert base.shape == (100, DRAWS)
    assert base.dtype == np.float32
    assert np.array_equal(base, draw(LESSON, 7, 3, 0, rows))
    assert np.array_equal(base, draw(LESSON, 7, 3, 0, rows + 40))  # only alternating flips depend on the rows
    others = [draw(LESSON, *key, rows) for key in [(8, 3, 0), (7, 4, 0), (7, 3, 1), (3, 7, 0), (7, 0, 3), (0, 0, 0)]]
    orders = np.random.default_rng([7, 3]).random(base.size, np.float32)  # NumPy reads this key as [7, 3, 0]
    for values in [*others, orders]:
        assert np.intersect1d(base, values).size <= 1  # of 800 out of 2^24 values, two agree by chance once in 10^3


@pytest.mark.parametrize("change", [{"cutout": 0.5}, {"flip": None}, {"rotation": 9.0}, {"mixup": 0.2}, {"shift": 0.0}])
def test_a_setting_does_not_change_other_draws(change: dict[str, float]) -> None:
    changed = LESSON.model_copy(update=change)
    assert np.array_equal(draw(LESSON, 1, 2, 3, np.arange(9)), draw(changed, 1, 2, 3, np.arange(9)))


def test_alternating_flips_alternate() -> None:
    rows = np.random.default_rng(1).permutation(3000)
    epochs = [draw(AIRBENCH, 5, epoch, 11 * epoch, rows) for epoch in range(4)]
    flips = [values[:, PerImage.FLIP] < 0.5 for values in epochs]
    for first, second in itertools.pairwise(flips):
        assert np.array_equal(first, ~second)
        assert stats.binomtest(int(first.sum()), len(rows)).pvalue > BY_CHANCE
    assert all(set(values[:, PerImage.FLIP]) == {0.0, 0.75} for values in epochs)
    others = draw(LESSON, 5, 0, 0, rows)
    others[:, PerImage.FLIP] = epochs[0][:, PerImage.FLIP]
    assert np.array_equal(epochs[0], others)


@few
@given(seed=SEEDS, rows=st.lists(st.integers(0, 200), min_size=1, max_size=20), epoch=st.integers(0, 9))
def test_an_alternating_flip_belongs_to_the_row(seed: int, rows: list[int], epoch: int) -> None:
    """It depends neither on the position in a batch nor on other rows."""
    everywhere = draw(AIRBENCH, seed, epoch, 0, np.arange(300))[:, PerImage.FLIP]
    assert np.array_equal(draw(AIRBENCH, seed, epoch, 1, np.array(rows))[:, PerImage.FLIP], everywhere[rows])


def test_the_bits_of_different_seeds_differ() -> None:
    one, other = (draw(AIRBENCH, seed, 0, 0, np.arange(3000))[:, PerImage.FLIP] for seed in (1, 2))
    assert stats.binomtest(int((one == other).sum()), 3000).pvalue > BY_CHANCE


def test_draws_are_uniform_and_independent() -> None:
    draws = np.concatenate([draw(LESSON, 11, 0, step, np.arange(1000)) for step in range(20)])
    assert 0 <= draws.min() <= draws.max() < 1
    for column in draws.T:
        assert stats.kstest(column, "uniform").pvalue > BY_CHANCE
    assert np.abs(np.corrcoef(draws.T) - np.eye(DRAWS)).max() < 5 / len(draws) ** 0.5


def own_coordinates(knobs: Augment, size: int = 32) -> np.ndarray:
    """The coordinates that 4,000 augmented images are read from: (4000, size, size, row and column)."""
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), -1).astype(np.float32)
    return applied(np.tile(grid, (4000, 1, 1, 1)), draw(knobs, 12, 0, 0, np.arange(4000)), knobs)


def test_shifts_and_flips_have_their_distribution() -> None:
    read = own_coordinates(LESSON)
    flipped = read[:, 16, 17, 1] < read[:, 16, 16, 1]
    assert stats.binomtest(int(flipped.sum()), 4000).pvalue > BY_CHANCE
    columns = read[:, 16, 16, 1] - np.where(flipped, 15, 16)
    for shift in (read[:, 16, 16, 0] - 16, columns):
        assert stats.kstest(shift, stats.uniform(-3.2, 6.4).cdf).pvalue > BY_CHANCE


def test_whole_shifts_are_uniform_over_the_integers() -> None:
    read = own_coordinates(Augment(shift=0.125, whole_pixels=True))[:, 16, 16] - 16
    for shift in read.T:
        values, counts = np.unique(shift, return_counts=True)
        assert list(values) == list(range(-4, 5))
        assert stats.chisquare(counts).pvalue > BY_CHANCE


def test_angles_are_uniform() -> None:
    read = own_coordinates(Augment(rotation=15.0))
    down, right = (read[:, 16, 17] - read[:, 16, 16]).T
    assert stats.kstest(np.rad2deg(np.arctan2(-down, right)), stats.uniform(-15, 30).cdf).pvalue > BY_CHANCE


def test_brightness_contrast_and_cutout_have_their_distribution() -> None:
    draws = draw(LESSON, 13, 0, 0, np.arange(4000))
    images = np.full((4000, 8, 8, 1), 0.4, np.float32)
    brighter = applied(images, draws, Augment(brightness=0.3))[:, 0, 0, 0]
    assert stats.kstest(brighter, stats.uniform(0.1, 0.6).cdf).pvalue > BY_CHANCE
    images[:, ::2] = 0.6
    stretched = applied(images, draws, Augment(contrast=0.5))
    assert stats.kstest((stretched[:, 0] - stretched[:, 1])[:, 0, 0], stats.uniform(0.1, 0.2).cdf).pvalue > BY_CHANCE
    holes = (applied(images, draws, Augment(cutout=0.125)) == images).reshape(4000, 64).argmin(axis=1)
    assert stats.chisquare(np.bincount(holes, minlength=64)).pvalue > BY_CHANCE


@pytest.mark.parametrize(("knob", "alpha"), [("mixup", 0.2), ("cutmix", 1.0)])
def test_the_share_is_beta_distributed(knob: str, alpha: float) -> None:
    knobs = Augment(**{knob: alpha})
    assert mixes(knobs)
    mixings = np.array([draw_mixing(knobs, 14, 1, step) for step in range(2000)])
    assert mixings.dtype == np.float32
    assert (mixings[:, PerStep.CUTMIX] == (knob == "cutmix")).all()
    assert stats.kstest(mixings[:, PerStep.SHARE], stats.beta(alpha, alpha).cdf).pvalue > BY_CHANCE
    for entry in (PerStep.BOX_ROW, PerStep.BOX_COLUMN):
        assert stats.kstest(mixings[:, entry], "uniform").pvalue > BY_CHANCE
        assert mixings[:, entry].max() < 1


def test_a_fair_coin_chooses_between_mixup_and_cutmix() -> None:
    knobs = Augment(mixup=0.2, cutmix=1.0)
    mixings = np.array([draw_mixing(knobs, 15, 0, step) for step in range(2000)])
    cutmix = mixings[:, PerStep.CUTMIX] == 1
    assert stats.binomtest(int(cutmix.sum()), 2000).pvalue > BY_CHANCE
    for chosen, alpha in [(cutmix, 1.0), (~cutmix, 0.2)]:
        assert stats.kstest(mixings[chosen, PerStep.SHARE], stats.beta(alpha, alpha).cdf).pvalue > BY_CHANCE


def test_mixing_draws_are_independent_functions_of_seed_epoch_and_step() -> None:
    knobs = Augment(mixup=1.0)
    base = draw_mixing(knobs, 7, 3, 0)
    assert base.shape == (MIXING,)
    assert np.array_equal(base, draw_mixing(knobs, 7, 3, 0))
    orders = np.random.default_rng([7, 3]).random(1000, np.float32)
    for values in [
        draw(knobs, 7, 3, 0, np.arange(100)),
        orders,
        *(draw_mixing(knobs, *k) for k in [(8, 3, 0), (7, 4, 0), (7, 3, 1)]),
    ]:
        assert not np.intersect1d(base[: PerStep.CUTMIX], values).size
