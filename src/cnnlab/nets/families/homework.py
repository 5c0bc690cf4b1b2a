"""The configurable network of the homework; its defaults are the lesson's CIFAR-10 network, layer for layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cnnlab.params.recipe import Count, Fraction, Network, family

if TYPE_CHECKING:
    import keras
    from keras import layers

POOLS = {"max": "MaxPooling2D", "average": "AveragePooling2D"}
HEADS = {"flatten": "Flatten", "global_average": "GlobalAveragePooling2D", "global_max": "GlobalMaxPooling2D"}
# PyTorch's default, which it calls 0.1. Keras's 0.99 averages over hundreds of steps, more than an epoch of a short
# training has: validation accuracy stayed at chance for epochs, docs/LOG.md.
NORM_MOMENTUM = 0.9
LEAK = 0.1  # slope of the slides' leaky ReLU, printed there as max(-0.1x, x), with a stray minus


@family
class Homework(Network):
    """The configurable CIFAR-10 network; the defaults are the lesson's.

    `filters`, `depths` (number of convolutions) and `conv_dropout` (after the pooling) have one entry per stage.
    `kernel` is the size of every convolution; the first has stride `stem_stride` and a kernel large enough to skip no
    pixel. `padding` applies to the last convolution of a stage; the others use same. `batch_norm` adds a normalisation
    between each hidden layer and its `activation`. `pooling` stride is a 2×2 convolution with stride 2. `dense_units` 0
    removes the hidden dense layer after the `head`, and `dense_dropout`. `inputs` are pixels in [0, 1] (unit), in
    [0, 255] (bytes), or standardised: with mean 0 and standard deviation 1 in each channel of the training images.
    """

    name: Literal["homework"]
    filters: list[Count] = Field(min_length=1)
    depths: list[Count]
    conv_dropout: list[Fraction]
    kernel: Count = 3
    stem_stride: Count = 1
    padding: Literal["valid", "same"] = "valid"
    activation: Literal["sigmoid", "tanh", "relu", "leaky_relu", "elu", "softplus", "softsign"] = "relu"
    batch_norm: bool = False
    pooling: Literal["max", "average", "stride"] = "max"
    head: Literal["flatten", "global_average", "global_max"] = "flatten"
    dense_units: Annotated[int, Field(ge=0, lt=2**31)] = 512
    dense_dropout: Fraction = 0.5
    inputs: Literal["unit", "bytes", "standardised"] = "unit"

    @model_validator(mode="after")
    def _one_entry_per_stage(self) -> Self:
        for name, entries in (("depths", self.depths), ("conv_dropout", self.conv_dropout)):
            if len(entries) != len(self.filters):
                raise ValueError(f"one entry of {name} per stage, as in filters: {len(self.filters)}")
        return self

    adaptable: ClassVar[bool] = True

    def scaling(self, mean: list[float], std: list[float]) -> dict[str, Any]:
        """The arguments of Rescaling for `inputs`."""
        if self.inputs == "standardised":
            offset = [-m / d for m, d in zip(mean, std, strict=True)]
            return {"scale": [1 / d for d in std], "offset": offset}
        return {"scale": 255.0} if self.inputs == "bytes" else {}

    def model(self, shape: tuple[int, ...], classes: int, **scaling: Any) -> keras.Model:
        """The network, which outputs logits."""
        knobs = self.model_dump(exclude={"name", "inputs"})
        return homework(shape, classes, classifier_activation=None, **knobs, **scaling)


def homework(
    input_shape: tuple[int, ...] = (32, 32, 3),
    classes: int = 10,
    classifier_activation: str | None = "softmax",
    *,
    filters: Sequence[int] = (32, 64),
    depths: Sequence[int] = (2, 2),
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
    """Stages of convolutions, pooling and dropout, followed by a hidden dense layer and the classifier.

    The defaults give the network of the handout's cell In [6], with 1,250,858 parameters.
    Input: floats (batch, height, width, channels). Output: probabilities (batch, classes), or logits if
    `classifier_activation` is None. Settings are those of `Homework`; `scale` and `offset`, one value or one per
    channel, rescale the input. Raises ValueError, which names the layer, if images are too small, or if `filters`,
    `depths` and `conv_dropout` differ in length.
    """
    from keras import layers

    from cnnlab.nets.anatomy import sequential

    stack: list[keras.Layer] = []
    if (scale, offset) != (1.0, 0.0):
        stack.append(layers.Rescaling(scale, offset))
    stride, side = stem_stride, max(kernel, 2 * stem_stride - 1)
    for count, convolutions, rate in zip(filters, depths, conv_dropout, strict=True):
        for pads in ["same"] * (convolutions - 1) + [padding]:
            layer = layers.Conv2D(count, side, strides=stride, padding=pads, use_bias=not batch_norm)
            _add(stack, layer, activation)
            stride, side = 1, kernel
        if pooling == "stride":
            _add(stack, layers.Conv2D(count, 2, strides=2, use_bias=not batch_norm), activation)
        else:
            stack.append(getattr(layers, POOLS[pooling])(2))
        if rate:
            stack.append(layers.Dropout(rate))
    stack.append(getattr(layers, HEADS[head])())
    if dense_units:
        _add(stack, layers.Dense(dense_units, use_bias=not batch_norm), activation)
        if dense_dropout:
            stack.append(layers.Dropout(dense_dropout))
    stack += [layers.Dense(classes), layers.Activation(classifier_activation)]
    return sequential(input_shape, stack, "homework")


def _add(stack: list[keras.Layer], layer: layers.Layer, activation: str) -> None:
    """Add a layer and its activation; a layer without bias is followed by a normalisation over all replicas."""
    import tensorflow as tf
    from keras import layers

    stack.append(layer)
    if not layer.use_bias:
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        # Synchronisation would rule out XLA, see train/loop.py.
        stack.append(layers.BatchNormalization(momentum=NORM_MOMENTUM, synchronized=replicas > 1))
    stack.append(layers.LeakyReLU(LEAK) if activation == "leaky_relu" else layers.Activation(activation))
