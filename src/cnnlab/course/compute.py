"""Tables and figures of the lesson that need no trained network."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from keras import layers
from scipy.stats import binomtest

from cnnlab import params
from cnnlab.course import classic, plots, trainings
from cnnlab.course.activations import ACTIVATIONS
from cnnlab.course.examples import PADDINGS, dense_as_matrix, examples
from cnnlab.course.lesson_networks import computed_tables, lenet5_with_stride_2
from cnnlab.course.tables import RGB
from cnnlab.data.store import Processed, open_processed, read_card
from cnnlab.files import write_manifest, write_text
from cnnlab.nets.anatomy import layer_table
from cnnlab.nets.registry import build
from cnnlab.report.language import Language
from cnnlab.see.plots import image_grid

EXERCISE = 4  # 3×3 layers in the exercise on receptive fields
PICTURES = 500  # images among which the reddest, greenest and bluest are shown
VALUES = 2**29  # pixel values that a classic method learns from at most, all in memory; CIFAR-10 has 2**27


def write_course(parameters: params.Params, folder: Path, say: Language) -> None:
    """Write the tables (.csv, .json) and figures (.png) of the lesson into `folder`, and their SHA256SUMS.

    The classic methods learn from each data set of the variants, from as many images as the budget gives the networks.
    """
    _draw_examples(write_tables(parameters, folder), folder, say)
    plots.matrix(folder / "matrix.png", dense_as_matrix()[0], say)
    methods, runs = [], []
    for name in dict.fromkeys(variant.data for variant in params.variants(parameters).values()):
        data = open_processed(name)
        methods += _classic_methods(parameters, data)
        rows, initial, weights = trainings.train(data, _training_rows(parameters, data))
        runs.append(rows)
        plots.weights(folder / f"weights-{name}.png", weights, initial, say)
        _draw_templates(folder / f"templates-{name}.png", data, say)
        if data.card["shape"][2] == RGB:
            _draw_channels(folder, data, say)
    write_text(folder / "methods.csv", pd.DataFrame(methods).to_csv(index=False))
    write_text(folder / "trainings.csv", pd.concat(runs).to_csv(index=False))
    write_text(folder / "contrasts.csv", trainings.contrasts(pd.concat(runs)).to_csv(index=False))
    write_manifest(folder)


def write_tables(parameters: params.Params, folder: Path) -> dict[str, Any]:
    """Write the tables that need no images, with the layers of every network; returns the worked examples."""
    worked = examples()
    anatomy = {}
    for name in params.variants(parameters):
        variant = params.variant(parameters, name)
        model = build(variant.network, read_card(variant.data))
        anatomy[name] = layer_table(model.layers, model.input_shape[1:])
    halved = lenet5_with_stride_2()
    lenet = layer_table(halved.layers, halved.input_shape[1:])
    contents = {"examples": worked, "networks": computed_tables(), "lenet": lenet, "anatomy": anatomy}
    for name, content in contents.items():
        write_text(folder / f"{name}.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    functions = [(a.name.replace("_", " "), a.formula, a.slope, a.range) for a in ACTIVATIONS]
    table = pd.DataFrame(functions, columns=["name", "function", "derivative", "range"])
    write_text(folder / "activations.csv", table.to_csv(index=False))
    return worked


def _training_rows(parameters: params.Params, data: Processed) -> np.ndarray:
    """Rows of the training images that the default validation set leaves, as many as the budget gives the networks."""
    return data.split(data.card["split"]["validation"], parameters.scale.training.train_images)[0]


def _classic_methods(parameters: params.Params, data: Processed) -> list[dict[str, Any]]:
    """One row per classic method: scored once on the test set.

    It learns from the images that the default validation set leaves.

    Only a part of very large sets is used, see `VALUES`; the row has its number of images.
    """
    train = np.sort(_training_rows(parameters, data)[: VALUES // int(np.prod(data.card["shape"]))])
    training = np.asarray(data.train_images[train]), np.asarray(data.train_labels[train])
    test = data.test_images, np.asarray(data.test_labels)
    rows = []
    for name in classic.METHODS:
        row, predicted = classic.trial(name, training, test)
        correct = int((predicted == test[1]).sum())
        interval = binomtest(correct, len(predicted)).proportion_ci(method="wilson")
        rows.append({"data": data.name, **row, "low": float(interval.low), "high": float(interval.high)})
        seconds = row["fit_seconds"] + len(predicted) / row["images_per_s"]
        print(f"lesson  {data.name}  {name}  {100 * row['accuracy']:.1f} %  {seconds:.0f} s", flush=True)
    return rows


def _draw_templates(path: Path, data: Processed, say: Language) -> None:
    """Draw the mean image of each class, and an example, also binarised and as HOG cells."""
    train = np.sort(data.order[data.card["split"]["validation"] :])
    images, labels = data.train_images, data.train_labels[train]
    classes = [say.name(name) for name in data.card["classes"]][:10]
    chosen = [train[labels == label] for label in range(len(classes))]
    means = [np.mean(images[rows[:500]], axis=0).round().astype(np.uint8) for rows in chosen]
    samples = np.stack([np.asarray(images[rows[0]]) for rows in chosen])
    binary = (255 * classic.binarised(samples)).astype(np.uint8)
    rows = {say("template"): means, say("example"): list(samples), say("binarised"): list(binary)}
    plots.templates(path, classes, rows, classic.hog_cells(samples))


def _draw_channels(folder: Path, data: Processed, say: Language) -> None:
    """Draw the channels of the images where one channel exceeds the others most, and paddings of the first of them."""
    images = np.asarray(data.train_images[np.sort(data.order[:PICTURES])])
    brightness = images.mean(axis=(1, 2))
    chosen = [images[(brightness[:, c] - np.delete(brightness, c, axis=1).max(axis=1)).argmax()] for c in range(RGB)]
    names = say("red channel"), say("green channel"), say("blue channel")
    tiles = [
        tile for image in chosen for tile in ((say("image"), image), *zip(names, np.moveaxis(image, 2, 0), strict=True))
    ]
    image_grid(folder / f"channels-{data.name}.png", tiles, RGB + 1, 1.9)
    width = data.card["shape"][1] // 4
    around = [(width, width), (width, width), (0, 0)]
    filled = [(say(name), np.pad(chosen[0], around, fill)) for name, fill in PADDINGS.items()]
    image_grid(folder / f"padding-{data.name}.png", filled, len(filled), 2.6)


def _draw_examples(worked: dict[str, Any], folder: Path, say: Language) -> None:
    plots.convolution(folder / "convolution.png", worked["convolution"], say)
    pooling, detector = worked["pooling"], worked["detector"]
    names = {"max": say("max pooling"), "average": say("average pooling"), "sum": say("sum pooling")}
    outputs = {names[kind]: values for kind, values in pooling["outputs"].items()}
    plots.tables(folder / "pooling.png", {say("feature map"): pooling["map"], **outputs})
    shown = {say("image"): detector["image"], say("filter"): detector["filter"]}
    plots.tables(folder / "detector.png", shown | {say("feature map"): detector["feature_map"]})
    flipped = worked["flipped"]
    shown = {say("filter"): flipped["filter"], say("flipped filter"): flipped["flipped"]}
    shown |= {say("layer: cross-correlation"): flipped["correlation"], say("convolution"): flipped["convolution"]}
    plots.tables(folder / "flipped.png", shown)
    plots.paddings(folder / "padding.png", {say(name): values for name, values in worked["paddings"].items()}, say)
    plots.activations(folder / "activations.png", say)
    plots.exercise(folder / "exercise.png", exercise_fields(), say)


def exercise_fields() -> list[int]:
    """Side in pixels of the receptive field of a neuron in each of `EXERCISE` 3×3 layers."""
    rows = layer_table([layers.Conv2D(1, 3) for _ in range(EXERCISE)], (32, 32, 1))
    return [row["receptive_field"] for row in rows]
