"""What a network is made of, layer by layer."""

from typing import Any

import keras


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
