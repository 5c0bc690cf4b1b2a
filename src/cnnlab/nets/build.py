"""From a network's section of params.yaml to the Keras model that is trained."""

from collections.abc import Callable

import keras

from cnnlab import params
from cnnlab.data.store import Card, read_card
from cnnlab.errors import UserError
from cnnlab.nets.homework import homework
from cnnlab.nets.lesson import LESSON, lenet5, slides
from cnnlab.nets.speedrun import speedrun
from cnnlab.params import HomeworkNetwork, LessonNetwork, SpeedrunNetwork

NETWORKS: dict[str, Callable[..., keras.Model]] = {
    "lenet5": lenet5,
    "slides": slides,
    "homework": homework,
    "speedrun": speedrun,
}


def build(network: LessonNetwork | HomeworkNetwork | SpeedrunNetwork, card: Card) -> keras.Model:
    """The network for the pictures and classes of the data set with this card; its output is logits, (batch, classes).

    Of standardised inputs the card's mean and deviation make 0 and 1. Raises UserError where the pictures are too small
    for the network's layers.
    """
    knobs = network.model_dump(exclude={"name", "inputs"})
    inputs = network.inputs if isinstance(network, HomeworkNetwork) else "unit"
    if inputs == "standardised":
        knobs["scale"] = [1 / d for d in card["std"]]
        knobs["offset"] = [-m / d for m, d in zip(card["mean"], card["std"], strict=True)]
    if inputs == "bytes":
        knobs["scale"] = 255.0
    try:
        return NETWORKS[network.name](tuple(card["shape"]), len(card["classes"]), classifier_activation=None, **knobs)
    except ValueError as error:
        raise UserError(
            f"Network {network.name} does not fit {card['name']}. Expected layers that {tuple(card['shape'])} pictures "
            f"can pass. Received {knobs or 'its own layers'}: {str(error).splitlines()[0]} "
            "Take fewer stages, a smaller kernel or padding same."
        ) from error


def network_named(parameters: params.Params, name: str) -> keras.Model:
    """The network of a variant for its data, or else one of the lesson's by its short name: `detector`, `homework`.

    Raises UserError where there is no such name, and where the variant's data is not processed yet.
    """
    try:
        variant = params.variant(parameters, name)
    except UserError as error:
        if name in LESSON:
            return LESSON[name].build()
        raise UserError(f"{error} Or one of the lesson's networks: {', '.join(LESSON)}.") from error
    return build(variant.network, read_card(variant.data))
