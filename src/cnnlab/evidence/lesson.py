"""The course's page: its tables, formulas and pictures in the course's order, computed and measured."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd

from cnnlab import track
from cnnlab.data.store import read_card
from cnnlab.evidence import lesson_figures, lesson_networks, lesson_seen
from cnnlab.evidence.evaluation import EVALUATION, run_folder
from cnnlab.evidence.figures import learning_curves
from cnnlab.evidence.findings import records
from cnnlab.evidence.lesson_networks import Network
from cnnlab.evidence.page import Page
from cnnlab.evidence.words import Language
from cnnlab.files import REPORTS, write_text
from cnnlab.params import Params, runs, variants

LESSON = REPORTS / "lesson"
METHODS = "lesson/methods.csv"
Row = dict[str, Any]


@dataclass(frozen=True)
class Course:
    """What stage lesson computed: the worked examples, networks, methods before them, and what was looked into."""

    parameters: Params
    examples: Row
    activations: list[Row]
    networks: dict[str, Network]  # the lesson's four, by short name
    anatomy: dict[str, list[Row]]  # every variant's layers
    methods: pd.DataFrame
    seen: list[Row]
    metrics: dict[str, Row]  # of every variant, as stage evaluate wrote them
    tables: dict[str, pd.DataFrame]  # a row a run of each variant


def write_lesson(parameters: Params) -> None:
    """Write reports/lesson.md and .html from reports/lesson/ and the evaluations, and keep all of it in MLflow."""
    language = Language(parameters.report.language)
    course = _gather(parameters)
    _draw(course, language)
    page = Page(language, LESSON)
    write(course, page)
    write_text(LESSON / "claims.csv", page.sources().to_csv(index=False))
    pages = [REPORTS / "lesson.md", REPORTS / "lesson.html"]
    for path, text in zip(pages, (page.markdown(), page.html()), strict=True):
        write_text(path, text)
    budget = {"budget": parameters.budget}
    tracker = track.Run.start(
        uuid4().hex, "reports", f"lesson, budget {parameters.budget}", budget, {}, "The course, computed."
    )
    for path in [*pages, *sorted(path for path in LESSON.rglob("*.*") if path.is_file())]:
        inside = path.parent.relative_to(REPORTS)
        tracker.log_file(path, None if inside == Path() else str(inside))
    tracker.finish()


def write(course: Course, page: Page) -> None:
    """Write the course's chapters to `page`."""
    page.heading("The lesson in numbers and pictures", 1)
    page.note(
        page.language(
            "The course's tables, formulas, examples and networks in its own order, each computed or trained here, "
            "budget {budget}. The number after a sentence leads to the rows it was made from.",
            budget=course.parameters.budget,
        )
    )
    for chapter in (before, convolution, sizes, fields, activations, pooling, dense):
        chapter(course, page)
    lesson_networks.write(course.networks, course.metrics, course.tables, page)
    lesson_seen.write(course.seen, page)
    anatomy(course, page)


def before(course: Course, page: Page) -> None:
    """Recognition before neural networks, in one table with the networks."""
    say = page.language
    page.heading("Before neural networks: templates, strokes, features")
    ways = [
        say(
            "**Raster**: a picture is compared with templates, by correlation: with the mean of each class, or with "
            "every training picture (the {n} nearest vote).",
            n=3,
        ),
        say(
            "**Structural**: how often lines across the drawing meet ink, its holes, and where its ink lies go "
            "through a decision tree."
        ),
        say(
            "**Features**: how strong edges of each direction are in each part of the picture (as HOG has them), for a "
            "linear classifier or the nearest pictures."
        ),
    ]
    page.note("\n".join(f"- {way}" for way in ways))
    rows = compared(course)
    headings = ["", "data set", "training images", "numbers kept", "training time", "pictures told a second"]
    told = "test accuracy (95 % interval)"
    cells = [
        [
            f"**{row['name']}**" if row["network"] else say.name(row["name"]),
            row["data"],
            say.count(row["train_images"]),
            say.count(row["parameters"]),
            say.seconds(row["seconds"]),
            say.count(row["images_per_s"]) if row["images_per_s"] else "–",
            f"{say.percent(row['accuracy'])} ({say.percent(row['low'])[:-2]}–{say.percent(row['high'])[:-2]})",
        ]
        for row in rows
    ]
    page.table([say(name) if name else "" for name in (*headings, told)], cells, 2)
    page.picture("before.png", "Test accuracy of the methods before networks, and of networks (dark)")
    page.note(
        say(
            "Bold, dark in the picture: networks. Every method learnt from the images that variants without a "
            "validation size of their own learn from; nothing was chosen by the test images, each scored once. "
            "Intervals of one training are over test images."
        )
    )
    page.say(*[claim for name in course.methods["data"].unique() for claim in _step(course, str(name), page)])
    for name in course.methods["data"].unique():
        page.picture(f"templates-{name}.png", "A class a column: its template, a picture of it, its ink, and its edges")


def _step(course: Course, name: str, page: Page) -> list[tuple[str, str, str]]:
    say, table = page.language, course.methods[course.methods["data"] == name]
    best = records(table.sort_values("accuracy", kind="stable"))[-1]
    return [
        (
            say(
                "On {data} the best of these methods is {method}: {accuracy} of the test images (n = 1), and it "
                "keeps {count} numbers.",
                data=name,
                method=say.name(best["method"]),
                accuracy=say.percent(best["accuracy"]),
                count=say.count(best["parameters"]),
            ),
            METHODS,
            f"data: {name}; method: {best['method']}",
        )
    ]


def compared(course: Course) -> list[Row]:
    """Methods and networks, data set by data set, with the same keys; what was not measured is None."""
    rows = []
    speeds = {row["variant"]: row["images_per_s"] for row in course.seen}
    for data in dict.fromkeys(course.methods["data"]):
        for row in records(course.methods[course.methods["data"] == data]):
            own = {"name": row["method"], "network": False, "seconds": row["fit_seconds"]}
            rows.append(row | own)
        for name, variant in variants(course.parameters).items():
            m = course.metrics[name]
            if variant.data == data:
                rows.append(
                    {
                        "data": data,
                        "name": name,
                        "network": True,
                        "train_images": _learnt(course.parameters, name),
                        "parameters": m["parameters"],
                        "seconds": m["train_seconds"],
                        "images_per_s": speeds.get(name),
                        "accuracy": m["test_accuracy"],
                        "low": m["test_accuracy_low"],
                        "high": m["test_accuracy_high"],
                    }
                )
    return rows


def _learnt(parameters: Params, name: str) -> int:
    """How many images a variant learns from."""
    run = runs(parameters, name)[0]
    counts = read_card(run.data)["counts"]
    left = sum(counts["train"]) + sum(counts["validation"]) - run.validation
    return min(left, run.train_images or left)


def convolution(course: Course, page: Page) -> None:
    """Pictures as numbers, the operation itself, and the filter that finds a vertical line."""
    say, example = page.language, course.examples["convolution"]
    page.heading("A picture is numbers")
    page.table(
        [say(name) for name in ("name", "value", "shape")],
        [
            [say(row["name"]), f"`{json.dumps(row['value'])}`", " × ".join(map(str, row["shape"])) or "–"]
            for row in course.examples["tensors"]
        ],
        3,
    )
    page.note(
        say(
            "A picture is a tensor of height × width × channels: 28×28×1 in grey, 32×32×3 in colour; a batch of "
            "pictures has one axis more."
        )
    )
    page.heading("Convolution")
    page.note(
        say(
            "The filter lies on a part of the picture; what lies on each other is multiplied, and the sum is one "
            "number of the answer. Then the filter moves on by the stride."
        )
    )
    page.picture("convolution.png", "The slide's convolution, its answer with stride 1 and with stride 2")
    page.note(
        say(
            "The slide prints {printed} and says stride 2. These are the first three rows and columns of the answer "
            "with stride 1 (dashed); with stride 2 this picture and this filter give {answer}. The size, "
            "{size}×{size}, is right.",
            printed=_matrix(example["printed"]),
            answer=_matrix(example["answers"]["2"]),
            size=example["size"],
        )
    )
    page.note(
        say(
            "The handout's filter for a vertical line: it answers 3 where three pixels of the line lie under "
            "it; the largest answer, {output}, is what the handout prints.",
            output=f"{course.examples['detector']['output']:g}",
        )
    )
    page.picture("detector.png", "The handout's picture of a vertical line, the filter, and its feature map")
    page.heading("Parameters of a convolution: 3 × 3 × N × K", 3)
    page.note(
        say(
            "K filters of 3 × 3 weights on each of N channels, and a bias each. Each filter makes one feature "
            "map, whatever the size of the picture."
        )
    )
    rows = [row for row in course.networks["slides"]["layers"] if row["layer"] == "Conv2D"]
    channels = [1, *(int(row["output"].split("×")[2]) for row in rows)]
    page.table(
        [say(name) for name in ("layer", "N", "K", "weights and biases", "parameters")],
        [
            [row["layer"], str(n), str(k), f"3 × 3 × {n} × {k} + {k}", say.count(row["parameters"])]
            for row, n, k in zip(rows, channels, channels[1:], strict=False)
        ],
        1,
    )


def _matrix(rows: Sequence[Sequence[float]]) -> str:
    return "`[" + ", ".join(f"[{', '.join(f'{value:g}' for value in row)}]" for row in rows) + "]`"


def sizes(course: Course, page: Page) -> None:
    """The slides' formula with the numbers of the lesson's networks."""
    say = page.language
    page.heading("Stride, padding, and the size of the answer")
    page.note(
        say(
            "W₂ = (W₁ − F + 2P) / S + 1, rounded down, with W₁ pixels in a row, a filter F wide, 2P pixels of "
            "padding at both edges together, and stride S; as many maps as filters. Padding same adds what "
            "keeps ⌈W₁ / S⌉; valid adds none."
        )
    )
    rows = [
        [say.name(network["title"]), row["layer"], row["window"], row["output"]]
        for network in course.networks.values()
        for row in network["layers"]
        if row["window"]
    ]
    page.table([say(name) for name in ("network", "layer", "(W₁ − F + 2P) / S + 1", "answer")], rows, 4)


def fields(course: Course, page: Page) -> None:
    """The slides' exercise on receptive fields, and the fields of the networks."""
    say = page.language
    page.heading("Receptive field: how many pixels does a neuron of each layer see?")
    page.note(
        say(
            "Each 3×3 layer sees one more pixel on every side: 3, 5, 7, 9 across. A stride or a pool of S "
            "makes every later layer's step S times as wide."
        )
    )
    page.picture(
        "exercise.png", "The pixels that one neuron of each of four 3×3 layers sees; darker: seen by more layers"
    )
    for row in course.seen:
        page.picture(f"{row['variant']}/fields.png", "What the middle unit of each layer sees of a picture")


def activations(course: Course, page: Page) -> None:
    """The slides' table of activations."""
    say = page.language
    page.heading("Activations")
    rows = [
        [row["name"].replace("_", " "), row["function"], row["derivative"], row["range"]] for row in course.activations
    ]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    page.table([say(name) for name in ("name", "function", "derivative", "range")], cells, 4)
    page.picture("activations.png", "The seven activations and, dashed, their derivatives")
    page.note(
        say(
            "Misprints of the slides: leaky ReLU is max(0.1x, x), not max(−0.1x, x); the bars around |x| are "
            "missing in softsign; ELU comes near −α and never reaches it, so its range is open."
        )
    )


def pooling(course: Course, page: Page) -> None:
    """The slides' pooling of a 4×4 map."""
    say = page.language
    page.heading("Pooling")
    page.note(
        say(
            "Of every 2×2 part of the map one number stays: the largest, the mean, or the sum. It halves "
            "height and width, has no parameters, and forgets where in the part an answer was."
        )
    )
    page.picture("pooling.png", "The slide's 4×4 feature map, and its max, average and sum pooling")


def dense(course: Course, page: Page) -> None:
    """Fully connected layers, as a matrix, and what they would cost in place of convolutions."""
    say, example = page.language, course.examples["dense"]
    page.heading("Fully connected layers")
    first = course.networks["slides"]["layers"][0]
    units = 28 * 28 * int(first["output"].split("×")[2])
    page.note(
        say(
            "Every input has a weight to every unit: a product with a matrix, plus biases. A convolution is one with "
            "few weights that repeat: written as a matrix, the slide's convolution with stride 2 has {weights} "
            "entries, {zeros} of them 0, and gives the same {answers} numbers.",
            weights=example["weights"],
            zeros=example["zeros"],
            answers=len(example["answers"]),
        )
    )
    page.note(
        say(
            "A fully connected layer in place of the slides' first convolution, with as many units ({units}), would "
            "have {many} parameters; the convolution has {few}.",
            units=say.count(units),
            many=say.count(784 * units + units),
            few=say.count(first["parameters"]),
        )
    )


def anatomy(course: Course, page: Page) -> None:
    """Every network of the project in one table."""
    say = page.language
    page.heading("The anatomy of every network")
    page.note(
        say(
            "One picture, one pass forward; memory of all answers as float32. A unit before the head sees so "
            "many pixels; more than the picture has: all of it, from everywhere. `make anatomy NET=name` "
            "prints the layers."
        )
    )
    headings = (
        "network",
        "layers",
        "parameters",
        "MFLOP",
        "memory, KiB",
        "units, first layer",
        "units, last hidden",
        "sees, pixels",
    )
    page.table(
        [say(name) for name in headings], [_figures(name, rows, say) for name, rows in course.anatomy.items()], 1
    )
    if all(_ends(rows)[0] > _ends(rows)[1] for rows in course.anatomy.values()):
        page.note(
            say(
                "The handout's pyramid: each of them has fewer units in its last hidden layer than in its first "
                "convolution."
            )
        )


def _figures(name: str, rows: Sequence[Row], say: Language) -> list[str]:
    fields = [row["receptive_field"] for row in rows if row["receptive_field"]]
    return [
        name,
        str(len(rows)),
        say.count(sum(row["parameters"] for row in rows)),
        say.number(sum(row["flop"] for row in rows) / 1e6, 1),
        say.count(sum(row["bytes"] for row in rows) / 1024),
        *map(say.count, _ends(rows)),
        f"{fields[-1]}×{fields[-1]}",
    ]


def _ends(rows: Sequence[Row]) -> tuple[int, int]:
    """Units of the first convolution, and of the layer that the classifier reads."""
    first = next(row for row in rows if row["layer"] == "Conv2D")
    last = max(place for place, row in enumerate(rows) if row["layer"] == "Dense")
    return first["bytes"] // 4, rows[last - 1]["bytes"] // 4


def _gather(parameters: Params) -> Course:
    names = list(variants(parameters))
    return Course(
        parameters,
        _read("examples"),
        records(pd.read_csv(LESSON / "activations.csv")),
        _read("networks"),
        _read("anatomy"),
        pd.read_csv(REPORTS / METHODS),
        records(pd.read_csv(LESSON / "seen.csv")),
        {name: json.loads((EVALUATION / name / "metrics.json").read_text()) for name in names},
        {name: pd.read_csv(EVALUATION / name / "runs.csv") for name in names},
    )


def _read(name: str) -> Any:
    return json.loads((LESSON / f"{name}.json").read_text())


def _draw(course: Course, language: Language) -> None:
    rows = [row | {"name": row["name"] if row["network"] else language.name(row["name"])} for row in compared(course)]
    lesson_figures.bars(LESSON / "before.png", rows, language)
    curves = {}
    for network in course.networks.values():
        if network["variant"] in course.metrics:
            folder = run_folder(runs(course.parameters, network["variant"])[0])
            curves[network["variant"]] = pd.read_csv(folder / "history.csv"), pd.read_csv(folder / "curve.csv")
    if curves:
        learning_curves(LESSON / "curves.png", curves, language)
