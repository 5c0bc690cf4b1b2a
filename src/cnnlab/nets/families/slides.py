"""The MNIST network from the course's slides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from cnnlab.params.recipe import Network, family

if TYPE_CHECKING:
    import keras


@family
class Slides(Network):
    """The slides' MNIST network; it has no settings."""

    name: Literal["slides"]

    def model(self, shape: tuple[int, ...], classes: int, **scaling: Any) -> keras.Model:
        """The network, which outputs logits."""
        return slides(shape, classes, classifier_activation=None)


def slides(
    input_shape: tuple[int, ...] = (28, 28, 1), classes: int = 10, classifier_activation: str | None = "softmax"
) -> keras.Model:
    """The slides' MNIST network, with 421,642 parameters for the default shape; input and output as `lenet5`."""
    from keras import layers

    from cnnlab.nets.anatomy import sequential

    return sequential(
        input_shape,
        [
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(classes, activation=classifier_activation),
        ],
        "slides",
    )
