"""Networks that only the benchmark trains."""

import keras
from keras import layers


def handout_network() -> keras.Model:
    """The handout's CIFAR-10 network (cell In [6]), verbatim but for Keras 3's input layer."""
    model = keras.Sequential()
    model.add(keras.Input((32, 32, 3)))
    model.add(layers.Conv2D(32, (3, 3), padding="same"))
    model.add(layers.Activation("relu"))
    model.add(layers.Conv2D(32, (3, 3)))
    model.add(layers.Activation("relu"))
    model.add(layers.MaxPooling2D(pool_size=(2, 2)))
    model.add(layers.Dropout(0.25))
    model.add(layers.Conv2D(64, (3, 3), padding="same"))
    model.add(layers.Activation("relu"))
    model.add(layers.Conv2D(64, (3, 3)))
    model.add(layers.Activation("relu"))
    model.add(layers.MaxPooling2D(pool_size=(2, 2)))
    model.add(layers.Dropout(0.25))
    model.add(layers.Flatten())
    model.add(layers.Dense(512))
    model.add(layers.Activation("relu"))
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(10))
    model.add(layers.Activation("softmax"))
    return model


def speedrun_network() -> keras.Model:
    """The layers of Keller Jordan's airbench94 (github.com/KellerJordan/cifar10-airbench, arXiv:2404.00498): logits.

    A fixed 2×2 convolution (whitening in the original), then three blocks of 64, 256 and 256 filters with exact GELU;
    236 MFLOP forward.
    """
    model = keras.Sequential([keras.Input((32, 32, 3))])
    model.add(layers.Conv2D(24, 2, activation=_gelu, trainable=False))
    for width in (64, 256, 256):
        model.add(layers.Conv2D(width, 3, padding="same", use_bias=False))
        model.add(layers.MaxPooling2D(2))
        model.add(layers.BatchNormalization(momentum=0.6, scale=False))
        model.add(layers.Activation(_gelu))
        model.add(layers.Conv2D(width, 3, padding="same", use_bias=False))
        model.add(layers.BatchNormalization(momentum=0.6, scale=False))
        model.add(layers.Activation(_gelu))
    model.add(layers.MaxPooling2D(3))
    model.add(layers.Flatten())
    model.add(layers.Dense(10, use_bias=False))
    return model


def pixel_mean_network() -> keras.Model:
    """A network of negligible cost, which leaves only the input in a training step."""
    return keras.Sequential([keras.Input((32, 32, 3)), layers.GlobalAveragePooling2D(), layers.Dense(10)])


def _gelu(x: keras.KerasTensor) -> keras.KerasTensor:
    return keras.ops.gelu(x, approximate=False)
