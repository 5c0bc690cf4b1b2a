"""The worked examples of the slides, computed by Keras operations."""

from typing import Any, Literal

import numpy as np
from keras import ops
from scipy.signal import convolve2d

from cnnlab.course.lesson_networks import PRINTED_OUTPUT, VERTICAL_LINE, vertical_line_detector
from cnnlab.nets.anatomy import output_size

# Slide «Padding»: the image, the filter (small numbers at its first position), and the output printed beside them
IMAGE = np.array([[2, 2, 3, 3, 3], [0, 1, 3, 0, 3], [2, 3, 0, 1, 3], [3, 3, 2, 1, 2], [3, 3, 0, 2, 3]], np.float32)
FILTER = np.array([[2, 0, 1], [1, 0, 0], [0, 1, 1]], np.float32)
PADDING = 1
PRINTED_STRIDE = 2
PRINTED = [[1, 6, 5], [7, 10, 9], [7, 10, 8]]
# Slide «Padding»: «нулями или как-то иначе»; the modes of `numpy.pad`
Fill = Literal["constant", "edge", "reflect"]
PADDINGS: dict[str, Fill] = {"zeros": "constant", "edge": "edge", "reflection": "reflect"}
# Slide «Пуллинг»
FEATURE_MAP = np.array([[6, 6, 6, 6], [4, 5, 5, 4], [2, 4, 4, 2], [2, 4, 4, 2]], np.float32)
# Slide «Scalar, Vector, Matrix, Tensor», and the one before it
TENSORS: dict[str, Any] = {
    "scalar": 1,
    "vector": [1, 2],
    "row vector": [[1, 2, 3]],
    "column vector": [[1], [2], [3]],
    "matrix": [[1, 2], [3, 4]],
    "tensor": [[[1, 2], [3, 2]], [[1, 7], [5, 4]]],
}


def convolve(
    image: np.ndarray, kernel: np.ndarray, padding: int, stride: int, *, fill: Fill = "constant"
) -> np.ndarray:
    """Convolve an image (H, W), padded by `padding` at each edge, with a filter (F, F); float32.

    `fill` is a mode of `numpy.pad`: zeros by default. As in all deep-learning libraries this is a cross-correlation:
    the filter is not flipped.
    """
    padded = np.pad(image.astype(np.float32), padding, fill)[None, :, :, None]
    return np.asarray(ops.conv(padded, kernel.astype(np.float32)[:, :, None, None], strides=stride))[0, :, :, 0]


def pool(features: np.ndarray, kind: str) -> np.ndarray:
    """`max`, `average` or `sum` pooling of features (H, W) with 2×2 windows and stride 2; float32."""
    inputs = features.astype(np.float32)[None, :, :, None]
    if kind == "max":
        return np.asarray(ops.max_pool(inputs, 2, 2))[0, :, :, 0]
    return np.asarray(ops.average_pool(inputs, 2, 2))[0, :, :, 0] * (4 if kind == "sum" else 1)


def dense_as_matrix() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The convolution of `IMAGE` with stride 2 as a dense layer: weights (25, 9), pixels (25,) and outputs (9,).

    A dense layer is a matrix product (slide «Полносвязный слой в виде матрицы»), a convolution one with few, repeated
    weights.
    """
    pixels = np.eye(IMAGE.size, dtype=np.float32).reshape(-1, *IMAGE.shape)
    weights = np.stack([convolve(pixel, FILTER, PADDING, PRINTED_STRIDE).ravel() for pixel in pixels])
    return weights, IMAGE.ravel(), IMAGE.ravel() @ weights


def examples() -> dict[str, Any]:
    """All examples with their inputs, the outputs printed in the course, and the outputs computed; as plain lists."""
    detector = vertical_line_detector()
    line = VERTICAL_LINE[None, :, :, None]
    weights, _, outputs = dense_as_matrix()
    return {
        "tensors": [
            {"name": name, "value": value, "shape": list(np.shape(value)), "axes": np.ndim(value)}
            for name, value in TENSORS.items()
        ],
        "convolution": {
            "image": _integers(IMAGE),
            "filter": _integers(FILTER),
            "padding": PADDING,
            "printed": PRINTED,
            "size": output_size(len(IMAGE), len(FILTER), PRINTED_STRIDE, 2 * PADDING),
            "outputs": {str(stride): _integers(convolve(IMAGE, FILTER, PADDING, stride)) for stride in (1, 2)},
        },
        "flipped": {
            "filter": _integers(FILTER),
            "flipped": _integers(FILTER[::-1, ::-1]),
            "correlation": _integers(convolve(IMAGE, FILTER, 0, 1)),
            "convolution": _integers(convolve2d(IMAGE, FILTER, mode="valid")),
        },
        "paddings": {
            name: {
                "padded": _integers(np.pad(IMAGE, PADDING, fill)),
                "output": _integers(convolve(IMAGE, FILTER, PADDING, 1, fill=fill)),
            }
            for name, fill in PADDINGS.items()
        },
        "dense": {"weights": weights.size, "zeros": int((weights == 0).sum()), "outputs": _integers(outputs)},
        "pooling": {
            "map": _integers(FEATURE_MAP),
            "outputs": {kind: pool(FEATURE_MAP, kind).tolist() for kind in ("max", "average", "sum")},
        },
        "detector": {
            "image": _integers(VERTICAL_LINE),
            "filter": _integers(np.asarray(detector.layers[0].kernel)[:, :, 0, 0]),
            "feature_map": _integers(np.asarray(detector.layers[0](line))[0, :, :, 0]),
            "printed": PRINTED_OUTPUT,
            "output": float(detector(line)[0, 0]),
        },
    }


def _integers(array: np.ndarray) -> Any:
    return array.astype(int).tolist()
