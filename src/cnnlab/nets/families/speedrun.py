"""The network of the speedrun to 94 %: patch whitening, then pairs of normalised convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cnnlab.params.recipe import Count, Fraction, Network, family

if TYPE_CHECKING:
    import keras

PATCH = 2  # size of the whitened patches, in pixels
EPSILON = 5e-4  # added to the variances of patches, relative to that of the pixels, to avoid division by almost zero


@family
class Speedrun(Network):
    """The network of the speedrun; `filters` has one entry per stage of two convolutions.

    `norm_momentum` is the momentum of the running mean and variance of normalisations.
    """

    name: Literal["speedrun"]
    filters: list[Count] = Field(min_length=1)
    norm_momentum: Fraction

    initial_images: ClassVar[int] = 5000  # whose patches are whitened, as in its authors' code

    def model(self, shape: tuple[int, ...], classes: int, **scaling: Any) -> keras.Model:
        """The network, which outputs logits."""
        return speedrun(shape, classes, classifier_activation=None, **self.model_dump(exclude={"name"}))

    def initialise(self, model: keras.Model, images: np.ndarray) -> None:
        """Whiten the first layer."""
        whiten(model, images)


def speedrun(
    input_shape: tuple[int, ...] = (32, 32, 3),
    classes: int = 10,
    classifier_activation: str | None = "softmax",
    *,
    filters: Sequence[int] = (64, 256, 256),
    norm_momentum: float = 0.9,
) -> keras.Model:
    """The network of airbench94 (Jordan 2024, arXiv:2404.00498, sections 3.1 to 3.3), in Keras layers.

    Input: floats (batch, height, width, channels). Output: probabilities (batch, classes), or logits if
    `classifier_activation` is None. The kernel of the first layer is set by `whiten` and does not train. Each entry of
    `filters` is a stage: convolution, 2×2 max pooling, normalisation, GELU, convolution, normalisation, GELU.
    Convolutions are initialised as the identity for as many channels as possible (Dirac), and their filters are
    constrained to norm 1, which the authors' code for Muon does on average. The classifier is initialised with standard
    deviation 1 / number of inputs, because the authors divide the logits by that number.
    """
    import keras
    from keras import layers

    from cnnlab.nets.anatomy import sequential

    stack: list[keras.Layer] = [layers.Conv2D(2 * PATCH**2 * input_shape[-1], PATCH, name="whitening")]
    stack.append(layers.Activation("gelu"))
    for count in filters:
        stack += [_convolution(count), layers.MaxPooling2D(2), *_normalised(norm_momentum)]
        stack += [_convolution(count), *_normalised(norm_momentum)]
    stack.append(layers.GlobalMaxPooling2D())
    small = keras.initializers.RandomNormal(stddev=1 / filters[-1])
    stack.append(layers.Dense(classes, use_bias=False, kernel_initializer=small))
    stack.append(layers.Activation(classifier_activation))
    model = sequential(input_shape, stack, "speedrun")
    model.layers[0].kernel.trainable = False
    for layer in model.layers[1:]:
        if isinstance(layer, layers.Conv2D):
            _initialise_as_identity(layer)
    return model


def whiten(model: keras.Model, images: np.ndarray) -> None:
    """Set the first layer's kernel so that its outputs are uncorrelated with variance 1.

    It consists of the scaled eigenvectors of the patches of `images`, uint8 (n, height, width, channels), and their
    negatives.
    """
    layer = model.get_layer("whitening")
    pixels = images.astype(np.float32) / 255
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (PATCH, PATCH), axis=(1, 2))  # …, channel, row, column
    patches = np.moveaxis(windows, 3, -1).reshape(-1, PATCH * PATCH * images.shape[-1])
    patches = patches - pixels.mean(axis=(0, 1, 2)).tolist() * PATCH**2
    variances, vectors = np.linalg.eigh(patches.T @ patches / len(patches))
    scaled = vectors / np.sqrt(variances + EPSILON * pixels.var())
    kernel = np.concatenate([scaled, -scaled], axis=1)
    layer.kernel.assign(kernel.reshape(layer.kernel.shape))
    layer.bias.assign(-(np.tile(pixels.mean(axis=(0, 1, 2)), PATCH**2) @ kernel))


def _convolution(count: int) -> keras.Layer:
    import keras

    constraint = keras.constraints.UnitNorm((0, 1, 2))
    return keras.layers.Conv2D(count, 3, padding="same", use_bias=False, kernel_constraint=constraint)


def _initialise_as_identity(layer: keras.Layer) -> None:
    """Initialise a convolution so that its first filters pass on one input channel each."""
    kernel = layer.kernel.numpy()
    same = min(kernel.shape[2:])
    kernel[..., :same] = 0
    kernel[1, 1, range(same), range(same)] = 1
    layer.kernel.assign(layer.kernel.constraint(kernel))


def _normalised(momentum: float) -> list[keras.Layer]:
    import tensorflow as tf
    from keras import layers

    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    norm = layers.BatchNormalization(momentum=momentum, epsilon=1e-12, scale=False, synchronized=replicas > 1)
    return [norm, layers.Activation("gelu")]
