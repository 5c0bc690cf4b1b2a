"""The table of a network against what Keras builds, and against the pixels that a unit's gradient reaches."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from keras import layers

from cnnlab.nets.anatomy import layer_table
from cnnlab.nets.homework import homework

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
            model.add(layers.AveragePooling2D(kernel, strides=stride))  # a maximum's gradient reaches one pixel alone
    return model


def reached(model: keras.Model, at: int) -> np.ndarray:
    """The rows of the picture that unit (`at`, `at`) of the answer depends on."""
    picture = tf.Variable(tf.ones((1, *model.input_shape[1:])))
    with tf.GradientTape() as tape:
        answer = tf.reduce_sum(model(picture)[0, at, at])
    return np.flatnonzero(np.abs(tape.gradient(answer, picture).numpy()).sum(axis=(0, 2, 3)))


@settings(max_examples=30)
@given(steps=windows)
def test_field_and_jump_are_what_the_gradient_reaches(steps: list[tuple[str, int, int]]) -> None:
    side = SIDE
    for _, kernel, stride in steps:
        side = (side - kernel) // stride + 1
        assume(side >= 2)
        assume(stride <= kernel)  # a wider stride leaves holes in the field
    model = stack(steps)
    row = layer_table(model)[-1]
    first, second = reached(model, 0), reached(model, 1)
    assert len(first) == row["receptive_field"]
    assert second[0] - first[0] == row["jump"]
    assert row["output"].startswith(f"{side}×{side}×")


def test_the_slides_exercise() -> None:
    """Neurons of three 3×3 layers see 3, 5 and 7 pixels."""
    model = stack([("conv", 3, 1)] * 3)
    assert [row["receptive_field"] for row in layer_table(model)] == [3, 5, 7]


def test_the_lessons_network_by_hand() -> None:
    rows = layer_table(homework())
    seen = [(row["receptive_field"], row["jump"]) for row in rows if row["layer"] in ("Conv2D", "MaxPooling2D")]
    assert seen == [(3, 1), (5, 1), (6, 2), (10, 2), (14, 2), (16, 4)]
    assert sum(row["parameters"] for row in rows) == 1_250_858
    products = 32**2 * 27 * 32 + 30**2 * 288 * 32 + 15**2 * 288 * 64 + 13**2 * 576 * 64 + 2304 * 512 + 512 * 10
    assert sum(row["flop"] for row in rows) == 2 * products == 41_482_240  # DESIGN's 41.5 MFLOP
    (flat,) = [row for row in rows if row["layer"] == "Flatten"]
    assert (flat["output"], flat["bytes"], flat["receptive_field"]) == ("2304", 4 * 2304, None)


def test_padding_and_activations_change_no_field() -> None:
    settings: dict[str, Any] = {"filters": (4,), "blocks": (2,), "conv_dropout": (0.1,), "batch_norm": True}
    rows = layer_table(homework(padding="same", **settings))
    assert [row["receptive_field"] for row in rows if row["receptive_field"]][-1] == 6
