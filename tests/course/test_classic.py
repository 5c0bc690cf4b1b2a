"""Classic methods: features computed by hand, and recognition of real digits."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from cnnlab import catalog
from cnnlab.course import classic
from cnnlab.data import decode

image_arrays = arrays.arrays(
    np.uint8, st.tuples(st.integers(1, 3), st.sampled_from([12, 15]), st.just(12), st.sampled_from([1, 3]))
)


def lined(*rows: str) -> np.ndarray:
    """An image whose foreground is #."""
    return np.array([[255 * (cell == "#") for cell in row] for row in rows], np.uint8)[None, :, :, None]


RING = lined("......", ".####.", ".#..#.", ".#..#.", ".####.", "......")


def test_strokes_and_holes_of_a_ring() -> None:
    features = classic.strokes_and_holes(RING)[0]
    assert features[:6].tolist() == [0, 1, 2, 2, 1, 0]  # strokes that each row crosses
    assert features[6:12].tolist() == [0, 1, 2, 2, 1, 0]  # and each column
    assert features[12] == 1  # hole
    assert features[13] == features[15] == pytest.approx(2.5)  # mean position of the foreground, down and across
    rows = np.repeat([1, 2, 3, 4], [4, 2, 2, 4])
    assert features[14] == pytest.approx(rows.std())


@settings(max_examples=50)
@given(images=image_arrays)
def test_holes_are_counted_within_each_image(images: np.ndarray) -> None:
    """SciPy's labels, image by image: parts of the background without the surrounding one."""
    drawn = classic.binarised(images)
    side = images.shape[1] + images.shape[2]
    for image, features in zip(drawn, classic.strokes_and_holes(images), strict=True):
        assert features[side] == ndimage.label(~np.pad(image, 1))[1] - 1


def test_an_edge_has_its_direction() -> None:
    """A step to the right is a gradient at 0°, one down at 90°, between the fifth and the sixth of nine directions."""
    step = np.zeros((1, 16, 16, 1), np.uint8)
    step[:, :, 8:] = 200
    cells = classic.hog_cells(step)
    assert cells[..., 0].sum() == pytest.approx(cells.sum())
    down = classic.hog_cells(step.transpose(0, 2, 1, 3))
    assert down[..., 4].sum() == pytest.approx(down[..., 5].sum())
    assert down[..., [4, 5]].sum() == pytest.approx(down.sum())
    assert cells[0, :, 1, 0] == pytest.approx(cells[0, :, 2, 0])  # one of the two pixels beside the step is in each


@settings(max_examples=50)
@given(images=image_arrays)
def test_hog_does_not_depend_on_brightness_and_rotates_with_the_image(images: np.ndarray) -> None:
    darker = images // 2
    assert classic.hog(darker + 50) == pytest.approx(classic.hog(darker), abs=1e-5)
    rotated = classic.hog_cells(images[:, ::-1, ::-1])
    if images.shape[1] % classic.CELLS == 0:
        assert rotated[:, ::-1, ::-1].sum(axis=3) == pytest.approx(classic.hog_cells(images).sum(axis=3))


@settings(max_examples=50)
@given(images=image_arrays)
def test_pixels_do_not_depend_on_brightness_and_contrast(images: np.ndarray) -> None:
    dark = images // 3
    rows = classic.pixels(dark)
    assert rows.shape == (len(images), 6 * (images.shape[1] // 2) * images.shape[3])
    assume(all(np.ptp(row) > 0.2 for row in rows))
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-3)
    assert rows.sum(axis=1) == pytest.approx(0, abs=5e-3)  # float32
    assert rows == pytest.approx(classic.pixels(2 * dark + 30), abs=5e-3)


def test_a_uniform_image_matches_nothing() -> None:
    assert np.abs(classic.pixels(np.full((1, 12, 12, 3), 200, np.uint8))).max() < 1e-2


@pytest.fixture(scope="module")
def digits(real_mnist: object) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """2,000 real training digits and 1,000 real test ones."""
    mnist = catalog.CATALOG["mnist"]
    train, test = (decode.split(mnist, real_mnist, part) for part in ("train", "test"))  # type: ignore[arg-type]
    return (train[0][:2000], train[1][:2000]), (test[0][:1000], test[1][:1000])


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("pixels + nearest centroid", 0.7),
        ("strokes and holes + decision tree", 0.65),
        ("HOG + linear classifier", 0.85),
        ("HOG + k-nearest neighbours", 0.85),
        ("pixels + k-nearest neighbours", 0.85),
    ],
)
def test_every_method_recognises_digits_reproducibly(
    name: str, least: float, digits: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> None:
    row, predicted = classic.trial(name, *digits)
    assert row["accuracy"] == (predicted == digits[1][1]).mean() > least
    assert np.array_equal(classic.trial(name, *digits)[1], predicted)
    assert row["train_images"] == 2000


def test_stored_parameters_are_counted(digits: tuple[tuple[np.ndarray, np.ndarray], ...]) -> None:
    train, test = digits
    counts = {name: classic.trial(name, train, test)[0]["parameters"] for name in classic.METHODS}
    assert counts["pixels + nearest centroid"] == 10 * 14 * 14
    assert counts["pixels + k-nearest neighbours"] == 2000 * 14 * 14
    assert counts["HOG + linear classifier"] == 10 * (3 * 3 * 4 * 9 + 1)
    assert set(classic.METHODS) == set(counts)
