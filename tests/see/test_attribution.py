"""Attribution and activation maximisation, for networks whose results can be computed by hand."""

import keras
import numpy as np
import pytest
from keras import layers
from see.small_nets import convolutional, linear, noise

from cnnlab.see.attribution import grad_cam, maximise, occlusion, saliency
from cnnlab.see.layers import activations


@pytest.mark.parametrize("channels", [1, 3])
def test_saliency_of_a_linear_network_is_its_weights(channels: int) -> None:
    weights = np.random.default_rng(0).standard_normal((6, 5, channels, 4))
    images = np.zeros((2, 6, 5, channels), np.uint8)
    found = saliency(linear(weights), images, np.array([3, 1]))
    for which, label in enumerate((3, 1)):
        assert found[which] == pytest.approx(np.abs(weights[..., label]).max(axis=2), rel=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_grad_cam_of_a_global_mean_is_the_class_activation_map(channels: int) -> None:
    """Zhou et al. 2016, arXiv:1512.04150: the maps weighted as the classifier weights them, over their area."""
    model, images = convolutional(channels), noise(3, channels=channels)
    classes = np.array([0, 2, 1])
    maps = activations(model, images, model.layers[5])
    kernel = model.layers[-2].get_weights()[0]
    expected = np.maximum(np.einsum("nyxc,cn->nyx", maps, kernel[:, classes]), 0) / np.prod(maps.shape[1:3])
    found = grad_cam(model, images, classes)
    assert found.shape == (3, 12, 12)
    enlarged = np.asarray(layers.Resizing(12, 12)(expected[..., None]))[..., 0]
    assert found == pytest.approx(enlarged, abs=1e-5)


def test_occlusion_is_positive_where_the_network_looks() -> None:
    """It uses a single bright pixel: only squares that cover it lower the probability of the class."""
    weights = np.zeros((8, 8, 1, 2))
    weights[5, 2, 0, 1] = 4
    image = np.full((8, 8, 1), 255, np.uint8)
    found = occlusion(linear(weights), image, 1)
    assert found[5, 2] == found.max() > 0.05
    far = np.ones((8, 8), bool)
    far[3:8, 0:5] = False  # a square of a quarter of the side, 2, may cover the pixel from one place further
    assert np.abs(found[far]).max() < 1e-6
    assert found.min() > -1e-6


def test_occlusion_is_negative_for_evidence_of_another_class() -> None:
    weights = np.zeros((8, 8, 1, 2))
    weights[0, 0, 0, 0] = 4
    assert occlusion(linear(weights), np.full((8, 8, 1), 255, np.uint8), 1).min() < -0.05


@pytest.mark.parametrize("channels", [1, 3])
def test_the_maximising_input_of_a_linear_network_is_white_where_its_weights_are_positive(channels: int) -> None:
    weights = np.ones((12, 12, channels, 2))
    weights[:, 6:, :, 0] = weights[:6, :, :, 1] = -1
    model = linear(weights)
    found = maximise(model, model.layers[-1], np.array([1, 0]), [0.5] * channels, seed=1)
    assert found.dtype == np.uint8
    lower, left = found.astype(int)
    assert lower[8:].mean() - lower[:4].mean() > 150
    assert left[:, :4].mean() - left[:, 8:].mean() > 150


def test_the_maximising_input_raises_its_unit_and_is_reproducible() -> None:
    model = convolutional(3)
    layer = model.layers[5]
    found = maximise(model, layer, np.arange(4), [0.2, 0.5, 0.7], seed=4)
    grey = np.tile(np.array([51, 128, 178], np.uint8), (4, 12, 12, 1))
    raised = [activations(model, images, layer).mean(axis=(1, 2)).diagonal() for images in (found, grey)]
    assert (raised[0] >= raised[1]).all()
    assert raised[0].max() > raised[1].max()
    assert np.array_equal(found, maximise(model, layer, np.arange(4), [0.2, 0.5, 0.7], seed=4))
    assert not np.array_equal(found, maximise(model, layer, np.arange(4), [0.2, 0.5, 0.7], seed=5))


def test_a_network_in_bfloat16_is_supported() -> None:
    policy = keras.dtype_policies.DTypePolicy("mixed_bfloat16")
    keras.config.set_dtype_policy(policy)
    try:
        model, images, classes = convolutional(3), noise(2, channels=3), np.array([0, 1])
    finally:
        keras.config.set_dtype_policy("float32")
    for found in (saliency(model, images, classes), grad_cam(model, images, classes)):
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
    assert np.isfinite(occlusion(model, images[0], 1)).all()
    assert maximise(model, model.layers[-1], classes, [0.5] * 3, seed=0).shape == images.shape
    assert activations(model, images, model.layers[0]).dtype == np.float32
