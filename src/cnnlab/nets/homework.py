"""The configurable network of the homework; its defaults are the lesson's CIFAR-10 network, layer for layer."""

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import layers

from cnnlab.nets.anatomy import sequential

POOLS = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}
HEADS = {
    "flatten": layers.Flatten,
    "global_average": layers.GlobalAveragePooling2D,
    "global_max": layers.GlobalMaxPooling2D,
}
# PyTorch's, by its way of counting 0.1. Keras's 0.99 remembers hundreds of steps, more than an epoch of a short
# training has: validation stood at chance for epochs, docs/LOG.md.
NORM_MOMENTUM = 0.9
LEAK = 0.1  # the slides' slope of leaky ReLU, printed there as max(-0.1x, x) with a stray minus


def homework(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    classifier_activation: str | None = "softmax",
    *,
    filters: Sequence[int] = (32, 64),
    blocks: Sequence[int] = (2, 2),
    conv_dropout: Sequence[float] = (0.25, 0.25),
    kernel: int = 3,
    stem_stride: int = 1,
    padding: str = "valid",
    activation: str = "relu",
    batch_norm: bool = False,
    pooling: str = "max",
    head: str = "flatten",
    dense_units: int = 512,
    dense_dropout: float = 0.5,
    scale: float | Sequence[float] = 1.0,
    offset: float | Sequence[float] = 0.0,
) -> keras.Model:
    """Stages of convolutions, a pool and dropout, then one hidden dense layer and the classifier.

    The defaults give the handout's network of cell In [6]: 1,250,858 parameters.
    Input (batch, height, width, channels) floats; output (batch, classes), probabilities, or logits where
    `classifier_activation` is None. The knobs are those of `params.HomeworkNetwork`; `scale` and `offset`, one for all
    or one a channel, change the input before the first layer. Raises ValueError where the pictures are too
    small, naming the layer, or
    `filters`, `blocks` and `conv_dropout` have not one entry a stage each.
    """
    stack: list[keras.Layer] = []
    if (scale, offset) != (1.0, 0.0):
        stack.append(layers.Rescaling(scale, offset))
    stride, side = stem_stride, max(kernel, 2 * stem_stride - 1)
    for count, convolutions, rate in zip(filters, blocks, conv_dropout, strict=True):
        for pads in ["same"] * (convolutions - 1) + [padding]:
            layer = layers.Conv2D(count, side, strides=stride, padding=pads, use_bias=not batch_norm)
            _add(stack, layer, activation)
            stride, side = 1, kernel
        if pooling == "stride":
            _add(stack, layers.Conv2D(count, 2, strides=2, use_bias=not batch_norm), activation)
        else:
            stack.append(POOLS[pooling](2))
        if rate:
            stack.append(layers.Dropout(rate))
    stack.append(HEADS[head]())
    if dense_units:
        _add(stack, layers.Dense(dense_units, use_bias=not batch_norm), activation)
        if dense_dropout:
            stack.append(layers.Dropout(dense_dropout))
    stack += [layers.Dense(classes), layers.Activation(classifier_activation)]
    return sequential(input_shape, stack, "homework")


def _add(stack: list[keras.Layer], layer: layers.Layer, activation: str) -> None:
    """Add a layer and its activation; between them, in place of a bias, a normalisation over all replicas."""
    stack.append(layer)
    if not layer.use_bias:
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        # One replica keeps XLA, see train/loop.py.
        stack.append(layers.BatchNormalization(momentum=NORM_MOMENTUM, synchronized=replicas > 1))
    stack.append(layers.LeakyReLU(LEAK) if activation == "leaky_relu" else layers.Activation(activation))
