"""The table of a network, compared with the layers that Keras builds and with the pixels that gradients reach."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from cards import card
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from keras import layers

from cnnlab import params
from cnnlab.data.store import Card
from cnnlab.errors import UserError
from cnnlab.nets.anatomy import layer_table, output_size, sequential, table_text
from cnnlab.nets.families.homework import homework
from cnnlab.nets.registry import build

SIDE = 40
windows = st.lists(
    st.tuples(st.sampled_from(["conv", "max", "average"]), st.integers(1, 5), st.integers(1, 3)), min_size=1, max_size=5
)


def stack(steps: list[tuple[str, int, int]], side: int = SIDE) -> keras.Sequential:
    """Layers with valid padding and positive weights, so that every pixel of a field counts."""
    model = keras.Sequential([keras.Input((side, side, 1))])
    for kind, kernel, stride in steps:
        if kind == "conv":
            model.add(layers.Conv2D(2, kernel, strides=stride, kernel_initializer="ones"))
        else:
            model.add(layers.AveragePooling2D(kernel, strides=stride))  # a maximum passes gradients to one pixel only
    return model


def reached(model: keras.Model, at: int) -> np.ndarray:
    """The rows of the image that unit (`at`, `at`) of the output depends on."""
    image = tf.Variable(tf.ones((1, *model.input_shape[1:])))
    with tf.GradientTape() as tape:
        output = tf.reduce_sum(model(image)[0, at, at])
    return np.flatnonzero(np.abs(tape.gradient(output, image).numpy()).sum(axis=(0, 2, 3)))


@settings(max_examples=30)
@given(steps=windows)
def test_field_and_jump_are_what_the_gradient_reaches(steps: list[tuple[str, int, int]]) -> None:
    side = SIDE
    for _, kernel, stride in steps:
        side = (side - kernel) // stride + 1
        assume(side >= 2)
        assume(stride <= kernel)  # a wider stride leaves holes in the field
    model = stack(steps)
    row = layer_table(model.layers, (SIDE, SIDE, 1))[-1]
    first, second = reached(model, 0), reached(model, 1)
    assert len(first) == row["receptive_field"]
    assert second[0] - first[0] == row["jump"]
    assert row["output"].startswith(f"{side}×{side}×")


@settings(max_examples=30)
@given(steps=windows)
def test_a_field_begins_where_its_first_pixel_is_also_with_padding(steps: list[tuple[str, int, int]]) -> None:
    assume(all(stride <= kernel for _, kernel, stride in steps))
    stack = [layers.Conv2D(1, kernel, stride, "same", kernel_initializer="ones") for _, kernel, stride in steps]
    model = sequential((SIDE, SIDE, 1), stack, "padded")
    row, units = layer_table(stack, (SIDE, SIDE, 1))[-1], model.output_shape[1]
    for at in {0, units // 2, units - 1}:
        first = row["start"] + at * row["jump"]
        seen = [pixel for pixel in range(first, first + row["receptive_field"]) if 0 <= pixel < SIDE]
        assert reached(model, at).tolist() == seen


def test_the_slides_exercise() -> None:
    """Neurons of three 3×3 layers see 3, 5 and 7 pixels."""
    model = stack([("conv", 3, 1)] * 3)
    assert [row["receptive_field"] for row in layer_table(model.layers, (SIDE, SIDE, 1))] == [3, 5, 7]


def test_the_lessons_network_by_hand() -> None:
    rows = layer_table(homework().layers, (32, 32, 3))
    seen = [(row["receptive_field"], row["jump"]) for row in rows if row["layer"] in ("Conv2D", "MaxPooling2D")]
    assert seen == [(3, 1), (5, 1), (6, 2), (10, 2), (14, 2), (16, 4)]
    assert sum(row["parameters"] for row in rows) == 1_250_858
    products = 32**2 * 27 * 32 + 30**2 * 288 * 32 + 15**2 * 288 * 64 + 13**2 * 576 * 64 + 2304 * 512 + 512 * 10
    assert sum(row["flop"] for row in rows) == 2 * products == 41_482_240  # DESIGN's 41.5 MFLOP
    (flat,) = [row for row in rows if row["layer"] == "Flatten"]
    assert (flat["output"], flat["bytes"], flat["receptive_field"]) == ("2304", 4 * 2304, None)


def test_padding_and_activations_do_not_change_receptive_fields() -> None:
    settings: dict[str, Any] = {"filters": (4,), "depths": (2,), "conv_dropout": (0.1,), "batch_norm": True}
    rows = layer_table(homework(padding="same", **settings).layers, (32, 32, 3))
    assert [row["receptive_field"] for row in rows if row["receptive_field"]][-1] == 6


sides = st.integers(1, 4)
paddings = st.sampled_from(["valid", "same"])
# Layers are made in the test, not drawn: they draw random seeds of their own.
convolutions = st.builds(
    lambda filters, kernel, stride, padding, bias, dilation: partial(
        layers.Conv2D, filters, kernel, stride, padding, dilation_rate=1 if stride > 1 else dilation, use_bias=bias
    ),
    sides, sides, st.integers(1, 3), paddings, st.booleans(), st.integers(1, 2),
)  # fmt: skip
pools = st.builds(
    partial, st.sampled_from([layers.MaxPooling2D, layers.AveragePooling2D]), sides, st.integers(1, 3), paddings
)
others = st.sampled_from([
    partial(layers.Activation, "relu"), partial(layers.LeakyReLU, 0.1), partial(layers.Dropout, 0.5),
    partial(layers.Rescaling, 2.0), layers.BatchNormalization, partial(layers.BatchNormalization, scale=False),
])  # fmt: skip
heads = st.sampled_from([layers.Flatten, layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D])
bodies = st.lists(st.one_of(convolutions, pools, others), min_size=1, max_size=6)
shapes = st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(1, 3))


@settings(max_examples=100)
@given(shape=shapes, body=bodies, head=heads, units=sides)
def test_sizes_and_parameters_are_what_keras_builds_or_the_layer_is_named(
    shape: tuple[int, int, int], body: list[Callable[[], keras.Layer]], head: Callable[[], keras.Layer], units: int
) -> None:
    """The table is refused exactly if Keras refuses the stack or a layer's output is empty."""
    stack = [*(make() for make in body), head(), layers.Dense(units), layers.Dense(3, use_bias=False)]
    try:
        theirs = keras.Sequential([keras.Input(shape), *stack])
        fits = all(min(layer.output.shape[1:]) >= 1 for layer in theirs.layers)
    except ValueError:
        fits = False
    if not fits:
        with pytest.raises(ValueError, match=r"^Invalid layer \d+ \(.*2D .*\)\. Expected: an input"):
            layer_table(stack, shape)
        return
    rows = layer_table(stack, shape)
    for row, layer in zip(rows, theirs.layers, strict=True):
        assert row["output"] == "×".join(str(size) for size in layer.output.shape[1:])
        assert row["parameters"] == layer.count_params()
        assert row["bytes"] == 4 * np.prod(layer.output.shape[1:])
        if isinstance(layer, layers.Conv2D | layers.Dense):  # two operations a weight at each place
            assert row["flop"] == 2 * layer.kernel.shape.num_elements() * np.prod(layer.output.shape[1:-1])


@pytest.mark.parametrize(
    ("numbers", "size"),
    [((28, 3, 1, 2), 28), ((28, 3, 1, 0), 26), ((28, 2, 2, 0), 14), ((5, 3, 2, 2), 3), ((224, 7, 2, 6), 112)],
)
def test_the_slides_formula_by_hand(numbers: tuple[int, int, int, int], size: int) -> None:
    assert output_size(*numbers) == size


def test_a_stack_that_does_not_fit_is_refused_and_its_layer_named() -> None:
    stack = [layers.Conv2D(4, 5), layers.MaxPooling2D(2), layers.Conv2D(4, 5)]
    with pytest.raises(ValueError, match=r"^Invalid layer 3 \(Conv2D 5×5, stride 1, padding valid\)\. .* input 2×2×4"):
        sequential((8, 8, 1), stack, "small")


def test_unsupported_layers_are_refused() -> None:
    odd = [layers.SeparableConv2D(2, 3), layers.Conv2D(2, (3, 1)), layers.MaxPooling2D((1, 2))]
    odd += [layers.Conv2D(2, 3, groups=2), layers.BatchNormalization(axis=1)]
    odd += [layers.Conv2D(2, 3, data_format="channels_first")]
    for layer in odd:
        with pytest.raises(ValueError, match=r"^Invalid layer 1 .* Expected: (one of Conv|a square|channels in the)"):
            layer_table([layer], (8, 8, 1))
    with pytest.raises(ValueError, match="Expected: an input with height"):
        layer_table([layers.Flatten(), layers.GlobalMaxPooling2D()], (8, 8, 1))


def test_a_variant_too_deep_for_its_images_is_refused_in_one_line() -> None:
    shipped = params.load(Path(__file__).parents[2] / "params.yaml").variants["lesson"].network
    four = {"filters": [8] * 4, "depths": [2] * 4, "conv_dropout": [0.0] * 4}
    facts: Card = card("cifar10")
    message = r"does not fit cifar10\..*Invalid layer 18 \(Conv2D 3×3, stride 1, padding valid\)\. .* input 2×2×8\."
    with pytest.raises(UserError, match=message):
        build(shipped.model_copy(update=four), facts)


def test_the_table_as_text_has_the_sums() -> None:
    lines = table_text(layer_table(homework().layers, (32, 32, 3))).splitlines()
    assert lines[1].split() == [
        "Conv2D",
        "32×32×32",
        "(32",
        "−",
        "3",
        "+",
        "2)",
        "/",
        "1",
        "+",
        "1",
        "=",
        "32",
        "896",
        "1.769",
        "128.0",
        "3",
        "1",
    ]
    assert lines[-1].split()[:3] == ["sum", "1,250,858", "41.482"]
