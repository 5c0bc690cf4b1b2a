"""The section of the lesson on its four networks: the results printed in the course beside those measured here."""

from collections.abc import Iterable

import pandas as pd

from cnnlab.course.tables import Row
from cnnlab.report.document import TEST_ACCURACY, Claim, Page
from cnnlab.report.language import Language
from cnnlab.report.tables import records


def write(networks: dict[str, Row], metrics: dict[str, Row], runs: dict[str, pd.DataFrame], page: Page) -> None:
    """Write the section to `page`; `metrics` and `runs` are the evaluations of every variant."""
    page.heading("The lesson's four networks: printed in the course and measured here")
    page.text(
        "Each network was built layer by layer, and each but the detector was trained with the recipe of the course. "
        "Validation images were taken from the training images; the test set was used once, after training."
    )
    columns = {
        "network": "{title:name}",
        "printed in the course": "{printed}",
        "measured here": "{measured}",
        "epochs": "{epochs:count}",
        "n seeds": "{seeds:count}",
        "parameters, course": "{printed_parameters}",
        "parameters, here": "{parameters:count}",
    }
    page.records([_compared(network, metrics, page.language) for network in networks.values()], columns, 3)
    page.bullets(*_differences(networks.values(), metrics, page))
    page.text(
        "95 % intervals of a single training run reflect the choice of test images; those of several runs, "
        "seed-to-seed variation. `budget: full` trains five. The course validates on the test set, and trains LeNet-5 "
        "and the CIFAR-10 network on all training images."
    )
    page.picture("curves.png", "Loss and accuracy of the lesson's networks against training images seen")
    page.text(
        "Lines: training, smoothed, with dropout and augmentation. Markers: validation after each epoch, without them, "
        "so it may be better."
    )
    for network in networks.values():
        page.note(f"### {page.language.name(network['title'])}")
        if network["variant"] in metrics:
            _results(network["variant"], metrics, runs, page)
        _layers(network["layers"], page)


def _compared(network: Row, metrics: dict[str, Row], say: Language) -> Row:
    """A network with its results as text."""
    row = {"epochs": float("nan"), "seeds": float("nan")} | metrics.get(str(network["variant"]), {}) | network
    if "output" in network:
        output = "output {output:number.1}"
        printed, measured = say(output, output=network["course_output"]), say(output, output=network["output"])
    else:
        printed = say.percent(network["course_accuracy"]) if network["course_accuracy"] else say("not printed")
        trained = network["variant"] in metrics
        measured = say.fill(TEST_ACCURACY, row) if trained else say("not trained: no variant {variant}", **row)
    parameters = network["course_parameters"]
    texts = {"printed": printed, "measured": measured}
    return row | texts | {"printed_parameters": say.count(parameters) if parameters else say("not printed")}


def _differences(networks: Iterable[Row], metrics: dict[str, Row], page: Page) -> list[Claim]:
    text = "{title:name}: {points:points} percentage points compared with the course's single training run (n = {n})."
    claims = []
    for name, printed, title in ((row["variant"], row["course_accuracy"], row["title"]) for row in networks):
        if name in metrics and printed:
            values = {"points": 100 * (metrics[name]["test_accuracy"] - printed), "n": metrics[name]["seeds"]}
            runs = f"evaluation/{name}/runs.csv"
            claims.append(page.claim(text, runs, f"variant: {name}", title=title, **values))
    return claims


def _results(name: str, metrics: dict[str, Row], runs: dict[str, pd.DataFrame], page: Page) -> None:
    """Costs and accuracies of a variant, and of each of its training runs."""
    english = (
        "Training time {train_seconds:seconds}, {images_per_s:count} images/s; validation accuracy "
        "{validation_accuracy:percent}, test accuracy {interval} (n = {seeds})."
    )
    values = metrics[name] | {"interval": page.language.fill(TEST_ACCURACY, metrics[name])}
    page.sentence(english, f"evaluation/{name}/runs.csv", f"variant: {name}", **values)
    columns = {
        "MLflow run": "`{run_id}`",
        "seed": "{seed}",
        "validation accuracy": "{validation_accuracy:percent}",
        "test accuracy": "{test_accuracy:percent}",
    }
    page.records(records(runs[name]), columns, 1)
    page.picture(f"{name}-confusion.png", "Confusion matrix, in per cent of each true class", name)


def _layers(layers: list[Row], page: Page) -> None:
    columns = {
        "layer": "{layer}",
        "output": "{output}",
        "parameters": "{parameters:count}",
        "MFLOP": "{mflop:number.3}",
        "memory, KiB": "{kib:number.1}",
        "receptive field": "{field}",
    }
    rows = []
    for layer in layers:
        side = layer["receptive_field"]
        field = f"{side}×{side}" if side else page.language("entire image")
        rows.append(layer | {"mflop": layer["flop"] / 1e6, "kib": layer["bytes"] / 1024, "field": field})
    page.records(rows, columns, 2)
