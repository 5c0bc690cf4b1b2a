"""Figures of the lesson: its worked examples, the classic methods, and accuracies."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from cnnlab.course.activations import ACTIVATIONS
from cnnlab.report.language import Language
from cnnlab.report.plots import INKS, STROKES, figure
from cnnlab.see.plots import bare, show

LIGHT = "#d5d5de"


def bars(path: Path, rows: Sequence[Mapping[str, Any]], say: Language) -> None:
    """Plot test accuracies with their intervals, one panel per data set, networks in dark.

    Rows have the keys `data`, `name`, `network` (bool), and `accuracy`, `low`, `high` (shares).
    """
    sets = list(dict.fromkeys(row["data"] for row in rows))
    tallest = max(sum(row["data"] == name for row in rows) for name in sets)
    with figure(path, 5.8 * len(sets), 0.34 * tallest + 1.1) as drawn:
        for axes, name in zip(drawn.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
            shown = sorted((row for row in rows if row["data"] == name), key=lambda row: row["accuracy"])
            for place, row in enumerate(shown):
                ink = INKS[0] if row["network"] else LIGHT
                axes.barh(place, 100 * row["accuracy"], 0.7, color=ink, edgecolor=INKS[0])
                axes.plot([100 * row["low"], 100 * row["high"]], [place] * 2, color=INKS[1], linewidth=2)
                axes.text(100 * row["high"] + 1, place, say.number(100 * row["accuracy"], 1), va="center", fontsize=9)
            axes.set_yticks(range(len(shown)), [row["name"] for row in shown])
            axes.set_xlim(0, 112)
            axes.set_xticks(range(0, 101, 20))
            axes.set_xlabel(say("test accuracy (%)"))
            axes.set_title(name, fontsize=11)
            axes.grid(visible=False, axis="y")


def activations(path: Path, say: Language) -> None:
    """Plot the slides' seven activation functions above their derivatives."""
    x = np.linspace(-4, 4, 401)
    with figure(path, 12, 4.4) as drawn:
        grid = drawn.subplots(2, len(ACTIVATIONS), sharex=True, sharey="row")
        for (above, below), activation in zip(grid.T, ACTIVATIONS, strict=True):
            above.plot(x, activation.function(x), color=INKS[0])
            below.plot(x, activation.derivative(x), STROKES[1], color=INKS[1])
            above.set_title(say.name(activation.name.replace("_", " ")), fontsize=10)
            below.set_xlabel("x")
        grid[0, 0].set_ylim(-1.6, 3)
        grid[1, 0].set_ylim(-0.1, 1.2)
        grid[0, 0].set_ylabel("f(x)")
        grid[1, 0].set_ylabel("f′(x)")


def convolution(path: Path, example: Mapping[str, Any], say: Language) -> None:
    """Show the slide's convolution: the padded image, the filter at its first position, and the outputs of strides 1
    and 2."""
    padded, kernel = np.pad(np.array(example["image"]), example["padding"]), np.array(example["filter"])
    with figure(path, 11, 3.6) as drawn:
        first, *others = drawn.subplots(1, 3, width_ratios=[7, 5, 3])
        _numbers(first, padded, say("image, padding 1; small: the filter"))
        first.add_patch(Rectangle((-0.5, -0.5), len(kernel), len(kernel), fill=False, linewidth=2.5, edgecolor=INKS[1]))
        for (row, column), weight in np.ndenumerate(kernel):
            first.text(column + 0.33, row + 0.33, str(weight), fontsize=9, color=INKS[1], ha="center", va="center")
        for axes, stride in zip(others, ("1", "2"), strict=True):
            _numbers(axes, np.array(example["outputs"][stride]), say("output, stride {stride}", stride=stride))
        others[0].add_patch(Rectangle((-0.5, -0.5), 3, 3, fill=False, linewidth=2.5, linestyle="--", edgecolor=INKS[2]))


def tables(path: Path, named: Mapping[str, Any]) -> None:
    """Show tables of numbers side by side, each under its title."""
    widths = [len(values[0]) for values in named.values()]
    with figure(path, 0.42 * sum(widths) + 0.6 * len(widths), 0.42 * max(map(len, named.values())) + 0.6) as drawn:
        every = drawn.subplots(1, len(named), width_ratios=widths, squeeze=False)[0]
        for axes, (name, values) in zip(every, named.items(), strict=True):
            _numbers(axes, np.array(values), name)


def paddings(path: Path, named: Mapping[str, Mapping[str, Any]], say: Language) -> None:
    """Show padded images above the outputs of the filter; values have the keys `padded` and `output`."""
    with figure(path, 10, 5.6) as drawn:
        for (above, below), (name, example) in zip(
            drawn.subplots(2, len(named), height_ratios=[7, 5]).T, named.items(), strict=True
        ):
            padded, output = np.array(example["padded"]), np.array(example["output"])
            _numbers(above, padded, name)
            _numbers(below, output, say("output, stride {stride}", stride=1))
            for axes, values, edge in ((above, padded, (len(padded) - len(output)) // 2), (below, output, 1)):
                side = len(values) - 2 * edge
                axes.add_patch(
                    Rectangle((edge - 0.5, edge - 0.5), side, side, fill=False, linewidth=2.5, edgecolor=INKS[1])
                )


def _numbers(axes: Axes, values: np.ndarray, title: str) -> None:
    """A table of numbers, darker for larger."""
    show(axes, values, title, cmap="Greys", vmin=values.min(), vmax=2 * max(values.max(), 1))
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, f"{value:g}", ha="center", va="center", fontsize=9)
    _cells(axes, values.shape)


def _cells(axes: Axes, shape: Sequence[int]) -> None:
    """Lines between cells."""
    axes.set_yticks(np.arange(-0.5, shape[0] + 0.5), minor=True)
    axes.set_xticks(np.arange(-0.5, shape[1] + 0.5), minor=True)
    axes.grid(visible=True, which="minor", color="#888888", linewidth=0.6)
    axes.tick_params(which="both", length=0)


def matrix(path: Path, weights: np.ndarray, say: Language) -> None:
    """Show a convolution as a dense layer's matrix (pixels, outputs), one row per output."""
    rows = weights.T.astype(int)
    with figure(path, 11, 4.4) as drawn:
        axes = drawn.subplots()
        _numbers(axes, rows, "")
        axes.set_xlabel(say("pixel of the 5×5 image, row by row"))
        axes.set_ylabel(say("number of the 3×3 output"))
        axes.set_xticks(range(0, rows.shape[1], 5), [str(1 + place) for place in range(0, rows.shape[1], 5)])
        axes.set_yticks(range(len(rows)), [str(1 + place) for place in range(len(rows))])


def weights(path: Path, values: np.ndarray, initial: np.ndarray, say: Language) -> None:
    """Show the weights (height, width, channels, units) of a dense layer as a matrix, and the units that changed most.

    Their changes from the `initial` weights are shown as images, the mean over channels, each scaled to its range.
    """
    height, width, channels, units = values.shape
    flat = values.reshape(-1, units).T
    limit = float(np.quantile(np.abs(flat), 0.99))
    with figure(path, 11, 5.6) as drawn:
        grid = drawn.add_gridspec(2, 8, height_ratios=[3, 2])
        axes = drawn.add_subplot(grid[0, :])
        shown = axes.imshow(flat, cmap="Greys", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        axes.grid(visible=False)
        axes.set_xlabel(
            say("input ({height}×{width}×{channels} values)", height=height, width=width, channels=channels)
        )
        axes.set_ylabel(say("unit"))
        drawn.colorbar(shown, ax=axes, label=say("weight"))
        change = (values - initial).mean(axis=2)
        for place, unit in enumerate(np.argsort(-np.abs(change).mean(axis=(0, 1)), kind="stable")[:8]):
            largest = float(np.abs(change[..., unit]).max())
            tile = drawn.add_subplot(grid[1, place])
            show(tile, change[..., unit], say("unit {unit}", unit=unit), cmap="Greys", vmin=-largest, vmax=largest)


def exercise(path: Path, fields: Sequence[int], say: Language) -> None:
    """Show the receptive field of one neuron in each of consecutive layers; `fields` are their sides in pixels."""
    side = max(fields) + 2
    with figure(path, 2.3 * len(fields), 2.7) as drawn:
        for number, (axes, field) in enumerate(zip(drawn.subplots(1, len(fields)), fields, strict=True), 1):
            shades = np.zeros((side, side))
            for smaller in fields[:number]:
                edge = (side - smaller) // 2
                shades[edge : edge + smaller, edge : edge + smaller] += 1
            title = say("layer {number}: {side}×{side} = {pixels} pixels", number=number, side=field, pixels=field**2)
            show(axes, shades, title, cmap="Greys", vmin=0, vmax=len(fields) + 1)
            _cells(axes, shades.shape)


def templates(path: Path, classes: Sequence[str], rows: Mapping[str, Sequence[np.ndarray]], cells: np.ndarray) -> None:
    """Show one column per class: the labelled `rows` of images and, last, the HOG cells of `classic.hog_cells`.

    A line in a cell has the direction of an edge, darker for stronger ones.
    """
    with figure(path, 1.05 * len(classes) + 1, 1.08 * (len(rows) + 1) + 0.3) as drawn:
        grid = drawn.subplots(len(rows) + 1, len(classes), squeeze=False)
        for line, images in zip(grid, rows.values(), strict=False):
            for axes, image in zip(line, images, strict=True):
                show(axes, image)
        for axes, strengths in zip(grid[-1], cells, strict=True):
            _directions(bare(axes), strengths)
        for line, label in zip(grid, (*rows, "HOG"), strict=True):
            line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
        for axes, name in zip(grid[0], classes, strict=True):
            axes.set_title(name, fontsize=9)


def _directions(axes: Axes, strengths: np.ndarray) -> None:
    side, _, directions = strengths.shape
    for (row, column, direction), strength in np.ndenumerate(strengths / max(float(strengths.max()), 1e-6)):
        angle = np.pi * direction / directions + np.pi / 2  # an edge is perpendicular to its gradient
        right, down = 0.45 * np.cos(angle), 0.45 * np.sin(angle)
        ends = [column - right, column + right], [row - down, row + down]
        axes.plot(*ends, color="black", alpha=float(strength), linewidth=1.5)
    axes.set_xlim(-0.5, side - 0.5)
    axes.set_ylim(side - 0.5, -0.5)
    axes.set_aspect("equal")
