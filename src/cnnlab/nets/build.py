"""From a network's section of params.yaml to the Keras model that is trained."""

from collections.abc import Callable, Sequence

import keras

from cnnlab.data.catalog import DataSet
from cnnlab.errors import UserError
from cnnlab.nets.homework import homework
from cnnlab.nets.lesson import lenet5, slides
from cnnlab.nets.speedrun import speedrun
from cnnlab.params import HomeworkNetwork, LessonNetwork, SpeedrunNetwork

NETWORKS: dict[str, Callable[..., keras.Model]] = {
    "lenet5": lenet5,
    "slides": slides,
    "homework": homework,
    "speedrun": speedrun,
}


def build(
    network: LessonNetwork | HomeworkNetwork | SpeedrunNetwork,
    data_set: DataSet,
    mean: Sequence[float] = (0.0,),
    deviation: Sequence[float] = (1.0,),
) -> keras.Model:
    """The network for the pictures and classes of `data_set`; its output is logits, (batch, classes).

    `mean` and `deviation` are those of the training pictures' pixels, one a channel, of which standardised inputs make
    0 and 1. Raises UserError where the pictures are too small for the network's layers.
    """
    knobs = network.model_dump(exclude={"name", "inputs"})
    inputs = network.inputs if isinstance(network, HomeworkNetwork) else "unit"
    if inputs == "standardised":
        knobs["scale"] = [1 / d for d in deviation]
        knobs["offset"] = [-m / d for m, d in zip(mean, deviation, strict=True)]
    if inputs == "bytes":
        knobs["scale"] = 255.0
    try:
        return NETWORKS[network.name](data_set.shape, len(data_set.classes), classifier_activation=None, **knobs)
    except ValueError as error:
        raise UserError(
            f"Network {network.name} does not fit {data_set.name}. Expected layers that {data_set.shape} pictures can "
            f"pass. Received {knobs or 'its own layers'}: {str(error).splitlines()[0]} "
            "Take fewer stages, a smaller kernel or padding same."
        ) from error
