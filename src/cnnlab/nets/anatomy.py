"""The anatomy of a network, layer by layer: sizes, parameters, operations, memory and receptive fields."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
from keras import layers

Shape = tuple[int, ...]  # of an image or its features: (height, width, channels), or (features,)

WINDOWED = (layers.Conv2D, layers.MaxPooling2D, layers.AveragePooling2D)
GLOBAL = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D, layers.Flatten)  # units after them see every pixel
POINTWISE = (layers.Activation, layers.LeakyReLU, layers.Dropout, layers.Rescaling, layers.BatchNormalization)


def output_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """Output size W₂ = ⌊(W₁ − F + 2P) / S⌋ + 1 of a sliding window (slides, «Параметры свёрточного слоя»).

    All sizes are in pixels; `padding` is 2P, the sum over both edges. Less than 1 if the window does not fit.
    """
    return (size - kernel + padding) // stride + 1


def same_padding(size: int, kernel: int, stride: int) -> int:
    """2P of padding `same`: the smallest number, odd or even, with which ⌈W₁ / S⌉ windows fit."""
    return max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)


def layer_table(stack: Iterable[keras.Layer], shape: Shape) -> list[dict[str, Any]]:
    """One row per layer of a stack for an input of `shape` (height, width, channels), computed without building it.

    `layer` is its class, `output` its output shape, `window` the slides' formula with its values for a sliding window,
    `parameters` their number, `flop` the operations of a forward pass (two per multiply-add; only convolutions and
    dense layers), `bytes` the size of the output as float32, `receptive_field` the side in pixels of the receptive
    field of a unit, `jump` the distance in pixels between those of neighbouring units, `start` the first pixel of the
    first unit's (negative in the padding). The last three are None if every unit sees the complete image.

    A layer with kernel size k and stride s turns field r and jump j into field r + (k − 1) j and jump s j
    (Araujo, Norris, Sim 2019, Distill, doi:10.23915/distill.00021; the slides' exercise on 3×3 layers).
    Raises ValueError, which names the layer, if a layer does not fit its input or is of an unsupported class.
    """
    rows = []
    field, jump, start = 1, 1, 0
    local = True
    for place, layer in enumerate(stack, 1):
        _check_fit(place, layer, shape)
        parameters, flop, window = _parameters(layer, shape), 0, _formula(layer, shape)
        kernel, stride, _ = _window(layer)
        local = local and not isinstance(layer, GLOBAL)
        before = _slid(layer, shape[0])[1] // 2  # Keras puts an odd pixel of padding at the end
        field, jump, start = field + (kernel - 1) * jump, jump * stride, start - before * jump
        input_shape, shape = shape, _output_shape(layer, shape)
        if isinstance(layer, layers.Conv2D | layers.Dense):
            flop = 2 * _weights(layer, input_shape) * math.prod(shape[:-1])
        rows.append(
            {
                "layer": type(layer).__name__,
                "output": "×".join(str(size) for size in shape),
                "window": window,
                "parameters": parameters,
                "flop": flop,
                "bytes": 4 * math.prod(shape),
                "receptive_field": field if local else None,
                "jump": jump if local else None,
                "start": start if local else None,
            }
        )
    return rows


def sequential(shape: Shape, stack: Sequence[keras.Layer], name: str) -> keras.Sequential:
    """The Keras model of a stack for images of `shape` (height, width, channels).

    Raises ValueError as `layer_table`, before anything is built.
    """
    layer_table(stack, shape)
    return keras.Sequential([keras.Input(shape), *stack], name=name)


def forward_flop(model: keras.Model) -> int:
    """Floating-point operations of a forward pass per image; only convolutions and dense layers."""
    return sum(row["flop"] for row in layer_table(model.layers, model.input_shape[1:]))


def training_flop(model: keras.Model) -> int:
    """Floating-point operations of a training step per image: three times those of the forward pass.

    The backward pass computes two products of the same size. As is common, it is ignored that the first layer needs
    only one of them.
    """
    return 3 * forward_flop(model)


def table_text(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of `layer_table` and their sums as a table in plain text."""
    head = ("layer", "output", "(W₁ − F + 2P) / S + 1", "parameters", "MFLOP", "KiB", "receptive field", "jump")
    total = {key: sum(row[key] for row in rows) for key in ("parameters", "flop", "bytes")}
    lines = [head, *map(_cells, [*rows, {"layer": "sum", **total}])]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(_aligned(line, widths)).rstrip() for line in lines)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["layer"],
        row.get("output", ""),
        row.get("window", ""),
        f"{row['parameters']:,}",
        f"{row['flop'] / 1e6:,.3f}",
        f"{row['bytes'] / 1024:,.1f}",
        *(("",) * 2 if "jump" not in row else (str(row["receptive_field"] or "all"), str(row["jump"] or "–"))),
    )


def _aligned(line: tuple[str, ...], widths: list[int]) -> Iterator[str]:
    for column, (cell, width) in enumerate(zip(line, widths, strict=True)):
        yield cell.ljust(width) if column < 3 else cell.rjust(width)


def _window(layer: keras.Layer) -> tuple[int, int, bool]:
    """Window size, including dilation, stride, and whether padding is `same`; (1, 1, False) without a window."""
    match layer:
        case layers.Conv2D():
            return (layer.kernel_size[0] - 1) * layer.dilation_rate[0] + 1, layer.strides[0], layer.padding == "same"
        case layers.MaxPooling2D() | layers.AveragePooling2D():
            return layer.pool_size[0], layer.strides[0], layer.padding == "same"
    return 1, 1, False


def _slid(layer: keras.Layer, size: int) -> tuple[int, int]:
    """The number of windows along `size` pixels, and 2P, the padding of both edges."""
    kernel, stride, same = _window(layer)
    padding = same_padding(size, kernel, stride) if same else 0
    return output_size(size, kernel, stride, padding), padding


def _formula(layer: keras.Layer, shape: Shape) -> str:
    """The slides' formula for the height, with its values."""
    if not isinstance(layer, WINDOWED):
        return ""
    kernel, stride, _ = _window(layer)
    size, padding = _slid(layer, shape[0])
    return f"({shape[0]} − {kernel} + {padding}) / {stride} + 1 = {size}"


def _output_shape(layer: keras.Layer, shape: Shape) -> Shape:
    if isinstance(layer, WINDOWED):
        channels = layer.filters if isinstance(layer, layers.Conv2D) else shape[2]
        return _slid(layer, shape[0])[0], _slid(layer, shape[1])[0], channels
    if isinstance(layer, layers.Flatten):
        return (math.prod(shape),)
    if isinstance(layer, GLOBAL):
        return (shape[-1],)
    return (*shape[:-1], layer.units) if isinstance(layer, layers.Dense) else shape


def _weights(layer: keras.Layer, shape: Shape) -> int:
    """Number of weights of a convolution, F · F · N · K, or dense layer, N · K, with N input channels or features."""
    if isinstance(layer, layers.Conv2D):
        return int(math.prod(layer.kernel_size) * shape[-1] * layer.filters)
    return int(shape[-1] * layer.units)


def _parameters(layer: keras.Layer, shape: Shape) -> int:
    match layer:
        case layers.Conv2D():
            return _weights(layer, shape) + int(layer.use_bias * layer.filters)
        case layers.Dense():
            return _weights(layer, shape) + int(layer.use_bias * layer.units)
        case layers.BatchNormalization():
            return int(2 + layer.center + layer.scale) * shape[-1]  # with running mean and variance
    return 0


def _check_fit(place: int, layer: keras.Layer, shape: Shape) -> None:
    kernel, stride, same = _window(layer)
    name = type(layer).__name__
    if isinstance(layer, WINDOWED):
        name += f" {kernel}×{kernel}, stride {stride}, padding {'same' if same else 'valid'}"
    known = (*WINDOWED, *GLOBAL, *POINTWISE, layers.Dense)
    expected, received = "", f"input {'×'.join(map(str, shape))}"
    if not isinstance(layer, known):
        expected, received = f"one of {', '.join(kind.__name__ for kind in known)}", name
    elif _is_unusual(layer, shape):
        found = {key: getattr(layer, key) for key in ("groups", "data_format", "axis") if hasattr(layer, key)}
        expected, received = "channels in the last axis and no groups", str(found)
    elif isinstance(layer, WINDOWED) and not (len(shape) == 3 and _is_square(layer)):
        expected = "a square window on an input with height, width and channels"
    elif isinstance(layer, WINDOWED) and min(_slid(layer, size)[0] for size in shape[:2]) < 1:
        expected = f"an input of at least {kernel}×{kernel}"
    elif isinstance(layer, GLOBAL[:2]) and len(shape) != 3:
        expected = "an input with height, width and channels"
    if expected:
        raise ValueError(f"Invalid layer {place} ({name}). Expected: {expected}. Received: {received}.")


def _is_unusual(layer: keras.Layer, shape: Shape) -> bool:
    """Whether a layer uses groups of channels, or channels that are not the last axis."""
    if isinstance(layer, layers.BatchNormalization):
        return layer.axis not in (-1, len(shape))
    return getattr(layer, "groups", 1) != 1 or getattr(layer, "data_format", "channels_last") != "channels_last"


def _is_square(layer: keras.Layer) -> bool:
    sides = [getattr(layer, name, (1, 1)) for name in ("kernel_size", "pool_size", "strides", "dilation_rate")]
    return all(first == second for first, second in sides)
