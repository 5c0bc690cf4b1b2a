"""Figures of the homework page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cnnlab.homework.sentences import completed
from cnnlab.report.language import Language
from cnnlab.report.plots import INKS, MARKERS, STROKES, figure
from cnnlab.report.tables import records

PER_LINE = 6  # images
STROKE_OF_MODE = {"from scratch": ":", "frozen": "--", "fine-tuned": "-"}
FEWEST = 10  # images of a bin whose accuracy is shown


def ladder(path: Path, runs: pd.DataFrame, steps: Sequence[str], say: Language) -> None:
    """Plot the validation accuracy of each of `steps`, the first at the left: every training run, and the mean."""
    complete = completed(runs)
    values = {step: 100 * complete.loc[complete["setting"] == step, "accuracy"].to_numpy(float) for step in steps}
    with figure(path, max(8, 1.2 + 0.98 * len(steps)), 4) as drawn:
        axes = drawn.subplots()
        for place, accuracies in enumerate(values.values()):
            if not len(accuracies):
                continue
            axes.bar(place, accuracies.mean(), 0.6, color="#d5d5de", edgecolor=INKS[0])
            axes.plot([place] * len(accuracies), accuracies, MARKERS[0], color=INKS[0], markerfacecolor="white")
            label = f"{say.number(accuracies.mean(), 1)}\n(n = {len(accuracies)})"
            axes.annotate(label, (place, accuracies.max()), (0, 6), textcoords="offset points", ha="center", fontsize=9)
        axes.set_xticks(range(len(steps)), steps)
        axes.set_ylabel(say("validation accuracy (%)"))
        axes.set_title(say("dots: training runs; bars: means"), fontsize=9)
        axes.set_ylim(0, 1.2 * max((a.max() for a in values.values() if len(a)), default=1))
        axes.grid(visible=False, axis="x")


def low_data(path: Path, runs: pd.DataFrame, say: Language) -> None:
    """Plot validation accuracy against the share of training images: one panel per data set, one line per start.

    Colour and marker show network and source, the line style shows the mode. Markers are training runs, lines join
    their means.
    """
    complete = completed(runs).fillna({"source": ""})
    targets = list(complete["target"].unique())
    several = complete["network"].nunique() > 1
    looks = list(dict.fromkeys(zip(complete["network"], complete["source"], strict=True)))
    with figure(path, 1.2 + 3.6 * max(2, len(targets)), 4.6) as drawn:
        panels = drawn.subplots(1, len(targets), squeeze=False)[0]
        shown: dict[str, Any] = {}
        for axes, target in zip(panels, targets, strict=True):
            rows = complete[complete["target"] == target]
            for (network, mode, source), group in rows.groupby(["network", "mode", "source"], sort=False):
                look, stroke = looks.index((network, source)), STROKE_OF_MODE[str(mode)]
                pen = {"color": INKS[look % len(INKS)], "linestyle": stroke, "markerfacecolor": "white"}
                marker = MARKERS[look % len(MARKERS)]
                means = 100 * group.groupby("share")["accuracy"].mean()
                axes.plot(100 * means.index, means, **pen)
                axes.plot(100 * group["share"], 100 * group["accuracy"], **pen | {"linestyle": "", "marker": marker})
                label = f"{network if several else ''} {say.name(str(mode))} {source}".strip()
                shown[label] = axes.plot([], [], marker=marker, label=label, **pen)[0]
            axes.set_xscale("log")
            shares = sorted(100 * rows["share"].unique())
            axes.set_xticks(shares, [say.value(f"{share:g}") for share in shares])
            axes.minorticks_off()
            axes.set_title(target, fontsize=10)
            axes.set_xlabel(say("share of the training images (%)"))
            axes.set_ylim(0, 100)
        panels[0].set_ylabel(say("validation accuracy (%)"))
        drawn.legend(handles=[*shown.values()], loc="outside lower center", ncols=4, fontsize=9)


def errors(path: Path, rows: pd.DataFrame, images: np.ndarray, say: Language) -> None:
    """Show uint8 `images` (n, height, width, channels) with the class predicted, its confidence and the true class.

    `rows` has one row per image: `predicted`, `confidence` and `actual`.
    """
    lines = max(1, -(-len(rows) // PER_LINE))
    with figure(path, 1.6 * PER_LINE, 2.0 * lines) as drawn:
        every = drawn.subplots(lines, PER_LINE, squeeze=False).ravel()
        for axes in every:
            axes.set_axis_off()
        for axes, image, row in zip(every, images, records(rows), strict=False):
            axes.imshow(image.squeeze(), cmap="grey", interpolation="nearest")
            title = say("{predicted:name} {confidence:percent.1}\n(true: {actual:name})", **row)
            axes.set_title(title, fontsize=9)


def reliability(path: Path, bins: pd.DataFrame, say: Language) -> None:
    """Plot a reliability diagram with one line per variant, above the number of images in each bin."""
    with figure(path, 9, 6) as drawn:
        upper, lower = drawn.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        upper.plot([0, 100], [0, 100], "-", color="#999999", linewidth=1, label=say("perfect calibration"))
        pens = zip(INKS, STROKES, MARKERS, strict=True)
        for (name, table), (ink, stroke, marker) in zip(bins.groupby("variant", sort=False), pens, strict=False):
            shown = table[table["images"] >= FEWEST]
            upper.plot(100 * shown["confidence"], 100 * shown["accuracy"], marker + stroke, color=ink, label=str(name))
            lower.plot(100 * table["confidence"], table["images"], marker + stroke, color=ink)
        upper.set_title(say("bins with at least {few} images", few=FEWEST), fontsize=9)
        upper.set_ylabel(say("accuracy (%)"))
        upper.legend()
        lower.set_ylabel(say("images"))
        lower.set_xlabel(say("confidence (%)"))
        lower.set_ylim(bottom=0)
