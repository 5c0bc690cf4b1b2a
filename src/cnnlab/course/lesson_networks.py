"""The lesson's four networks, and the numbers that the course prints for them.

Handout: «Урок 5. Сверточные нейронные сети», cells In [4], In [5], In [6]. Slides: the MNIST network with its summary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from cnnlab import params
from cnnlab.data.store import read_card
from cnnlab.errors import UserError
from cnnlab.nets.anatomy import layer_table, sequential
from cnnlab.nets.families.homework import homework
from cnnlab.nets.families.lenet5 import lenet5
from cnnlab.nets.families.slides import slides
from cnnlab.nets.registry import build

# The handout's 8×8 image of a vertical line, cell In [4], and the maximum that it prints.
VERTICAL_LINE = np.tile(np.array([0, 0, 0, 1, 1, 0, 0, 0], dtype=np.float32), (8, 1))
PRINTED_OUTPUT = 3.0


def vertical_line_detector() -> keras.Model:
    """The handout's fixed 3×3 filter and the maximum of its output: (batch, 8, 8, 1) → (batch, 1), 10 parameters."""
    stack = [layers.Conv2D(1, 3, activation="relu"), layers.GlobalMaxPooling2D()]
    model = sequential((8, 8, 1), stack, "vertical_line_detector")
    line = np.array([[0, 1, 0]] * 3, dtype=np.float32)
    model.set_weights([line.reshape(3, 3, 1, 1), np.zeros(1, dtype=np.float32)])
    return model


def lenet5_with_stride_2() -> keras.Model:
    """The handout's LeNet-5 with stride 2 in both poolings, as in 1998; (batch, 28, 28, 1) → (batch, 10)."""
    stack = [
        layers.AveragePooling2D(2)
        if isinstance(layer, layers.AveragePooling2D)
        else layer.from_config(layer.get_config())
        for layer in lenet5().layers
    ]
    return sequential((28, 28, 1), stack, "lenet5_with_stride_2")


@dataclass(frozen=True)
class LessonNetwork:
    """A network of the course, with what the course prints for it."""

    title: str
    build: Callable[[], keras.Model]
    parameters: int | None  # None: not printed
    variant: str | None  # that trains it, in params.yaml
    course_accuracy: float | None  # on the test set, in [0, 1]; None: not printed


LESSON: dict[str, LessonNetwork] = {
    "detector": LessonNetwork("Vertical-line detector (handout)", vertical_line_detector, 10, None, None),
    "lenet5": LessonNetwork("LeNet-5 (handout)", lenet5, None, "lenet5", 0.9069),
    "slides": LessonNetwork("MNIST network (slides)", slides, 421_642, "slides", None),
    "homework": LessonNetwork("CIFAR-10 network (handout)", homework, None, "lesson", 0.4304),
}


def computed_tables() -> dict[str, dict[str, Any]]:
    """The numbers printed for each network, its layers and parameters as built here; for the detector, also its output.

    Keys: `title`, `course_parameters`, `course_accuracy`, `variant`, `parameters`, `layers` (see `layer_table`).
    """
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
    output = float(vertical_line_detector()(VERTICAL_LINE[None, :, :, None])[0, 0])
    tables["detector"] |= {"course_output": PRINTED_OUTPUT, "output": output}
    return tables


def network_named(parameters: params.Params, name: str) -> keras.Model:
    """Build the untrained network of a variant, or one of the lesson's by its short name, such as `detector`.

    Raises UserError if there is no such name, or the variant's data set is not preprocessed yet.
    """
    try:
        variant = params.variant(parameters, name)
    except UserError as error:
        if name in LESSON:
            return LESSON[name].build()
        raise UserError(f"{error} Or one of the lesson's networks: {', '.join(LESSON)}.") from error
    return build(variant.network, read_card(variant.data))
