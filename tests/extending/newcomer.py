"""Uses every edit of docs/extending.md in a copy of the checkout that has all of them; prints the outcomes as JSON.

Runs in a process of its own, whose working folder is the copy and whose cnnlab is the copy's.
"""

import json
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from cards import card, write_card
from finished import write_run
from PIL import Image
from small import make_loop, pictures, step_losses

from cnnlab import files, params
from cnnlab.data import stages, store
from cnnlab.data.augment import DRAWS, PerImage, augment, draw
from cnnlab.errors import UserError
from cnnlab.evaluation.evaluate import evaluate_variant
from cnnlab.nets.registry import build
from cnnlab.params.recipe import Network
from cnnlab.report.document import Page
from cnnlab.report.language import Language

PARAMETERS = params.load()
SGD = params.Optimizer(name="sgd", learning_rate=0.01)
MNIST, CIFAR10 = card("mnist"), card("cifar10")


def losses(network: Network, optimizer: params.Optimizer, augment: params.Augment | None = None) -> list[float]:
    """Loss of each of a few steps on 32×32×3 images."""
    loop = make_loop(
        tf.distribute.MirroredStrategy(["CPU:0"]),
        pictures(32, (32, 32, 3)),
        optimizer,
        batch_size=8,
        network=lambda: build(network, CIFAR10),
        augment=augment,
    )
    return [float(loss) for loss in step_losses(loop, np.arange(32), epochs=2)]


def variant(**changes: Any) -> params.Variant:
    """Variant lesson with changes in its sections."""
    return params.Variant.model_validate(PARAMETERS.variants["lesson"].model_dump() | changes)


def error(**changes: Any) -> str:
    """The message that an invalid variant in params.yaml causes."""
    text = files.Path("params.yaml").read_text()
    lesson = json.dumps(PARAMETERS.variants["lesson"].model_dump(exclude_none=True) | changes)
    broken = files.Path("broken.yaml")
    broken.write_text(text.replace("\non_demand:\n", f"\non_demand:\n  broken: {lesson}\n"))
    try:
        params.load(broken)
    except UserError as problem:
        return str(problem)
    return ""


def network() -> dict[str, Any]:
    chosen = variant(network={"name": "perceptron", "units": 16}).network
    return {
        "parameters": build(chosen, MNIST).count_params(),
        "losses": losses(chosen, SGD),
        "invalid name": error(network={"name": "perceptrn"}),
        "invalid setting": error(network={"name": "perceptron", "units": 0}),
    }


def optimizer() -> dict[str, Any]:
    chosen = variant(optimizer={"name": "lion", "learning_rate": 0.001, "weight_decay": 0.1}).optimizer
    loop = make_loop(tf.distribute.MirroredStrategy(["CPU:0"]), pictures(64), chosen, batch_size=16)
    made = loop.model.optimizer
    return {
        "class": f"{type(made).__module__}.{type(made).__name__}",
        "weight decay": made.weight_decay,
        "losses": [float(loss) for loss in step_losses(loop, np.arange(64), epochs=8)],
        "invalid name": error(optimizer={"name": "lino", "learning_rate": 0.1}),
        "invalid setting": error(optimizer={"name": "lion", "learning_rate": 0.1, "momentum": 0.9}),
    }


def augmentation() -> dict[str, Any]:
    settings = variant(augment={"gamma": 0.5}).augment
    images = pictures(8)[0].astype(np.float32) / 255
    draws = draw(settings, seed=0, epoch=1, step=2, rows=np.arange(8))
    powers = 1 + 0.5 * (2 * draws[:, DRAWS - 1] - 1)
    first, second = (augment(tf.constant(images), tf.constant(draws), settings).numpy() for _ in range(2))
    existing = np.random.default_rng([0, 1, 2, 1]).random((len(PerImage), 8), np.float32).T
    lesson = PARAMETERS.variants["lesson"]
    return {
        "deterministic": bool((first == second).all()),
        "as the formula": bool(np.allclose(first, images ** powers[:, None, None, None], atol=1e-6)),
        "different powers": len({*powers.tolist()}),
        "off by default": augment(images, draws, params.Augment()) is images,
        "existing draws": bool((draws[:, : len(PerImage)] == existing).all()),
        "losses": losses(lesson.network, SGD, settings),
        "invalid key": error(augment={"gama": 0.5}),
    }


def metric() -> dict[str, Any]:
    write_card(files.Path(), "mnist")
    runs = params.runs(PARAMETERS, "lenet5", seeds=2)
    for run in runs:
        write_run(run, right=40)
    evaluate_variant(runs)
    folder = files.REPORTS / "evaluation/lenet5"
    table = pd.read_csv(folder / "runs.csv")
    return {
        "runs.csv": table["top2_accuracy"].tolist(),
        "metrics.json": json.loads((folder / "metrics.json").read_text())["top2_accuracy"],
        "columns": list(table),
    }


def data_set() -> dict[str, Any]:
    folder = files.Path(PARAMETERS.data["flowers"].path or "")
    random = np.random.default_rng(0)
    for part, count in (("train", 60), ("val", 5)):
        for flower in ("rose", "tulip"):
            (folder / part / flower).mkdir(parents=True)
            for i in range(count):
                image = random.integers(256, size=(20, 30, 3), dtype=np.uint8)
                Image.fromarray(image).save(folder / part / flower / f"{i}.png")
    stages.fetch("flowers", PARAMETERS)
    stages.preprocess("flowers", PARAMETERS)
    processed = store.open_processed("flowers")
    train, validation = processed.split(params.set_aside(PARAMETERS, "flowers"), None)
    return {
        "classes": processed.card["classes"],
        "shape": processed.card["shape"],
        "images": [len(train), len(validation), len(processed.test_images)],
    }


def new_variant() -> dict[str, Any]:
    (run,) = params.runs(PARAMETERS, "wide", seeds=1)
    filters = [layer.filters for layer in build(run.network, CIFAR10).layers if isinstance(layer, keras.layers.Conv2D)]
    return {"filters": filters, "losses": losses(run.network, run.optimizer, run.augment), "epochs": run.epochs}


def language() -> dict[str, Any]:
    say = Language(params.Report.model_validate({"language": "de"}).language)
    page = Page(say, files.REPORTS / "page")
    page.heading("The answer")
    page.note(f"{say.name('bird')}: {say.percent(0.12345)}, {say.seconds(125)}")
    try:
        page.heading("Appendix: a message that nobody translated")
    except UserError as problem:
        return {"page": page.html(), "missing": str(problem)}
    return {"page": page.html(), "missing": ""}


EDITS: tuple[Callable[[], dict[str, Any]], ...] = (
    network,
    optimizer,
    augmentation,
    metric,
    data_set,
    new_variant,
    language,
)

if __name__ == "__main__":
    print(json.dumps({edit.__name__: edit() for edit in EDITS}))
