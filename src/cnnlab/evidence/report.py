"""The written reports: every variant's results, their curves, and the homework's page."""

import json
from typing import Any
from uuid import uuid4

import pandas as pd

from cnnlab import track
from cnnlab.evidence import figures
from cnnlab.evidence.evaluation import EVALUATION, run_folder
from cnnlab.evidence.homework import FOLDER, write_homework
from cnnlab.files import REPORTS, write_text
from cnnlab.params import Params, runs, variants


def write_reports(params: Params) -> None:
    """Write reports/results.md (every variant), homework.md and .html, curves.csv, and the homework's pictures.

    The same files become artifacts of an MLflow run in experiment `reports`.
    """
    metrics = {name: json.loads((EVALUATION / name / "metrics.json").read_text()) for name in variants(params)}
    _write_curves(params)
    write_text(REPORTS / "results.md", results_table(params, metrics))
    name, budget = f"reports, budget {params.budget}", {"budget": params.budget}
    tracker = track.Run.start(uuid4().hex, "reports", name, budget, {}, "The reports of one pipeline run.")
    tracker.log_file(REPORTS / "results.md")
    for path in write_homework(params):
        tracker.log_file(path, "homework" if path.parent == FOLDER else None)
    tracker.finish()


def results_table(params: Params, metrics: dict[str, dict[str, Any]]) -> str:
    """Markdown table with a row a variant: what it is, its test accuracy with interval and n, cost."""
    rows = [
        "| variant | data set | network | parameters | epochs | test accuracy (95 % interval) | n seeds | images/s |",
        "|---|---|---|---:|---:|---|---:|---:|",
    ]
    for name, variant in variants(params).items():
        m = metrics[name]
        rows.append(
            f"| {name} | {variant.data} | {variant.network.name} | {m['parameters']:,.0f} | {m['epochs']:.0f} | "
            f"{_accuracy(m)} | {m['seeds']} | {m['images_per_s']:,.0f} |"
        )
    return "\n".join(rows) + "\n"


def _write_curves(params: Params) -> None:
    """The curves of the variants' first seeds as a table, for `dvc plots`."""
    curves = {}
    for name in variants(params):
        folder = run_folder(runs(params, name)[0])
        curves[name] = pd.read_csv(folder / "history.csv"), pd.read_csv(folder / "curve.csv")
    tidy = pd.concat(
        pd.DataFrame(
            {
                "variant": name,
                "images": curve["images"],
                **{metric: figures.smooth(curve, metric) for metric in ("loss", "accuracy")},
            }
        )
        for name, (_, curve) in curves.items()
    )
    write_text(REPORTS / "curves.csv", tidy.to_csv(index=False))


def _accuracy(m: dict[str, Any]) -> str:
    low, high = 100 * m["test_accuracy_low"], 100 * m["test_accuracy_high"]
    return f"{100 * m['test_accuracy']:.2f} % ({low:.2f}–{high:.2f})"
