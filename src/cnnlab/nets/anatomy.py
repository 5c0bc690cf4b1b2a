"""What a network is made of, layer by layer: sizes, parameters, operations, memory, and which pixels a unit sees."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
from keras import layers

Shape = tuple[int, ...]  # of one picture or its features: (height, width, channels), or (features,)

WINDOWED = (layers.Conv2D, layers.MaxPooling2D, layers.AveragePooling2D)
WHOLE = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D, layers.Flatten)  # a unit after them sees every pixel
POINTWISE = (layers.Activation, layers.LeakyReLU, layers.Dropout, layers.Rescaling, layers.BatchNormalization)


def output_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """W₂ = (W₁ − F + 2P) / S + 1, rounded down: how often a window fits (slides, «Параметры свёрточного слоя»).

    All in pixels; `padding` is 2P, what is added at both edges together. Less than 1 where the window does not fit.
    """
    return (size - kernel + padding) // stride + 1


def same_padding(size: int, kernel: int, stride: int) -> int:
    """2P of padding `same`: the least, odd or even, with which ⌈W₁ / S⌉ windows fit."""
    return max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)


def layer_table(stack: Iterable[keras.Layer], picture: Shape) -> list[dict[str, Any]]:
    """One row a layer of a stack, for one `picture` (height, width, channels), by arithmetic alone: nothing is built.

    `layer` is its kind, `output` the shape of its answer, `window` the slides' formula with its numbers where a window
    slides, `parameters` their number, `flop` the operations of one pass forward (2 for each multiplication with
    addition; convolutions and dense layers alone), `bytes` the size of the answer as float32, `receptive_field` the
    side in pixels of what a unit of the answer sees, `jump` how many pixels lie between two neighbouring units, `start`
    the first pixel that the first unit sees (below 0: padding); None where every unit sees the whole picture.

    A layer with kernel side k and stride s makes of field r and jump j the field r + (k − 1) j and the jump s j
    (Araujo, Norris, Sim 2019, Distill, doi:10.23915/distill.00021; the slides' exercise on 3×3 layers).
    Raises ValueError, which names the layer, where one does not fit what it gets, or is of a kind not known here.
    """
    rows = []
    shape = picture
    field, jump, start = 1, 1, 0
    local = True
    for place, layer in enumerate(stack, 1):
        _refuse_misfit(place, layer, shape)
        parameters, flop, window = _parameters(layer, shape), 0, _formula(layer, shape)
        kernel, stride, _ = _window(layer)
        local = local and not isinstance(layer, WHOLE)
        before = _slid(layer, shape[0])[1] // 2  # of an odd number of pixels Keras puts one more at the end
        field, jump, start = field + (kernel - 1) * jump, jump * stride, start - before * jump
        given, shape = shape, _answer(layer, shape)
        if isinstance(layer, layers.Conv2D | layers.Dense):
            flop = 2 * _weights(layer, given) * math.prod(shape[:-1])
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


def sequential(picture: Shape, stack: Sequence[keras.Layer], name: str) -> keras.Sequential:
    """Keras's model of a stack for pictures of shape (height, width, channels).

    Raises ValueError as `layer_table` does, before anything is built.
    """
    layer_table(stack, picture)
    return keras.Sequential([keras.Input(picture), *stack], name=name)


def forward_flop(model: keras.Model) -> int:
    """Floating-point operations of one picture's way through a network; convolutions and dense layers alone."""
    return sum(row["flop"] for row in layer_table(model.layers, model.input_shape[1:]))


def training_flop(model: keras.Model) -> int:
    """Floating-point operations of training on one picture: three times forward.

    The backward pass computes two products as large as the forward one; that the first layer needs only one of them is
    not taken off, as usual.
    """
    return 3 * forward_flop(model)


def table_text(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of `layer_table` as text in columns, and their sums."""
    head = ("layer", "output", "(W₁ − F + 2P) / S + 1", "parameters", "MFLOP", "KiB", "sees, pixels", "jump")
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
    """Side of the window, dilation included, its stride, and whether padding is `same`; (1, 1, False) for none."""
    match layer:
        case layers.Conv2D():
            return (layer.kernel_size[0] - 1) * layer.dilation_rate[0] + 1, layer.strides[0], layer.padding == "same"
        case layers.MaxPooling2D() | layers.AveragePooling2D():
            return layer.pool_size[0], layer.strides[0], layer.padding == "same"
    return 1, 1, False


def _slid(layer: keras.Layer, size: int) -> tuple[int, int]:
    """How many windows fit along `size` pixels, and 2P, the pixels of padding at both edges together."""
    kernel, stride, same = _window(layer)
    padding = same_padding(size, kernel, stride) if same else 0
    return output_size(size, kernel, stride, padding), padding


def _formula(layer: keras.Layer, shape: Shape) -> str:
    """The slides' formula for the height, with its numbers."""
    if not isinstance(layer, WINDOWED):
        return ""
    kernel, stride, _ = _window(layer)
    size, padding = _slid(layer, shape[0])
    return f"({shape[0]} − {kernel} + {padding}) / {stride} + 1 = {size}"


def _answer(layer: keras.Layer, shape: Shape) -> Shape:
    if isinstance(layer, WINDOWED):
        channels = layer.filters if isinstance(layer, layers.Conv2D) else shape[2]
        return _slid(layer, shape[0])[0], _slid(layer, shape[1])[0], channels
    if isinstance(layer, layers.Flatten):
        return (math.prod(shape),)
    if isinstance(layer, WHOLE):
        return (shape[-1],)
    return (*shape[:-1], layer.units) if isinstance(layer, layers.Dense) else shape


def _weights(layer: keras.Layer, shape: Shape) -> int:
    """Weights of a convolution, F · F · N · K, or of a dense layer, N · K, of N channels or features."""
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
            return int(2 + layer.center + layer.scale) * shape[-1]  # running mean and variance do not train, but count
    return 0


def _refuse_misfit(place: int, layer: keras.Layer, shape: Shape) -> None:
    kernel, stride, same = _window(layer)
    told = f"Invalid layer {place} ({type(layer).__name__}"
    if isinstance(layer, WINDOWED):
        told += f" {kernel}×{kernel}, stride {stride}, padding {'same' if same else 'valid'}"
    told += f"), which gets {'×'.join(map(str, shape))}. "
    if not isinstance(layer, (*WINDOWED, *WHOLE, *POINTWISE, layers.Dense)):
        raise ValueError(f"{told}Expected a kind whose size, parameters and field are known here.")
    if _is_unusual(layer, shape):
        raise ValueError(f"{told}Expected channels last, all of them together.")
    if isinstance(layer, WINDOWED) and not (len(shape) == 3 and _is_square(layer)):
        raise ValueError(f"{told}Expected a square window on features with height, width and channels.")
    if isinstance(layer, WINDOWED) and min(_slid(layer, size)[0] for size in shape[:2]) < 1:
        raise ValueError(f"{told}Expected {kernel}×{kernel} or more.")
    if isinstance(layer, WHOLE[:2]) and len(shape) != 3:
        raise ValueError(f"{told}Expected features with height, width and channels.")


def _is_unusual(layer: keras.Layer, shape: Shape) -> bool:
    """Whether a layer takes channels in groups, or not as the last axis."""
    if isinstance(layer, layers.BatchNormalization):
        return layer.axis not in (-1, len(shape))
    return getattr(layer, "groups", 1) != 1 or getattr(layer, "data_format", "channels_last") != "channels_last"


def _is_square(layer: keras.Layer) -> bool:
    sides = [getattr(layer, name, (1, 1)) for name in ("kernel_size", "pool_size", "strides", "dilation_rate")]
    return all(first == second for first, second in sides)
