"""The slides' worked examples against the slides, SciPy, and results computed by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.signal import correlate2d

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
