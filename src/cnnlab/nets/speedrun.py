"""The network of the speedrun to 94 %: whitened patches first, then three pairs of normalised convolutions."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from cnnlab.nets.anatomy import sequential

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
    stack: list[keras.Layer] = [layers.Conv2D(2 * PATCH**2 * input_shape[-1], PATCH, name="whitening")]
    stack.append(layers.Activation("gelu"))
    for count in filters:
        stack += [_convolution(count), layers.MaxPooling2D(2), *_normalised(norm_momentum)]
        stack += [_convolution(count), *_normalised(norm_momentum)]
    stack.append(layers.GlobalMaxPooling2D())
    quiet = keras.initializers.RandomNormal(stddev=1 / filters[-1])
    stack.append(layers.Dense(classes, use_bias=False, kernel_initializer=quiet))
    stack.append(layers.Activation(classifier_activation))
    model = sequential(input_shape, stack, "speedrun")
    model.layers[0].kernel.trainable = False
    for layer in model.layers[1:]:
        if isinstance(layer, layers.Conv2D):
            _pass_on(layer)
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


def _convolution(count: int) -> keras.Layer:
    constraint = keras.constraints.UnitNorm((0, 1, 2))
    return layers.Conv2D(count, 3, padding="same", use_bias=False, kernel_constraint=constraint)


def _pass_on(layer: keras.Layer) -> None:
    """Let a convolution begin by passing its input on where it has filters enough."""
    kernel = layer.kernel.numpy()
    same = min(kernel.shape[2:])
    kernel[..., :same] = 0
    kernel[1, 1, range(same), range(same)] = 1
    layer.kernel.assign(layer.kernel.constraint(kernel))


def _normalised(momentum: float) -> list[keras.Layer]:
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    norm = layers.BatchNormalization(momentum=momentum, epsilon=1e-12, scale=False, synchronized=replicas > 1)
    return [norm, layers.Activation("gelu")]
