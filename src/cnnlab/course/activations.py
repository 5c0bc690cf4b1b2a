"""The slides' table of activation functions: function, derivative and range, as text and as NumPy."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from cnnlab.nets.families.homework import LEAK

Function = Callable[[np.ndarray], np.ndarray]
ELU_ALPHA = 1.0  # Keras's default


@dataclass(frozen=True)
class Activation:
    """An activation function: its name in Keras, formulas as text, range from `low` to `high`, and the functions.

    `attained` is the end of the range that is a value of the function; None if both are only limits.
    """

    name: str
    formula: str
    slope: str
    low: float
    high: float
    attained: float | None
    function: Function
    derivative: Function

    @property
    def range(self) -> str:
        """The range in the slides' notation, such as `[0, ∞)`."""
        left = "[" if self.attained == self.low else "("
        return f"{left}{self.low:g}, {self.high:g})".replace("inf", "∞").replace("-", "−")


ACTIVATIONS = (
    Activation("sigmoid", "1 / (1 + e⁻ˣ)", "f(x) (1 − f(x))", 0, 1, None, expit, lambda x: expit(x) * (1 - expit(x))),
    Activation(
        "tanh", "(e²ˣ − 1) / (e²ˣ + 1)", "1 − f(x)²", -1, 1, None, np.tanh, lambda x: np.asarray(1 - np.tanh(x) ** 2)
    ),
    Activation(
        "relu",
        "max(0, x)",
        "1 (x > 0), 0 (x ≤ 0)",
        0,
        np.inf,
        0,
        lambda x: np.maximum(x, 0),
        lambda x: np.heaviside(x, 0),
    ),
    Activation(
        "leaky_relu",
        "x (x > 0), αx (x ≤ 0), α = 0.1",
        "1 (x > 0), α (x ≤ 0)",
        -np.inf,
        np.inf,
        None,
        lambda x: np.where(x > 0, x, LEAK * x),
        lambda x: np.where(x > 0, 1.0, LEAK),
    ),
    Activation(
        "elu",
        "x (x > 0), α (eˣ − 1) (x ≤ 0), α = 1",
        "1 (x > 0), αeˣ (x ≤ 0)",
        -ELU_ALPHA,
        np.inf,
        None,
        lambda x: np.where(x > 0, x, ELU_ALPHA * np.expm1(np.minimum(x, 0))),
        lambda x: np.where(x > 0, 1.0, ELU_ALPHA * np.exp(np.minimum(x, 0))),
    ),
    Activation("softplus", "ln(1 + eˣ)", "1 / (1 + e⁻ˣ)", 0, np.inf, None, lambda x: np.logaddexp(0, x), expit),
    Activation(
        "softsign",
        "x / (1 + |x|)",
        "1 / (1 + |x|)²",
        -1,
        1,
        None,
        lambda x: x / (1 + np.abs(x)),
        lambda x: 1 / (1 + np.abs(x)) ** 2,
    ),
)
