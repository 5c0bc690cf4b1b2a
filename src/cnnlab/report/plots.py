"""Figures that are readable in greyscale, with units on their axes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnlab.files import atomic
from cnnlab.report.language import Language

ENGLISH = Language()
DPI = 150
SMALLEST = 9  # points, of text in figures: pages show them at a size at which it is legible
# From dark to light, for greyscale; line styles and markers distinguish lines without colour.
INKS = ("#1b1b3a", "#b5442e", "#2a7f8e", "#d99a2b")
STROKES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D")
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def learning_curves(path: Path, runs: Mapping[str, pd.DataFrame], say: Language = ENGLISH) -> None:
    """Plot loss and accuracy against training images seen: lines for training, markers for validation.

    `runs` maps the name of each run to its learning curves: columns `split` (training or validation), `images`, `loss`
    and `accuracy` (share).
    """
    with figure(path, 10, 4) as drawn:
        for axes, metric in zip(drawn.subplots(1, 2), ("loss", "accuracy"), strict=True):
            pens = zip(cycle(INKS), cycle(STROKES), cycle(MARKERS), strict=False)
            for (name, curves), (ink, stroke, marker) in zip(runs.items(), pens, strict=False):
                scale = 1 if metric == "loss" else 100
                training, validation = (curves[curves["split"] == split] for split in ("training", "validation"))
                label = say("{name}, training", name=name)
                axes.plot(training["images"] / 1000, scale * smooth(training, metric), stroke, color=ink, label=label)
                pen = {"color": ink, "markerfacecolor": "white", "label": say("{name}, validation", name=name)}
                axes.plot(validation["images"] / 1000, scale * validation[metric], marker, **pen)
            axes.set_xlabel(say("training images seen (thousands)"))
            axes.set_ylabel(say("cross-entropy (nats)" if metric == "loss" else "accuracy (%)"))
            axes.set_ylim(bottom=0)
        drawn.axes[0].legend()


def confusions(path: Path, matrices: Mapping[str, np.ndarray], classes: Sequence[str], say: Language = ENGLISH) -> None:
    """Plot confusion matrices (counts, by title) side by side, as percentages of each true class."""
    with figure(path, 5.6 * len(matrices) + 0.8, 5.6) as drawn:
        every = np.atleast_1d(drawn.subplots(1, len(matrices), sharey=True))
        for axes, (title, matrix) in zip(every, matrices.items(), strict=True):
            share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
            image = axes.imshow(share, cmap="Greys", vmin=0, vmax=100)
            for (row, column), value in np.ndenumerate(share):
                if value >= 0.5:
                    ink = "white" if value > 55 else "black"
                    axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=ink)
            axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
            axes.set_yticks(range(len(classes)), classes)
            axes.grid(visible=False)
            axes.set_xlabel(say("predicted class"))
            axes.set_title(title, fontsize=11)
        every[0].set_ylabel(say("true class"))
        drawn.colorbar(image, label=say("share of the true class (%)"), shrink=0.85)


def forest(path: Path, effects: pd.DataFrame, base: str, say: Language = ENGLISH) -> None:
    """Plot effects (see `evaluation.effects`) by `name`, the best at the top: mean differences and their intervals.

    Markers are filled if the verdict is improves or worsens, grey if there is no relevant effect, else empty.
    """
    rows = effects.sort_values("difference", ignore_index=True)
    fills = {"improves": INKS[0], "worsens": INKS[0], "no relevant effect": "#aaaaaa"}
    with figure(path, 8, max(3, 1.2 + 0.27 * len(rows))) as drawn:
        axes: Axes = drawn.subplots()
        for place, row in enumerate(rows.to_dict("records")):
            fill = fills.get(row["verdict"], "white")
            width = 2 if row["verdict"] in ("improves", "worsens") else 1
            axes.plot([row["low"], row["high"]], [place, place], "-", color=INKS[0], linewidth=width)
            axes.plot(row["difference"], place, "o", color=INKS[0], markerfacecolor=fill)
        axes.axvline(0, color="#777777", linewidth=1)
        axes.set_yticks(range(len(rows)), [f"{row['name']} (n = {row['n']})" for row in rows.to_dict("records")])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        label = "difference in validation accuracy from {base} (percentage points)\nsimultaneous 95 % intervals"
        axes.set_xlabel(say(label, base=base))
        title = (
            "filled: improves or worsens; grey: no relevant effect (within ± 1 point)\n"
            "empty: inconclusive, or not tested"
        )
        drawn.suptitle(say(title), fontsize=9)


def smooth(curve: pd.DataFrame, metric: str) -> pd.Series:
    """Moving average of `metric` over a twentieth of the points of `curve`, weighted by their numbers of images.

    A point covers 32 steps; the last one of an epoch may cover fewer.
    """
    images = curve["images"].diff().fillna(curve["images"])
    points = max(1, len(curve) // 20)
    sums = pd.DataFrame({"metric": curve[metric] * images, "images": images})
    sums = sums.rolling(points, min_periods=1, center=True).sum()
    return sums["metric"] / sums["images"]


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """Yield a figure of `width` × `height` inches, and save it to `path` as PNG when the block ends."""
    with rc_context(STYLE):
        drawn = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        yield drawn
        with atomic(path) as stream:
            drawn.savefig(stream, format="png")
