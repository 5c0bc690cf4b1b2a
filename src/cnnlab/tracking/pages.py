"""Experiments in MLflow's UI: a description, and a view that shows the relevant columns first."""

import json
from collections.abc import Mapping

VIEW = "cnnlab"  # the view's key in links
_SINCE_MS = 1_767_225_600_000  # views need a date, by which their list is sorted
_TRAINING = [
    "params.`seed`",
    "params.`epochs`",
    "params.`network.name`",
    "params.`parameters`",
    "params.`optimizer.name`",
    "params.`optimizer.learning_rate`",
    "params.`batch_size`",
]
_STUDIED = ["metrics.`validation_accuracy`", "metrics.`val_loss`", "metrics.`training_flop`", "tags.`optuna.state`"]
_KINDS = {
    "sweeps": (
        "One run per sweep, with its trials as child runs (press +); trials stopped early are PRUNED. "
        "Summary and plots are among the artifacts of the sweep's run.",
        ["metrics.`best_validation_accuracy`", "metrics.`baseline_validation_accuracy`", *_STUDIED, *_TRAINING],
    ),
    "ablations": (
        "One run per ablation, with one child run per setting and seed (press +); runs of one seed differ only in the "
        "setting. The paired effects are among the artifacts of the ablation's run.",
        [*_STUDIED, *_TRAINING],
    ),
    "transfers": (
        "One run per study, with one child run per target, initialisation and seed (press +): from scratch, with "
        "frozen features, or fine-tuned. The paired effects are among the artifacts of the study's run.",
        [*(f"tags.`transfer.{name}`" for name in ("mode", "target", "share", "source")), *_STUDIED, *_TRAINING],
    ),
    "reports": (
        "One run per report that the pipeline wrote: pages, tables and plots are among its artifacts and can be read "
        "there.",
        ["attributes.`Description`", "params.`budget`"],
    ),
}
_TRAININGS = [
    "tags.`variant`",
    "tags.`interval`",
    "metrics.`test_accuracy`",
    "metrics.`seeds`",
    "metrics.`validation_accuracy`",
    "metrics.`test_loss`",
    "metrics.`validation_loss`",
    *_TRAINING,
]


def experiment_tags(name: str, experiment_id: str) -> Mapping[str, str]:
    """Tags with which MLflow's UI describes the experiment `name` and offers its view.

    The view has the format of the UI's own *Views → Save as new view*.
    """
    description, columns = _KINDS.get(
        name.rpartition(" ")[2],
        (
            f"Trainings on {name}. Evaluated runs are below a run of their variant and recipe (press +), which has the "
            "mean over seeds and its interval. Select two runs and click Compare to see how they differ; the chart "
            "button above the table plots all curves.",
            _TRAININGS,
        ),
    )
    link = f"[Relevant columns](#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW})"
    state = {"selectedColumns": columns, "columnOrder": columns}
    view = {"name": "Relevant columns", "createdAt": _SINCE_MS, "updatedAt": _SINCE_MS, "state": json.dumps(state)}
    return {"mlflow.note.content": f"{description} {link}", f"mlflow.sharedViewState.{VIEW}": json.dumps(view)}
