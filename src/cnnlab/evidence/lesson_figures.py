"""The picture of the course's page that needs measured networks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnlab.evidence.figures import INKS, figure
from cnnlab.evidence.words import Language

LIGHT = "#d5d5de"


def bars(path: Path, rows: Sequence[Mapping[str, Any]], say: Language) -> None:
    """Test accuracies (keys `data`, `name`, `network`, `accuracy`, `low`, `high`), a panel a set; networks dark."""
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
