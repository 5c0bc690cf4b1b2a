"""A small network, registered as the champion of a data set by a finished run."""

import json
from pathlib import Path

import keras
import numpy as np
from see.small_nets import convolutional, noise

from cnnlab.nets.inference import inference_model
from cnnlab.params.recipe import TTA
from cnnlab.tracking import runs as track
from cnnlab.tracking.registry import Proposal

CLASSES = ["cat", "dog", "ship"]
SIDE, CHANNELS = 12, 3


def network(seed: int = 0) -> keras.Model:
    """A network of uint8 images 12×12×3 to logits of three classes, which differ from image to image."""
    model = convolutional(CHANNELS, SIDE, len(CLASSES), seed)
    model.layers[-2].set_weights([50 * model.layers[-2].get_weights()[0], np.zeros(3, np.float32)])
    return inference_model(model, TTA(flip=True))


def finish(
    name: str,
    accuracy: float,
    status: str = "FINISHED",
    *,
    data: str = "pets",
    seed: int = 0,
    known_id: str | None = None,
    digest: str = "same images",
) -> track.TrackedRun:
    """Finish a run with `status`, after it proposed the network of `seed` with a validation accuracy."""
    run = track.TrackedRun.start(name, data, name, {"a": 1}, {"variant": name, "seed": str(seed)}, known_id=known_id)
    path = Path(f"{name}") / "network.keras"
    path.parent.mkdir(exist_ok=True)
    network(seed).save(path)
    run.propose(Proposal(data, digest, accuracy, CLASSES, f"# Card of {name}"), path, noise(2, SIDE, CHANNELS))
    path.unlink()
    run.finish(status)
    return run


def probabilities(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Keras's own probabilities for images of the network's size."""
    return np.asarray(keras.ops.softmax(network(seed)(images)))


def predictions(text: str) -> list[dict[str, float]]:
    """The probabilities by class in a response of the scoring server."""
    return [each["probabilities"] for each in json.loads(text)["predictions"]]
