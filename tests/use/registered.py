"""A small network, registered as the champion of a data set by a finished run."""

import json
from pathlib import Path

import keras
import numpy as np
from see.small_nets import convolutional, noise

from cnnlab import track
from cnnlab.nets.whole import whole
from cnnlab.params.recipe import Views
from cnnlab.registry import Proposal

CLASSES = ["cat", "dog", "ship"]
SIDE, CHANNELS = 12, 3


def network(seed: int = 0) -> keras.Model:
    """Of uint8 pictures 12×12×3 to logits of three classes, which differ from picture to picture."""
    model = convolutional(CHANNELS, SIDE, len(CLASSES), seed)
    model.layers[-2].set_weights([50 * model.layers[-2].get_weights()[0], np.zeros(3, np.float32)])
    return whole(model, Views(flip=True))


def finish(
    name: str,
    accuracy: float,
    status: str = "FINISHED",
    *,
    data: str = "pets",
    seed: int = 0,
    known_id: str | None = None,
    digest: str = "same pictures",
) -> track.Run:
    """A run that proposes the network of `seed` with a validation accuracy, and how it ended."""
    run = track.Run.start(name, data, name, {"a": 1}, {"variant": name, "seed": str(seed)}, known_id=known_id)
    path = Path(f"{name}") / "network.keras"
    path.parent.mkdir(exist_ok=True)
    network(seed).save(path)
    run.propose(Proposal(data, digest, accuracy, CLASSES, f"# Card of {name}"), path, noise(2, SIDE, CHANNELS))
    path.unlink()
    run.finish(status)
    return run


def probabilities(pictures: np.ndarray, seed: int = 0) -> np.ndarray:
    """What Keras itself tells of pictures of the network's size."""
    return np.asarray(keras.ops.softmax(network(seed)(pictures)))


def answered(text: str) -> list[dict[str, float]]:
    """The probabilities by class of a scoring server's answer."""
    return [told["probabilities"] for told in json.loads(text)["predictions"]]
