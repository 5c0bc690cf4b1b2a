"""The network of the speedrun to 94 %: whitened patches first, then three pairs of normalised convolutions."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import layers

PATCH = 2  # side of the whitened patches
FLATTEST = 5e-4  # added to the patches' variances, relative to the pictures' own: nothing divides by almost zero


def speedrun(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    classifier_activation: str | None = "softmax",
    *,
    filters: Sequence[int] = (64, 256, 256),
    norm_momentum: float = 0.9,
) -> keras.Model:
    """The network of airbench94 (Jordan 2024, arXiv:2404.00498, sections 3.1 to 3.3), in Keras's own layers.

    Input (batch, height, width, channels) floats; output (batch, classes), probabilities, or logits where
    `classifier_activation` is None. The first layer's kernel does not train: `whiten` sets it from pictures. Each entry
    of `filters` is a stage: convolution, 2×2 maximum pool, normalisation, GELU, convolution, normalisation, GELU; a
    convolution begins by passing its input on where it has filters enough (Dirac), and its filters keep norm 1, as the
    authors' code for Muon keeps it on average. The classifier begins almost silent: deviation 1 / its inputs, as the
    authors divide logits by them. `norm_momentum` is what a normalisation's running mean keeps at a step.
    """
    model = keras.Sequential([keras.Input(input_shape)], name="speedrun")
    model.add(layers.Conv2D(2 * PATCH**2 * input_shape[-1], PATCH, name="whitening"))
    model.layers[-1].kernel.trainable = False
    model.add(layers.Activation("gelu"))
    for count in filters:
        _convolution(model, count)
        model.add(layers.MaxPooling2D(2))
        _normalised(model, norm_momentum)
        _convolution(model, count)
        _normalised(model, norm_momentum)
    model.add(layers.GlobalMaxPooling2D())
    quiet = keras.initializers.RandomNormal(stddev=1 / filters[-1])
    model.add(layers.Dense(classes, use_bias=False, kernel_initializer=quiet))
    model.add(layers.Activation(classifier_activation))
    return model


def whiten(model: keras.Model, images: np.ndarray) -> None:
    """Set the first layer to the eigenvectors of the patches of uint8 `images` (n, height, width, channels), and their
    negatives, so that its answers have variance 1 and no correlation."""
    layer = model.get_layer("whitening")
    pixels = images.astype(np.float32) / 255
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (PATCH, PATCH), axis=(1, 2))  # …, channel, row, column
    patches = np.moveaxis(windows, 3, -1).reshape(-1, PATCH * PATCH * images.shape[-1])
    patches = patches - pixels.mean(axis=(0, 1, 2)).tolist() * PATCH**2
    variances, vectors = np.linalg.eigh(patches.T @ patches / len(patches))
    scaled = vectors / np.sqrt(variances + FLATTEST * pixels.var())
    kernel = np.concatenate([scaled, -scaled], axis=1)
    layer.kernel.assign(kernel.reshape(layer.kernel.shape))
    layer.bias.assign(-(np.tile(pixels.mean(axis=(0, 1, 2)), PATCH**2) @ kernel))


def _convolution(model: keras.Sequential, count: int) -> None:
    layer = layers.Conv2D(
        count, 3, padding="same", use_bias=False, kernel_constraint=keras.constraints.UnitNorm((0, 1, 2))
    )
    model.add(layer)
    kernel = layer.kernel.numpy()
    same = min(kernel.shape[2:])
    kernel[..., :same] = 0
    kernel[1, 1, range(same), range(same)] = 1
    layer.kernel.assign(layer.kernel.constraint(kernel))


def _normalised(model: keras.Sequential, momentum: float) -> None:
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    norm = layers.BatchNormalization(momentum=momentum, epsilon=1e-12, scale=False, synchronized=replicas > 1)
    model.add(norm)
    model.add(layers.Activation("gelu"))
