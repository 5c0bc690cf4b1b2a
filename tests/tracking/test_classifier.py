"""Pictures of any size on their way into a network, against Pillow's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from cnnlab.tracking.classifier import fitted

sides = st.integers(1, 60)


@given(sides, sides, sides, sides, st.sampled_from([1, 3]), st.sampled_from([1, 3, 4]), st.integers(0, 99))
def test_the_middle_is_scaled_as_pillow_does(
    height: int, width: int, rows: int, columns: int, wanted: int, channels: int, seed: int
) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    image = Image.fromarray(picture.squeeze(2) if channels == 1 else picture)
    if channels == 4:
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    kind = "L" if wanted == 1 else "RGB"
    expected = ImageOps.fit(image.convert(kind), (columns, rows), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(fitted(picture, (rows, columns, wanted)).squeeze(), np.asarray(expected).squeeze())


def test_a_picture_of_the_networks_size_stays_as_it_is() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(fitted(picture, (32, 32, 3)), picture)


def test_what_is_transparent_becomes_white() -> None:
    picture = np.zeros((4, 4, 4), np.uint8)
    assert (fitted(picture, (4, 4, 3)) == 255).all()


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"Invalid image\. Expected: uint8 of shape"):
        fitted(picture, (4, 4, 3))
