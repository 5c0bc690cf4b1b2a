"""Pictures for people: readable in greyscale, axes labelled with units."""

from collections.abc import Callable, Iterator, Mapping, Sequence
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

Say = Callable[..., str]  # from an English template and its values to a text in the reader's language

# Dark to light, so that lines keep apart in greyscale; line styles and markers tell them apart without colour.
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


def english(template: str, **values: object) -> str:
    """The template with its values."""
    return template.format(**values)


def learning_curves(path: Path, runs: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]], say: Say = english) -> None:
    """Draw loss and accuracy against training images seen; lines are training, markers validation at an epoch's end.

    `runs` maps a run's name to its history (a row an epoch) and its curve (a row a compiled call).
    """
    with figure(path, 10, 4) as drawn:
        for axes, metric in zip(drawn.subplots(1, 2), ("loss", "accuracy"), strict=True):
            pens = zip(cycle(INKS), cycle(STROKES), cycle(MARKERS), strict=False)
            for (name, (history, curve)), (ink, stroke, marker) in zip(runs.items(), pens, strict=False):
                scale = 1 if metric == "loss" else 100
                axes.plot(
                    curve["images"] / 1000,
                    scale * smooth(curve, metric),
                    stroke,
                    color=ink,
                    label=say("{name}, training", name=name),
                )
                ends = history["epoch"] * curve["images"].max() / len(history) / 1000
                axes.plot(
                    ends,
                    scale * history[f"val_{metric}"],
                    marker,
                    color=ink,
                    markerfacecolor="white",
                    label=say("{name}, validation", name=name),
                )
            axes.set_xlabel(say("training images seen (thousands)"))
            axes.set_ylabel(say("cross-entropy (nats)" if metric == "loss" else "accuracy (%)"))
            axes.set_ylim(bottom=0)
        drawn.axes[0].legend()


def confusion(path: Path, matrix: np.ndarray, classes: Sequence[str], title: str) -> None:
    """Draw a confusion matrix of counts as shares of each true class in per cent."""
    confusions(path, {title: matrix}, classes)


def confusions(path: Path, matrices: Mapping[str, np.ndarray], classes: Sequence[str], say: Say = english) -> None:
    """Draw confusion matrices of counts, by title, beside each other, as shares of each true class in per cent."""
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


def forest(path: Path, effects: pd.DataFrame, base: str, say: Say = english) -> None:
    """Draw the effects that `effects.effects` gives, the best first: mean difference and interval in percentage points.

    A filled mark is a verdict, an empty one no evidence; n stands beside each name.
    """
    rows = effects.sort_values("difference", ignore_index=True)
    with figure(path, 8, max(3, 1.2 + 0.27 * len(rows))) as drawn:
        axes: Axes = drawn.subplots()
        for place, row in enumerate(rows.to_dict("records")):
            sure = row["verdict"] != "no evidence"
            axes.plot([row["low"], row["high"]], [place, place], "-", color=INKS[0], linewidth=2 if sure else 1)
            fill = INKS[0] if sure else "white"
            axes.plot(row["difference"], place, "o", color=INKS[0], markerfacecolor=fill)
        axes.axvline(0, color="#777777", linewidth=1)
        axes.set_yticks(range(len(rows)), [f"{row.setting} (n = {row.n})" for row in rows.itertuples()])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        told = "validation accuracy less that of {base} (percentage points)\n95 % interval over paired seeds"
        axes.set_xlabel(say(told, base=base))
        told = "filled: improves or worsens (Holm-corrected, 5 %)\nempty: no evidence at this n"
        axes.set_title(say(told), fontsize=9)


def smooth(curve: pd.DataFrame, metric: str) -> pd.Series:
    """The mean of `metric` over the images in a running twentieth of `curve`.

    A point is one call's few batches, noisy by itself, and an epoch's last call may hold a few images only.
    """
    images = curve["images"].diff().fillna(curve["images"])
    points = max(1, len(curve) // 20)
    sums = pd.DataFrame({"metric": curve[metric] * images, "images": images})
    sums = sums.rolling(points, min_periods=1, center=True).sum()
    return sums["metric"] / sums["images"]


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of `width` × `height` inches, saved to `path` as PNG when the block ends."""
    with rc_context(STYLE):
        drawn = Figure(figsize=(width, height), dpi=150, layout="constrained")
        yield drawn
        with atomic(path) as stream:
            drawn.savefig(stream, format="png")
