"""The examples that the slides work out by hand, computed by Keras's own operations."""

from typing import Any

import numpy as np
from keras import ops

from cnnlab.nets.anatomy import output_size
from cnnlab.nets.lesson import VERTICAL_LINE, vertical_line_detector

# Slide «Padding»: the picture, the filter in the small figures of its first place, and the answer printed beside them.
PICTURE = np.array([[2, 2, 3, 3, 3], [0, 1, 3, 0, 3], [2, 3, 0, 1, 3], [3, 3, 2, 1, 2], [3, 3, 0, 2, 3]], np.float32)
FILTER = np.array([[2, 0, 1], [1, 0, 0], [0, 1, 1]], np.float32)
PADDING = 1
PRINTED_STRIDE = 2
PRINTED = [[1, 6, 5], [7, 10, 9], [7, 10, 8]]
# Slide «Пуллинг»
FEATURE_MAP = np.array([[6, 6, 6, 6], [4, 5, 5, 4], [2, 4, 4, 2], [2, 4, 4, 2]], np.float32)
# Slide «Scalar, Vector, Matrix, Tensor», and the row and the column before it
TENSORS: dict[str, Any] = {
    "scalar": 1,
    "vector": [1, 2],
    "row vector": [[1, 2, 3]],
    "column vector": [[1], [2], [3]],
    "matrix": [[1, 2], [3, 4]],
    "tensor": [[[1, 2], [3, 2]], [[1, 7], [5, 4]]],
}


def convolve(picture: np.ndarray, kernel: np.ndarray, padding: int, stride: int) -> np.ndarray:
    """The answer of one filter (F, F) to a picture (H, W) with `padding` zeros at each edge, float32.

    As in every library of neural networks the filter is not mirrored, which mathematics would call a cross-correlation.
    """
    padded = np.pad(picture.astype(np.float32), padding)[None, :, :, None]
    return np.asarray(ops.conv(padded, kernel.astype(np.float32)[:, :, None, None], strides=stride))[0, :, :, 0]


def pool(features: np.ndarray, kind: str) -> np.ndarray:
    """`max`, `average` or `sum` of every 2×2 window of features (H, W), stride 2; float32."""
    given = features.astype(np.float32)[None, :, :, None]
    if kind == "max":
        return np.asarray(ops.max_pool(given, 2, 2))[0, :, :, 0]
    return np.asarray(ops.average_pool(given, 2, 2))[0, :, :, 0] * (4 if kind == "sum" else 1)


def dense_as_matrix() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The convolution of `PICTURE` as a dense layer: weights (25, 9), mostly 0, make of 25 pixels 9 answers.

    Returns weights, pixels (25,) and answers (9,): a dense layer is a product with a matrix of weights (slide
    «Полносвязный слой в виде матрицы»), and a convolution one with few weights that repeat.
    """
    pixels = np.eye(PICTURE.size, dtype=np.float32).reshape(-1, *PICTURE.shape)
    weights = np.stack([convolve(pixel, FILTER, PADDING, PRINTED_STRIDE).ravel() for pixel in pixels])
    return weights, PICTURE.ravel(), PICTURE.ravel() @ weights


def examples() -> dict[str, Any]:
    """Every example with what goes in, what the course prints and what comes out; plain lists of whole numbers."""
    detector = vertical_line_detector()
    line = VERTICAL_LINE[None, :, :, None]
    weights, _, answers = dense_as_matrix()
    return {
        "tensors": [
            {"name": name, "value": value, "shape": list(np.shape(value)), "axes": np.ndim(value)}
            for name, value in TENSORS.items()
        ],
        "convolution": {
            "picture": _whole(PICTURE),
            "filter": _whole(FILTER),
            "padding": PADDING,
            "printed": PRINTED,
            "printed_stride": PRINTED_STRIDE,
            "size": output_size(len(PICTURE), len(FILTER), PRINTED_STRIDE, 2 * PADDING),
            "answers": {str(stride): _whole(convolve(PICTURE, FILTER, PADDING, stride)) for stride in (1, 2)},
        },
        "dense": {"weights": weights.size, "zeros": int((weights == 0).sum()), "answers": _whole(answers)},
        "pooling": {
            "map": _whole(FEATURE_MAP),
            "answers": {kind: pool(FEATURE_MAP, kind).tolist() for kind in ("max", "average", "sum")},
        },
        "detector": {
            "picture": _whole(VERTICAL_LINE),
            "filter": _whole(np.asarray(detector.layers[0].kernel)[:, :, 0, 0]),
            "feature_map": _whole(np.asarray(detector.layers[0](line))[0, :, :, 0]),
            "printed": 3.0,
            "output": float(detector(line)[0, 0]),
        },
    }


def _whole(array: np.ndarray) -> Any:
    return array.astype(int).tolist()
