"""The course in tables and pictures: what its pages about the lesson are written from."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from keras import layers
from scipy.stats import binomtest

from cnnlab import params
from cnnlab.data.store import Processed, open_processed, read_card
from cnnlab.errors import UserError
from cnnlab.evidence.words import Language
from cnnlab.files import REPORTS, write_text
from cnnlab.nets.activations import ACTIVATIONS
from cnnlab.nets.anatomy import layer_table
from cnnlab.nets.build import build
from cnnlab.nets.lesson import computed_tables
from cnnlab.nets.worked import examples
from cnnlab.see import classic, draw
from cnnlab.see.portrait import load, portrait

EXERCISE = 4  # layers of 3×3 filters, whose neurons' fields are asked for
PIXELS = 2**29  # at most, that methods before networks learn from: they want all in memory; CIFAR-10 has 2**27
IMAGE = 2  # of the validation part, over which fields are drawn


def write_course(parameters: params.Params, folder: Path, say: Language) -> None:
    """Write into `folder` the tables (.csv, .json) and pictures (.png) of the lesson, trained networks looked into.

    Of each data set that variants train on the variant with the highest validation accuracy is looked into; the methods
    before networks learn from as many images as the budget gives the networks. Raises UserError where a training is
    missing.
    """
    _draw_examples(write_tables(parameters, folder), folder, say)
    best = best_variants(parameters)
    methods, seen = [], []
    for name, variant in best.items():
        data = open_processed(name)
        methods += _before(parameters, data)
        _templates(folder / f"templates-{name}.png", data, say)
        begun = time.perf_counter()
        model, run_id = load(name, variant)
        aside = params.set_aside(parameters, params.variant(parameters, variant))
        figures = portrait(model, data, folder / variant, validation=aside, say=say)
        rows = [row for row in layer_table(model.layers, model.input_shape[1:]) if row["receptive_field"]]
        picture = np.asarray(data.train_images[data.order[IMAGE]])
        draw.fields(folder / variant / "fields.png", picture, [row for row in rows if row["window"]], say)
        seen.append({"data": name, "variant": variant, "run_id": run_id, **figures})
        print(f"lesson  {name}  looked into {variant}  {time.perf_counter() - begun:.0f} s", flush=True)
    write_text(folder / "methods.csv", pd.DataFrame(methods).to_csv(index=False))
    write_text(folder / "seen.csv", pd.DataFrame(seen).to_csv(index=False))


def write_tables(parameters: params.Params, folder: Path) -> dict[str, Any]:
    """Write what needs no trained network, the layers of every network among it; returns the worked examples."""
    worked = examples()
    _write(folder / "examples.json", worked)
    _write(folder / "networks.json", computed_tables())
    _write(folder / "anatomy.json", {name: _anatomy(parameters, name) for name in params.variants(parameters)})
    table = pd.DataFrame([(a.name, a.formula, a.slope, a.range) for a in ACTIVATIONS])
    write_text(
        folder / "activations.csv", table.to_csv(index=False, header=["name", "function", "derivative", "range"])
    )
    return worked


def best_variants(parameters: params.Params) -> dict[str, str]:
    """Of each data set the variant with the highest mean validation accuracy, as stage evaluate has it.

    Of equal ones the first. Raises UserError where one was not evaluated.
    """
    best: dict[str, tuple[float, str]] = {}
    for name, variant in params.variants(parameters).items():
        path = REPORTS / "evaluation" / name / "metrics.json"
        if not path.exists():
            raise UserError(f"{path} is missing. Expected a trained and evaluated variant. Run: dvc repro")
        accuracy = json.loads(path.read_text())["validation_accuracy"]
        if variant.data not in best or accuracy > best[variant.data][0]:
            best[variant.data] = (accuracy, name)
    return {data: name for data, (_, name) in best.items()}


def _anatomy(parameters: params.Params, name: str) -> list[dict[str, Any]]:
    variant = params.variant(parameters, name)
    model = build(variant.network, read_card(variant.data))
    return layer_table(model.layers, model.input_shape[1:])


def _before(parameters: params.Params, data: Processed) -> list[dict[str, Any]]:
    """A row a method before networks, learnt from the images that networks learn from, scored on the test set once.

    Of large sets they learn from a part, `PIXELS`, the same each time: the row says how many images.
    """
    budget = parameters.budgets[parameters.budget]
    train, _ = data.split(data.card["split"]["validation"], budget.train_images)
    train = np.sort(train[: PIXELS // int(np.prod(data.card["shape"]))])
    learnt = np.asarray(data.train_images[train]), np.asarray(data.train_labels[train])
    test = data.test_images, np.asarray(data.test_labels)
    rows = []
    for name in classic.METHODS:
        row, predicted = classic.trial(name, learnt, test)
        right = int((predicted == test[1]).sum())
        interval = binomtest(right, len(predicted)).proportion_ci(method="wilson")
        rows.append({"data": data.name, **row, "low": float(interval.low), "high": float(interval.high)})
        told = f"{100 * row['accuracy']:.1f} %  {row['fit_seconds'] + len(predicted) / row['images_per_s']:.0f} s"
        print(f"lesson  {data.name}  {name}  {told}", flush=True)
    return rows


def _templates(path: Path, data: Processed, say: Language) -> None:
    """The mean picture of each class, and a picture of it as strokes and as edges."""
    train = np.sort(data.order[data.card["split"]["validation"] :])
    images, labels = data.train_images, data.train_labels[train]
    classes = [say.name(name) for name in data.card["classes"]]
    chosen = [train[labels == label] for label in range(len(classes))]
    means = [np.mean(images[rows[:500]], axis=0).round().astype(np.uint8) for rows in chosen[:10]]
    samples = np.stack([np.asarray(images[rows[0]]) for rows in chosen[:10]])
    ink = (255 * classic.ink(samples)).astype(np.uint8)
    rows = {say("template"): means, say("picture"): list(samples), say("ink"): list(ink)}
    draw.templates(path, classes[:10], rows, classic.direction_cells(samples), say("edges"))


def _draw_examples(worked: dict[str, Any], folder: Path, say: Language) -> None:
    draw.convolution(folder / "convolution.png", worked["convolution"], say)
    pooling, detector = worked["pooling"], worked["detector"]
    names = {"max": say("max pooling"), "average": say("average pooling"), "sum": say("sum pooling")}
    kinds = {names[kind]: values for kind, values in pooling["answers"].items()}
    draw.tables(folder / "pooling.png", {say("feature map"): pooling["map"], **kinds})
    shown = {say("picture"): detector["picture"], say("filter"): detector["filter"]}
    draw.tables(folder / "detector.png", shown | {say("feature map"): detector["feature_map"]})
    draw.activations(folder / "activations.png", say)
    draw.exercise(folder / "exercise.png", exercise_fields(), say)


def exercise_fields() -> list[int]:
    """How many pixels across a neuron of each of `EXERCISE` layers of 3×3 filters sees."""
    rows = layer_table([layers.Conv2D(1, 3) for _ in range(EXERCISE)], (32, 32, 1))
    return [row["receptive_field"] for row in rows]


def _write(path: Path, table: Any) -> None:
    write_text(path, json.dumps(table, indent=2, ensure_ascii=False) + "\n")
