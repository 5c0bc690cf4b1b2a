"""The interactive page of a sweep: one HTML file that needs no network."""

import html
from pathlib import Path
from typing import Any

from optuna import visualization
from plotly import graph_objects  # type: ignore[import-untyped]
from plotly.io import to_html  # type: ignore[import-untyped]
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from cnnlab.files import write_text
from cnnlab.sweep.charts import ACCURACY, Chart, Sweep, basis, charts, parameters


def write(path: Path, sweep: Sweep) -> None:
    """Write the interactive figures as one HTML file that carries plotly.js once and loads nothing."""
    title = html.escape(f"Sweep {sweep.study.study_name}")
    body = "\n".join(_section(name, chart, sweep) for name, chart in charts(sweep).items())
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


def _section(name: str, chart: Chart, sweep: Sweep) -> str:
    obstacle = chart.obstacle(sweep)
    if obstacle is None:
        reading, figure = PLOTS[name](sweep)
        figure.update_layout(template="plotly_white", title=None, margin={"t": 40})
        inside = to_html(figure, include_plotlyjs=False, full_html=False, div_id=name)
        content = f'<p>{reading}</p>\n<div class="plot">{inside}</div>'
    else:
        content = f'<p class="obstacle">Not drawn yet. {html.escape(obstacle)}</p>'
    return f"<section>\n<h2>{chart.heading}</h2>\n{content}\n</section>"


# How each picture is read, and the picture


def _plot_history(sweep: Sweep) -> tuple[str, Any]:
    return (
        "Each mark is a complete trial in order of start; the line is the best accuracy so far, flat where the search "
        "found nothing better.",
        visualization.plot_optimization_history(sweep.study, target_name=ACCURACY),
    )


def _plot_importances(sweep: Sweep) -> tuple[str, Any]:
    shares = dict(reversed(sweep.importances.items()))
    figure = graph_objects.Figure(
        graph_objects.Bar(
            x=[100 * share for share in shares.values()], y=list(shares), orientation="h", texttemplate="%{x:.1f}"
        ),
        {"height": 150 + 24 * len(shares), "xaxis_title": f"share of the explained variance of {ACCURACY}, fANOVA"},
    )
    return (
        "A longer bar means that the accuracy changed more with that setting over the ranges searched; all bars sum "
        f"to 100 %. Settings that only some trials have are left out. Estimated {basis(sweep)}.",
        figure,
    )


def _plot_slices(sweep: Sweep) -> tuple[str, Any]:
    names = [parameter.name for parameter in parameters(sweep.complete)]
    return (
        "Each mark is a complete trial, darker the later; look where the high marks gather, and remember that the "
        "other settings differ too.",
        visualization.plot_slice(sweep.study, params=names, target_name=ACCURACY),
    )


def _plot_parallel(sweep: Sweep) -> tuple[str, Any]:
    names = [parameter.name for parameter in parameters(sweep.complete)]
    figure = visualization.plot_parallel_coordinate(sweep.study, params=names, target_name=ACCURACY)
    figure.update_xaxes(ticktext=[ACCURACY, *names])  # Optuna cuts long names, so that some become equal
    figure.update_traces(hovertemplate="%{x}: %{customdata[1]}<extra></extra>")
    return (
        "Each line is a complete trial and crosses every axis at its value; follow the lines of high accuracy to see "
        "which settings they share.",
        figure.update_layout(width=max(1000, 150 * (len(names) + 1))),
    )


def _plot_epochs(sweep: Sweep) -> tuple[str, Any]:
    return (
        "Each line is a trial's validation accuracy at the end of each epoch; short lines were pruned because they lay "
        "behind the others.",
        visualization.plot_intermediate_values(sweep.study).update_layout(xaxis_title="epoch", yaxis_title=ACCURACY),
    )


def _plot_pareto(sweep: Sweep) -> tuple[str, Any]:
    return (
        "Marks of the front are beaten by no other trial on both objectives at once; elsewhere some trial is at least "
        "as accurate for less.",
        visualization.plot_pareto_front(sweep.both or sweep.study, target_names=[ACCURACY, str(sweep.second)]),
    )


PLOTS = {
    "history": _plot_history,
    "importances": _plot_importances,
    "slices": _plot_slices,
    "parallel": _plot_parallel,
    "epochs": _plot_epochs,
    "pareto": _plot_pareto,
}
