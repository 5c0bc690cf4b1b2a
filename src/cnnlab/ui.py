"""What MLflow's pages show of an experiment: what it is, and a view in which the columns that matter come first."""

import json
from collections.abc import Mapping

VIEW = "cnnlab"  # the view's key in links
_SINCE_MS = 1_767_225_600_000  # a view needs a date, which the list of views is sorted by
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
        "A run a sweep; its trials lie below it (press +). A trial that promised little was stopped early: PRUNED. "
        "Its own artifacts hold summary and figures.",
        ["metrics.`best_validation_accuracy`", "metrics.`baseline_validation_accuracy`", *_STUDIED, *_TRAINING],
    ),
    "ablations": (
        "A run an ablation; below it (press +) lies a run a setting and seed, of which one seed's differ by the "
        "setting alone. Its own artifacts hold the paired effects.",
        [*_STUDIED, *_TRAINING],
    ),
    "transfers": (
        "A run a study; below it (press +) lies a run a target, beginning and seed: from scratch, with frozen features "
        "or fine-tuned. Its own artifacts hold the paired effects.",
        [*(f"tags.`transfer.{name}`" for name in ("mode", "target", "share", "source")), *_STUDIED, *_TRAINING],
    ),
    "reports": (
        "What the pipeline wrote, a run each time: the pages, tables and pictures are among its artifacts and are "
        "read in place.",
        ["attributes.`Description`", "params.`budget`"],
    ),
}
_TRAININGS = [
    "tags.`variant`",
    "metrics.`test_accuracy`",
    "metrics.`validation_accuracy`",
    "metrics.`test_loss`",
    "metrics.`validation_loss`",
    *_TRAINING,
]


def experiment_tags(name: str, experiment_id: str) -> Mapping[str, str]:
    """The tags by which MLflow's pages describe the experiment `name` and offer its view.

    The view is what the pages' own *Views → Save as new view* writes; one that they cannot read costs a message there.
    """
    told, columns = _KINDS.get(
        name.rpartition(" ")[2],
        (
            f"Trainings on {name}, a run a variant and seed. Tick two and press Compare to see what differs; the chart "
            "button above the table draws all curves.",
            _TRAININGS,
        ),
    )
    link = f"[The columns that matter](#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW})"
    state = {"selectedColumns": columns, "columnOrder": columns}
    view = {"name": "What matters", "createdAt": _SINCE_MS, "updatedAt": _SINCE_MS, "state": json.dumps(state)}
    return {"mlflow.note.content": f"{told} {link}", f"mlflow.sharedViewState.{VIEW}": json.dumps(view)}
