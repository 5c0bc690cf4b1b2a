"""Networks whose outputs can be computed by hand, and a small untrained one."""

import keras
import numpy as np
from keras import layers


def linear(weights: np.ndarray) -> keras.Sequential:
    """Logits that are weighted sums of the pixels: `weights` (height, width, channels, classes)."""
    model = keras.Sequential([keras.Input(weights.shape[:3]), layers.Flatten(), layers.Dense(weights.shape[3])])
    model.set_weights(
        [weights.reshape(-1, weights.shape[3]).astype(np.float32), np.zeros(weights.shape[3], np.float32)]
    )
    return model


def convolutional(channels: int = 1, side: int = 12, classes: int = 3, seed: int = 0) -> keras.Sequential:
    """Two convolutions, with and without an activation of their own, pooling, normalisation, dropout; untrained."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((side, side, channels)),
            layers.Conv2D(5, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.5),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(classes),
            layers.Activation("linear"),
        ]
    )


def noise(count: int, side: int = 12, channels: int = 1, seed: int = 1) -> np.ndarray:
    """uint8 images of noise."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), dtype=np.uint8)
