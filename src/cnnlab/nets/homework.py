"""The configurable network of the homework; its defaults are the lesson's CIFAR-10 network, layer for layer."""

from collections.abc import Sequence

import keras
from keras import layers


def homework(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    classifier_activation: str | None = "softmax",
    *,
    filters: Sequence[int] = (32, 64),
    conv_dropout: float = 0.25,
    dense_units: int = 512,
    dense_dropout: float = 0.5,
) -> keras.Model:
    """Stages of two 3×3 convolutions, max pooling and dropout, then one hidden dense layer.

    The defaults give the handout's network of cell In [6]: 1,250,858 parameters.
    Input (batch, height, width, channels) floats; output (batch, classes), probabilities, or logits where
    `classifier_activation` is None. `filters` has one entry a stage; dropout rates are in [0, 1).
    """
    model = keras.Sequential([keras.Input(input_shape)], name="homework")
    for count in filters:
        model.add(layers.Conv2D(count, 3, padding="same"))
        model.add(layers.Activation("relu"))
        model.add(layers.Conv2D(count, 3))
        model.add(layers.Activation("relu"))
        model.add(layers.MaxPooling2D(2))
        model.add(layers.Dropout(conv_dropout))
    model.add(layers.Flatten())
    model.add(layers.Dense(dense_units))
    model.add(layers.Activation("relu"))
    model.add(layers.Dropout(dense_dropout))
    model.add(layers.Dense(classes))
    model.add(layers.Activation(classifier_activation))
    return model
