"""Build the Keras model of a network section of params.yaml."""

import keras

import cnnlab.nets.families  # noqa: F401 (registers them, and lets `fingerprint` see that trainings depend on them)
from cnnlab.data.store import Card
from cnnlab.errors import UserError
from cnnlab.params.recipe import Network


def build(network: Network, card: Card) -> keras.Model:
    """Build the network for the images and classes of the data set with this card; outputs logits (batch, classes).

    Raises UserError if the images are too small for the layers of the network.
    """
    scaling = network.scaling(card["mean"], card["std"])
    try:
        return network.model(tuple(card["shape"]), len(card["classes"]), **scaling)
    except ValueError as error:
        settings = network.model_dump(exclude={"name"}) | scaling
        raise UserError(
            f"Network {network.name} does not fit {card['name']}. Expected: layers for images of shape "
            f"{tuple(card['shape'])}. Received: {settings or 'its own layers'}: {str(error).splitlines()[0]} "
            "To fix this, use fewer stages, a smaller kernel, padding same, or another network."
        ) from error
