"""Comparison of finished trainings: accuracy of each variant and recipe, and of transfers by data set."""

from collections.abc import Iterator
from operator import itemgetter

import pandas as pd

from cnnlab.errors import UserError
from cnnlab.evaluation.metrics import mean_interval
from cnnlab.evaluation.results import EVALUATION, Evaluation
from cnnlab.files import MANIFEST
from cnnlab.tracking import local

SETTING = "params."  # begins the columns of settings; those of a training that belong to no recipe:
NO_SETTINGS = [f"{SETTING}{name}" for name in ("variant", "data", "seed", "fold", "parameters")]
NAMED = 4  # settings of another recipe that are printed
TRANSFER = [f"tags.transfer.{field}" for field in ("network", "mode", "source", "change", "share")]
_RUNS = """
with finished as (select run_uuid, start_time from runs where status = 'FINISHED' and lifecycle_stage = 'active')
select run_uuid, start_time, 'params.' || key, value
from finished join params using (run_uuid)
union all
select run_uuid, start_time, 'metrics.' || key, case when is_nan then null else value end
from finished join latest_metrics using (run_uuid)
union all
select run_uuid, start_time, 'tags.' || key, value
from finished join tags using (run_uuid) where key not like 'mlflow.%'
"""


def compare() -> str:
    """Return two tables of accuracies in percent.

    The first has the test accuracy of every variant in reports/evaluation, with the interval and n of exactly the runs
    that the reports cite. Below it are the variant's other recipes in MLflow, each with the latest run of each seed.
    The second has one row per transfer and one column per data set: the mean validation accuracy in its latest study,
    and the number of runs. Raises UserError if there is no finished training.
    """
    runs = finished_runs()
    tables = []
    if rows := sorted([*_cited(), *_others(runs)], key=itemgetter("data", "variant")):
        title = "Test accuracy (%) with its 95 % interval: over n seeds or, if n is 1, over test images"
        tables.append(f"{title}\n\n{_text(rows)}")
    if {*TRANSFER, "metrics.validation_accuracy"} <= {*runs.columns}:
        tables.append(f"Transfers, validation accuracy (%), mean over seeds (n)\n\n{_transfers(runs)}")
    if not tables:
        raise UserError("No finished training in MLflow. Expected: one or more. To fix this, run: make repro")
    return "\n\n".join(tables)


def finished_runs() -> pd.DataFrame:
    """One row per finished run, with start_time and the columns params.<key>, metrics.<key> and tags.<key>."""
    cells = local.query(_RUNS)
    if cells is not None:
        table = pd.DataFrame(cells, columns=["run_id", "start_time", "key", "value"])
        return table.pivot(index=["run_id", "start_time"], columns="key", values="value").reset_index()
    import mlflow  # noqa: PLC0415  # takes seconds, which the default store does not need

    from cnnlab.tracking.store import client, tracking_uri  # noqa: PLC0415

    client()  # creates the store if there is none
    mlflow.set_tracking_uri(tracking_uri())
    runs = mlflow.search_runs(search_all_experiments=True, filter_string="attributes.status = 'FINISHED'")
    return pd.DataFrame(runs)


def _evaluations() -> list[Evaluation]:
    return [Evaluation(path.parent.name) for path in sorted(EVALUATION.glob(f"[!.]*/{MANIFEST}"))]


def _cited() -> Iterator[dict[str, str]]:
    """Rows of the runs that the reports cite."""
    for evaluation in _evaluations():
        means = evaluation.metrics()
        interval = [means[f"test_accuracy{end}"] for end in ("", "_low", "_high")]
        yield _row(evaluation.variant, evaluation.recipe()["data"], interval, means["seeds"], "cited by the reports")


def _others(runs: pd.DataFrame) -> Iterator[dict[str, str]]:
    """Rows of the recipes in MLflow that the reports do not cite, the latest first."""
    group, seed, accuracy = [f"{SETTING}variant", f"{SETTING}data"], f"{SETTING}seed", "metrics.test_accuracy"
    if not {*group, seed, accuracy} <= {*runs.columns}:
        return
    evaluations = {evaluation.variant: evaluation for evaluation in _evaluations()}
    ids = [run_id for evaluation in evaluations.values() for run_id in evaluation.table("runs")["run_id"]]
    # Without a seed, it is the parent of a recipe's runs.
    known = runs.dropna(subset=[*group, seed, accuracy]).assign(cited=runs["run_id"].isin(ids))
    known = known.sort_values(["cited", "start_time"], ascending=False)
    settings = [name for name in map(str, known) if name.startswith(SETTING) and name not in NO_SETTINGS]
    known[settings] = known[settings].astype(object).fillna("–")
    latest = known.drop_duplicates([*group, *settings, seed])
    for (variant, data), recipes in latest.groupby(group, sort=False):
        own = recipes[settings].rename(columns=lambda name: name.removeprefix(SETTING))
        reference = own.iloc[0].to_dict()
        if variant in evaluations:
            (recipe,) = pd.json_normalize(evaluations[variant].recipe()).to_dict("records")
            reference = {name: str(recipe.get(name, "–")) for name in own}
        left = recipes[~recipes["cited"]]
        for _, of_recipe in left.groupby(settings, sort=False):
            changed = [f"{k} {v}" for k, v in own.loc[of_recipe.index[0]].items() if v != reference[k]]
            more = [f"and {len(changed) - NAMED} more"] if len(changed) > NAMED else []
            difference = ", ".join(changed[:NAMED] + more)
            text = f"not cited: {difference}" if difference else "not cited"
            yield _row(str(variant), str(data), _interval(of_recipe), len(of_recipe), text)


def _interval(runs: pd.DataFrame) -> list[float]:
    """Mean test accuracy and interval of the runs of a recipe; NaN for one run that was not evaluated."""
    columns = [f"metrics.test_accuracy{end}" for end in ("", "_low", "_high")]
    rows = runs.reindex(columns=columns).astype(float)
    return [*mean_interval(rows[columns[0]].tolist())] if len(runs) > 1 else rows.iloc[0].tolist()


def _row(variant: str, data: str, interval: list[float], n: int, recipe: str) -> dict[str, str]:
    mean, low, high = (100 * value for value in interval)
    shown = "–" if pd.isna(low) else f"{low:.2f}–{high:.2f}"
    return {"variant": variant, "data": data, "mean": f"{mean:.2f}", "interval": shown, "n": str(n), "recipe": recipe}


def _text(rows: list[dict[str, str]]) -> str:
    """A table with a line of column names; words are aligned on the left, numbers on the right."""
    lines = [[*rows[0]], *([*row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    signs = ["<" if name in ("variant", "data", "recipe") else ">" for name in rows[0]]
    return "\n".join(
        "  ".join(f"{cell:{sign}{width}}" for cell, sign, width in zip(line, signs, widths, strict=True)).rstrip()
        for line in lines
    )


def _transfers(runs: pd.DataFrame) -> str:
    metric, group = "metrics.validation_accuracy", [*TRANSFER, f"{SETTING}data"]
    study = "tags.optuna.study"
    known = runs.reindex(columns=[*group, f"{SETTING}seed", metric, study, "start_time"])
    known = known.dropna(subset=[*TRANSFER, metric]).astype({metric: float, study: object}).fillna({study: ""})
    known = known.sort_values("start_time")
    known = known[known[study] == known.groupby(group)[study].transform("last")]
    latest = known.drop_duplicates([*group, f"{SETTING}seed"], keep="last")
    groups = latest.groupby(group, sort=False)[metric].agg(["mean", "size"])
    cells = groups.apply(lambda each: f"{100 * each['mean']:.2f} ({each['size']:.0f})", axis=1)
    table = cells.unstack(f"{SETTING}data", fill_value="–").rename_axis(columns=None)
    table = table.rename_axis(index=[name.rpartition(".")[2] for name in TRANSFER])
    return str(table.sort_index(level="share", sort_remaining=False).reset_index().to_string(index=False))
