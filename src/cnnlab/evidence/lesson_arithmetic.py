"""The course's page, what the slides compute: convolution, sizes, fields, activations, pooling, anatomy."""

import json
from collections.abc import Sequence
from typing import Any

from cnnlab.evidence.lesson_tables import Course
from cnnlab.evidence.page import Page
from cnnlab.evidence.words import Language

Row = dict[str, Any]


def write(course: Course, page: Page) -> None:
    """Write the chapters on pictures as numbers, convolution, sizes, fields, activations and layers to `page`."""
    for chapter in (convolution, sizes, fields, activations, pooling, dense):
        chapter(course, page)


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
            "One picture, one pass forward; memory of all answers as float32. A unit before the head sees so many "
            "pixels; more than the picture has: it sees padding, too. `make anatomy NET=name` prints the layers."
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
