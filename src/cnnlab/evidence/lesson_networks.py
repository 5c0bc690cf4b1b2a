"""The course's page, networks: what the course prints of its four, what was measured, layer by layer."""

from typing import Any, NotRequired, TypedDict

import pandas as pd

from cnnlab.evidence.findings import records
from cnnlab.evidence.page import Claim, Page
from cnnlab.evidence.words import Language

Row = dict[str, Any]


class Network(TypedDict):
    """A network of the lesson, as `nets.lesson.computed_tables` gives it."""

    title: str
    course_parameters: int | None
    course_accuracy: float | None
    variant: str | None
    parameters: int
    layers: list[Row]
    course_output: NotRequired[float]  # of the detector, which is not trained
    output: NotRequired[float]


def write(networks: dict[str, Network], metrics: dict[str, Row], tables: dict[str, pd.DataFrame], page: Page) -> None:
    """Write the chapter to `page`; `metrics` and `tables` are the evaluations of every variant."""
    say = page.language
    page.heading("The lesson's four networks: what the course prints, what was measured")
    page.note(
        say(
            "Every network was built layer for layer and trained with the recipe of the course. Validation "
            "images were set aside from the training images; the test set was scored once, after training."
        )
    )
    headings = (
        "network",
        "the course prints",
        "measured here",
        "epochs",
        "n seeds",
        "parameters, course",
        "parameters, here",
    )
    page.table([say(name) for name in headings], [_compared(n, metrics, say) for n in networks.values()], 3)
    page.bullets(*[c for network in networks.values() for c in _difference(network, metrics, page)])
    page.note(
        say(
            "Intervals, at 95 %, of one training cover the choice of test images, of several the luck of the "
            "seed; `budget: full` trains five. The course validates on the test set and trains LeNet-5 and the "
            "CIFAR-10 network on all training images."
        )
    )
    page.picture("curves.png", "Loss and accuracy of the lesson's networks against images seen")
    page.note(
        say(
            "Lines: training, with dropout and augmentation on, smoothed. Markers: validation after an epoch, "
            "without them: it can be better."
        )
    )
    for network in networks.values():
        _section(network, metrics, tables, page)


def _compared(network: Network, metrics: dict[str, Row], say: Language) -> list[str]:
    m, accuracy = metrics.get(str(network["variant"])), network["course_accuracy"]
    if "output" in network:
        course, ours = (
            say("output {output}", output=say.number(network[key], 1)) for key in ("course_output", "output")
        )
    else:
        course = say.percent(accuracy) if accuracy else say("no accuracy")
        ours = interval(m, say) if m else say("not trained: no variant {name}", name=network["variant"])
    printed = say.count(network["course_parameters"]) if network["course_parameters"] else say("not printed")
    told = [f"{m['epochs']:.0f}", str(m["seeds"])] if m else ["–", "–"]
    return [say.name(network["title"]), course, ours, *told, printed, say.count(network["parameters"])]


def interval(m: Row, say: Language) -> str:
    """Mean test accuracy in per cent and its interval."""
    low, high = (say.number(100 * m[f"test_accuracy_{end}"], 2) for end in ("low", "high"))
    return f"{say.percent(m['test_accuracy'])} ({low}–{high})"


def _difference(network: Network, metrics: dict[str, Row], page: Page) -> list[Claim]:
    m, name, say = metrics.get(str(network["variant"])), network["variant"], page.language
    if not m or not network["course_accuracy"]:
        return []
    told = say(
        "{title}: {points} percentage points against the course's single training (n = {n}).",
        title=say.name(network["title"]),
        points=say.points(100 * (m["test_accuracy"] - network["course_accuracy"])),
        n=m["seeds"],
    )
    return [(told, f"evaluation/{name}/runs.csv", f"variant: {name}")]


def _section(network: Network, metrics: dict[str, Row], tables: dict[str, pd.DataFrame], page: Page) -> None:
    say, name = page.language, network["variant"]
    page.note(f"### {say.name(network['title'])}")
    if name in metrics:
        m = metrics[name]
        told = say(
            "Trained {seconds}, {speed} images/s: validation accuracy {validation}, test accuracy {test} (n = {n}).",
            seconds=say.seconds(m["train_seconds"]),
            speed=say.count(m["images_per_s"]),
            validation=say.percent(m["validation_accuracy"]),
            test=interval(m, say),
            n=m["seeds"],
        )
        page.say((told, f"evaluation/{name}/runs.csv", f"variant: {name}"))
        page.table(
            [say(heading) for heading in ("MLflow run", "seed", "validation accuracy", "test accuracy")],
            [
                [
                    f"`{row['run_id']}`",
                    str(row["seed"]),
                    say.percent(row["validation_accuracy"]),
                    say.percent(row["test_accuracy"]),
                ]
                for row in records(tables[name])
            ],
            1,
        )
        page.picture(f"{name}-confusion.png", "Confusion matrix: shares of each true class in per cent")
    page.table(
        [say(heading) for heading in ("layer", "answer", "parameters", "MFLOP", "memory, KiB", "sees, pixels")],
        [
            [
                row["layer"],
                row["output"],
                say.count(row["parameters"]),
                say.number(row["flop"] / 1e6, 3),
                say.number(row["bytes"] / 1024, 1),
                f"{row['receptive_field']}×{row['receptive_field']}" if row["receptive_field"] else say("all"),
            ]
            for row in network["layers"]
        ],
        2,
    )
