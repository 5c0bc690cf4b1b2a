"""What MLflow holds, side by side: variants, and transfers, against data sets."""

import mlflow
import pandas as pd

from cnnlab import track
from cnnlab.errors import UserError

TRANSFER = ["tags.transfer.network", "tags.transfer.mode", "tags.transfer.source", "tags.transfer.share"]


def compare() -> str:
    """Two tables of accuracies in per cent, means over seeds with their number, with a column a data set.

    A row a variant: test accuracy of its latest recipe's finished runs. A row a transfer, sorted by share of the
    training images: validation accuracy, of the latest study. Raises UserError where MLflow holds no finished training.
    """
    track.client()  # which creates a store that does not exist yet
    mlflow.set_tracking_uri(track.tracking_uri())
    runs = mlflow.search_runs(search_all_experiments=True, filter_string="attributes.status = 'FINISHED'")
    tables = []
    for title, row, metric in (
        ("Test accuracy", ["params.variant"], "metrics.test_accuracy"),
        ("Transfers, validation accuracy", TRANSFER, "metrics.validation_accuracy"),
    ):
        if {*row, metric} <= {*runs.columns}:
            known = runs.dropna(subset=[*row, metric])
            tables.append(f"{title} (%), mean over seeds (n)\n\n{_table(known, row, metric)}")
    if not tables:
        raise UserError("MLflow holds no finished training. Expected one at least, to compare. Run: make repro")
    return "\n\n".join(tables)


def _table(runs: pd.DataFrame, row: list[str], metric: str) -> str:
    group, once = [*row, "params.data"], {"params.seed", "params.variant"}
    shared = [name for name in runs if str(name).startswith("params.") and name not in once]
    known = runs.sort_values("start_time").reset_index(drop=True)
    recipe = pd.util.hash_pandas_object(known.reindex(columns=[*shared, "tags.optuna.study"]).fillna(""), index=False)
    known = known[recipe == recipe.groupby([known[name] for name in group]).transform("last")]
    latest = known.drop_duplicates([*group, "params.seed"], keep="last")
    groups = latest.groupby(group, sort=False)[metric].agg(["mean", "size"])
    cells = groups.apply(lambda each: f"{100 * each['mean']:.2f} ({each['size']:.0f})", axis=1)
    table = cells.unstack("params.data", fill_value="–").rename_axis(columns=None)
    table = table.rename_axis(index=[name.rpartition(".")[2] for name in row])
    order = "share" if len(row) > 1 else None
    return str(table.sort_index(level=order, sort_remaining=False).reset_index().to_string(index=False))
