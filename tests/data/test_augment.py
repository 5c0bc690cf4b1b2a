"""Augmentation against SciPy, Pillow and NumPy, and the distribution and determinism of its draws.

Seeds are fixed, so no count ever changes; the bounds on p-values are those a right generator misses once in a million.
"""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy import ndimage, stats

from cnnlab.data.augment import (
    DRAWS,
    MIXING,
    PerImage,
    PerStep,
    augment,
    draw,
    draw_mixing,
    mix,
    mixes,
    views,
)
from cnnlab.params import Augment, Views

LESSON = Augment(shift=0.1, flip="random")
AIRBENCH = Augment(shift=0.0625, whole_pixels=True, fill="reflect", flip="alternating", cutout=0.375)
EVERYTHING = Augment(shift=0.1, flip="random", rotation=15.0, brightness=0.2, contrast=0.3, cutout=0.25)
BY_CHANCE = 1e-6
SEEDS = st.integers(0, 2**31 - 1)
BELOW_ONE = np.float32(1 - 2**-24)  # the largest number a draw can be

few = settings(max_examples=40, derandomize=True)


def pictures(seed: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images of a (batch, height, width, channels) shape and draws, the first two rows the ends of the range."""
    random = np.random.default_rng(seed)
    draws = random.random((shape[0], DRAWS), np.float32)
    draws[0], draws[1:2] = 0, BELOW_ONE
    return random.random(shape, np.float32), draws


def applied(images: np.ndarray, draws: np.ndarray, knobs: Augment) -> np.ndarray:
    return np.asarray(augment(tf.constant(images), tf.constant(draws), knobs))


def swing(draws: np.ndarray, use: PerImage, most: float) -> np.ndarray:
    return (2 * draws[:, use].astype(np.float64) - 1) * most


def moved_by_scipy(images: np.ndarray, draws: np.ndarray, knobs: Augment) -> np.ndarray:
    """Rotation, shift and flip as one matrix an image; SciPy reads output pixel o at matrix·o + offset."""
    _, height, width, channels = images.shape
    centre = np.array([height - 1, width - 1]) / 2
    result = np.empty(images.shape)
    for i, image in enumerate(images.astype(np.float64)):
        if knobs.whole_pixels:
            most = np.round(knobs.shift * np.array([height, width]))
            shift = np.floor(draws[i, :2].astype(np.float64) * (2 * most + 1)) - most
        else:
            shift = (2 * draws[i, :2].astype(np.float64) - 1) * knobs.shift * np.array([height, width])
        flipped = knobs.flip is not None and draws[i, PerImage.FLIP] < 0.5
        angle = np.deg2rad(swing(draws, PerImage.ROTATION, knobs.rotation)[i])
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        offset = centre + turn @ (shift + np.array([0, (width - 1) * flipped]) - centre)
        matrix = turn @ np.diag([1, -1 if flipped else 1])
        mode = {"nearest": "nearest", "reflect": "mirror"}[knobs.fill]
        for c in range(channels):
            result[i, ..., c] = ndimage.affine_transform(image[..., c], matrix, offset, order=1, mode=mode)
    return result


def coloured_by_numpy(images: np.ndarray, draws: np.ndarray, knobs: Augment) -> np.ndarray:
    result = np.empty(images.shape)
    for i, image in enumerate(images.astype(np.float64)):
        scale = 1 + swing(draws, PerImage.CONTRAST, knobs.contrast)[i]
        result[i] = (
            image.mean() + scale * (image - image.mean()) + swing(draws, PerImage.BRIGHTNESS, knobs.brightness)[i]
        )
    return result.clip(0, 1)


def cut_by_a_loop(images: np.ndarray, draws: np.ndarray, knobs: Augment) -> np.ndarray:
    _, height, width, _ = images.shape
    side = round(knobs.cutout * height)
    result = images.copy()
    for i, image in enumerate(images):
        top = int(draws[i, PerImage.CUTOUT_ROW].astype(np.float64) * height) - side // 2
        left = int(draws[i, PerImage.CUTOUT_COLUMN].astype(np.float64) * width) - side // 2
        for y in range(max(top, 0), min(top + side, height)):
            for x in range(max(left, 0), min(left + side, width)):
                result[i, y, x] = image.mean(dtype=np.float64)
    return result


def mixed_by_the_papers(
    images: np.ndarray, targets: np.ndarray, mixing: np.ndarray, partner: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """mixup as in its section 2, cutmix after its authors' `rand_bbox`, each image with its partner."""
    share, row, column = mixing[:3].astype(np.float64)
    x, y = images.astype(np.float64), targets.astype(np.float64)
    if not mixing[PerStep.CUTMIX]:
        return share * x + (1 - share) * x[partner], share * y + (1 - share) * y[partner]
    height, width = images.shape[1:3]
    cut_h, cut_w = int(height * np.sqrt(1 - share)), int(width * np.sqrt(1 - share))
    cy, cx = int(row * height), int(column * width)
    y1, y2 = np.clip([cy - cut_h // 2, cy + cut_h // 2], 0, height)
    x1, x2 = np.clip([cx - cut_w // 2, cx + cut_w // 2], 0, width)
    x[:, y1:y2, x1:x2] = x[partner][:, y1:y2, x1:x2]
    share = 1 - (y2 - y1) * (x2 - x1) / (height * width)
    return x, share * y + (1 - share) * y[partner]


GEOMETRY = st.builds(
    Augment,
    shift=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    whole_pixels=st.booleans(),
    fill=st.sampled_from(["nearest", "reflect"]),
    flip=st.sampled_from(["random", None]),
    rotation=st.sampled_from([0.0, 15.0, 180.0]),
)


@settings(max_examples=100, derandomize=True)
@given(
    seed=SEEDS,
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    channels=st.sampled_from([1, 3]),
    dtype=st.sampled_from([np.float32, np.float64]),
    knobs=GEOMETRY,
)
def test_shift_flip_and_rotation_equal_scipys(
    seed: int, height: int, width: int, channels: int, dtype: type, knobs: Augment
) -> None:
    images, draws = pictures(seed, 4, height, width, channels)
    ours = applied(images.astype(dtype), draws, knobs)
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours, moved_by_scipy(images, draws, knobs), atol=2e-5)


@pytest.mark.parametrize(("fill", "mode"), [("nearest", "nearest"), ("reflect", "mirror")])
def test_a_shift_is_scipys_shift(fill: str, mode: str) -> None:
    images, draws = pictures(1, 6, 10, 7, 3)
    for image, ours, row in zip(images, applied(images, draws, Augment(shift=0.3, fill=fill)), draws, strict=True):
        offset = (1 - 2 * row[:2].astype(np.float64)) * 0.3 * [10, 7]
        np.testing.assert_allclose(ours, ndimage.shift(image, (*offset, 0), order=1, mode=mode), atol=2e-6)


def test_the_lessons_shifts_by_hand() -> None:
    """A row of 10 pixels moved by the most the lesson allows, 1 pixel, by half of that, and flipped."""
    row = np.arange(10.0, dtype=np.float32)
    images = np.tile(row, (3, 10, 1))[..., None]
    draws = np.full((3, DRAWS), 0.5, np.float32)
    draws[:, PerImage.HORIZONTAL] = [1, 0.25, 0.5]
    draws[:, PerImage.FLIP] = [0.9, 0.5, 0.1]
    expected = [[1, 2, 3, 4, 5, 6, 7, 8, 9, 9], [0, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5], row[::-1]]
    for image, values in zip(applied(images, draws, LESSON), expected, strict=True):
        np.testing.assert_allclose(image, np.tile(np.array(values)[:, None], (10, 1, 1)), atol=1e-5)


@few
@given(
    seed=SEEDS,
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    shift=st.sampled_from([0.0, 0.2, 0.9]),
    fill=st.sampled_from([("nearest", "edge"), ("reflect", "reflect")]),
    flip=st.booleans(),
)
def test_whole_pixels_are_a_crop_of_the_padded_image(
    seed: int, shape: tuple[int, int], shift: float, fill: tuple[str, str], flip: bool
) -> None:
    images, draws = pictures(seed, 4, *shape, 3)
    knobs = Augment(shift=shift, whole_pixels=True, fill=fill[0], flip="random" if flip else None)
    pad = [round(shift * size) for size in shape]
    for image, ours, row in zip(images, applied(images, draws, knobs), draws, strict=True):
        padded = np.pad(image, [(pad[0],) * 2, (pad[1],) * 2, (0, 0)], mode=fill[1])
        top, left = (int(value * (2 * p + 1)) for value, p in zip(row[:2].astype(np.float64), pad, strict=True))
        crop = padded[top : top + shape[0], left : left + shape[1]]
        assert np.array_equal(ours, np.flip(crop, 1) if flip and row[PerImage.FLIP] < 0.5 else crop)


def test_a_flip_alone_is_numpys() -> None:
    images, draws = pictures(3, 8, 6, 5, 3)
    flipped = (draws[:, PerImage.FLIP] < 0.5)[:, None, None, None]
    assert np.array_equal(applied(images, draws, Augment(flip="random")), np.where(flipped, np.flip(images, 2), images))


@few
@given(seed=SEEDS, brightness=st.sampled_from([0.0, 0.1, 0.9]), contrast=st.sampled_from([0.0, 0.3, 0.99]))
def test_brightness_and_contrast_equal_numpys(seed: int, brightness: float, contrast: float) -> None:
    images, draws = pictures(seed, 4, 5, 7, 3)
    knobs = Augment(brightness=brightness, contrast=contrast)
    np.testing.assert_allclose(applied(images, draws, knobs), coloured_by_numpy(images, draws, knobs), atol=1e-6)


def test_the_contrast_of_grey_images_is_pillows() -> None:
    images, draws = pictures(4, 6, 8, 8, 1)
    bytes_ = (images * 255).round().astype(np.uint8)
    ours = applied(bytes_.astype(np.float32) / 255, draws, Augment(contrast=0.5)) * 255
    for image, changed, factor in zip(bytes_, ours, 1 + swing(draws, PerImage.CONTRAST, 0.5), strict=True):
        pillows = np.asarray(ImageEnhance.Contrast(Image.fromarray(image[..., 0])).enhance(factor), np.float32)
        np.testing.assert_allclose(changed[..., 0], pillows, atol=1.5)  # Pillow rounds the mean and truncates


@few
@given(
    seed=SEEDS, shape=st.tuples(*[st.integers(1, 12)] * 2), channels=st.sampled_from([1, 3]), cutout=st.floats(0.1, 0.9)
)
def test_cutout_equals_a_loop(seed: int, shape: tuple[int, int], channels: int, cutout: float) -> None:
    images, draws = pictures(seed, 4, *shape, channels)
    knobs = Augment(cutout=cutout)
    np.testing.assert_allclose(applied(images, draws, knobs), cut_by_a_loop(images, draws, knobs), atol=1e-6)


@pytest.mark.parametrize("knobs", [LESSON, AIRBENCH, EVERYTHING])
@pytest.mark.parametrize("xla", [False, True])
def test_the_compiled_graph_equals_all_of_them_in_order(knobs: Augment, xla: bool) -> None:
    images, draws = pictures(5, 6, 16, 12, 3)
    expected = moved_by_scipy(images, draws, knobs)
    if knobs.brightness or knobs.contrast:
        expected = coloured_by_numpy(expected, draws, knobs)
    expected = cut_by_a_loop(expected, draws, knobs)
    signature = [tf.TensorSpec((None, 16, 12, 3)), tf.TensorSpec((None, DRAWS))]
    compiled = tf.function(lambda x, d: augment(x, d, knobs), signature, jit_compile=xla)
    assert compiled.get_concrete_function().output_shapes.as_list() == [None, 16, 12, 3]
    np.testing.assert_allclose(compiled(images, draws), expected, atol=2e-5)
    assert np.array_equal(compiled(images[2:4], draws[2:4]), compiled(images, draws)[2:4])


def test_without_knobs_the_images_themselves_come_back() -> None:
    images = tf.zeros((5, 8, 8, 3))
    assert augment(images, tf.zeros((5, DRAWS)), Augment(fill="reflect", mixup=0.2)) is images
    assert views(images, Views())[0] is images


@few
@given(
    seed=SEEDS,
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    share=st.integers(0, 4096).map(lambda n: n / 4096),  # so few bits that √(1 − λ) truncates alike in float32
    cutmix=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_mixing_equals_the_papers_code(
    seed: int, shape: tuple[int, int], share: float, cutmix: bool, dtype: type
) -> None:
    random = np.random.default_rng(seed)
    images, targets = random.random((6, *shape, 3)).astype(dtype), random.dirichlet(np.ones(4), 6).astype(np.float32)
    mixing = np.array([share, *random.random(2, np.float32), cutmix], np.float32)
    before = np.r_[5, :5]  # torchvision's roll(1)
    ours = mix(tf.constant(images[np.r_[5, :6]]), tf.constant(targets[np.r_[5, :6]]), tf.constant(mixing))
    assert [x.dtype for x in ours] == [dtype, np.float32]
    for mixed, expected in zip(ours, mixed_by_the_papers(images, targets, mixing, before), strict=True):
        np.testing.assert_allclose(mixed, expected, atol=1e-6)
    pieces = [mix(images[part], targets[part], mixing) for part in (np.r_[5, :2], np.r_[1:6])]
    for whole, parts in zip(ours, zip(*pieces, strict=True), strict=True):
        assert np.array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("cutmix", [False, True])
@pytest.mark.parametrize("xla", [False, True])
def test_mixing_in_the_compiled_graph_is_the_same(cutmix: bool, xla: bool) -> None:
    images, _ = pictures(6, 5, 8, 8, 3)
    targets, mixing = np.eye(5, dtype=np.float32), np.array([0.4, 0.3, 0.9, cutmix], np.float32)
    signature = [tf.TensorSpec((None, 8, 8, 3)), tf.TensorSpec((None, 5)), tf.TensorSpec((MIXING,))]
    compiled = tf.function(mix, signature, jit_compile=xla)
    for ours, expected in zip(compiled(images, targets, mixing), mix(images, targets, mixing), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("shift", [1, 3])
def test_views_equal_numpys(shift: int) -> None:
    images, _ = pictures(7, 2, 6, 4, 3)
    padded = np.pad(images, [(0, 0), (shift, shift), (shift, shift), (0, 0)], mode="reflect")
    straight = [images, padded[:, :6, :4], padded[:, 2 * shift :, 2 * shift :]]
    six = straight + [np.flip(view, 2) for view in straight]
    for knobs, expected in [
        (Views(shift=shift), straight),
        (Views(flip=True), six[::3]),
        (Views(shift=shift, flip=True), six),
    ]:
        for ours, view in zip(views(tf.constant(images), knobs), expected, strict=True):
            assert np.array_equal(ours, view)


def test_draws_are_a_function_of_seed_epoch_and_step() -> None:
    rows = np.arange(100)
    base = draw(LESSON, 7, 3, 0, rows)
    assert base.shape == (100, DRAWS)
    assert base.dtype == np.float32
    assert np.array_equal(base, draw(LESSON, 7, 3, 0, rows))
    assert np.array_equal(base, draw(LESSON, 7, 3, 0, rows + 40))  # only alternating flips look at the rows
    others = [draw(LESSON, *key, rows) for key in [(8, 3, 0), (7, 4, 0), (7, 3, 1), (3, 7, 0), (7, 0, 3), (0, 0, 0)]]
    orders = np.random.default_rng([7, 3]).random(base.size, np.float32)  # NumPy reads this key as [7, 3, 0]
    for values in [*others, orders]:
        assert np.intersect1d(base, values).size <= 1  # 800 of 2^24 values: two in common by chance once in 10^3


@pytest.mark.parametrize("change", [{"cutout": 0.5}, {"flip": None}, {"rotation": 9.0}, {"mixup": 0.2}, {"shift": 0.0}])
def test_a_knob_leaves_the_others_draws_alone(change: dict[str, float]) -> None:
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
    """Wherever the row stands in a batch, and whichever other rows are there."""
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
    """Where each of 4,000 augmented images reads its pixels: (4000, size, size, row and column)."""
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


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_box_inside_the_picture_has_the_area_drawn(share: float) -> None:
    """Up to the rows and columns its sides lose in being truncated to even numbers."""
    mixing = np.array([share, 0.5, 0.5, 1], np.float32)
    images, targets = np.zeros((2, 64, 64, 1), np.float32), np.eye(2, dtype=np.float32)
    images[0] = 1
    mixed, weights = mix(images, targets, mixing)
    side = np.sqrt(np.asarray(mixed).sum())
    assert 64 * np.sqrt(1 - share) - 2 < side <= 64 * np.sqrt(1 - share) + 1e-6
    np.testing.assert_allclose(weights, [[side**2 / 64**2, 1 - side**2 / 64**2]], atol=1e-6)


def test_mixing_draws_are_a_function_of_seed_epoch_and_step_and_nobody_elses() -> None:
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


def test_without_mixing_every_image_stays_itself() -> None:
    assert not mixes(EVERYTHING)
    images, _ = pictures(8, 4, 6, 6, 3)
    mixed, targets = mix(images, np.eye(4, dtype=np.float32), draw_mixing(EVERYTHING, 1, 2, 3))
    assert np.array_equal(mixed, images[1:])
    assert np.array_equal(targets, np.eye(4)[1:])


@pytest.mark.parametrize("knobs", [LESSON, EVERYTHING])
def test_channels_move_together(knobs: Augment) -> None:
    grey = np.random.default_rng(2).random((4, 8, 8, 1), np.float32)
    moved = applied(np.tile(grey, 3), draw(knobs, 0, 0, 0, np.arange(4)), knobs)
    assert np.array_equal(moved, np.tile(moved[..., :1], 3))
    assert not np.array_equal(moved[..., :1], grey)
