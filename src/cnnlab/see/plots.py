"""Figures of what a network sees, readable in greyscale."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from cnnlab.report.language import Language
from cnnlab.report.plots import INKS, MARKERS, STROKES, figure

SHOWN = 8  # feature maps per layer
LABELLED = 20  # classes at most that are labelled in an embedding


def bare(axes: Axes) -> Axes:
    """Remove ticks, grid and frame from axes."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def show(axes: Axes, image: np.ndarray, title: str = "", **options: Any) -> None:
    """Show a uint8 image (height, width, channels), or values (height, width) from black to white."""
    defaults: dict[str, Any] = {"cmap": "grey", "interpolation": "nearest"}
    limits: dict[str, Any] = {"vmin": 0, "vmax": 255} if image.dtype == np.uint8 else {}
    flat = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    bare(axes).imshow(flat, **defaults | limits | options)
    if title:
        axes.set_title(title, fontsize=9)


def image_rows(path: Path, rows: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Show rows of images, each with its label on the left."""
    columns = max(map(len, rows.values()))
    with figure(path, columns + 1.7, len(rows) + 0.3) as drawn:
        for line, (name, images) in zip(drawn.subplots(len(rows), columns, squeeze=False), rows.items(), strict=True):
            for axes in line:
                bare(axes)
            for axes, image in zip(line, images, strict=False):
                show(axes, image)
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)


def image_grid(path: Path, images: Iterable[tuple[str, np.ndarray]], columns: int, inches: float) -> None:
    """Show images (title, image) in a grid of at most `columns`, each `inches` wide."""
    images = [*images]
    columns = min(columns, len(images))
    lines = -(-len(images) // columns)
    with figure(path, inches * columns + 0.2, (inches + 0.1) * lines + 0.2) as drawn:
        grid = drawn.subplots(lines, columns, squeeze=False).ravel()
        for axes in grid:
            bare(axes)
        for axes, (title, image) in zip(grid, images, strict=False):
            show(axes, image, title)


def filters(path: Path, kernel: np.ndarray) -> None:
    """Show the filters (F, F, channels, n) of a first layer, each scaled to its range; in colour for RGB input."""
    tiles = np.moveaxis(kernel if kernel.shape[2] == 3 else kernel.mean(axis=2, keepdims=True), 3, 0)
    image_grid(path, [("", rescaled(tile)) for tile in tiles], 16, 0.6)


def rescaled(values: np.ndarray) -> np.ndarray:
    """Rescale values to [0, 1]; zeros if they are all equal."""
    low, high = values.min(), values.max()
    return np.asarray((values - low) / (high - low) if high > low else np.zeros_like(values))


def maps(path: Path, image: np.ndarray, layers: Mapping[str, np.ndarray]) -> None:
    """Show an image and the strongest feature maps of each layer, strongest first, each scaled to its range."""
    rows: dict[str, Sequence[np.ndarray]] = {"×".join(map(str, image.shape)): [image]}
    for name, values in layers.items():
        strongest = np.argsort(-values.mean(axis=(0, 1)), kind="stable")[:SHOWN]
        rows[f"{name}\n{'×'.join(map(str, values.shape))}"] = [rescaled(values[..., i]) for i in strongest]
    image_rows(path, rows)


def attributions(path: Path, rows: Sequence[Mapping[str, Any]], say: Language) -> None:
    """Show each image with its attributions, darker for larger; occlusion from white (negative) to black (positive).

    Rows have the keys `image`, `title`, `saliency`, `cam` and `occlusion`.
    """
    titles = {"saliency": say("saliency"), "cam": say("Grad-CAM"), "occlusion": say("occlusion")}
    with figure(path, 8.2, 2.05 * len(rows) + 0.6) as drawn:
        for line, row in zip(drawn.subplots(len(rows), 4, squeeze=False), rows, strict=True):
            show(line[0], row["image"], row["title"])
            largest = max(float(np.abs(row["occlusion"]).max()), 0.01)
            for axes, (key, title) in zip(line[1:], titles.items(), strict=True):
                limits = {"vmin": -largest, "vmax": largest} if key == "occlusion" else {"vmin": 0}
                title += "\n" + say("±{points:count} points", points=100 * largest) if key == "occlusion" else ""
                show(axes, row[key], title, cmap="Greys", interpolation="bilinear", **limits)
                axes.contour(row["image"].mean(axis=2), levels=1, colors=INKS[2], linewidths=0.4)


def plane(path: Path, points: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> None:
    """Plot embedded points (n, 2) as the indices of their classes; with few classes, their names at the medians."""
    with figure(path, 8, 6.4) as drawn:
        axes = bare(drawn.subplots())
        axes.set_xlim(points[:, 0].min() - 2, points[:, 0].max() + 2)
        axes.set_ylim(points[:, 1].min() - 2, points[:, 1].max() + 2)
        for (x, y), label in zip(points, labels, strict=True):
            axes.text(x, y, str(label), color=INKS[label % len(INKS)], fontsize=9, ha="center", va="center")
        for label in np.unique(labels) if len(classes) <= LABELLED else ():
            x, y = np.median(points[labels == label], axis=0)
            name = f"{label}" if classes[label] == str(label) else f"{label} {classes[label]}"
            box = {"boxstyle": "round", "facecolor": "white", "edgecolor": INKS[label % len(INKS)], "alpha": 0.85}
            axes.text(x, y, name, fontsize=10, ha="center", va="center", bbox=box)


def tuning(path: Path, degrees: np.ndarray, networks: Mapping[str, np.ndarray], say: Language) -> None:
    """Plot the tuning curves of the four most selective units of each network, one panel per network.

    Responses (angles, units) are not negative.
    """
    with figure(path, 11, 3.8) as drawn:
        for axes, (name, responses) in zip(drawn.subplots(1, len(networks)), networks.items(), strict=True):
            selective = np.argsort(-np.ptp(responses, axis=0), kind="stable")[:4]
            for unit, ink, stroke, marker in zip(selective, INKS, STROKES, MARKERS, strict=False):
                label = say("unit {unit}", unit=unit)
                axes.plot(degrees, responses[:, unit], stroke, marker=marker, markevery=4, color=ink, label=label)
            axes.set_title(name, fontsize=11, loc="left")
            axes.set_xlabel(say("angle of the bar (degrees; 0: horizontal, 90: vertical)"))
            axes.set_ylabel(say("maximum activation"))
            axes.set_xticks(range(0, 181, 30))
            axes.set_ylim(bottom=0)
            axes.legend(ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0), fontsize=9)


def place(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    samples: Sequence[tuple[str, int, np.ndarray]],
    chance: float,
    say: Language,
) -> None:
    """Plot accuracies with intervals after each of `place.changes`, under an image that shows it.

    Rows have the keys `accuracy`, `low` and `high`; samples are kind, size and image, in the same order.
    """
    with figure(path, 1.35 * len(rows), 4.2) as drawn:
        grid = drawn.add_gridspec(2, len(rows), height_ratios=[1, 2])
        axes = drawn.add_subplot(grid[1, :])
        for at, (row, (kind, size, image)) in enumerate(zip(rows, samples, strict=True)):
            unit = say("{size} px", size=size) if kind == "shifted" else f"{size}×{size}" if size else ""
            show(drawn.add_subplot(grid[0, at]), image, f"{say.message(kind)}\n{unit}")
            axes.bar(at, 100 * row["accuracy"], 0.7, color=INKS[0])
            axes.plot([at, at], [100 * row["low"], 100 * row["high"]], color=INKS[3], linewidth=2)
            axes.text(at, 100 * row["high"] + 1, say.number(100 * row["accuracy"], 1), ha="center", fontsize=9)
        axes.axhline(100 * chance, color=INKS[1], linestyle="--", label=say("chance"))
        axes.set_xticks([])
        axes.set_xlim(-0.5, len(rows) - 0.5)
        axes.set_ylim(0, 108)
        axes.set_ylabel(say("validation accuracy (%)"))
        axes.grid(visible=False, axis="x")
        axes.legend(loc="upper right")


def fields(path: Path, image: np.ndarray, rows: Sequence[Mapping[str, Any]], say: Language) -> None:
    """Show the receptive field of the middle unit of each layer over an image; `rows` are from `layer_table`."""
    columns = 6
    lines = -(-len(rows) // columns)
    with figure(path, 1.75 * columns, 2.1 * lines) as drawn:
        grid = drawn.subplots(lines, columns, squeeze=False).ravel()
        for axes in grid[len(rows) :]:
            axes.set_visible(False)
        for axes, row in zip(grid, rows, strict=False):
            side, units = row["receptive_field"], int(row["output"].split("×")[0])
            corner = row["start"] + row["jump"] * (units // 2) - 0.5
            show(axes, image, say("{layer}\nfield {side}×{side}", layer=row["layer"], side=side), alpha=0.75)
            axes.add_patch(Rectangle((corner, corner), side, side, fill=False, linewidth=2, edgecolor=INKS[1]))
            axes.set_xlim(min(-1.0, corner - 1), max(image.shape[1], corner + side + 1))
            axes.set_ylim(max(image.shape[0], corner + side + 1), min(-1.0, corner - 1))
