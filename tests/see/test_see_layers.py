"""Activations against Keras's own; receptive fields, bars and embeddings against known results."""

from pathlib import Path

import keras
import numpy as np
import pytest
from see.small_nets import convolutional, noise
from sklearn.metrics import silhouette_score

from cnnlab.course.lesson_networks import VERTICAL_LINE, vertical_line_detector
from cnnlab.errors import UserError
from cnnlab.see import layers


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def channels(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_maps_are_activated_convolutions_and_pools() -> None:
    kinds = [type(layer).__name__ for layer in layers.map_layers(convolutional())]
    assert kinds == ["Activation", "MaxPooling2D", "Conv2D"]
    assert [type(layer).__name__ for layer in layers.map_layers(convolutional(), pools=False)] == [
        "Activation",
        "Conv2D",
    ]


@pytest.mark.filterwarnings("ignore:::keras")  # saving, with this NumPy
def test_activations_are_those_of_the_model_even_if_saved(channels: int, tmp_path: Path) -> None:
    """The last layer's are the outputs of the model; layers of a saved Sequential hold outputs of several graphs."""
    model, images = convolutional(channels), noise(7, channels=channels)
    model.save(tmp_path / "model.keras")
    for network in (model, keras.saving.load_model(tmp_path / "model.keras")):
        expected = network.predict(images / np.float32(255), verbose=0)
        assert layers.activations(network, images, network.layers[-1]) == pytest.approx(expected, abs=1e-5)
        steps = images / np.float32(255)
        for layer in network.layers:
            steps = layer(steps, training=False)
            assert layers.activations(network, images, layer) == pytest.approx(np.asarray(steps), abs=1e-5)


def test_results_do_not_depend_on_the_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = convolutional(), noise(7)
    whole = layers.activations(model, images, model.layers[2])
    monkeypatch.setattr(layers, "BATCH", 3)
    assert layers.activations(model, images, model.layers[2]) == pytest.approx(whole, abs=1e-6)


def test_feature_maps_of_the_handouts_line() -> None:
    maps = layers.feature_maps(vertical_line_detector(), (255 * VERTICAL_LINE[..., None]).astype(np.uint8))
    (found,) = maps.values()
    assert found[..., 0].tolist() == [[0, 0, 3, 3, 0, 0]] * 6


def test_the_hidden_layer_is_what_the_classifier_reads(channels: int) -> None:
    model, images = convolutional(channels), noise(5, channels=channels)
    before = layers.activations(model, images, layers.last_hidden(model))
    assert before.shape == (5, 4)
    kernel, bias = model.layers[-2].get_weights()
    assert before @ kernel + bias == pytest.approx(layers.activations(model, images, model.layers[-1]), abs=1e-5)


def test_filters_are_the_first_kernel(channels: int) -> None:
    model = convolutional(channels)
    assert np.array_equal(layers.filters(model), model.layers[0].get_weights()[0])


def test_bars_rotate() -> None:
    flat, rising, upright = layers.bars(9, 1, np.array([0, 45, 90]))[..., 0]
    assert (flat[4] == 255).all()
    assert (flat[[0, 1, 7, 8]] == 0).all()
    assert np.abs(flat.T.astype(int) - upright).max() <= 1  # 127.5 is rounded up or down
    assert (np.diag(rising[::-1]) == 255).all()  # from the lower left to the upper right: counter-clockwise


def test_the_vertical_line_detector_prefers_90_degrees() -> None:
    degrees = np.arange(0, 181, 15)
    responses = layers.tuning(vertical_line_detector(), degrees)
    assert responses.shape == (13, 1)
    assert responses[degrees == 90, 0] == responses.max() == pytest.approx(3)
    assert responses[np.abs(degrees - 90) > 45, 0].max() < 2.5
    assert responses[0, 0] == pytest.approx(responses[-1, 0])  # 0 and 180 degrees are the same bar


def test_the_patch_is_where_the_unit_is_activated_most() -> None:
    """One image has a bright line, which the detector looks for; its patch is the line."""
    images = np.zeros((6, 8, 8, 1), np.uint8)
    images[4, 2:5, 6] = 200
    images[1, 5:8, 1] = 100
    model = vertical_line_detector()
    units, places, corners = layers.most_selective(model, model.layers[0], images, units=1, top=2)
    assert units.tolist() == [0]
    assert places.tolist() == [[4, 1]]
    assert corners[0].tolist() == [[2, 5], [5, 0]]
    crops = layers.crops(images[places[0]], corners[0], 3)
    assert crops[0, :, :, 0].tolist() == [[0, 200, 0]] * 3


def test_crops_are_grey_outside_the_image() -> None:
    images = np.full((1, 4, 4, 3), 7, np.uint8)
    (crop,) = layers.crops(images, np.array([[-1, 2]]), 3)
    assert (crop[0] == 128).all()
    assert (crop[1:, :2] == 7).all()
    assert (crop[1:, 2] == 128).all()


def test_the_embedding_keeps_neighbours_together_and_is_reproducible() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 30)
    features = np.eye(3)[labels] @ (10 * random.standard_normal((3, 60))) + random.standard_normal((90, 60))
    plane = layers.embedding(features, seed=3)
    assert plane.shape == (90, 2)
    assert silhouette_score(plane, labels) > 0.6
    assert np.array_equal(plane, layers.embedding(features, seed=3))


def test_few_images_can_be_embedded() -> None:
    assert layers.embedding(noise(6).reshape(6, -1).astype(np.float32), seed=0).shape == (6, 2)


def test_constant_features_can_be_embedded_and_invalid_ones_are_refused() -> None:
    """t-SNE itself aborts the process on them."""
    for features in (np.ones((8, 5)), np.arange(8.0)[:, None]):
        assert np.isfinite(layers.embedding(features, seed=0)).all()
    with pytest.raises(UserError, match=r"^Invalid activations .* Expected: finite"):
        layers.embedding(np.full((8, 5), np.nan), seed=0)


@pytest.mark.parametrize("count", [3, 4, 7])
def test_throughput_covers_all_images(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "BATCH", 3)
    assert 0 < layers.images_per_s(convolutional(), noise(count)) < 1e7


def test_the_selectivity_index_of_known_tuning_curves() -> None:
    """0 for a constant, 1 for one angle, 1/2 for 1 + cos 2θ, and 0 without a response."""
    degrees = np.arange(0, 180, 5)
    one = (degrees == 45).astype(float)
    wave = 1 + np.cos(2 * np.deg2rad(degrees - 30))
    curves = np.stack([np.ones(len(degrees)), one, wave, 7 * wave, np.zeros(len(degrees))], axis=1)
    assert layers.selectivity(degrees, curves) == pytest.approx([0, 1, 0.5, 0.5, 0], abs=1e-9)
