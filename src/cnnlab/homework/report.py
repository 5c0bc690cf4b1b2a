"""Stage report: the results of every variant, their learning curves, and the homework page."""

from uuid import uuid4

import pandas as pd

from cnnlab.evaluation.results import Evaluation
from cnnlab.files import REPORTS, write_text
from cnnlab.homework.page import FOLDER, write_homework
from cnnlab.params import Params, variants
from cnnlab.report import plots
from cnnlab.tracking.runs import TrackedRun


def write_reports(params: Params) -> None:
    """Write reports/results.md (every variant), homework.md and .html, curves.csv, and the figures of the homework.

    They become artifacts of an MLflow run in experiment `reports`, except for curves.csv, and for homework.md, whose
    figures MLflow would not show.
    """
    write_text(REPORTS / "results.md", _results(params))
    write_text(REPORTS / "curves.csv", _curves(params).to_csv(index=False))
    name, budget = f"reports, budget {params.budget}", {"budget": params.budget}
    tracker = TrackedRun.start(uuid4().hex, "reports", name, budget, {}, "The reports of one pipeline run.")
    tracker.log_file(REPORTS / "results.md")
    for path in write_homework(params):
        if path.suffix != ".md":
            tracker.log_file(path, "homework" if path.parent == FOLDER else None)
    tracker.finish()


def _results(params: Params) -> str:
    """Markdown table with one row per variant: recipe, test accuracy with its interval, cost."""
    rows = [
        "| variant | data set | network | parameters | epochs | test accuracy (95 % interval) | n seeds | images/s |",
        "|---|---|---|---:|---:|---|---:|---:|",
    ]
    for name, variant in variants(params).items():
        m = Evaluation(name).metrics()
        accuracy, low, high = (100 * m[key] for key in ("test_accuracy", "test_accuracy_low", "test_accuracy_high"))
        rows.append(
            f"| {name} | {variant.data} | {variant.network.name} | {m['parameters']:,.0f} | {m['epochs']:.0f} | "
            f"{accuracy:.2f} % ({low:.2f}–{high:.2f}) | {m['seeds']} | {m['images_per_s']:,.0f} |"
        )
    return "\n".join(rows) + "\n"


def _curves(params: Params) -> pd.DataFrame:
    """Smoothed training curves of the first seed of every variant, for `dvc plots`."""
    tables = []
    for name in variants(params):
        curves = Evaluation(name).table("curves")
        curve = curves[curves["split"] == "training"]
        smoothed = {metric: plots.smooth(curve, metric) for metric in ("loss", "accuracy")}
        tables.append(pd.DataFrame({"variant": name, "images": curve["images"], **smoothed}))
    return pd.concat(tables)
