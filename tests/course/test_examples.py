"""The slides' worked examples against the slides, SciPy, and results computed by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage
from scipy.signal import convolve2d, correlate2d

from cnnlab.course import examples as worked

small = st.integers(-9, 9)


def test_the_slides_output_is_that_of_stride_1_in_its_first_three_rows_and_columns() -> None:
    """The slide prints numbers of stride 1 for stride 2."""
    example = worked.examples()["convolution"]
    assert example["printed"] == [[1, 6, 5], [7, 10, 9], [7, 10, 8]]
    assert [row[:3] for row in example["outputs"]["1"][:3]] == example["printed"]
    assert example["outputs"]["2"] == [[1, 5, 6], [7, 8, 3], [3, 10, 4]]
    assert example["size"] == 3
    # Window of the second output, rows 0 to 2 and columns 2 to 4 of the padded picture: 0 0 0 / 2 3 3 / 1 3 0
    assert example["outputs"]["2"][0][1] == 2 * 0 + 0 * 0 + 1 * 0 + 1 * 2 + 0 * 3 + 0 * 3 + 0 * 1 + 1 * 3 + 1 * 0


@given(
    image=arrays.arrays(np.int64, st.tuples(st.integers(3, 9), st.integers(3, 9)), elements=small),
    kernel=arrays.arrays(np.int64, (3, 3), elements=small),
    padding=st.integers(0, 2),
    stride=st.integers(1, 3),
)
def test_convolution_is_scipys(image: np.ndarray, kernel: np.ndarray, padding: int, stride: int) -> None:
    padded = np.pad(image, padding)
    expected = correlate2d(padded, kernel, mode="valid")[::stride, ::stride]
    assert np.array_equal(worked.convolve(image, kernel, padding, stride), expected)


SCIPY = {"zeros": "constant", "edge": "nearest", "reflection": "mirror"}  # the same fillings in scipy.ndimage


@given(
    image=arrays.arrays(np.int64, st.tuples(st.integers(3, 9), st.integers(3, 9)), elements=small),
    kernel=arrays.arrays(np.int64, (3, 3), elements=small),
)
def test_every_padding_is_scipys(image: np.ndarray, kernel: np.ndarray) -> None:
    for name, fill in worked.PADDINGS.items():
        expected = ndimage.correlate(image, kernel, mode=SCIPY[name])
        assert np.array_equal(worked.convolve(image, kernel, 1, 1, fill=fill), expected), name


def test_paddings_of_the_slides_image_differ_only_at_its_border() -> None:
    found = worked.examples()["paddings"]
    assert found["zeros"]["padded"][0] == [0] * 7
    assert found["edge"]["padded"][0] == [2, 2, 2, 3, 3, 3, 3]  # the first row, and its ends again
    assert found["reflection"]["padded"][0] == [1, 0, 1, 3, 0, 3, 0]  # the second row, mirrored at the first
    outputs = [np.array(found[name]["output"]) for name in worked.PADDINGS]
    inner = correlate2d(worked.IMAGE, worked.FILTER, mode="valid")
    assert all(np.array_equal(output[1:-1, 1:-1], inner) for output in outputs)
    assert len({str(output) for output in outputs}) == 3


def test_the_layer_is_a_cross_correlation_and_a_convolution_flips_the_filter() -> None:
    found = {name: np.array(values) for name, values in worked.examples()["flipped"].items()}
    assert np.array_equal(found["correlation"], correlate2d(worked.IMAGE, worked.FILTER, mode="valid"))
    assert np.array_equal(found["convolution"], correlate2d(worked.IMAGE, found["flipped"], mode="valid"))
    assert np.array_equal(found["correlation"], convolve2d(worked.IMAGE, found["flipped"], mode="valid"))
    assert not np.array_equal(found["correlation"], found["convolution"])
    # By hand, rows 0 to 2 and columns 0 to 2 of the image: 2 2 3 / 0 1 3 / 2 3 0
    assert found["filter"].tolist() == [[2, 0, 1], [1, 0, 0], [0, 1, 1]]
    assert found["flipped"].tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 2]]
    assert found["correlation"][0, 0] == 2 * 2 + 1 * 3 + 1 * 0 + 1 * 3 + 1 * 0
    assert found["convolution"][0, 0] == 1 * 2 + 1 * 2 + 1 * 3 + 1 * 2 + 2 * 0


@pytest.mark.parametrize(
    ("kind", "output"),
    [("max", [[6, 6], [4, 4]]), ("average", [[5.25, 5.25], [3, 3]]), ("sum", [[21, 21], [12, 12]])],
)
def test_the_slides_pooling_by_hand(kind: str, output: list[list[float]]) -> None:
    assert worked.examples()["pooling"]["outputs"][kind] == output


def test_tensors_have_the_slides_shapes() -> None:
    shapes = {row["name"]: (row["axes"], tuple(row["shape"])) for row in worked.examples()["tensors"]}
    assert shapes == {
        "scalar": (0, ()),
        "vector": (1, (2,)),
        "row vector": (2, (1, 3)),
        "column vector": (2, (3, 1)),
        "matrix": (2, (2, 2)),
        "tensor": (3, (2, 2, 2)),
    }


def test_the_detector_outputs_3_along_the_line() -> None:
    detector = worked.examples()["detector"]
    assert detector["feature_map"] == [[0, 0, 3, 3, 0, 0]] * 6
    assert detector["output"] == detector["printed"] == 3.0


def test_a_convolution_is_a_dense_layer_with_few_repeated_weights() -> None:
    weights, pixels, outputs = worked.dense_as_matrix()
    assert weights.shape == (25, 9)
    assert np.array_equal(outputs, worked.convolve(worked.IMAGE, worked.FILTER, 1, 2).ravel())
    assert np.array_equal(pixels @ weights, outputs)
    assert set(np.unique(weights)) == {0, 1, 2}
    assert worked.examples()["dense"]["zeros"] == int((weights == 0).sum())
