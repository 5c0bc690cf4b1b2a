"""The static figures of a sweep, as PNGs that are readable in greyscale."""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from optuna.trial import FrozenTrial

from cnnlab.report import plots
from cnnlab.report.plots import INKS, MARKERS
from cnnlab.studies.search.charts import (
    Parameter,
    SweepResults,
    charts,
    cost,
    label,
    parameters,
    pareto_front,
    percent,
)

Pen = dict[str, Any]

GREY = "#8a8a8a"
DASHED: Pen = {"color": INKS[1], "linestyle": "--", "linewidth": 1.2, "zorder": 1}


def draw(folder: Path, sweep: SweepResults) -> None:
    """Write every PNG of `sweep` to `folder`; one that cannot be drawn yet says why."""
    for name, (heading, obstacle) in charts(sweep).items():
        if name not in DRAWINGS:
            continue
        with plots.figure(folder / f"{name}.png", 8, 4.5) as figure:
            if obstacle is None:
                DRAWINGS[name](figure, sweep)
            else:
                _draw_notice(figure, heading, sweep.say("Not drawn yet. {reason}", reason=obstacle))


def _draw_notice(figure: Figure, heading: str, notice: str) -> None:
    figure.set_size_inches(6, 3)
    figure.text(0.5, 0.66, heading, ha="center", va="center", fontsize=13, color=INKS[0])
    figure.text(0.5, 0.40, fill(notice, 56), ha="center", va="center", color="#444444")


def _baseline(sweep: SweepResults) -> FrozenTrial | None:
    return next((trial for trial in sweep.complete if trial.number == sweep.baseline), None)


def _draw_history(figure: Figure, sweep: SweepResults) -> None:
    say, complete, pruned = sweep.say, sweep.complete, sweep.pruned
    figure.set_size_inches(9, 4.5)
    axes: Axes = figure.subplots()
    numbers, heights = [t.number for t in complete], [percent(t) for t in complete]
    axes.plot(numbers, heights, MARKERS[0], color=INKS[0], label=say("complete, after the last epoch"), zorder=3)
    if pruned:
        stops = [t.intermediate_values[max(t.intermediate_values)] for t in pruned]
        pen: Pen = {"color": GREY, "markerfacecolor": "white", "label": say("pruned, when stopped")}
        axes.plot([t.number for t in pruned], stops, "v", **pen)
    if sweep.failed:
        pen = {"color": INKS[1], "transform": axes.get_xaxis_transform(), "label": say("failed, no accuracy")}
        axes.plot(sweep.failed, [0.02] * len(sweep.failed), "x", **pen)
    last = max([t.number for t in complete + pruned] + list(sweep.failed))
    highest = [*accumulate(heights, max)]
    pen = {"color": INKS[0], "label": say("best so far")}
    axes.step([*numbers, last + 0.6], [*highest, highest[-1]], where="post", **pen)
    _annotate(axes, highest[-1], say("best\n{accuracy}", accuracy=say.percent(highest[-1] / 100)), INKS[0], above=True)
    if trial := _baseline(sweep):
        axes.axhline(percent(trial), **DASHED)
        text = say("baseline “{name}”\n{accuracy}", name=sweep.base, accuracy=say.percent(percent(trial) / 100))
        _annotate(axes, percent(trial), text, INKS[1], above=False)
    axes.set_xlim(-0.6, last + 0.6)
    axes.margins(y=0.1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel(say("trial, in order of start"))
    axes.set_ylabel(say("validation accuracy (%)"))
    figure.suptitle(say("Accuracy of the trials (complete trials: {n})", n=len(complete)), fontsize=11)
    figure.legend(loc="outside lower center", ncols=4)


def _annotate(axes: Axes, height: float, text: str, ink: str, above: bool) -> None:
    """Write a text beside the right end of a horizontal line."""
    place: Pen = {
        "xycoords": ("axes fraction", "data"),
        "textcoords": "offset points",
        "va": "bottom" if above else "top",
    }
    axes.annotate(text, (1, height), (5, 1 if above else -1), color=ink, annotation_clip=False, **place)


def _draw_importances(figure: Figure, sweep: SweepResults) -> None:
    say, shares = sweep.say, dict(reversed(sweep.importances.items()))
    figure.set_size_inches(8, max(3.2, 1.7 + 0.36 * len(shares)))
    axes: Axes = figure.subplots()
    bars = axes.barh([*shares], [100 * share for share in shares.values()], color=INKS[2], height=0.62)
    axes.bar_label(bars, fmt="%.0f", padding=4)
    axes.set_xlim(0, 112 * max(shares.values()))
    axes.margins(y=0.01)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(say("share of the explained variance of validation accuracy (%), fANOVA"))
    title = say("Importance of the hyperparameters ({basis})", basis=sweep.basis)
    if left_out := [p.name for p in parameters(sweep.complete) if p.name not in shares]:
        title += "\n" + fill(say("without those that only some trials have: {names}", names=", ".join(left_out)), 84)
    figure.suptitle(title, fontsize=11)


def _draw_slices(figure: Figure, sweep: SweepResults) -> None:
    say, shown = sweep.say, parameters(sweep.complete)
    columns = min(4, max(len(shown), 2))
    rows = math.ceil(len(shown) / columns)
    figure.set_size_inches(2.9 * columns + 0.4, 2.7 * rows + 0.9)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, parameter in zip(panels.flat, shown, strict=False):
        _draw_slice(axes, parameter, sweep)
    for axes in panels.flat[len(shown) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel(say("validation accuracy (%)"))
        axes.margins(y=0.12)
    title = say("Accuracy against each hyperparameter (complete trials: {n})", n=len(sweep.complete))
    figure.suptitle(title, fontsize=11)
    legend: dict[str, Any] = {}  # of all panels: that of a conditional parameter may lack the best trial
    for axes in panels.flat:
        handles, labels = axes.get_legend_handles_labels()
        legend |= {text: handle for text, handle in zip(labels, handles, strict=True) if text not in legend}
    figure.legend([*legend.values()], [*legend], loc="outside lower center", ncols=3)


def _draw_slice(axes: Axes, parameter: Parameter, sweep: SweepResults) -> None:
    say = sweep.say
    pens: dict[bool, Pen] = {
        True: {"marker": "*", "color": INKS[1], "markersize": 15, "zorder": 3, "label": say("best trial")},
        False: {"marker": MARKERS[0], "color": INKS[0], "markersize": 5.5, "zorder": 2, "alpha": 0.75},
    }
    pens[False]["label"] = say("other complete trials")
    trials = [trial for trial in sweep.complete if trial.number in parameter.values]
    for best, pen in pens.items():
        few = [(rank, t) for rank, t in enumerate(trials) if (t.number == sweep.best) is best]
        spots = [_jittered(parameter, t.number, rank) for rank, t in few]
        if few:
            axes.plot(spots, [percent(t) for _, t in few], linestyle="none", markeredgecolor="white", **pen)
    if baseline := _baseline(sweep):
        axes.axhline(percent(baseline), label=say("baseline “{name}”", name=sweep.base), **DASHED)
    _scale(axes, parameter)
    some = say("{n} of {all} trials have it", n=len(trials), all=len(sweep.complete))
    axes.set_xlabel(parameter.name + ("" if len(trials) == len(sweep.complete) else f"\n({some})"))


def _jittered(parameter: Parameter, number: int, rank: int) -> float:
    """Position of a trial on the axis of a slice; markers of the same choice are spread a little."""
    value = parameter.values[number]
    return float(value) if parameter.choices is None else parameter.choices.index(value) + 0.06 * (rank % 5 - 2)


def _scale(axes: Axes, parameter: Parameter) -> None:
    if parameter.choices is not None:
        names = [label(choice) for choice in parameter.choices]
        long = sum(map(len, names)) > 22
        axes.set_xticks(range(len(names)), names, rotation=30 if long else 0, ha="right" if long else "center")
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.grid(visible=False, axis="x")
    elif parameter.log:
        axes.set_xscale("log")
        low, high = min(parameter.values.values()), max(parameter.values.values())
        subs = (1.0, 2.0, 5.0) if high / low < 50 else (1.0,)
        narrow = high / low < 5  # too few powers of ten for a logarithmic locator
        axes.xaxis.set_major_locator(MaxNLocator(nbins=3) if narrow else LogLocator(subs=subs, numticks=6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=parameter.integer))


def _draw_pareto(figure: Figure, sweep: SweepResults) -> None:
    say, complete = sweep.say, sweep.complete
    figure.set_size_inches(8, 4.8)
    axes: Axes = figure.subplots()
    front = pareto_front(complete)
    others = [trial for trial in complete if trial not in front]
    axes.plot([cost(t) for t in others], [percent(t) for t in others], "o", color=GREY, label=say("dominated"))
    costs, heights = [cost(t) for t in front], [percent(t) for t in front]
    axes.plot(costs, heights, "o", color=INKS[0], markersize=8, zorder=3, label=say("Pareto front"))
    limit = max(cost(t) for t in complete)
    axes.step([*costs, limit], [*heights, heights[-1]], where="post", color=INKS[0], linewidth=1.5)
    if trial := _baseline(sweep):
        pen: Pen = {"color": INKS[1], "markersize": 15, "fillstyle": "none", "zorder": 4}
        axes.plot(cost(trial), percent(trial), "s", label=say("baseline “{name}”", name=sweep.base), **pen)
    _scale_cost(axes, [cost(t) for t in complete])
    axes.margins(0.08)
    _number_front(axes, front)
    second = say(str(sweep.second))
    axes.set_xlabel(say("{objective}, lower is better", objective=second))
    axes.set_ylabel(say("validation accuracy (%)"))
    title = say("Accuracy against {objective} (complete trials: {n})", objective=second, n=len(complete))
    figure.suptitle(title + "\n" + say("numbers: trials of the Pareto front"), fontsize=11)
    figure.legend(loc="outside lower center", ncols=3)


def _number_front(axes: Axes, front: Sequence[FrozenTrial]) -> None:
    """Write trial numbers beside the markers of the front, the most accurate first, where they fit."""
    numbered: list[tuple[float, float]] = []
    for trial in reversed(front):
        spot = cost(trial), percent(trial)
        x, y = axes.transAxes.inverted().transform(axes.transData.transform(spot))
        if all(abs(x - other) > 0.06 or abs(y - height) > 0.06 for other, height in numbered):
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
            axes.annotate(f"{trial.number}", spot, (0, 8), textcoords="offset points", ha="center", bbox=box)
            numbered.append((x, y))


def _scale_cost(axes: Axes, costs: Sequence[float]) -> None:
    if min(costs) > 0 and max(costs) / min(costs) > 10:
        axes.set_xscale("log")
        subs = (1.0, 2.0, 5.0) if max(costs) / min(costs) < 1000 else (1.0,)
        axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))


DRAWINGS: dict[str, Callable[[Figure, SweepResults], None]] = {
    "history": _draw_history,
    "importances": _draw_importances,
    "slices": _draw_slices,
    "pareto": _draw_pareto,
}
