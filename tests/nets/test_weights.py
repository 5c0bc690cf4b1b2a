"""Transferred features compute the same outputs, for greyscale and colour images of any size."""

import keras
import numpy as np
import pytest

from cnnlab.nets.families.homework import homework
from cnnlab.nets.weights import transfer_weights

KNOBS = {"filters": (4, 6), "depths": (1, 2), "conv_dropout": (0.0, 0.0), "padding": "same", "batch_norm": True}
POOLED = KNOBS | {"head": "global_average", "dense_units": 0}


def network(shape: tuple[int, int, int], classes: int, **knobs: object) -> keras.Model:
    made = homework(shape, classes, None, **(POOLED | knobs))
    random = np.random.default_rng(classes)
    made.set_weights([np.abs(random.normal(size=w.shape)) / 2 + 0.1 for w in made.get_weights()])
    return made


def features(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """What the classifier sees."""
    output = images
    for layer in model.layers[:-2]:
        output = layer(output)
    return np.asarray(output)


def learning(model: keras.Model) -> list[keras.Layer]:
    return [layer for layer in model.layers if layer.trainable_variables]


@pytest.mark.parametrize("frozen", [False, True])
def test_the_features_are_the_same_and_the_classifier_is_new(frozen: bool) -> None:
    source, target = network((16, 16, 3), 10), network((24, 24, 3), 5)
    before = target.layers[-2].get_weights()
    carried = transfer_weights(source, target, frozen=frozen)
    assert len(carried) == 6  # three convolutions and their normalisations
    images = np.random.default_rng(0).random((3, 16, 16, 3), np.float32)
    twin = homework((16, 16, 3), 5, None, **POOLED)
    twin.set_weights(target.get_weights())
    np.testing.assert_allclose(features(twin, images), features(source, images), rtol=1e-5)
    for a, b in zip(before, target.layers[-2].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(learning(target)) == (1 if frozen else 7)
    assert learning(target)[-1] is target.layers[-2]


def test_a_greyscale_image_equals_one_with_three_equal_channels() -> None:
    source, target = network((16, 16, 3), 10), network((16, 16, 1), 10)
    transfer_weights(source, target, frozen=False)
    grey = np.random.default_rng(0).random((3, 16, 16, 1), np.float32)
    np.testing.assert_allclose(features(target, grey), features(source, np.repeat(grey, 3, axis=3)), rtol=1e-5)


def test_a_colour_image_equals_its_mean_over_channels() -> None:
    source, target = network((16, 16, 1), 10), network((16, 16, 3), 10)
    transfer_weights(source, target, frozen=False)
    images = np.random.default_rng(0).random((3, 16, 16, 3), np.float32)
    np.testing.assert_allclose(
        features(target, images), features(source, images.mean(axis=3, keepdims=True)), rtol=1e-5
    )


def test_layers_after_a_difference_are_initialised_randomly() -> None:
    source = network((16, 16, 3), 10)
    more = network((32, 32, 3), 10, filters=(4, 6, 8), depths=(1, 2, 1), conv_dropout=(0.0, 0.0, 0.0))
    assert len(transfer_weights(source, more, frozen=True)) == 6
    assert len(learning(more)) == 3  # the further convolution, its normalisation, the classifier
    flat = homework((16, 16, 3), 10, None, **KNOBS)
    other = homework((24, 24, 3), 10, None, **KNOBS)
    assert len(transfer_weights(flat, other, frozen=False)) == 6  # the dense layer has another number of inputs
    wider = network((16, 16, 3), 10, filters=(4, 7))
    assert len(transfer_weights(source, wider, frozen=False)) == 2


def test_a_larger_kernel_computes_the_same_outputs_as_the_small_one() -> None:
    source = network((16, 16, 3), 10)
    target = network((64, 64, 3), 10, stem_stride=4)
    assert target.layers[0].kernel.shape[:2] == (7, 7)
    assert len(transfer_weights(source, target, frozen=False)) == 6
    images = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    small = np.asarray(keras.ops.conv(images, source.layers[0].kernel, strides=1, padding="same"))
    large = np.asarray(keras.ops.conv(images, target.layers[0].kernel, strides=4, padding="same"))
    np.testing.assert_allclose(large, small[:, 2::4, 2::4], rtol=1e-5)  # padded by 1 before: 3 − 1 is the first centre


def test_untrainable_layers_stay_untrainable() -> None:
    source, target = network((16, 16, 3), 10), network((16, 16, 3), 10)
    target.layers[0].trainable = False
    transfer_weights(source, target, frozen=False)
    assert not target.layers[0].trainable
