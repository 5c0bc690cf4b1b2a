"""Muon: what makes its steps orthogonal, and which variables take them. Whole steps are in test_recipe."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from cnnlab.params import Optimizer
from cnnlab.train import optimizers as recipe
from cnnlab.train.muon import Muon

sides = st.integers(1, 40)


def matrix_of(values: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U diag(values) Vᵀ (rows, columns), with its U and Vᵀ."""
    random = np.random.default_rng(len(values))
    u, _ = np.linalg.qr(random.normal(size=(rows, len(values))))
    v, _ = np.linalg.qr(random.normal(size=(columns, len(values))))
    return u * values @ v.T, u, v.T


def orthogonal(kernel: np.ndarray) -> np.ndarray:
    return np.asarray(Muon().zeropower_via_newtonschulz5(keras.ops.convert_to_tensor(kernel), 5))


@given(rows=sides, columns=sides, data=st.data())
def test_it_keeps_singular_vectors_and_makes_values_alike(rows: int, columns: int, data: st.DataObject) -> None:
    values = np.array(data.draw(st.lists(st.floats(0.02, 1), min_size=min(rows, columns), max_size=min(rows, columns))))
    matrix, u, vt = matrix_of(values, rows, columns)
    result = u.T @ orthogonal(matrix) @ vt.T
    diagonal = np.diag(result)
    np.testing.assert_allclose(orthogonal(matrix), u * diagonal @ vt, atol=1e-9)
    np.testing.assert_allclose(result, np.diag(diagonal), atol=1e-9)
    assert ((diagonal > 0.6) & (diagonal < 1.3)).all()


@pytest.mark.parametrize("shape", [(3, 3, 4, 16), (3, 3, 2, 64), (1, 1, 8, 8), (5, 6)])
def test_a_step_is_that_of_the_reshaped_matrix(shape: tuple[int, ...]) -> None:
    """A row an output channel: a kernel's result is that of the matrix (out, height · width · in), exactly."""
    kernel = np.random.default_rng(0).normal(size=shape)
    rows = np.moveaxis(kernel, -1, 0)
    result = orthogonal(rows.reshape(len(rows), -1)).reshape(rows.shape)
    np.testing.assert_allclose(orthogonal(kernel), np.moveaxis(result, 0, -1), atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 3, 16, 32), (3, 3, 2, 64), (64, 48)])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e3])
def test_a_step_is_as_long_as_one_of_adam(shape: tuple[int, ...], size: float) -> None:
    """Root mean square 0.2 of the rate, whatever the gradient's size and the kernel's shape."""
    optimizer, variable = Muon(learning_rate=0.1, weight_decay=None), keras.Variable(np.zeros(shape))
    optimizer.build([variable, keras.Variable(np.zeros((2, 2)))])
    gradient = size * np.random.default_rng(0).normal(size=shape)
    optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [variable])
    assert np.sqrt(np.mean(variable.numpy() ** 2)) == pytest.approx(0.2 * 0.1, rel=0.25)


@pytest.mark.parametrize("ns_steps", [1, 3])
def test_steps_as_jordan_takes_them(ns_steps: int) -> None:
    """Filters norm 1 at most, by his iteration 3.4445 X - 4.775 X XᵀX + 2.0315 X XᵀX XᵀX in NumPy, row by filter."""
    gradient = np.random.default_rng(0).normal(size=(3, 3, 4, 8))
    knobs = Optimizer(name="muon", learning_rate=0.25, momentum=0.6, rms_rate=None, ns_steps=ns_steps)
    optimizer, variable = recipe.optimizer(knobs, 10), keras.Variable(np.zeros(gradient.shape))
    optimizer.build([variable, keras.Variable(np.zeros((2, 2)))])
    optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [variable])
    x = np.moveaxis(gradient, -1, 0).reshape(8, -1)
    x = x / np.linalg.norm(x)
    for _ in range(ns_steps):
        square = x @ x.T
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    expected = -0.25 * np.moveaxis(x.reshape(8, 3, 3, 4), 0, -1)
    np.testing.assert_allclose(variable.numpy(), expected, atol=1e-5)


def steps(optimizer: keras.optimizers.Optimizer, model: keras.Model) -> list[np.ndarray]:
    """What one step adds to each weight."""
    random = np.random.default_rng(0)
    before = [v.numpy() for v in model.trainable_variables]
    optimizer.build(model.trainable_variables)
    optimizer.apply([keras.ops.convert_to_tensor(random.normal(size=v.shape), v.dtype) for v in before])
    return [v.numpy() - b for v, b in zip(model.trainable_variables, before, strict=True)]


def model_of(*hidden: keras.Layer) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((8, 8, 3)), *hidden, layers.GlobalAveragePooling2D(), layers.Dense(4)])


def test_the_classifier_and_everything_without_a_matrix_take_steps_of_adam() -> None:
    def build() -> keras.Model:
        return model_of(layers.Conv2D(6, 3), layers.BatchNormalization(), layers.Conv2D(5, 3, use_bias=False))

    ours = steps(Muon(learning_rate=0.01, weight_decay=None), build())
    adams = steps(keras.optimizers.Adam(learning_rate=0.01), build())
    same = [np.allclose(mine, its, rtol=1e-4, atol=1e-8) for mine, its in zip(ours, adams, strict=True)]
    names = [v.name for v in build().trainable_variables]
    assert names == ["kernel", "bias", "gamma", "beta", "kernel", "kernel", "bias"]
    assert same == [False, True, True, True, False, True, True]


def test_adams_share_of_the_rate_is_of_its_part_alone() -> None:
    def build() -> keras.Model:
        return model_of(layers.Conv2D(6, 3))

    whole, tenth = (
        steps(recipe.optimizer(Optimizer(name="muon", learning_rate=0.01, momentum=0.6, adam_share=share), 10), build())
        for share in (1.0, 0.1)
    )
    hidden, *rest = zip(whole, tenth, strict=True)
    np.testing.assert_allclose(hidden[0], hidden[1], rtol=1e-6)
    for once, less in rest:
        np.testing.assert_allclose(0.1 * once, less, rtol=1e-3, atol=1e-8)


def test_a_network_of_one_layer_is_all_classifier() -> None:
    ours, adams = (
        steps(kind(learning_rate=0.01, weight_decay=None), model_of()) for kind in (Muon, keras.optimizers.Adam)
    )
    for mine, its in zip(ours, adams, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-8)


@settings(max_examples=20)
@given(momentum=st.sampled_from([0.0, 0.6, 0.95]))
def test_a_gradient_that_stays_gives_the_same_step_for_ever(momentum: float) -> None:
    """Momentum scales the direction of a constant gradient, and its scale does not matter."""
    optimizer = Muon(learning_rate=0.1, weight_decay=None, momentum=momentum)
    variable = keras.Variable(np.zeros((3, 3, 2, 8)))
    optimizer.build([variable, keras.Variable(np.zeros((2, 2)))])
    gradient = keras.ops.convert_to_tensor(np.random.default_rng(1).normal(size=(3, 3, 2, 8)), "float32")
    states = [variable.numpy()]
    for _ in range(3):
        optimizer.apply([gradient], [variable])
        states.append(variable.numpy())
    first, *others = np.diff(states, axis=0)
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-5)
