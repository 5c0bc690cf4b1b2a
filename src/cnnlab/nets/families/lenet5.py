"""LeNet-5 from the course's handout, cell In [5]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from cnnlab.params.recipe import Network, family

if TYPE_CHECKING:
    import keras


@family
class LeNet5(Network):
    """LeNet-5; it has no settings."""

    name: Literal["lenet5"]

    def model(self, shape: tuple[int, ...], classes: int, **scaling: Any) -> keras.Model:
        """The network, which outputs logits."""
        return lenet5(shape, classes, classifier_activation=None)


def lenet5(
    input_shape: tuple[int, ...] = (28, 28, 1), classes: int = 10, classifier_activation: str | None = "softmax"
) -> keras.Model:
    """The handout's LeNet-5, with tanh and average pooling, the first with stride 1 as printed there.

    Input: floats (batch, height, width, channels) in [0, 1]. Output: probabilities (batch, classes), or logits if
    `classifier_activation` is None.
    """
    from keras import layers

    from cnnlab.nets.anatomy import sequential

    return sequential(
        input_shape,
        [
            layers.Conv2D(6, 5, activation="tanh", padding="same"),
            layers.AveragePooling2D(2, strides=1),
            layers.Conv2D(16, 5, activation="tanh"),
            layers.AveragePooling2D(2, strides=2),
            layers.Conv2D(120, 5, activation="tanh"),
            layers.Flatten(),
            layers.Dense(84, activation="tanh"),
            layers.Dense(classes, activation=classifier_activation),
        ],
        "lenet5",
    )
