"""Augmentation compared with SciPy, Pillow and NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy import ndimage

from cnnlab.data.augment import DRAWS, MIXING, PerImage, PerStep, augment, draw, draw_mixing, mix, mixes, views
from cnnlab.params import TTA, Augment

LESSON = Augment(shift=0.1, flip="random")
AIRBENCH = Augment(shift=0.0625, whole_pixels=True, fill="reflect", flip="alternating", cutout=0.375)
EVERYTHING = Augment(shift=0.1, flip="random", rotation=15.0, brightness=0.2, contrast=0.3, cutout=0.25)
SEEDS = st.integers(0, 2**31 - 1)
BELOW_ONE = np.float32(1 - 2**-24)  # the largest value of a draw

few = settings(max_examples=40, derandomize=True)


def images_and_draws(seed: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images (batch, height, width, channels) and draws; the first two rows are the ends of their range."""
    random = np.random.default_rng(seed)
    draws = random.random((shape[0], DRAWS), np.float32)
    draws[0], draws[1:2] = 0, BELOW_ONE
    return random.random(shape, np.float32), draws


def applied(images: np.ndarray, draws: np.ndarray, knobs: Augment) -> np.ndarray:
    return np.asarray(augment(tf.constant(images), tf.constant(draws), knobs))


def uniform(draws: np.ndarray, use: PerImage, limit: float) -> np.ndarray:
    return (2 * draws[:, use].astype(np.float64) - 1) * limit


def moved_by_scipy(images: np.ndarray, draws: np.ndarray, knobs: Augment) -> np.ndarray:
    """Rotation, shift and flip as one matrix per image; SciPy reads output pixel o at matrix·o + offset."""
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
        angle = np.deg2rad(uniform(draws, PerImage.ROTATION, knobs.rotation)[i])
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
        scale = 1 + uniform(draws, PerImage.CONTRAST, knobs.contrast)[i]
        result[i] = (
            image.mean() + scale * (image - image.mean()) + uniform(draws, PerImage.BRIGHTNESS, knobs.brightness)[i]
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
    """mixup as in section 2 of its paper, cutmix as in its authors' `rand_bbox`; each image with its partner."""
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
    images, draws = images_and_draws(seed, 4, height, width, channels)
    ours = applied(images.astype(dtype), draws, knobs)
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours, moved_by_scipy(images, draws, knobs), atol=2e-5)


@pytest.mark.parametrize(("fill", "mode"), [("nearest", "nearest"), ("reflect", "mirror")])
def test_a_shift_is_scipys_shift(fill: str, mode: str) -> None:
    images, draws = images_and_draws(1, 6, 10, 7, 3)
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
    images, draws = images_and_draws(seed, 4, *shape, 3)
    knobs = Augment(shift=shift, whole_pixels=True, fill=fill[0], flip="random" if flip else None)
    pad = [round(shift * size) for size in shape]
    for image, ours, row in zip(images, applied(images, draws, knobs), draws, strict=True):
        padded = np.pad(image, [(pad[0],) * 2, (pad[1],) * 2, (0, 0)], mode=fill[1])
        top, left = (int(value * (2 * p + 1)) for value, p in zip(row[:2].astype(np.float64), pad, strict=True))
        crop = padded[top : top + shape[0], left : left + shape[1]]
        assert np.array_equal(ours, np.flip(crop, 1) if flip and row[PerImage.FLIP] < 0.5 else crop)


def test_a_flip_alone_is_numpys() -> None:
    images, draws = images_and_draws(3, 8, 6, 5, 3)
    flipped = (draws[:, PerImage.FLIP] < 0.5)[:, None, None, None]
    assert np.array_equal(applied(images, draws, Augment(flip="random")), np.where(flipped, np.flip(images, 2), images))


@few
@given(seed=SEEDS, brightness=st.sampled_from([0.0, 0.1, 0.9]), contrast=st.sampled_from([0.0, 0.3, 0.99]))
def test_brightness_and_contrast_equal_numpys(seed: int, brightness: float, contrast: float) -> None:
    images, draws = images_and_draws(seed, 4, 5, 7, 3)
    knobs = Augment(brightness=brightness, contrast=contrast)
    np.testing.assert_allclose(applied(images, draws, knobs), coloured_by_numpy(images, draws, knobs), atol=1e-6)


def test_the_contrast_of_grey_images_is_pillows() -> None:
    images, draws = images_and_draws(4, 6, 8, 8, 1)
    bytes_ = (images * 255).round().astype(np.uint8)
    ours = applied(bytes_.astype(np.float32) / 255, draws, Augment(contrast=0.5)) * 255
    for image, changed, factor in zip(bytes_, ours, 1 + uniform(draws, PerImage.CONTRAST, 0.5), strict=True):
        pillows = np.asarray(ImageEnhance.Contrast(Image.fromarray(image[..., 0])).enhance(factor), np.float32)
        np.testing.assert_allclose(changed[..., 0], pillows, atol=1.5)  # Pillow rounds the mean and truncates


@few
@given(
    seed=SEEDS, shape=st.tuples(*[st.integers(1, 12)] * 2), channels=st.sampled_from([1, 3]), cutout=st.floats(0.1, 0.9)
)
def test_cutout_equals_a_loop(seed: int, shape: tuple[int, int], channels: int, cutout: float) -> None:
    images, draws = images_and_draws(seed, 4, *shape, channels)
    knobs = Augment(cutout=cutout)
    np.testing.assert_allclose(applied(images, draws, knobs), cut_by_a_loop(images, draws, knobs), atol=1e-6)


@pytest.mark.parametrize("knobs", [LESSON, AIRBENCH, EVERYTHING])
@pytest.mark.parametrize("xla", [False, True])
def test_the_compiled_graph_equals_all_of_them_in_order(knobs: Augment, xla: bool) -> None:
    images, draws = images_and_draws(5, 6, 16, 12, 3)
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
    assert views(images, TTA())[0] is images


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
    images, _ = images_and_draws(6, 5, 8, 8, 3)
    targets, mixing = np.eye(5, dtype=np.float32), np.array([0.4, 0.3, 0.9, cutmix], np.float32)
    signature = [tf.TensorSpec((None, 8, 8, 3)), tf.TensorSpec((None, 5)), tf.TensorSpec((MIXING,))]
    compiled = tf.function(mix, signature, jit_compile=xla)
    for ours, expected in zip(compiled(images, targets, mixing), mix(images, targets, mixing), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("shift", [1, 3])
def test_views_equal_numpys(shift: int) -> None:
    images, _ = images_and_draws(7, 2, 6, 4, 3)
    padded = np.pad(images, [(0, 0), (shift, shift), (shift, shift), (0, 0)], mode="reflect")
    straight = [images, padded[:, :6, :4], padded[:, 2 * shift :, 2 * shift :]]
    six = straight + [np.flip(view, 2) for view in straight]
    for knobs, expected in [
        (TTA(shift=shift), straight),
        (TTA(flip=True), six[::3]),
        (TTA(shift=shift, flip=True), six),
    ]:
        for ours, view in zip(views(tf.constant(images), knobs), expected, strict=True):
            assert np.array_equal(ours, view)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_box_inside_the_image_has_the_drawn_area(share: float) -> None:
    """Except for the rows and columns that truncation to even numbers removes."""
    mixing = np.array([share, 0.5, 0.5, 1], np.float32)
    images, targets = np.zeros((2, 64, 64, 1), np.float32), np.eye(2, dtype=np.float32)
    images[0] = 1
    mixed, weights = mix(images, targets, mixing)
    side = np.sqrt(np.asarray(mixed).sum())
    assert 64 * np.sqrt(1 - share) - 2 < side <= 64 * np.sqrt(1 - share) + 1e-6
    np.testing.assert_allclose(weights, [[side**2 / 64**2, 1 - side**2 / 64**2]], atol=1e-6)


def test_without_mixing_every_image_stays_itself() -> None:
    assert not mixes(EVERYTHING)
    images, _ = images_and_draws(8, 4, 6, 6, 3)
    mixed, targets = mix(images, np.eye(4, dtype=np.float32), draw_mixing(EVERYTHING, 1, 2, 3))
    assert np.array_equal(mixed, images[1:])
    assert np.array_equal(targets, np.eye(4)[1:])


@pytest.mark.parametrize("knobs", [LESSON, EVERYTHING])
def test_channels_move_together(knobs: Augment) -> None:
    grey = np.random.default_rng(2).random((4, 8, 8, 1), np.float32)
    moved = applied(np.tile(grey, 3), draw(knobs, 0, 0, 0, np.arange(4)), knobs)
    assert np.array_equal(moved, np.tile(moved[..., :1], 3))
    assert not np.array_equal(moved[..., :1], grey)
