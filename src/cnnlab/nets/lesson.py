"""The lesson's four networks, layer for layer, and the figures the course prints for them.

Handout: «Урок 5. Сверточные нейронные сети», cells In [4], In [5], In [6]. Slides: the MNIST network with its summary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from cnnlab.nets.anatomy import layer_table, sequential
from cnnlab.nets.homework import homework

# The handout's 8×8 picture of a vertical line, in cell In [4].
VERTICAL_LINE = np.tile(np.array([0, 0, 0, 1, 1, 0, 0, 0], dtype=np.float32), (8, 1))


def vertical_line_detector() -> keras.Model:
    """The handout's hand-set 3×3 filter and its largest answer: (batch, 8, 8, 1) → (batch, 1), 10 parameters."""
    stack = [layers.Conv2D(1, 3, activation="relu"), layers.GlobalMaxPooling2D()]
    model = sequential((8, 8, 1), stack, "vertical_line_detector")
    line = np.array([[0, 1, 0]] * 3, dtype=np.float32)
    model.set_weights([line.reshape(3, 3, 1, 1), np.zeros(1, dtype=np.float32)])
    return model


def lenet5(
    input_shape: tuple[int, int, int] = (28, 28, 1), classes: int = 10, classifier_activation: str | None = "softmax"
) -> keras.Model:
    """The handout's LeNet-5: tanh, average pools, the first with stride 1 as printed there.

    Input (batch, height, width, channels) floats in [0, 1]; output (batch, classes), probabilities, or logits
    where `classifier_activation` is None.
    """
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


def slides(
    input_shape: tuple[int, int, int] = (28, 28, 1), classes: int = 10, classifier_activation: str | None = "softmax"
) -> keras.Model:
    """The slides' MNIST network, 421,642 parameters at its own input shape; arguments and output as `lenet5`."""
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


@dataclass(frozen=True)
class LessonNetwork:
    """A network of the course: how to build it, where it stands, what the course prints for it."""

    title: str
    build: Callable[[], keras.Model]
    parameters: int | None  # where the course prints a count
    variant: str | None  # the entry of params.yaml that trains it
    course_accuracy: float | None  # on the test set, as a share


LESSON: dict[str, LessonNetwork] = {
    "detector": LessonNetwork("Vertical-line detector (handout)", vertical_line_detector, 10, None, None),
    "lenet5": LessonNetwork("LeNet-5 (handout)", lenet5, None, "lenet5", 0.9069),
    "slides": LessonNetwork("MNIST network (slides)", slides, 421_642, "slides", None),
    "homework": LessonNetwork("CIFAR-10 network (handout)", homework, None, "lesson", 0.4304),
}


def computed_tables() -> dict[str, dict[str, Any]]:
    """Each network of the lesson built: what the course prints of it, layers, parameters; the detector's answer."""
    tables: dict[str, dict[str, Any]] = {}
    for name, network in LESSON.items():
        model = network.build()
        tables[name] = {
            "title": network.title,
            "course_parameters": network.parameters,
            "course_accuracy": network.course_accuracy,
            "variant": network.variant,
            "parameters": model.count_params(),
            "layers": layer_table(model.layers, model.input_shape[1:]),
        }
    tables["detector"]["course_output"] = 3.0
    tables["detector"]["output"] = float(vertical_line_detector()(VERTICAL_LINE[None, :, :, None])[0, 0])
    return tables
