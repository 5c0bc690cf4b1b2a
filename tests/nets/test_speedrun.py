"""The speedrun's network: against the published one's figures, and what its first layer and its filters promise."""

from pathlib import Path

import keras
import numpy as np
import pytest
from cards import card

from cnnlab.nets.anatomy import training_flop
from cnnlab.nets.families.speedrun import Speedrun, speedrun, whiten
from cnnlab.nets.registry import build


@pytest.fixture
def images() -> np.ndarray:
    """Blurred noise, whose neighbouring pixels and channels are alike: (200, 32, 32, 3) uint8."""
    noise = np.random.default_rng(0).random((200, 33, 33, 4))
    smooth = sum(np.roll(noise, (dy, dx), (1, 2)) for dy in range(3) for dx in range(3))
    mixed = smooth[:, :32, :32, :3] + smooth[:, :32, :32, 1:]
    return (255 * (mixed - mixed.min()) / np.ptp(mixed)).astype(np.uint8)


def test_the_published_networks_size() -> None:
    model = build(Speedrun(name="speedrun", filters=[64, 256, 256], norm_momentum=0.6), card("cifar10"))
    convolutions = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
    trainable = 24 + convolutions + 2 * 64 + 4 * 256 + 256 * 10
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == trainable  # «1.97 M» by the paper
    assert model.count_params() == trainable + 2 * 2 * 3 * 24 + 2 * (2 * 64 + 4 * 256)
    sides = [layer.output.shape[1] for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert sides == [31, 31, 15, 15, 7, 7, 3]
    assert training_flop(model) / 3 == pytest.approx(236e6, rel=0.02)  # DESIGN's figure


def test_whitened_patches_have_variance_one_and_no_correlation(images: np.ndarray) -> None:
    model = speedrun(filters=(8,))
    whiten(model, images)
    outputs = model.get_layer("whitening")(images.astype(np.float32) / 255).numpy().reshape(-1, 24).astype(np.float64)
    assert np.abs(outputs.mean(axis=0)).max() < 0.05
    covariance = np.cov(outputs[:, :12].T)
    variances = np.diag(covariance)
    assert variances.max() == pytest.approx(1, abs=0.02)
    assert np.abs(covariance - np.diag(variances)).max() < 0.02
    assert outputs[:, 12:] == pytest.approx(-outputs[:, :12], abs=1e-4)


def test_only_the_whitening_kernel_does_not_train() -> None:
    model = speedrun(filters=(8, 8))
    kernel = model.get_layer("whitening").kernel
    fixed = {id(v) for v in model.variables} - {id(v) for v in model.trainable_variables}
    assert id(kernel) in fixed
    assert {v.name for v in model.variables if id(v) in fixed} <= {"kernel", "moving_mean", "moving_variance"}
    assert sum(v.name == "kernel" for v in model.trainable_variables) == 5


def test_convolutions_are_initialised_as_dirac_with_norm_one(images: np.ndarray) -> None:
    model = speedrun(filters=(8, 16))
    whiten(model, images)
    second = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)][2]
    image = np.random.default_rng(1).random((1, 15, 15, 8), np.float32)
    assert second(image).numpy() == pytest.approx(image, abs=1e-6)
    model.compile(optimizer=keras.optimizers.SGD(0.5), loss="sparse_categorical_crossentropy")
    model.fit(images[:32] / 255, np.arange(32) % 10, epochs=2, verbose=0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel.trainable:
            norms = np.linalg.norm(layer.kernel.numpy().reshape(-1, layer.filters), axis=0)
            assert norms == pytest.approx(np.ones(layer.filters), abs=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")  # Keras
def test_it_is_saved_and_loaded_without_cnnlab(tmp_path: Path, images: np.ndarray) -> None:
    model = speedrun(filters=(8, 8))
    whiten(model, images)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    inputs = images[:4].astype(np.float32) / 255
    assert loaded(inputs).numpy() == pytest.approx(model(inputs).numpy(), abs=1e-6)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^Invalid layer \d+ \(MaxPooling2D"):
        speedrun((8, 8, 3), filters=(8, 8, 8))
