"""What a network is made of, layer by layer: sizes, parameters, operations, memory, and which pixels a unit sees."""

import math
from typing import Any

import keras
from keras import layers

WHOLE = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D, layers.Flatten)  # a unit after them sees every pixel


def layer_table(model: keras.Model) -> list[dict[str, Any]]:
    """One row a layer of a sequential network, for one picture.

    `layer` is its kind, `output` the shape of its answer, `parameters` their number, `flop` the operations of one
    pass forward (2 for each multiplication with addition; convolutions and dense layers alone), `bytes` the size of
    the answer as float32, `receptive_field` the side in pixels of what a unit of the answer sees, `jump` how many
    pixels lie between two neighbouring units, both None where every unit sees the whole picture.

    A layer with kernel side k and stride s makes of field r and jump j the field r + (k − 1) j and the jump s j
    (Araujo, Norris, Sim 2019, Distill, doi:10.23915/distill.00021; the slides' exercise on 3×3 layers).
    """
    rows = []
    field: int | None = 1
    jump: int | None = 1
    for layer in model.layers:
        kernel, stride = _window(layer)
        if isinstance(layer, WHOLE):
            field = jump = None
        if field is not None and jump is not None:
            field, jump = field + (kernel - 1) * jump, jump * stride
        rows.append(
            {
                "layer": type(layer).__name__,
                "output": "×".join(str(size) for size in layer.output.shape[1:]),
                "parameters": layer.count_params(),
                "flop": _forward_flop(layer),
                "bytes": 4 * math.prod(layer.output.shape[1:]),
                "receptive_field": field,
                "jump": jump,
            }
        )
    return rows


def training_flop(model: keras.Model) -> int:
    """Floating-point operations of training on one image: three times forward, 2 for each multiplication with addition.

    Convolutions and dense layers alone are counted. The backward pass computes two products as large as the forward
    one; that the first layer needs only one of them is not taken off, as usual.
    """
    return 3 * sum(_forward_flop(layer) for layer in model.layers)


def _forward_flop(layer: keras.Layer) -> int:
    match layer:
        case layers.Conv2D():
            _, height, width, _ = layer.output.shape
            return int(2 * height * width * keras.ops.size(layer.kernel))
        case layers.Dense():
            return int(2 * keras.ops.size(layer.kernel))
    return 0


def _window(layer: keras.Layer) -> tuple[int, int]:
    """Side of the kernel, dilation included, and stride; (1, 1) for a layer that looks at single positions."""
    match layer:
        case layers.Conv2D():
            return (layer.kernel_size[0] - 1) * layer.dilation_rate[0] + 1, layer.strides[0]
        case layers.MaxPooling2D() | layers.AveragePooling2D():
            return layer.pool_size[0], layer.strides[0]
    return 1, 1
