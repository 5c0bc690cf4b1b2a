"""Pictures of what a network sees, and of the lesson's examples; readable in greyscale."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from cnnlab.evidence.figures import INKS, MARKERS, STROKES, figure
from cnnlab.evidence.words import Language
from cnnlab.nets.activations import ACTIVATIONS

SHOWN = 8  # maps or filters in a row
NAMED = 20  # classes at most whose names are written on a plane


def bare(axes: Axes) -> Axes:
    """Axes without ticks, grid or frame, for a picture."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def show(axes: Axes, picture: np.ndarray, title: str = "", **how: Any) -> None:
    """A uint8 picture (height, width, channels), or values (height, width) from black to white."""
    usual: dict[str, Any] = {"cmap": "grey", "interpolation": "nearest"}
    limits: dict[str, Any] = {"vmin": 0, "vmax": 255} if picture.dtype == np.uint8 else {}
    flat = picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    bare(axes).imshow(flat, **usual | limits | how)
    if title:
        axes.set_title(title, fontsize=9)


def rows_of(path: Path, rows: Mapping[str, Sequence[np.ndarray]], each: float = 1.0) -> None:
    """Pictures in rows, each row with its name at the left; `each` inches a picture."""
    columns = max(map(len, rows.values()))
    with figure(path, each * columns + 1.7, each * len(rows) + 0.3) as drawn:
        grid = drawn.subplots(len(rows), columns, squeeze=False)
        for line, (name, pictures) in zip(grid, rows.items(), strict=True):
            for axes in line:
                bare(axes)
            for axes, picture in zip(line, pictures, strict=False):
                show(axes, picture)
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)


def filters(path: Path, kernel: np.ndarray) -> None:
    """The filters (F, F, channels, n) of a first layer, each from its darkest weight to its brightest; in colour if it
    sees colour."""
    tiles = []
    for index in range(kernel.shape[3]):
        tile = kernel[..., index] if kernel.shape[2] == 3 else kernel[..., index].mean(axis=2)
        tiles.append(spread(tile))
    columns = min(16, len(tiles))
    with figure(path, 0.62 * columns + 0.2, 0.66 * -(-len(tiles) // columns) + 0.2) as drawn:
        grid = drawn.subplots(-(-len(tiles) // columns), columns, squeeze=False).ravel()
        for axes in grid:
            bare(axes)
        for axes, tile in zip(grid, tiles, strict=False):
            show(axes, tile)


def spread(values: np.ndarray) -> np.ndarray:
    """Values moved and scaled to [0, 1]; all 0 where they are equal."""
    low, high = values.min(), values.max()
    return np.asarray((values - low) / (high - low) if high > low else np.zeros_like(values))


def maps(path: Path, picture: np.ndarray, layers: Mapping[str, np.ndarray]) -> None:
    """A picture and, layer by layer, the maps that answer it most, the strongest first, each from black to white."""
    rows: dict[str, Sequence[np.ndarray]] = {}
    for name, answer in layers.items():
        strongest = np.argsort(-answer.mean(axis=(0, 1)), kind="stable")[:SHOWN]
        rows[f"{name}\n{answer.shape[0]}×{answer.shape[1]}×{answer.shape[2]}"] = [
            spread(answer[..., i]) for i in strongest
        ]
    rows_of(path, {f"{picture.shape[0]}×{picture.shape[1]}×{picture.shape[2]}": [picture], **rows})


def attributions(path: Path, rows: Sequence[Mapping[str, Any]], say: Language) -> None:
    """A row a picture, with keys `picture`, `title`, `saliency`, `cam`, `occlusion`: the picture, and what its answer
    rests on, dark for much; occlusion from what speaks against (white) to what speaks for the answer (black)."""
    titles = [say("saliency"), say("Grad-CAM"), say("occlusion")]
    with figure(path, 8.2, 2.05 * len(rows) + 0.6) as drawn:
        grid = drawn.subplots(len(rows), 4, squeeze=False)
        for line, row in zip(grid, rows, strict=True):
            show(line[0], row["picture"], row["title"])
            largest = max(float(np.abs(row["occlusion"]).max()), 0.01)
            for axes, key, title in zip(line[1:], ("saliency", "cam", "occlusion"), titles, strict=True):
                limits = {"vmin": -largest, "vmax": largest} if key == "occlusion" else {"vmin": 0}
                title += "\n" + say("±{points} points", points=f"{100 * largest:.0f}") if key == "occlusion" else ""
                show(axes, row[key], title, cmap="Greys", interpolation="bilinear", **limits)
                axes.contour(row["picture"].mean(axis=2), levels=1, colors=INKS[2], linewidths=0.4)


def plane(path: Path, points: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> None:
    """Points (n, 2), each written as its class's number; a few classes have their names in their middles."""
    with figure(path, 8, 6.4) as drawn:
        axes = bare(drawn.subplots())
        axes.set_xlim(points[:, 0].min() - 2, points[:, 0].max() + 2)
        axes.set_ylim(points[:, 1].min() - 2, points[:, 1].max() + 2)
        for (x, y), label in zip(points, labels, strict=True):
            axes.text(x, y, str(label), color=INKS[label % len(INKS)], fontsize=7, ha="center", va="center")
        for label in np.unique(labels) if len(classes) <= NAMED else ():
            x, y = np.median(points[labels == label], axis=0)
            told = f"{label}" if classes[label] == str(label) else f"{label} {classes[label]}"
            box = {"boxstyle": "round", "facecolor": "white", "edgecolor": INKS[label % len(INKS)], "alpha": 0.85}
            axes.text(x, y, told, fontsize=10, ha="center", va="center", bbox=box)


def tuning(path: Path, degrees: np.ndarray, answers: np.ndarray, say: Language) -> None:
    """How strongly the most selective units answer to a bar at each angle, and the bars themselves below."""
    answers = np.maximum(answers, 0)
    selective = np.argsort(-np.ptp(answers, axis=0), kind="stable")[:4]
    with figure(path, 8, 3.6) as drawn:
        axes = drawn.subplots()
        for unit, ink, stroke, marker in zip(selective, INKS, STROKES, MARKERS, strict=False):
            told = say("unit {unit}", unit=unit)
            axes.plot(degrees, answers[:, unit], stroke, marker=marker, markevery=4, color=ink, label=told)
        axes.set_xlabel(say("angle of the bar (degrees; 0: horizontal, 90: vertical)"))
        axes.set_ylabel(say("largest answer"))
        axes.set_xticks(range(0, 181, 30))
        axes.set_ylim(bottom=0)
        axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def activations(path: Path, say: Language) -> None:
    """The slides' seven activations above, their derivatives below."""
    x = np.linspace(-4, 4, 401)
    with figure(path, 13, 4.4) as drawn:
        grid = drawn.subplots(2, len(ACTIVATIONS), sharex=True, sharey="row")
        for (above, below), activation in zip(grid.T, ACTIVATIONS, strict=True):
            above.plot(x, activation.function(x), color=INKS[0])
            below.plot(x, activation.derivative(x), STROKES[1], color=INKS[1])
            above.set_title(activation.name.replace("_", " "), fontsize=10)
            below.set_xlabel("x")
        grid[0, 0].set_ylim(-1.6, 3)
        grid[1, 0].set_ylim(-0.1, 1.2)
        grid[0, 0].set_ylabel("f(x)")
        grid[1, 0].set_ylabel("f′(x)")


def convolution(path: Path, example: Mapping[str, Any], say: Language) -> None:
    """The slide's convolution: the padded picture, the filter at its first place, and the answers at both strides."""
    padded = np.pad(np.array(example["picture"]), example["padding"])
    small = np.array(example["filter"])
    with figure(path, 11, 3.6) as drawn:
        first, *others = drawn.subplots(1, 3, width_ratios=[7, 5, 3])
        numbers(first, padded, say("picture, padding 1; small: the filter"))
        first.add_patch(Rectangle((-0.5, -0.5), len(small), len(small), fill=False, linewidth=2.5, edgecolor=INKS[1]))
        for (row, column), weight in np.ndenumerate(small):
            first.text(column + 0.33, row + 0.33, str(weight), fontsize=7, color=INKS[1], ha="center", va="center")
        for axes, stride in zip(others, ("1", "2"), strict=True):
            numbers(axes, np.array(example["answers"][stride]), say("answer, stride {stride}", stride=stride))
        others[0].add_patch(Rectangle((-0.5, -0.5), 3, 3, fill=False, linewidth=2.5, linestyle="--", edgecolor=INKS[2]))


def tables(path: Path, named: Mapping[str, Any]) -> None:
    """Tables of numbers beside each other, each with its name above and its values as shades."""
    widths = [len(values[0]) for values in named.values()]
    with figure(path, 0.42 * sum(widths) + 0.6 * len(widths), 0.42 * max(map(len, named.values())) + 0.6) as drawn:
        every = drawn.subplots(1, len(named), width_ratios=widths, squeeze=False)[0]
        for axes, (name, values) in zip(every, named.items(), strict=True):
            numbers(axes, np.array(values), name)


def numbers(axes: Axes, values: np.ndarray, title: str) -> None:
    """A table of numbers, the larger the darker."""
    show(axes, values, title, cmap="Greys", vmin=values.min(), vmax=2 * max(values.max(), 1))
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, f"{value:g}", ha="center", va="center", fontsize=9)
    axes.set_xticks(np.arange(-0.5, values.shape[1] + 0.5), minor=True)
    axes.set_yticks(np.arange(-0.5, values.shape[0] + 0.5), minor=True)
    axes.grid(visible=True, which="minor", color="#888888", linewidth=0.6)
    axes.tick_params(which="both", length=0)


def exercise(path: Path, fields: Sequence[int], say: Language) -> None:
    """Which pixels one neuron of each layer sees, layer after layer, `fields` pixels wide, around its own place."""
    side = max(fields) + 2
    with figure(path, 2.3 * len(fields), 2.7) as drawn:
        for number, (axes, field) in enumerate(zip(drawn.subplots(1, len(fields)), fields, strict=True), 1):
            shades = np.zeros((side, side))
            for smaller in fields[:number]:
                edge = (side - smaller) // 2
                shades[edge : edge + smaller, edge : edge + smaller] += 1
            told = say("layer {number}: {side}×{side} = {pixels} pixels", number=number, side=field, pixels=field**2)
            show(axes, shades, told, cmap="Greys", vmin=0, vmax=len(fields) + 1)
            axes.set_xticks(np.arange(-0.5, side), minor=True)
            axes.set_yticks(np.arange(-0.5, side), minor=True)
            axes.grid(visible=True, which="minor", color="#999999", linewidth=0.5)
            axes.tick_params(which="both", length=0)


def fields(path: Path, picture: np.ndarray, rows: Sequence[Mapping[str, Any]], say: Language) -> None:
    """What the middle unit of each layer of a network sees of a picture; rows as of `anatomy.layer_table`."""
    columns = 6
    lines = -(-len(rows) // columns)
    with figure(path, 1.75 * columns, 2.1 * lines) as drawn:
        grid = drawn.subplots(lines, columns, squeeze=False).ravel()
        for axes in grid:
            bare(axes).set_visible(False)
        for axes, row in zip(grid, rows, strict=False):
            axes.set_visible(True)
            side, units = row["receptive_field"], int(row["output"].split("×")[0])
            corner = row["start"] + row["jump"] * (units // 2) - 0.5
            show(axes, picture, say("{layer}\nsees {side}×{side}", layer=row["layer"], side=side), alpha=0.75)
            axes.add_patch(Rectangle((corner, corner), side, side, fill=False, linewidth=2, edgecolor=INKS[1]))
            axes.set_xlim(min(-1.0, corner - 1), max(picture.shape[1], corner + side + 1))
            axes.set_ylim(max(picture.shape[0], corner + side + 1), min(-1.0, corner - 1))


def captioned(path: Path, pictures: Mapping[str, np.ndarray]) -> None:
    """Pictures, five in a row, each with its name above."""
    columns = min(5, len(pictures))
    lines = -(-len(pictures) // columns)
    with figure(path, 1.6 * columns, 1.8 * lines) as drawn:
        grid = drawn.subplots(lines, columns, squeeze=False).ravel()
        for axes in grid:
            bare(axes)
        for axes, (name, picture) in zip(grid, pictures.items(), strict=False):
            show(axes, picture, name)


def templates(
    path: Path, classes: Sequence[str], rows: Mapping[str, Sequence[np.ndarray]], cells: np.ndarray, edges: str
) -> None:
    """A column a class: pictures in `rows`, and last, named `edges`, the directions of the edges in each part.

    `cells` as of `classic.direction_cells`; a line lies along the edge, the stronger the darker.
    """
    with figure(path, 1.05 * len(classes) + 1, 1.08 * (len(rows) + 1) + 0.3) as drawn:
        grid = drawn.subplots(len(rows) + 1, len(classes), squeeze=False)
        for line, (name, pictures) in zip(grid, rows.items(), strict=False):
            for axes, picture in zip(line, pictures, strict=True):
                show(axes, picture)
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        for axes, strengths in zip(grid[-1], cells, strict=True):
            _directions(bare(axes), strengths)
        grid[-1][0].set_ylabel(edges, rotation=0, ha="right", va="center", fontsize=9)
        for axes, name in zip(grid[0], classes, strict=True):
            axes.set_title(name, fontsize=9)


def _directions(axes: Axes, strengths: np.ndarray) -> None:
    side, _, directions = strengths.shape
    for (row, column, direction), strength in np.ndenumerate(strengths / max(float(strengths.max()), 1e-6)):
        turn = np.pi * direction / directions + np.pi / 2  # an edge lies across its gradient
        right, down = 0.45 * np.cos(turn), 0.45 * np.sin(turn)
        ends = [column - right, column + right], [row - down, row + down]
        axes.plot(*ends, color="black", alpha=float(strength), linewidth=1.5)
    axes.set_xlim(-0.5, side - 0.5)
    axes.set_ylim(side - 0.5, -0.5)
    axes.set_aspect("equal")
