"""Classes read from feature maps, and untrained controls."""

import numpy as np
import pytest
from see.small_nets import convolutional, noise

from cnnlab.see import hierarchy, layers


def test_the_strongest_activations_are_the_maxima_of_the_maps() -> None:
    model, images = convolutional(), noise(9)
    found = hierarchy.strongest(model, images)
    assert list(found) == [layer.name for layer in layers.map_layers(model, pools=False)]
    for layer in layers.map_layers(model, pools=False):
        expected = layers.activations(model, images, layer).max(axis=(1, 2))
        assert found[layer.name] == pytest.approx(expected, abs=1e-6)


def test_a_class_that_a_filter_detects_is_read_and_noise_is_not() -> None:
    model = convolutional()
    images, labels = noise(120) // 8, np.arange(120) % 2
    images[1::2, 4:8, 4:8] = 255
    rows = hierarchy.depths(model, images, labels, seeds=2)
    assert [row["depth"] for row in rows] == [1, 2]
    assert [row["field"] for row in rows] == [3, 8]  # 3; pooling 4; the second convolution adds 2 · 2
    assert rows[0]["accuracy"] > 0.95
    assert rows[0]["untrained"] > 0.9
    chance = hierarchy.depths(model, images, np.random.default_rng(0).permutation(labels), seeds=1)
    assert chance[0]["accuracy"] < 0.65


def test_a_control_has_the_same_layers_and_other_weights() -> None:
    model = convolutional()
    first, again, other = (hierarchy.untrained(model, seed) for seed in (0, 0, 1))
    assert [layer.name for layer in first.layers] == [layer.name for layer in model.layers]
    assert np.array_equal(layers.filters(first), layers.filters(again))
    assert not np.array_equal(layers.filters(first), layers.filters(other))
