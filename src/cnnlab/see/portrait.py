"""All that can be seen of one trained network, as pictures in a folder and a row of figures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.neighbors import NearestNeighbors

from cnnlab import params
from cnnlab.classifier import fitted
from cnnlab.data import decode
from cnnlab.data.store import Processed, open_processed
from cnnlab.errors import UserError
from cnnlab.evidence.words import Language
from cnnlab.files import MODELS
from cnnlab.see import attribution, draw, layers

IMAGES = 1000  # of the validation part, which are looked through
UNITS, BEST = 4, 8  # of a layer's units the most choosy, and how many pictures of each are shown
DEGREES = np.arange(0, 181, 5)
SEED = 0  # of the climbs and of the plane
SELECTIVE = 2.0  # times as strong an answer to the best angle as to the worst
WANTED = 10  # classes of which the wanted picture is drawn


def load(data: str, variant: str) -> tuple[keras.Model, str]:
    """The trained network of a variant's first seed and its MLflow run.

    Raises UserError where it is not trained yet.
    """
    folder = MODELS / data / variant
    try:
        run_id = str(json.loads((folder / "run.json").read_text())["run_id"])
        return keras.saving.load_model(folder / "model.keras", compile=False), run_id
    except (OSError, ValueError) as error:
        raise UserError(
            f"No trained network in {folder}: {error}. Expected model.keras and run.json. "
            f"Run: make train VARIANT={variant} SEEDS=1"
        ) from error


def look(parameters: params.Params, name: str, picture: Path | None, folder: Path, say: Language) -> list[Path]:
    """Draw a variant's trained network into `folder` and return the files; see `portrait`.

    Raises UserError where it is not trained, and where `picture` cannot be read.
    """
    variant = params.variant(parameters, name)
    model, _ = load(variant.data, name)
    processed = open_processed(variant.data)
    given = None if picture is None else fitted(decode.any_picture(picture), processed.card["shape"])
    aside = params.set_aside(parameters, variant)
    portrait(model, processed, folder, validation=aside, say=say, picture=given)
    return sorted(folder.glob("*.png"))


def portrait(
    model: keras.Model,
    data: Processed,
    folder: Path,
    *,
    validation: int,
    say: Language,
    picture: np.ndarray | None = None,
) -> dict[str, float]:
    """Write filters, maps, exciting, wanted, attribution, tuning and plane .png of a network into `folder`.

    The `validation` pictures that the network did not learn from are looked through, `IMAGES` at most; `picture`
    (uint8, the network's shape) takes the place of those whose maps and attributions are drawn. Equal arguments give
    equal pictures. Returns `units` of the first layer, the share `selective` for a bar's angle, the share of neighbours
    on the plane of the same class (`neighbours`), pictures the network tells a second (`images_per_s`), and how many
    `images` were looked through.
    """
    rows = np.sort(data.order[:validation][:IMAGES])
    images, labels = np.asarray(data.train_images[rows]), np.asarray(data.train_labels[rows])
    classes = [say.name(name) for name in data.card["classes"]]
    shown = {"": picture} if picture is not None else _chosen(model, images, labels, classes, say)
    first = next(iter(shown.values()))
    draw.filters(folder / "filters.png", layers.filters(model))
    draw.maps(folder / "maps.png", first, layers.feature_maps(model, first))
    draw.rows_of(folder / "exciting.png", _exciting(model, images, say))
    classifier = model.layers[-1]
    wanted = attribution.maximise(model, classifier, np.arange(min(WANTED, len(classes))), data.card["mean"], SEED)
    draw.captioned(folder / "wanted.png", dict(zip(classes, wanted, strict=False)))
    draw.attributions(folder / "attribution.png", _attributions(model, shown, classes, say), say)
    answers = layers.tuning(model, DEGREES)
    draw.tuning(folder / "tuning.png", DEGREES, answers, say)
    points = layers.embedding(layers.answers(model, images, layers.hidden(model)).reshape(len(images), -1), SEED)
    draw.plane(folder / "plane.png", points, labels, classes)
    positive = np.maximum(answers, 0)
    selective = positive.max(axis=0) > SELECTIVE * positive.min(axis=0)
    return {
        "units": answers.shape[1],
        "selective": float(selective.mean()),
        "neighbours": _neighbours(points, labels),
        "images_per_s": layers.told_per_s(model, images),
        "images": len(images),
    }


def _chosen(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, classes: list[str], say: Language
) -> Mapping[str, np.ndarray]:
    """The surest right answer of each of the first three classes that has one, and the surest mistake, by title."""
    probability = keras.ops.convert_to_numpy(keras.ops.softmax(layers.answers(model, images, model.layers[-1])))
    predicted, sure = probability.argmax(axis=1), probability.max(axis=1)
    right = predicted == labels
    chosen = {}
    for label in np.unique(labels[right])[:3]:
        index = int(np.where(right & (labels == label), sure, -1).argmax())
        chosen[say("{name}, {percent} %", name=classes[label], percent=f"{100 * sure[index]:.0f}")] = images[index]
    if not right.all():
        index = int(np.where(right, -1, sure).argmax())
        title = say(
            "{name}, {percent} %\n(is {actual})",
            name=classes[predicted[index]],
            percent=f"{100 * sure[index]:.0f}",
            actual=classes[labels[index]],
        )
        chosen[title] = images[index]
    return chosen


def _attributions(
    model: keras.Model, shown: Mapping[str, np.ndarray], classes: list[str], say: Language
) -> list[dict[str, Any]]:
    pictures = np.stack(list(shown.values()))
    probability = keras.ops.convert_to_numpy(keras.ops.softmax(layers.answers(model, pictures, model.layers[-1])))
    predicted = probability.argmax(axis=1)
    salient, cams = (f(model, pictures, predicted) for f in (attribution.saliency, attribution.grad_cam))
    rows = []
    for index, (title, picture) in enumerate(shown.items()):
        label = int(predicted[index])
        told = say("{name}, {percent} %", name=classes[label], percent=f"{100 * probability[index, label]:.0f}")
        rows.append(
            {
                "picture": picture,
                "title": title or told,
                "saliency": salient[index],
                "cam": cams[index],
                "occlusion": attribution.occlusion(model, picture, label),
            }
        )
    return rows


def _exciting(model: keras.Model, images: np.ndarray, say: Language) -> dict[str, list[np.ndarray]]:
    """Of the first and of the last maps: the parts of pictures that excite the most choosy units, a row a unit."""
    found = layers.mapped(model, pools=False)
    rows = {}
    for layer in dict.fromkeys((found[0], found[-1])):
        side, _, _ = layers.field_of(model, layer)
        units, places, corners = layers.exciting(model, layer, images, UNITS, BEST)
        for unit, which, where in zip(units, places, corners, strict=True):
            name = say("{layer}\nunit {unit}, sees {side}×{side}", layer=layer.name, unit=unit, side=side)
            rows[name] = list(layers.crops(images[which], where, side))
    return rows


def _neighbours(points: np.ndarray, labels: np.ndarray) -> float:
    """The share of points whose nearest other point is of the same class."""
    nearest = NearestNeighbors(n_neighbors=2).fit(points).kneighbors(return_distance=False)[:, 0]
    return float((labels[nearest] == labels).mean())
