"""The PNGs of a sweep, for reports, readable in greyscale."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from optuna.trial import FrozenTrial, TrialState

from cnnlab.evidence.figures import INKS, MARKERS, STYLE
from cnnlab.files import atomic
from cnnlab.sweep.charts import (
    ACCURACY,
    Parameter,
    Sweep,
    accuracy,
    basis,
    charts,
    cost,
    count,
    front_of,
    label,
    parameters,
)

GREY = "#8a8a8a"
LEADING = 12  # axes of the parallel coordinates, the accuracy's apart: as many as fit on a page
ABSENT = -0.16  # where a line of the parallel coordinates passes an axis that its trial does not have


def draw(folder: Path, sweep: Sweep) -> None:
    """Write every PNG of `sweep` to `folder`; one that cannot be drawn yet is a small picture that says why."""
    for name, chart in charts(sweep).items():
        if name not in DRAWINGS:
            continue
        obstacle = chart.obstacle(sweep)
        with _saved(folder / f"{name}.png") as figure:
            if obstacle is None:
                DRAWINGS[name](figure, sweep)
            else:
                _draw_notice(figure, chart.heading, obstacle)


def leading(sweep: Sweep) -> list[Parameter]:
    """At most 12 parameters that vary: by importance, then those without one in the order of the study."""
    found = {parameter.name: parameter for parameter in parameters(sweep.complete)}
    order = [*sweep.importances, *(name for trial in sweep.complete for name in trial.params)]
    return [found[name] for name in dict.fromkeys(order) if name in found][:LEADING]


@contextmanager
def _saved(path: Path) -> Iterator[Figure]:
    """A figure that is saved to `path` as PNG when the block ends; the block sets its size."""
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
        yield figure
        with atomic(path) as stream:
            figure.savefig(stream, format="png")


def _draw_notice(figure: Figure, heading: str, obstacle: str) -> None:
    figure.set_size_inches(6, 3)
    figure.text(0.5, 0.66, heading, ha="center", va="center", fontsize=13, color=INKS[0])
    figure.text(0.5, 0.40, fill(f"Not drawn yet. {obstacle}", 56), ha="center", va="center", color="#444444")


def _draw_history(figure: Figure, sweep: Sweep) -> None:
    figure.set_size_inches(9, 4.5)
    axes: Axes = figure.subplots()
    complete, pruned = sweep.complete, sweep.pruned
    axes.plot(
        [t.number for t in complete],
        [accuracy(t) for t in complete],
        MARKERS[0],
        color=INKS[0],
        label="complete, at its last epoch",
        zorder=3,
    )
    if pruned:
        numbers, ends = [t.number for t in pruned], [t.intermediate_values[max(t.intermediate_values)] for t in pruned]
        axes.plot(numbers, ends, "v", color=GREY, markerfacecolor="white", label="pruned, where it was stopped")
    _draw_failed(axes, sweep)
    last = max([t.number for t in complete + pruned] + list(sweep.failed))
    _draw_running_best(axes, complete, last)
    _draw_baseline(axes, sweep)
    axes.set_xlim(-0.6, last + 0.6)
    axes.margins(y=0.1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("trial, in order of start")
    axes.set_ylabel(ACCURACY)
    figure.suptitle(f"What the search found: {count(len(complete), 'complete trial')}", fontsize=11)
    figure.legend(loc="outside lower center", ncols=4)


def _draw_failed(axes: Axes, sweep: Sweep) -> None:
    if sweep.failed:
        heights = [0.02] * len(sweep.failed)
        axes.plot(
            sweep.failed, heights, "x", color=INKS[1], transform=axes.get_xaxis_transform(), label="failed, no accuracy"
        )


def _draw_running_best(axes: Axes, complete: Sequence[FrozenTrial], last: int) -> None:
    """The best accuracy so far as steps to trial `last`, named at its end."""
    highest: list[float] = []
    for trial in complete:
        highest.append(max([accuracy(trial), *highest[-1:]]))
    numbers = [trial.number for trial in complete]
    axes.step([*numbers, last + 0.6], [*highest, highest[-1]], where="post", color=INKS[0], label="best so far")
    _beside(axes, highest[-1], f"best\n{highest[-1]:.2f} %", INKS[0], above=True)


def _draw_baseline(axes: Axes, sweep: Sweep, named: bool = True) -> None:
    """The baseline's accuracy as a dashed line across `axes`, named at its right end."""
    for trial in filter(sweep.is_baseline, sweep.complete):
        axes.axhline(accuracy(trial), color=INKS[1], linestyle="--", linewidth=1.2, zorder=1)
        if named:
            text = f"baseline “{sweep.baseline_name}”\n{accuracy(trial):.2f} %"
            _beside(axes, accuracy(trial), text, INKS[1], above=False)


def _beside(axes: Axes, height: float, text: str, ink: str, above: bool) -> None:
    axes.annotate(
        text,
        (1, height),
        (5, 1 if above else -1),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="bottom" if above else "top",
        color=ink,
        annotation_clip=False,
    )


def _draw_importances(figure: Figure, sweep: Sweep) -> None:
    shares = list(reversed(sweep.importances.items()))
    figure.set_size_inches(8, max(3.2, 1.7 + 0.36 * len(shares)))
    axes: Axes = figure.subplots()
    bars = axes.barh([name for name, _ in shares], [100 * share for _, share in shares], color=INKS[2], height=0.62)
    axes.bar_label(bars, fmt="%.0f", padding=4)
    axes.set_xlim(0, 112 * max(share for _, share in shares))
    axes.margins(y=0.01)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("share of the explained variance of validation accuracy (%), fANOVA")
    names = {name for name, _ in shares}
    left_out = [p.name for p in parameters(sweep.complete) if p.name not in names]
    note = fill(f"without what only some trials have: {', '.join(left_out)}", 84) if left_out else ""
    figure.suptitle("\n".join(filter(None, (f"Which settings mattered, {basis(sweep)}", note))), fontsize=11)


def _draw_slices(figure: Figure, sweep: Sweep) -> None:
    shown = parameters(sweep.complete)
    columns = min(4, max(len(shown), 2))
    rows = math.ceil(len(shown) / columns)
    figure.set_size_inches(2.9 * columns + 0.4, 2.7 * rows + 0.9)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, parameter in zip(panels.flat, shown, strict=False):
        _draw_slice(axes, parameter, sweep)
    for axes in panels.flat[len(shown) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel(ACCURACY)
        axes.margins(y=0.12)
    n = count(len(sweep.complete), "complete trial")
    figure.suptitle(f"Accuracy against each setting: {n}", fontsize=11)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    for axes in panels.flat[1:]:  # a conditional parameter's panel may lack the best trial
        for handle, text in zip(*axes.get_legend_handles_labels(), strict=True):
            if text not in labels:
                handles, labels = [*handles, handle], [*labels, text]
    figure.legend(handles, labels, loc="outside lower center", ncols=3)


def _draw_slice(axes: Axes, parameter: Parameter, sweep: Sweep) -> None:
    trials = [trial for trial in sweep.complete if trial.number in parameter.values]
    spots = {trial.number: _spot(parameter, trial.number, rank) for rank, trial in enumerate(trials)}
    for trial in trials:
        best = trial.number == sweep.best
        axes.plot(
            spots[trial.number],
            accuracy(trial),
            "*" if best else MARKERS[0],
            color=INKS[1] if best else INKS[0],
            markersize=15 if best else 5.5,
            alpha=1 if best else 0.75,
            markeredgecolor="white",
            zorder=3 if best else 2,
            label="best trial" if best else ("other complete trials" if trial is _first_other(trials, sweep) else None),
        )
    for trial in filter(sweep.is_baseline, sweep.complete):
        text = f"baseline “{sweep.baseline_name}”"
        axes.axhline(accuracy(trial), color=INKS[1], linestyle="--", linewidth=1.2, zorder=1, label=text)
    _scale(axes, parameter)
    some = "" if len(trials) == len(sweep.complete) else f"\n({len(trials)} of {len(sweep.complete)} trials have it)"
    axes.set_xlabel(parameter.name + some)


def _first_other(trials: Sequence[FrozenTrial], sweep: Sweep) -> FrozenTrial | None:
    return next((trial for trial in trials if trial.number != sweep.best), None)


def _spot(parameter: Parameter, number: int, rank: int) -> float:
    """Where a trial stands on a slice's axis; trials of one choice step aside for each other."""
    value = parameter.values[number]
    return float(value) if parameter.choices is None else parameter.place(value) + 0.06 * (rank % 5 - 2)


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
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=parameter.whole))


def _draw_parallel(figure: Figure, sweep: Sweep) -> None:
    shown, trials = leading(sweep), sorted(sweep.complete, key=accuracy)
    figure.set_size_inches(max(8.0, 1.02 * (len(shown) + 1)), 5.4)
    axes: Axes = figure.subplots()
    heights = [_heights(parameter, trials) for parameter in shown]
    low, high = accuracy(trials[0]), accuracy(trials[-1])
    heights.append({t.number: (accuracy(t) - low) / (high - low) if high > low else 0.5 for t in trials})
    for rank, trial in enumerate(trials):
        line = [height.get(trial.number, ABSENT) for height in heights]
        axes.plot(line, **_pen(sweep, trial, rank / len(trials)))
    for x, parameter in enumerate(shown):
        _draw_axis(axes, x, _ticks(parameter), any(t.number not in parameter.values for t in trials))
    ends = [(0.0, f"{low:.1f}"), (1.0, f"{high:.1f}")] if high > low else [(0.5, f"{low:.1f}")]
    _draw_axis(axes, len(shown), ends, False)
    axes.set_xticks(range(len(shown) + 1), [*(_broken(p.name) for p in shown), "validation\naccuracy\n(%)"])
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", length=0)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[["left", "bottom", "top", "right"]].set_visible(False)
    axes.set_xlim(-0.45, len(shown) + 0.35)
    some = f"{len(shown)} of {count(len(parameters(trials)), 'setting')} that vary"
    order = f"the most important first ({basis(sweep)})" if sweep.importances else "in the order of the study"
    lines = f"Settings that go together: {count(len(trials), 'complete trial')}, darker is better", f"{some}, {order}"
    figure.suptitle("\n".join(lines), fontsize=11)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=2)


def _broken(name: str) -> str:
    """`name` in lines that fit between two axes, broken after a dot or an underscore."""
    lines = [""]
    for part in re.split(r"(?<=[._])", name):
        if len(lines[-1] + part) > 11:
            lines.append("")
        lines[-1] += part
    return "\n".join(filter(None, lines))


def _pen(sweep: Sweep, trial: FrozenTrial, rank: float) -> dict[str, Any]:
    """How a trial's line is drawn; `rank` is the share of trials that are worse."""
    if trial.number == sweep.best:
        name = f"best trial ({trial.number}): {accuracy(trial):.2f} %"
        return {"color": INKS[1], "linewidth": 3.5, "zorder": 4, "label": name}
    if sweep.is_baseline(trial):
        name = f"baseline “{sweep.baseline_name}”: {accuracy(trial):.2f} %"
        return {"color": INKS[0], "linewidth": 1.8, "linestyle": "--", "zorder": 3, "label": name}
    return {"color": str(round(0.85 - 0.45 * rank, 3)), "linewidth": 1.1, "zorder": 2}


def _heights(parameter: Parameter, trials: Sequence[FrozenTrial]) -> dict[int, float]:
    """Each trial's place between the parameter's ends, 0 to 1; a little apart where trials share a choice."""
    low, high = _ends(parameter)
    aside = 0.008 if parameter.choices is not None else 0.0
    return {
        trial.number: (parameter.place(parameter.values[trial.number]) - low) / (high - low) + aside * (rank % 5 - 2)
        for rank, trial in enumerate(trials)
        if trial.number in parameter.values
    }


def _ends(parameter: Parameter) -> tuple[float, float]:
    places = [parameter.place(value) for value in parameter.values.values()]
    return min(places), max(places)


def _ticks(parameter: Parameter) -> list[tuple[float, str]]:
    """Heights from 0 to 1 and what stands there: every choice, or a numeric parameter's ends and middle."""
    low, high = _ends(parameter)
    if parameter.choices is not None:
        return [((parameter.place(c) - low) / (high - low), label(c)) for c in parameter.choices]
    middle = (low + high) / 2
    middle = 10**middle if parameter.log else middle
    values = [min(parameter.values.values()), round(middle) if parameter.whole else middle]
    values.append(max(parameter.values.values()))
    return [((parameter.place(v) - low) / (high - low), label(v)) for v in dict.fromkeys(values)]


def _draw_axis(axes: Axes, x: int, ticks: Sequence[tuple[float, str]], conditional: bool) -> None:
    axes.plot([x, x], [0, 1], color="black", linewidth=1, zorder=5)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1}
    for height, text in [*ticks, *([(ABSENT, "unused")] if conditional else [])]:
        style = "italic" if height == ABSENT else "normal"
        axes.text(
            x - 0.04, height, _broken(text), ha="right", va="center", fontsize=8.5, fontstyle=style, bbox=box, zorder=6
        )


def _draw_pareto(figure: Figure, sweep: Sweep) -> None:
    figure.set_size_inches(8, 4.8)
    axes: Axes = figure.subplots()
    complete = sweep.both.get_trials(deepcopy=False, states=[TrialState.COMPLETE]) if sweep.both else []
    front = front_of(complete)
    others = [trial for trial in complete if trial not in front]
    axes.plot([cost(t) for t in others], [accuracy(t) for t in others], "o", color=GREY, label="beaten by another")
    costs, heights = [cost(t) for t in front], [accuracy(t) for t in front]
    axes.plot(costs, heights, "o", color=INKS[0], markersize=8, zorder=3, label="front: beaten by none")
    edge = max(cost(t) for t in complete)
    axes.step([*costs, edge], [*heights, heights[-1]], where="post", color=INKS[0], linewidth=1.5)
    for trial in filter(sweep.is_baseline, complete):
        text = f"baseline “{sweep.baseline_name}”"
        axes.plot(
            cost(trial), accuracy(trial), "s", color=INKS[1], markersize=15, fillstyle="none", zorder=4, label=text
        )
    _scale_cost(axes, [cost(t) for t in complete])
    axes.margins(0.08)
    _name_front(axes, front)
    axes.set_xlabel(f"{sweep.second}, fewer is better")
    axes.set_ylabel(ACCURACY)
    n = count(len(complete), "complete trial")
    figure.suptitle(f"Accuracy against {sweep.second}: {n}, numbers name trials of the front", fontsize=11)
    figure.legend(loc="outside lower center", ncols=3)


def _name_front(axes: Axes, front: Sequence[FrozenTrial]) -> None:
    """Write the trials' numbers beside their marks, from the most accurate down, where there is room."""
    named: list[tuple[float, float]] = []
    for trial in reversed(front):
        x, y = axes.transAxes.inverted().transform(axes.transData.transform((cost(trial), accuracy(trial))))
        if all(abs(x - other) > 0.06 or abs(y - height) > 0.06 for other, height in named):
            spot = cost(trial), accuracy(trial)
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
            axes.annotate(f"{trial.number}", spot, (0, 8), textcoords="offset points", ha="center", bbox=box)
            named.append((x, y))


def _scale_cost(axes: Axes, costs: Sequence[float]) -> None:
    if min(costs) > 0 and max(costs) / min(costs) > 10:
        axes.set_xscale("log")
        subs = (1.0, 2.0, 5.0) if max(costs) / min(costs) < 1000 else (1.0,)
        axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))


DRAWINGS = {
    "history": _draw_history,
    "importances": _draw_importances,
    "slices": _draw_slices,
    "parallel": _draw_parallel,
    "pareto": _draw_pareto,
}
