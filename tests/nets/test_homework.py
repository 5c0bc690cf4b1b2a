"""The homework network's knobs: what each changes, what is refused, and its activations against the slides' table."""

import math
import typing
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from cards import card
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cnnlab.errors import UserError
from cnnlab.nets.families.homework import Homework, homework
from cnnlab.nets.registry import build

ONE_STAGE: dict[str, Any] = {"name": "homework", "filters": [4], "depths": [2], "conv_dropout": [0.25]}

# The slides' table, with α = 1 in ELU and 0.1 in leaky ReLU; the printed softsign has lost the bars of |x|.
SLIDES = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": lambda x: (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1),
    "relu": lambda x: np.where(x > 0, x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.1 * x),
    "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
}


def entries(stages: int) -> st.SearchStrategy[dict[str, Any]]:
    """The three lists of a network of so many stages."""
    items = {"filters": st.integers(1, 4), "depths": st.integers(1, 3), "conv_dropout": st.sampled_from([0.0, 0.5])}
    return st.fixed_dictionaries(
        {name: st.lists(item, min_size=stages, max_size=stages) for name, item in items.items()}
    )


def kinds(**knobs: Any) -> list[str]:
    section = Homework(**ONE_STAGE | knobs).model_dump(exclude={"name", "inputs"})
    return [type(layer).__name__ for layer in homework((8, 8, 1), 3, **section).layers]


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 24), st.integers(1, 24), st.integers(1, 3)),
    classes=st.integers(1, 4),
    lists=st.integers(1, 3).flatmap(entries),
    kernel=st.integers(1, 5),
    padding=st.sampled_from(["valid", "same"]),
    batch_norm=st.booleans(),
    pooling=st.sampled_from(["max", "average", "stride"]),
    head=st.sampled_from(["flatten", "global_average", "global_max"]),
    dense_units=st.integers(0, 4),
)
def test_shape_and_parameters_are_those_of_the_formula(
    shape: tuple[int, int, int],
    classes: int,
    lists: dict[str, Any],
    kernel: int,
    padding: str,
    batch_norm: bool,
    pooling: str,
    head: str,
    dense_units: int,
) -> None:
    *sides, channels = shape
    own = 4 if batch_norm else 1  # parameters of a filter besides its kernel: γ, β, mean and variance, or a bias
    parameters = 0
    fits = True
    for count, convolutions in zip(lists["filters"], lists["depths"], strict=True):
        parameters += count * (kernel**2 * (channels + count * (convolutions - 1)) + own * convolutions)
        parameters += count * (4 * count + own) * (pooling == "stride")
        sides = [(side - (kernel - 1) * (padding == "valid")) // 2 for side in sides]
        fits &= min(sides) > 0
        channels = count
    features = math.prod(sides) * channels if head == "flatten" else channels
    parameters += dense_units * (features + own) + classes * ((dense_units or features) + 1)

    knobs = {"kernel": kernel, "padding": padding, "batch_norm": batch_norm, "pooling": pooling, "head": head}
    if not fits:
        with pytest.raises(ValueError, match=r"^Invalid layer \d+ .* Received: input "):
            homework(shape, classes, None, **lists, **knobs, dense_units=dense_units)
        return
    model = homework(shape, classes, None, **lists, **knobs, dense_units=dense_units)
    assert model.output_shape == (None, classes)
    assert model.count_params() == parameters
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [rate for rate in lists["conv_dropout"] if rate] + [0.5] * (dense_units > 0)


@pytest.mark.parametrize(
    ("knobs", "order"),
    [
        (
            {"batch_norm": True, "pooling": "stride", "activation": "leaky_relu", "dense_dropout": 0.0},
            "Conv2D BatchNormalization LeakyReLU Conv2D BatchNormalization LeakyReLU "
            "Conv2D BatchNormalization LeakyReLU Dropout "
            "Flatten Dense BatchNormalization LeakyReLU Dense Activation",
        ),
        (
            {"depths": [1], "conv_dropout": [0.0], "pooling": "average", "head": "global_average", "dense_units": 0},
            "Conv2D Activation AveragePooling2D GlobalAveragePooling2D Dense Activation",
        ),
        (
            {"depths": [3], "head": "global_max"},
            "Conv2D Activation Conv2D Activation Conv2D Activation MaxPooling2D Dropout "
            "GlobalMaxPooling2D Dense Activation Dropout Dense Activation",
        ),
    ],
)
def test_the_order_of_layers(knobs: dict[str, Any], order: str) -> None:
    assert kinds(**knobs) == order.split()


@pytest.mark.parametrize(
    ("convolutions", "padding", "expected"),
    [(1, "valid", ["valid"]), (3, "valid", ["same", "same", "valid"]), (2, "same", ["same", "same"])],
)
def test_padding_is_of_a_stages_last_convolution(convolutions: int, padding: str, expected: list[str]) -> None:
    model = homework((9, 9, 1), filters=[2], depths=[convolutions], conv_dropout=[0.0], kernel=5, padding=padding)
    convolved = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.padding for layer in convolved] == expected
    assert {layer.kernel_size for layer in convolved} == {(5, 5)}


@pytest.mark.parametrize(("stride", "side"), [(1, 3), (2, 3), (4, 7)])
def test_a_strided_stem_skips_no_pixel(stride: int, side: int) -> None:
    model = homework((96, 96, 3), stem_stride=stride)
    first, second = (layer for layer in model.layers[:4] if isinstance(layer, keras.layers.Conv2D))
    assert (first.kernel_size, first.strides) == ((side, side), (stride, stride))
    assert (second.kernel_size, second.strides) == ((3, 3), (1, 1))
    assert first.output.shape[1] == 96 // stride


@pytest.mark.parametrize("replicas", [1, 2])
def test_normalisations_are_over_all_replicas(monkeypatch: pytest.MonkeyPatch, replicas: int) -> None:
    strategy = SimpleNamespace(num_replicas_in_sync=replicas)
    monkeypatch.setattr("tensorflow.distribute.get_strategy", lambda: strategy)
    model = homework((8, 8, 1), filters=[2], depths=[1], conv_dropout=[0.0], batch_norm=True)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert [layer.synchronized for layer in norms] == [replicas == 2] * 2


@pytest.mark.parametrize("name", SLIDES)
def test_an_activation_is_the_slides_formula(name: str) -> None:
    knobs = Homework(**ONE_STAGE, activation=name).model_dump(exclude={"name", "inputs"})
    hidden = homework((8, 8, 1), **knobs).layers
    x = np.linspace(-6, 6, 121)
    for layer in (hidden[1], hidden[3], hidden[-4]):  # after both convolutions and the dense layer
        np.testing.assert_allclose(layer(x.astype(np.float32)).numpy(), SLIDES[name](x), rtol=1e-5, atol=1e-6)


def test_the_activations_are_those_of_the_slides() -> None:
    assert typing.get_args(Homework.model_fields["activation"].annotation) == tuple(SLIDES)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"depths": [2, 2]}, "one entry of depths per stage, as in filters: 1"),
        ({"conv_dropout": []}, "one entry of conv_dropout per stage, as in filters: 1"),
        ({"filters": [4, 8, 8]}, "one entry of depths per stage, as in filters: 3"),
        ({"activation": "gelu"}, "'sigmoid', 'tanh', 'relu', 'leaky_relu', 'elu', 'softplus' or 'softsign'"),
        ({"pooling": "min"}, "'max', 'average' or 'stride'"),
        ({"head": "mean"}, "'flatten', 'global_average' or 'global_max'"),
        ({"padding": "full"}, "'valid' or 'same'"),
        ({"kernel": 0}, "greater than or equal to 1"),
        ({"batch_norm": 1}, "valid boolean"),
    ],
)
def test_an_invalid_setting_is_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Homework(**ONE_STAGE | knobs)


@pytest.mark.parametrize("knobs", [{"kernel": 40}, {"pooling": "stride", "kernel": 31}, {"filters": [1] * 6}])
def test_a_stack_that_does_not_fit_is_refused(knobs: dict[str, Any]) -> None:
    stages = len(knobs.get("filters", [1, 1]))
    lists = {"filters": [1] * stages, "depths": [1] * stages, "conv_dropout": [0.0] * stages}
    with pytest.raises(UserError, match=r"^Network homework does not fit cifar10\. .* or another network\.$"):
        build(Homework(name="homework", **lists | knobs), card("cifar10"))


def test_inputs_as_asked_for() -> None:
    images = np.random.default_rng(0).random((5, 32, 32, 3), np.float32)
    mean, deviation = images.mean(axis=(0, 1, 2)), images.std(axis=(0, 1, 2))
    expected = {"unit": images, "bytes": 255 * images, "standardised": (images - mean) / deviation}
    for inputs, pixels in expected.items():
        network = Homework(**ONE_STAGE | {"inputs": inputs})
        model = build(network, card("cifar10", mean.tolist(), deviation.tolist()))
        plain = build(Homework(**ONE_STAGE), card("cifar10"))
        plain.set_weights(model.get_weights())
        assert model(images).numpy() == pytest.approx(plain(pixels).numpy(), rel=1e-4, abs=1e-4)
