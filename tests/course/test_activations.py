"""The slides' activation functions against Keras's, automatic differentiation, and the printed ranges."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given
from hypothesis import strategies as st

from cnnlab.course.activations import ACTIVATIONS, Activation

NAMES = [activation.name for activation in ACTIVATIONS]
KERAS = {name: keras.activations.get(name) for name in NAMES if name != "leaky_relu"}
KERAS["leaky_relu"] = keras.layers.LeakyReLU(0.1)  # the slides' slope
reals = st.floats(-30, 30)


every = pytest.mark.parametrize("activation", ACTIVATIONS, ids=NAMES)


@every
@given(x=reals)
def test_function_and_derivative_are_those_of_automatic_differentiation(activation: Activation, x: float) -> None:
    assume(abs(x) > 1e-30 or "relu" not in activation.name)  # no derivative at the corner, which is wider in float32
    at = tf.Variable(x, dtype=tf.float64)
    with tf.GradientTape() as tape:
        value = tf.cast(KERAS[activation.name](at), tf.float64)
    exact = "relu" not in activation.name  # Keras's ReLUs count in float32
    near = {"rel": 1e-9, "abs": 1e-12} if exact else {"rel": 1e-6, "abs": 1e-6}
    assert activation.function(np.array(x)) == pytest.approx(float(value), **near)
    assert activation.derivative(np.array(x)) == pytest.approx(float(tape.gradient(value, at)), **near)


@every
@given(x=st.floats(-10, 10))
def test_values_are_in_the_range_and_its_open_ends_are_not_attained(activation: Activation, x: float) -> None:
    value = float(activation.function(np.array(x)))
    assert activation.low <= value < activation.high
    assert value > activation.low or activation.attained == activation.low


@every
def test_the_ends_of_the_range_are_approached(activation: Activation) -> None:
    far = activation.function(np.array([-1e9, 1e9]))
    for value, end in zip(far, (activation.low, activation.high), strict=True):
        assert abs(value) > 1e7 if np.isinf(end) else value == pytest.approx(end, abs=1e-6)


def test_ranges_are_the_slides_except_for_elu_which_never_attains_its_end() -> None:
    ranges = {activation.name: activation.range for activation in ACTIVATIONS}
    assert ranges == {
        "sigmoid": "(0, 1)",
        "tanh": "(−1, 1)",
        "relu": "[0, ∞)",
        "leaky_relu": "(−∞, ∞)",
        "elu": "(−1, ∞)",
        "softplus": "(0, ∞)",
        "softsign": "(−1, 1)",
    }


def test_the_formulas_are_the_functions() -> None:
    """The text of the table, written again as NumPy."""
    x = np.linspace(-3, 3, 61)
    x = x[np.abs(x) > 1e-9]
    texts = {
        "sigmoid": ("1 / (1 + e⁻ˣ)", 1 / (1 + np.exp(-x)), np.exp(-x) / (1 + np.exp(-x)) ** 2),
        "tanh": ("(e²ˣ − 1) / (e²ˣ + 1)", (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1), 1 / np.cosh(x) ** 2),
        "softplus": ("ln(1 + eˣ)", np.log(1 + np.exp(x)), 1 / (1 + np.exp(-x))),
        "relu": ("max(0, x)", np.maximum(0, x), (x > 0) * 1.0),
        "leaky_relu": ("x (x > 0), αx (x ≤ 0), α = 0.1", np.maximum(0.1 * x, x), np.where(x > 0, 1, 0.1)),
        "elu": (
            "x (x > 0), α (eˣ − 1) (x ≤ 0), α = 1",
            np.where(x > 0, x, np.exp(x) - 1),
            np.where(x > 0, 1, np.exp(x)),
        ),
        "softsign": ("x / (1 + |x|)", x / (1 + abs(x)), 1 / (1 + abs(x)) ** 2),
    }
    for activation in ACTIVATIONS:
        text, values, slopes = texts[activation.name]
        assert activation.formula == text
        assert activation.function(x) == pytest.approx(values)
        assert activation.derivative(x) == pytest.approx(slopes)
