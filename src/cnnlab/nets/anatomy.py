"""What a network is made of, layer by layer."""

from typing import Any

import keras
from keras import layers


def layer_table(model: keras.Model) -> list[dict[str, Any]]:
    """One row a layer: its kind, the shape of its output for one picture, its number of parameters."""
    return [
        {
            "layer": type(layer).__name__,
            "output": "×".join(str(size) for size in layer.output.shape[1:]),
            "parameters": layer.count_params(),
        }
        for layer in model.layers
    ]


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
