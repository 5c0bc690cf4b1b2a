"""The interactive page of a sweep: one HTML file that works offline."""

import html
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

from optuna import visualization
from plotly import graph_objects  # type: ignore[import-untyped]
from plotly.io import to_html  # type: ignore[import-untyped]
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from cnnlab.files import write_text
from cnnlab.studies.search.charts import SweepResults, charts, parameters, percent


def write(path: Path, sweep: SweepResults) -> None:
    """Write the interactive figures as one HTML file that includes plotly.js and loads nothing."""
    title = html.escape(sweep.say("Sweep {name}", name=sweep.study.study_name))
    note = sweep.say("Validation accuracies of one training each, not test results. Hover over a marker for its trial.")
    body = "\n".join(_section(name, *chart, sweep) for name, chart in charts(sweep).items())
    write_text(
        path,
        f"""<!DOCTYPE html>
<html lang="{sweep.say.code}">
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
<p>{note}</p>
{body}
</body>
</html>
""",
    )


def _section(name: str, heading: str, obstacle: str | None, sweep: SweepResults) -> str:
    if obstacle is None:
        caption, figure = PLOTS[name](sweep)
        figure.update_layout(template="plotly_white", title=None, margin={"t": 40})
        inside = to_html(figure, include_plotlyjs=False, full_html=False, div_id=name)
        content = f'<p>{caption}</p>\n<div class="plot">{inside}</div>'
    else:
        content = f'<p class="obstacle">{html.escape(sweep.say("Not drawn yet. {reason}", reason=obstacle))}</p>'
    return f"<section>\n<h2>{heading}</h2>\n{content}\n</section>"


# Caption and figure of each chart


def _history(sweep: SweepResults) -> tuple[str, Any]:
    say = sweep.say
    figure = visualization.plot_optimization_history(
        sweep.study, target=percent, target_name=say("validation accuracy (%)")
    )
    highest = [*accumulate(map(percent, sweep.complete), max)]
    numbers = [trial.number for trial in sweep.complete]
    figure.add_scatter(x=numbers, y=highest, mode="lines", name=say("best so far"))
    figure.update_layout(xaxis_title=say("trial, in order of start"))
    return say("Each marker is a complete trial; the line is the best accuracy so far."), figure


def _importances(sweep: SweepResults) -> tuple[str, Any]:
    say, shares = sweep.say, dict(reversed(sweep.importances.items()))
    label = say("share of the explained variance of validation accuracy (%), fANOVA")
    figure = graph_objects.Figure(
        graph_objects.Bar(
            x=[100 * share for share in shares.values()], y=list(shares), orientation="h", texttemplate="%{x:.1f}"
        ),
        {"height": 150 + 24 * len(shares), "xaxis_title": label},
    )
    caption = say(
        "The longer the bar, the more the accuracy changed with that hyperparameter over its search range; all bars "
        "add up to 100 %. Hyperparameters that only some trials have are left out ({basis}).",
        basis=sweep.basis,
    )
    return caption, figure


def _slices(sweep: SweepResults) -> tuple[str, Any]:
    say, names = sweep.say, [parameter.name for parameter in parameters(sweep.complete)]
    label = say("validation accuracy (%)")
    caption = say(
        "Each marker is a complete trial; later trials are darker. Trials differ in the other hyperparameters, too."
    )
    return caption, visualization.plot_slice(sweep.study, params=names, target=percent, target_name=label)


def _parallel(sweep: SweepResults) -> tuple[str, Any]:
    say, names = sweep.say, [parameter.name for parameter in parameters(sweep.complete)]
    label = say("validation accuracy (%)")
    figure = visualization.plot_parallel_coordinate(sweep.accuracies, params=names)  # with a target, dark means low
    figure.update_xaxes(ticktext=[label, *names])  # Optuna truncates long names, so that some become equal
    figure.update_traces(hovertemplate="%{x}: %{customdata[1]}<extra></extra>")
    caption = say("Each line is a complete trial; lines of high accuracy show which values these trials share.")
    return caption, figure.update_layout(width=max(1000, 150 * (len(names) + 1)))


def _epochs(sweep: SweepResults) -> tuple[str, Any]:
    say = sweep.say
    figure = visualization.plot_intermediate_values(sweep.study)
    figure.update_layout(xaxis_title=say("epoch"), yaxis_title=say("validation accuracy (%)"))
    return say("Each line is a trial's validation accuracy after each epoch; pruned trials end early."), figure


def _pareto(sweep: SweepResults) -> tuple[str, Any]:
    say = sweep.say
    names = [say("validation accuracy (%)"), say(str(sweep.second))]
    caption = say("No other trial is better than one of the front in both objectives.")
    return caption, visualization.plot_pareto_front(sweep.study, target_names=names)


PLOTS: dict[str, Callable[[SweepResults], tuple[str, Any]]] = {
    "history": _history,
    "importances": _importances,
    "slices": _slices,
    "parallel": _parallel,
    "epochs": _epochs,
    "pareto": _pareto,
}
