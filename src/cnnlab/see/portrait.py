"""The portrait of a trained network: figures of what it sees, and a row of numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.neighbors import NearestNeighbors

from cnnlab import params
from cnnlab.data import decode
from cnnlab.data.store import Processed, open_processed
from cnnlab.nets.anatomy import layer_table
from cnnlab.report.language import Language
from cnnlab.see import FIGURES, attribution, hierarchy, layers, place, plots
from cnnlab.tracking.classifier import fitted
from cnnlab.train.outputs import Outputs

IMAGES = 1000  # validation images at most
DEPTHS, UNITS, TOP = 4, 3, 8  # layers whose patches are shown at most, their most selective units, and patches per unit
UNTRAINED = 3  # networks with random weights, the control
DEGREES = np.arange(0, 181, 5)
SEED = 0  # of activation maximisation and the embedding
SELECTIVE = 2.0  # minimum ratio of the responses to the preferred and the least preferred orientation
CLASSES = 10  # at most, whose logits are maximised
FIELDS_IMAGE = 2  # of the validation images, over which receptive fields are drawn


def load(data: str, variant: str) -> tuple[keras.Model, str]:
    """Load the trained network of a variant's first seed, and its MLflow run ID.

    Raises UserError if it is not trained yet or damaged.
    """
    outputs = Outputs(data, variant)
    run_id = outputs.run_id()
    return keras.saving.load_model(outputs.model(), compile=False), run_id


def look(parameters: params.Params, name: str, picture: Path | None, folder: Path, say: Language) -> list[Path]:
    """Write the figures of `portrait` for a variant into `folder` and return their paths.

    Raises UserError if the variant is not trained, or `picture` cannot be read.
    """
    variant = params.variant(parameters, name)
    model, _ = load(variant.data, name)
    processed = open_processed(variant.data)
    image = None if picture is None else fitted(decode.read_image(picture), processed.card["shape"])
    validation = params.set_aside(parameters, variant.data, variant.validation)
    portrait(model, processed, folder, validation=validation, say=say, image=image)
    return [folder / f"{name}.png" for name in FIGURES]


def portrait(
    model: keras.Model,
    data: Processed,
    folder: Path,
    *,
    validation: int,
    say: Language,
    image: np.ndarray | None = None,
) -> dict[str, float]:
    """Write the `FIGURES` of a network into `folder`, as PNG files.

    They show the `validation` images that the network was not trained on, at most `IMAGES`; feature maps and
    attributions are of `image` (uint8, in the network's shape) if given. Equal arguments give equal figures. Returns
    the number of first-layer `units`, the share of them that are orientation-`selective`, the share of images whose
    nearest neighbour in the embedding has the same class (`neighbours`), `images_per_s` of inference, and the number of
    `images`. `index` is the median orientation selectivity index; `untrained_selective` and `untrained_index` are means
    over `controls` networks with random weights, with their `_low` and `_high`. The accuracies after each change of
    `place.changes` are `unchanged_0`, `shifted_<pixels>` and `shuffled_<patches per side>`.
    """
    images, labels = validation_images(data, validation)
    classes = [say.name(name) for name in data.card["classes"]]
    shown = {"": image} if image is not None else _examples(model, images, labels, classes, say)
    first = next(iter(shown.values()))
    plots.filters(folder / "filters.png", layers.filters(model))
    plots.maps(folder / "maps.png", first, layers.feature_maps(model, first))
    plots.image_rows(folder / "patches.png", _patches(model, images, say))
    units = np.arange(min(CLASSES, len(classes)))
    maximised = attribution.maximise(model, model.layers[-1], units, data.card["mean"], SEED)
    plots.image_grid(folder / "maximised.png", zip(classes, maximised, strict=False), 5, 1.6)
    plots.attributions(folder / "attribution.png", _attributions(model, shown, classes, say), say)
    changed = place.accuracies(model, images, labels, SEED)
    samples = [(kind, size, pictures[0]) for kind, size, pictures in place.changes(first[None], SEED)]
    plots.place(folder / "place.png", changed, samples, 1 / len(classes), say)
    hidden = layers.activations(model, images, layers.last_hidden(model))
    points = layers.embedding(hidden.reshape(len(images), -1), SEED)
    nearest = NearestNeighbors(n_neighbors=1).fit(points).kneighbors(return_distance=False)[:, 0]
    plots.plane(folder / "plane.png", points, labels, classes)
    windowed = [r for r in layer_table(model.layers, model.input_shape[1:]) if r["receptive_field"] and r["window"]]
    below = np.asarray(data.train_images[data.order[FIELDS_IMAGE]])
    plots.fields(folder / "fields.png", below, windowed, say)
    return {
        **_orientation(model, folder / "tuning.png", say),
        **{f"{row['kind']}_{row['size']}": row["accuracy"] for row in changed},
        "neighbours": float((labels[nearest] == labels).mean()),
        "images_per_s": layers.images_per_s(model, images),
        "images": len(images),
    }


def validation_images(data: Processed, validation: int) -> tuple[np.ndarray, np.ndarray]:
    """The images that a network was not trained on, at most `IMAGES` of `validation`, and their labels."""
    rows = np.sort(data.order[:validation][:IMAGES])
    return np.asarray(data.train_images[rows]), np.asarray(data.train_labels[rows])


def _orientation(model: keras.Model, path: Path, say: Language) -> dict[str, float]:
    """Draw the tuning curves of the first layer into `path`; the numbers of `portrait` on orientation."""
    responses, *controls = (
        np.maximum(layers.tuning(each, DEGREES), 0)
        for each in (model, *(hierarchy.untrained(model, seed) for seed in range(UNTRAINED)))
    )
    plots.tuning(path, DEGREES, {say("trained"): responses, say("untrained"): controls[0]}, say)
    return {
        "units": responses.shape[1],
        "selective": _selective(responses),
        "index": _index(responses),
        "controls": UNTRAINED,
        **_spread("untrained_selective", [_selective(each) for each in controls]),
        **_spread("untrained_index", [_index(each) for each in controls]),
    }


def _selective(responses: np.ndarray) -> float:
    """The share of units with twice the response to the preferred orientation as to the least preferred one."""
    return float((responses.max(axis=0) > SELECTIVE * responses.min(axis=0)).mean())


def _index(responses: np.ndarray) -> float:
    """The median selectivity index of units."""
    return float(np.median(layers.selectivity(DEGREES[:-1], responses[:-1])))  # 180° is 0° again


def _spread(name: str, values: list[float]) -> dict[str, float]:
    return {name: float(np.mean(values)), f"{name}_low": min(values), f"{name}_high": max(values)}


def _probabilities(model: keras.Model, images: np.ndarray) -> np.ndarray:
    logits = layers.activations(model, images, model.layers[-1])
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.softmax(logits)))


def _examples(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, classes: list[str], say: Language
) -> Mapping[str, np.ndarray]:
    """The most confident correct prediction of each of three classes, and the most confident error; by title."""
    probability = _probabilities(model, images)
    predicted, confidence = probability.argmax(axis=1), probability.max(axis=1)
    correct = predicted == labels
    titles = {}
    for label in np.unique(labels[correct])[:3]:
        index = int(np.where(correct & (labels == label), confidence, -1).argmax())
        titles[say("{name}, {confidence:percent.0}", name=classes[label], confidence=confidence[index])] = images[index]
    if not correct.all():
        index = int(np.where(correct, -1, confidence).argmax())
        names = {"name": classes[predicted[index]], "actual": classes[labels[index]]}
        title = say("{name}, {confidence:percent.0}\n(true: {actual})", confidence=confidence[index], **names)
        titles[title] = images[index]
    return titles


def _attributions(
    model: keras.Model, shown: Mapping[str, np.ndarray], classes: list[str], say: Language
) -> list[dict[str, Any]]:
    images = np.stack(list(shown.values()))
    probability = _probabilities(model, images)
    predicted = probability.argmax(axis=1)
    salient, cams = (method(model, images, predicted) for method in (attribution.saliency, attribution.grad_cam))
    return [
        {
            "image": image,
            "title": title or say("{name}, {confidence:percent.0}", name=classes[label], confidence=confidence),
            "saliency": saliency,
            "cam": cam,
            "occlusion": attribution.occlusion(model, image, int(label)),
        }
        for (title, image), label, confidence, saliency, cam in zip(
            shown.items(), predicted, probability.max(axis=1), salient, cams, strict=True
        )
    ]


def _patches(model: keras.Model, images: np.ndarray, say: Language) -> dict[str, list[np.ndarray]]:
    """Image patches that activate the most selective units most, at several depths."""
    found = layers.map_layers(model, pools=False)
    rows = {}
    shown = np.unique(np.linspace(0, len(found) - 1, DEPTHS).round().astype(int))
    for layer in (found[depth] for depth in shown):
        side, _, _ = layers.receptive_field(model, layer)
        for unit, which, corners in zip(*layers.most_selective(model, layer, images, UNITS, TOP), strict=True):
            label = say("{layer}\nunit {unit}, field {side}×{side}", layer=layer.name, unit=unit, side=side)
            rows[label] = list(layers.crops(images[which], corners, side))
    return rows
