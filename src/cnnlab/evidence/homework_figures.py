"""The pictures of the homework's page that no other page has."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cnnlab.evidence.figures import INKS, MARKERS, STROKES, figure
from cnnlab.evidence.words import Language

IN_A_ROW = 6  # pictures of mistakes
BEGINNINGS = {"from scratch": ":", "frozen": "--", "fine-tuned": "-"}
FEW = 10  # images; the accuracy of fewer says nothing


def ladder(path: Path, runs: pd.DataFrame, rungs: Sequence[str], say: Language) -> None:
    """Draw the validation accuracy of each of `rungs`, the lowest at the left: every training, and the mean."""
    complete = runs[runs["state"] == "COMPLETE"]
    values = {rung: 100 * complete.loc[complete["setting"] == rung, "accuracy"].to_numpy(float) for rung in rungs}
    with figure(path, max(8, 1.5 + 1.15 * len(rungs)), 4) as drawn:
        axes = drawn.subplots()
        for place, accuracies in enumerate(values.values()):
            if not len(accuracies):
                continue
            axes.bar(place, accuracies.mean(), 0.6, color="#d5d5de", edgecolor=INKS[0])
            axes.plot([place] * len(accuracies), accuracies, MARKERS[0], color=INKS[0], markerfacecolor="white")
            told = f"{say.number(accuracies.mean(), 1)}\n(n = {len(accuracies)})"
            axes.annotate(told, (place, accuracies.max()), (0, 6), textcoords="offset points", ha="center", fontsize=9)
        axes.set_xticks(range(len(rungs)), rungs)
        axes.set_ylabel(say("validation accuracy (%)"))
        axes.set_title(say("dots: trainings; bar: their mean"), fontsize=9)
        axes.set_ylim(0, 1.2 * max((a.max() for a in values.values() if len(a)), default=1))
        axes.grid(visible=False, axis="x")


def low_data(path: Path, runs: pd.DataFrame, say: Language) -> None:
    """Draw validation accuracy against the share of training images, a panel a data set, a line a beginning.

    Ink and marker tell a network and its source, strokes how it begins. Marks are trainings, lines join their means.
    """
    complete = runs[runs["state"] == "COMPLETE"].fillna({"source": ""})
    targets = list(complete["target"].unique())
    several = complete["network"].nunique() > 1
    looks = list(dict.fromkeys(zip(complete["network"], complete["source"], strict=True)))
    with figure(path, 1.2 + 3.6 * max(2, len(targets)), 4.6) as drawn:
        panels = drawn.subplots(1, len(targets), squeeze=False)[0]
        shown: dict[str, Any] = {}
        for axes, target in zip(panels, targets, strict=True):
            rows = complete[complete["target"] == target]
            for (network, mode, source), group in rows.groupby(["network", "mode", "source"], sort=False):
                look = looks.index((network, source))
                pen = {"color": INKS[look % len(INKS)], "linestyle": BEGINNINGS[str(mode)], "markerfacecolor": "white"}
                marker = MARKERS[look % len(MARKERS)]
                means = 100 * group.groupby("share")["accuracy"].mean()
                axes.plot(100 * means.index, means, **pen)
                axes.plot(100 * group["share"], 100 * group["accuracy"], **pen | {"linestyle": "", "marker": marker})
                label = f"{network if several else ''} {say.name(str(mode))} {source}".strip()
                shown[label] = axes.plot([], [], marker=marker, label=label, **pen)[0]
            axes.set_xscale("log")
            shares = sorted(100 * rows["share"].unique())
            axes.set_xticks(shares, [f"{share:g}" for share in shares])
            axes.minorticks_off()
            axes.set_title(target, fontsize=10)
            axes.set_xlabel(say("share of the training images (%)"))
            axes.set_ylim(0, 100)
        panels[0].set_ylabel(say("validation accuracy (%)"))
        drawn.legend(handles=[*shown.values()], loc="outside lower center", ncols=4, fontsize=8)


def mistakes(path: Path, rows: pd.DataFrame, images: np.ndarray, say: Language) -> None:
    """Draw uint8 `images` (n, height, width, channels), misjudged as the n `rows` tell."""
    lines = max(1, -(-len(rows) // IN_A_ROW))
    with figure(path, 1.6 * IN_A_ROW, 2.0 * lines) as drawn:
        every = drawn.subplots(lines, IN_A_ROW, squeeze=False).ravel()
        for axes in every:
            axes.set_axis_off()
        for axes, image, row in zip(every, images, rows.to_dict("records"), strict=False):
            axes.imshow(image.squeeze(), cmap="grey", interpolation="nearest")
            told = say(
                "{predicted} {confidence}\n(is {actual})",
                predicted=say.name(row["predicted"]),
                confidence=say.percent(row["confidence"], 1),
                actual=say.name(row["actual"]),
            )
            axes.set_title(told, fontsize=9)


def reliability(path: Path, bins: pd.DataFrame, say: Language) -> None:
    """Draw the accuracy of every bin against its mean confidence, a line a variant, and how many images it holds."""
    with figure(path, 9, 6) as drawn:
        upper, lower = drawn.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        upper.plot([0, 100], [0, 100], "-", color="#999999", linewidth=1, label=say("as sure as right"))
        pens = zip(INKS, STROKES, MARKERS, strict=True)
        for (name, table), (ink, stroke, marker) in zip(bins.groupby("variant", sort=False), pens, strict=False):
            shown = table[table["images"] >= FEW]
            upper.plot(100 * shown["confidence"], 100 * shown["accuracy"], marker + stroke, color=ink, label=str(name))
            lower.plot(100 * table["confidence"], table["images"], marker + stroke, color=ink)
        upper.set_title(say("bins of {few} images or more", few=FEW), fontsize=9)
        upper.set_ylabel(say("accuracy (%)"))
        upper.legend()
        lower.set_ylabel(say("test images"))
        lower.set_xlabel(say("confidence (%)"))
        lower.set_ylim(bottom=0)
