"""The hierarchy of features: how well the classes can be read from the feature maps at each depth."""

from typing import Any

import keras
import numpy as np
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cnnlab.see.layers import BATCH, as_floats, forward, map_layers, receptive_field

FOLDS = 5


def untrained(model: keras.Model, seed: int) -> keras.Model:
    """The same network with new random weights."""
    keras.utils.set_random_seed(seed)
    return keras.models.clone_model(model)


def strongest(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """The maximum of each feature map of uint8 `images`, (images, channels), by the name of its convolution."""
    shown = {layer.name for layer in map_layers(model, pools=False)}
    found: dict[str, list[np.ndarray]] = {name: [] for name in shown}
    for at in range(0, len(images), BATCH):
        values: Any = as_floats(images[at : at + BATCH])
        for layer in model.layers:
            values = layer(values, training=False)
            if layer.name in shown:
                found[layer.name].append(np.asarray(forward((), values)).max(axis=(1, 2)))
    return {layer.name: np.concatenate(found[layer.name]) for layer in map_layers(model, pools=False)}


def depths(model: keras.Model, images: np.ndarray, labels: np.ndarray, seeds: int) -> list[dict[str, Any]]:
    """How well a linear classifier reads the classes from the `strongest` activations at each depth.

    Alain, Bengio 2016, arXiv:1610.01644. Rows have the `depth` from 1, the `field` (side of the receptive field in
    pixels), the number of `maps`, the number of `images`, the cross-validated `accuracy`, and the mean of that for
    `seeds` untrained networks, `untrained`.
    """
    networks = [model, *(untrained(model, seed) for seed in range(seeds))]
    read = [{name: _accuracy(rows, labels) for name, rows in strongest(each, images).items()} for each in networks]
    return [
        {
            "depth": depth,
            "field": receptive_field(model, layer)[0],
            "maps": int(layer.output.shape[-1]),
            "images": len(images),
            "seeds": seeds,
            "accuracy": read[0][layer.name],
            "untrained": float(np.mean([scores[layer.name] for scores in read[1:]])),
        }
        for depth, layer in enumerate(map_layers(model, pools=False), 1)
    ]


def _accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    classifier = make_pipeline(StandardScaler(), RidgeClassifier(alpha=1.0))
    return float(cross_val_score(classifier, features, labels, cv=FOLDS).mean())
