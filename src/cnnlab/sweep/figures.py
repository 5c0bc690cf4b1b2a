"""Pictures of a sweep: PNGs for reports, readable in greyscale, and one interactive page that needs no network."""

import html
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from optuna import visualization
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from plotly.io import to_html  # type: ignore[import-untyped]
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from cnnlab.evidence.figures import INKS, MARKERS, STYLE
from cnnlab.files import atomic, write_text

ACCURACY = "validation accuracy (%)"
GREY = "#8a8a8a"
ABSENT = -0.16  # where a line of the parallel coordinates passes an axis that its trial does not have


@dataclass(frozen=True)
class Sweep:
    """What the pictures show: a study of baseline and search alone, accuracies in per cent.

    `study` has one objective; `both` is the same with the second, which is minimized and called `second`, None where
    there is none. Both keep the trials' numbers; `best` and `baseline` are numbers of complete trials, `failed` of
    failed ones.
    """

    study: Study
    both: Study | None
    best: int | None
    baseline: int | None
    baseline_name: str
    failed: Sequence[int]
    second: str | None

    @property
    def complete(self) -> list[FrozenTrial]:
        """The complete trials."""
        return self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])

    @property
    def pruned(self) -> list[FrozenTrial]:
        """The pruned trials that reported an accuracy."""
        trials = self.study.get_trials(deepcopy=False, states=[TrialState.PRUNED])
        return [trial for trial in trials if trial.intermediate_values]

    def is_baseline(self, trial: FrozenTrial) -> bool:
        """Whether `trial` is the baseline."""
        return trial.number == self.baseline


@dataclass(frozen=True)
class Parameter:
    """A parameter that differs between complete trials: its value by trial number, and how an axis shows it.

    `choices` are those of a categorical parameter that were tried, in the axis's order; None for a numeric one.
    """

    name: str
    values: dict[int, Any]
    log: bool
    whole: bool
    choices: list[Any] | None

    def place(self, value: Any) -> float:
        """Where `value` lies along the axis, in the axis's own units."""
        if self.choices is not None:
            return float(self.choices.index(value))
        return math.log10(value) if self.log else float(value)


@dataclass(frozen=True)
class Chart:
    """One figure of a sweep: how to read it, what stands against making it, how it is made twice."""

    name: str
    heading: str
    reading: str
    obstacle: Callable[[Sweep], str | None]
    interactive: Callable[[Sweep], Any]
    draw: Callable[[Figure, Sweep], None] | None  # None: on the interactive page only


def draw(folder: Path, sweep: Sweep) -> None:
    """Write every PNG of `sweep` to `folder`; one that cannot be drawn yet is a small picture that says why."""
    for chart in charts(sweep):
        if chart.draw is None:
            continue
        obstacle = chart.obstacle(sweep)
        with _saved(folder / f"{chart.name}.png") as figure:
            if obstacle is None:
                chart.draw(figure, sweep)
            else:
                _draw_notice(figure, chart.heading, obstacle)


def write_page(path: Path, sweep: Sweep) -> None:
    """Write the interactive figures as one HTML file that carries plotly.js once and loads nothing."""
    title = html.escape(f"Sweep {sweep.study.study_name}")
    body = "\n".join(_section(chart, sweep) for chart in charts(sweep))
    write_text(
        path,
        f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font-family: sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #1b1b3a; }}
section {{ margin-bottom: 3em; }}
.plot {{ overflow-x: auto; }}
.obstacle {{ border-left: 4px solid #8a8a8a; padding-left: 1em; }}
</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
<h1>{title}</h1>
<p>Validation accuracies of one training each, not test results. Hover over a mark for its trial.</p>
{body}
</body>
</html>
""",
    )


def charts(sweep: Sweep) -> list[Chart]:
    """The figures `sweep` has, in the order of the page; the Pareto front only with a second objective."""
    return [chart for chart in CHARTS if chart.name != "pareto" or sweep.both is not None]


def parameters(trials: Sequence[FrozenTrial]) -> list[Parameter]:
    """The parameters with at least two values among `trials`, sorted by name."""
    distributions = {name: kind for trial in trials for name, kind in trial.distributions.items()}
    found = (_parameter(name, distributions[name], trials) for name in sorted(distributions))
    return [parameter for parameter in found if len({label(v) for v in parameter.values.values()}) > 1]


def label(value: Any) -> str:
    """A parameter's value as params.yaml spells it, numbers to three digits."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def importances(sweep: Sweep) -> dict[str, float]:
    """The share of the accuracy's variance that fANOVA's forest lays on each parameter that all complete trials have.

    Empty where the forest finds nothing to share out, or the search space changed between trials.
    """
    names = _shared(sweep)
    try:
        return get_param_importances(sweep.study, evaluator=_evaluator(), params=names)
    except (RuntimeError, ValueError):
        return {}


def _parameter(name: str, kind: BaseDistribution, trials: Sequence[FrozenTrial]) -> Parameter:
    values = {trial.number: trial.params[name] for trial in trials if name in trial.params}
    if not isinstance(kind, CategoricalDistribution):
        return Parameter(name, values, getattr(kind, "log", False), isinstance(kind, IntDistribution), None)
    choices = [choice for choice in kind.choices if choice in values.values()]
    if all(isinstance(choice, int | float) for choice in choices):
        choices = sorted(choices, key=lambda choice: float(choice or 0))
    return Parameter(name, values, False, False, choices)


def _shared(sweep: Sweep) -> list[str]:
    """The names of the varying parameters that every complete trial has, the baseline's own excepted."""
    wanted = [trial for trial in sweep.complete if not sweep.is_baseline(trial)]
    having = {trial.number for trial in wanted}
    return [p.name for p in parameters(sweep.complete) if having and having <= p.values.keys()]


def _evaluator() -> FanovaImportanceEvaluator:
    return FanovaImportanceEvaluator(seed=0)


def _accuracy(trial: FrozenTrial) -> float:
    return float(trial.values[0])


def _cost(trial: FrozenTrial) -> float:
    return float(trial.values[1])


def _last(trial: FrozenTrial) -> float:
    return trial.intermediate_values[max(trial.intermediate_values)]


# What stands against a figure


def _no_complete(sweep: Sweep) -> str | None:
    return None if sweep.complete else "No trial is complete yet."


def _too_few(sweep: Sweep) -> str | None:
    n = len(sweep.complete)
    return None if n >= 2 else f"It takes at least 2 complete trials; so far there {'is' if n == 1 else 'are'} {n}."


def _nothing_varies(sweep: Sweep) -> str | None:
    if few := _too_few(sweep):
        return few
    return None if parameters(sweep.complete) else "No parameter has two values among the complete trials yet."


def _nothing_to_weigh(sweep: Sweep) -> str | None:
    if obstacle := _nothing_varies(sweep):
        return obstacle
    if not _shared(sweep):
        return "No parameter that every complete trial has takes two values yet."
    if len({_accuracy(trial) for trial in sweep.complete}) == 1:
        return "All complete trials have the same accuracy, so no parameter made a difference."
    return None if importances(sweep) else "The complete trials are too few or too alike to tell parameters apart yet."


def _nothing_reported(sweep: Sweep) -> str | None:
    if any(trial.intermediate_values for trial in sweep.study.get_trials(deepcopy=False)):
        return None
    if sweep.both is not None:
        return "Optuna takes no reports of epochs in a study of two objectives."
    return "No trial has reported the accuracy of an epoch yet."


# The PNGs


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
        [_accuracy(t) for t in complete],
        MARKERS[0],
        color=INKS[0],
        label="complete, at its last epoch",
        zorder=3,
    )
    if pruned:
        numbers, ends = [t.number for t in pruned], [_last(t) for t in pruned]
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
    figure.suptitle(f"What the search found: {_count(len(complete), 'complete trial')}", fontsize=11)
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
        highest.append(max([_accuracy(trial), *highest[-1:]]))
    numbers = [trial.number for trial in complete]
    axes.step([*numbers, last + 0.6], [*highest, highest[-1]], where="post", color=INKS[0], label="best so far")
    _beside(axes, highest[-1], f"best\n{highest[-1]:.2f} %", INKS[0], above=True)


def _draw_baseline(axes: Axes, sweep: Sweep, named: bool = True) -> None:
    """The baseline's accuracy as a dashed line across `axes`, named at its right end."""
    for trial in filter(sweep.is_baseline, sweep.complete):
        axes.axhline(_accuracy(trial), color=INKS[1], linestyle="--", linewidth=1.2, zorder=1)
        if named:
            text = f"baseline “{sweep.baseline_name}”\n{_accuracy(trial):.2f} %"
            _beside(axes, _accuracy(trial), text, INKS[1], above=False)


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
    shares = sorted(importances(sweep).items(), key=lambda item: item[1])
    figure.set_size_inches(8, max(3.2, 1.7 + 0.36 * len(shares)))
    axes: Axes = figure.subplots()
    bars = axes.barh([name for name, _ in shares], [100 * share for _, share in shares], color=INKS[2], height=0.62)
    axes.bar_label(bars, fmt="%.0f", padding=4)
    axes.set_xlim(0, 112 * max(share for _, share in shares))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("share of the explained variance of validation accuracy (%), fANOVA")
    names = {name for name, _ in shares}
    left_out = [p.name for p in parameters(sweep.complete) if p.name not in names]
    note = fill(f"without what only some trials have: {', '.join(left_out)}", 84) if left_out else ""
    n = _count(len(sweep.complete), "complete trial")
    few = "fewer trials than settings: a rough guess at most" if len(sweep.complete) < len(names) else ""
    figure.suptitle("\n".join(filter(None, (f"Which settings mattered: {n}", few, note))), fontsize=11)


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
    n = _count(len(sweep.complete), "complete trial")
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
            _accuracy(trial),
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
        axes.axhline(_accuracy(trial), color=INKS[1], linestyle="--", linewidth=1.2, zorder=1, label=text)
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
    shown, trials = parameters(sweep.complete), sorted(sweep.complete, key=_accuracy)
    figure.set_size_inches(max(8.0, 1.55 * (len(shown) + 1)), 5)
    axes: Axes = figure.subplots()
    heights = [_heights(parameter, trials) for parameter in shown]
    low, high = _accuracy(trials[0]), _accuracy(trials[-1])
    heights.append({t.number: (_accuracy(t) - low) / (high - low) if high > low else 0.5 for t in trials})
    for rank, trial in enumerate(trials):
        line = [height.get(trial.number, ABSENT) for height in heights]
        axes.plot(line, **_pen(sweep, trial, rank / len(trials)))
    for x, parameter in enumerate(shown):
        _draw_axis(axes, x, _ticks(parameter), any(t.number not in parameter.values for t in trials))
    ends = [(0.0, f"{low:.1f}"), (1.0, f"{high:.1f}")] if high > low else [(0.5, f"{low:.1f}")]
    _draw_axis(axes, len(shown), ends, False)
    axes.set_xticks(range(len(shown) + 1), [p.name.replace(".", ".\n") for p in shown] + ["validation\naccuracy (%)"])
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", length=0)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[["left", "bottom", "top", "right"]].set_visible(False)
    axes.set_xlim(-0.45, len(shown) + 0.35)
    figure.suptitle(
        f"Settings that go together: {_count(len(trials), 'complete trial')}, darker is better", fontsize=11
    )
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=2)


def _pen(sweep: Sweep, trial: FrozenTrial, rank: float) -> dict[str, Any]:
    """How a trial's line is drawn; `rank` is the share of trials that are worse."""
    if trial.number == sweep.best:
        name = f"best trial ({trial.number}): {_accuracy(trial):.2f} %"
        return {"color": INKS[1], "linewidth": 3.5, "zorder": 4, "label": name}
    if sweep.is_baseline(trial):
        name = f"baseline “{sweep.baseline_name}”: {_accuracy(trial):.2f} %"
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
        axes.text(x - 0.04, height, text, ha="right", va="center", fontsize=8.5, fontstyle=style, bbox=box, zorder=6)


def _draw_pareto(figure: Figure, sweep: Sweep) -> None:
    figure.set_size_inches(8, 4.8)
    axes: Axes = figure.subplots()
    complete = sweep.both.get_trials(deepcopy=False, states=[TrialState.COMPLETE]) if sweep.both else []
    front = front_of(complete)
    others = [trial for trial in complete if trial not in front]
    axes.plot([_cost(t) for t in others], [_accuracy(t) for t in others], "o", color=GREY, label="beaten by another")
    costs, heights = [_cost(t) for t in front], [_accuracy(t) for t in front]
    axes.plot(costs, heights, "o", color=INKS[0], markersize=8, zorder=3, label="front: beaten by none")
    edge = max(_cost(t) for t in complete)
    axes.step([*costs, edge], [*heights, heights[-1]], where="post", color=INKS[0], linewidth=1.5)
    for trial in filter(sweep.is_baseline, complete):
        text = f"baseline “{sweep.baseline_name}”"
        axes.plot(
            _cost(trial), _accuracy(trial), "s", color=INKS[1], markersize=15, fillstyle="none", zorder=4, label=text
        )
    _scale_cost(axes, [_cost(t) for t in complete])
    axes.margins(0.08)
    _name_front(axes, front)
    axes.set_xlabel(f"{sweep.second}, fewer is better")
    axes.set_ylabel(ACCURACY)
    n = _count(len(complete), "complete trial")
    figure.suptitle(f"Accuracy against {sweep.second}: {n}, numbers name trials of the front", fontsize=11)
    figure.legend(loc="outside lower center", ncols=3)


def front_of(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that no other beats, by rising second objective: each is more accurate than all cheaper ones."""
    front: list[FrozenTrial] = []
    for trial in sorted(trials, key=lambda t: (_cost(t), -_accuracy(t), t.number)):
        if not front or _accuracy(trial) > _accuracy(front[-1]):
            front.append(trial)
    return front


def _name_front(axes: Axes, front: Sequence[FrozenTrial]) -> None:
    """Write the trials' numbers beside their marks, from the most accurate down, where there is room."""
    named: list[tuple[float, float]] = []
    for trial in reversed(front):
        x, y = axes.transAxes.inverted().transform(axes.transData.transform((_cost(trial), _accuracy(trial))))
        if all(abs(x - other) > 0.06 or abs(y - height) > 0.06 for other, height in named):
            spot = _cost(trial), _accuracy(trial)
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


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


# The interactive page


def _section(chart: Chart, sweep: Sweep) -> str:
    obstacle = chart.obstacle(sweep)
    if obstacle is None:
        figure = chart.interactive(sweep)
        figure.update_layout(template="plotly_white", title=None, margin={"t": 40})
        inside = to_html(figure, include_plotlyjs=False, full_html=False, div_id=chart.name)
        content = f'<p>{chart.reading}</p>\n<div class="plot">{inside}</div>'
    else:
        content = f'<p class="obstacle">Not drawn yet. {html.escape(obstacle)}</p>'
    return f"<section>\n<h2>{chart.heading}</h2>\n{content}\n</section>"


def _plot_history(sweep: Sweep) -> Any:
    return visualization.plot_optimization_history(sweep.study, target_name=ACCURACY)


def _plot_importances(sweep: Sweep) -> Any:
    figure = visualization.plot_param_importances(
        sweep.study, evaluator=_evaluator(), params=_shared(sweep), target_name=ACCURACY
    )
    return figure.update_layout(xaxis_title="share of the explained variance (fANOVA, all shares sum to 1)")


def _plot_slices(sweep: Sweep) -> Any:
    names = [parameter.name for parameter in parameters(sweep.complete)]
    return visualization.plot_slice(sweep.study, params=names, target_name=ACCURACY)


def _plot_parallel(sweep: Sweep) -> Any:
    names = [parameter.name for parameter in parameters(sweep.complete)]
    return visualization.plot_parallel_coordinate(sweep.study, params=names, target_name=ACCURACY)


def _plot_epochs(sweep: Sweep) -> Any:
    figure = visualization.plot_intermediate_values(sweep.study)
    return figure.update_layout(xaxis_title="epoch", yaxis_title=ACCURACY)


def _plot_pareto(sweep: Sweep) -> Any:
    return visualization.plot_pareto_front(sweep.both or sweep.study, target_names=[ACCURACY, str(sweep.second)])


CHARTS = (
    Chart(
        "history",
        "What the search found",
        "Each mark is a complete trial in order of start; the line is the best accuracy so far, flat where the search "
        "found nothing better.",
        _no_complete,
        _plot_history,
        _draw_history,
    ),
    Chart(
        "importances",
        "Which settings mattered",
        "A longer bar means that the accuracy changed more with that setting over the ranges searched; from few trials "
        "this is a rough guess, and settings that only some trials have are left out.",
        _nothing_to_weigh,
        _plot_importances,
        _draw_importances,
    ),
    Chart(
        "slices",
        "Accuracy against each setting",
        "Each mark is a complete trial, darker the later; look where the high marks gather, and remember that the "
        "other settings differ too.",
        _nothing_varies,
        _plot_slices,
        _draw_slices,
    ),
    Chart(
        "parallel",
        "Settings that go together",
        "Each line is a complete trial and crosses every axis at its value; follow the lines of high accuracy to see "
        "which settings they share.",
        _nothing_varies,
        _plot_parallel,
        _draw_parallel,
    ),
    Chart(
        "epochs",
        "How the trials learned",
        "Each line is a trial's validation accuracy at the end of each epoch; short lines were pruned because they lay "
        "behind the others.",
        _nothing_reported,
        _plot_epochs,
        None,
    ),
    Chart(
        "pareto",
        "Accuracy against cost",
        "Marks of the front are beaten by no other trial on both objectives at once; elsewhere some trial is at least "
        "as accurate for less.",
        _too_few,
        _plot_pareto,
        _draw_pareto,
    ),
)
