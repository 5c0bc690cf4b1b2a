"""Comparison of all finished trainings in MLflow: accuracy by variant, or transfer, and data set."""

import pandas as pd

from cnnlab.errors import UserError
from cnnlab.tracking import local

TRANSFER = ["tags.transfer.network", "tags.transfer.mode", "tags.transfer.source", "tags.transfer.share"]
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
    """Return two tables of accuracies in percent with one column per data set: means over seeds, and their number.

    The first has one row per variant: the test accuracy of its latest recipe. The second has one row per transfer,
    sorted by the share of the training images: the validation accuracy in its latest study. Raises UserError if MLflow
    has no finished training.
    """
    runs = finished_runs()
    tables = []
    for title, row, metric in (
        ("Test accuracy", ["params.variant"], "metrics.test_accuracy"),
        ("Transfers, validation accuracy", TRANSFER, "metrics.validation_accuracy"),
    ):
        if {*row, metric} <= {*runs.columns}:
            known = runs.dropna(subset=[*row, metric])
            tables.append(f"{title} (%), mean over seeds (n)\n\n{_table(known, row, metric)}")
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


def _table(runs: pd.DataFrame, row: list[str], metric: str) -> str:
    group, once = [*row, "params.data"], {"params.seed", "params.variant"}
    shared = [name for name in runs if str(name).startswith("params.") and name not in once]
    known = runs.astype({metric: float}).sort_values("start_time").reset_index(drop=True)
    settings = known.reindex(columns=[*shared, "tags.optuna.study"]).astype(object).fillna("")
    recipe = pd.util.hash_pandas_object(settings, index=False)
    known = known[recipe == recipe.groupby([known[name] for name in group]).transform("last")]
    latest = known.drop_duplicates([*group, "params.seed"], keep="last")
    groups = latest.groupby(group, sort=False)[metric].agg(["mean", "size"])
    cells = groups.apply(lambda each: f"{100 * each['mean']:.2f} ({each['size']:.0f})", axis=1)
    table = cells.unstack("params.data", fill_value="–").rename_axis(columns=None)
    table = table.rename_axis(index=[name.rpartition(".")[2] for name in row])
    order = "share" if len(row) > 1 else None
    return str(table.sort_index(level=order, sort_remaining=False).reset_index().to_string(index=False))
