"""Stage evaluate: from the predictions of a variant's runs to metrics, tables and figures."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cnnlab.data.store import Card, read_card
from cnnlab.evaluation.metrics import (
    METRICS,
    calibration,
    classification,
    coarse_accuracy,
    confidences,
    mean_interval,
    temperature,
)
from cnnlab.evaluation.results import Evaluation, counts
from cnnlab.files import atomic_folder, write_manifest, write_text
from cnnlab.params import Run
from cnnlab.report import plots
from cnnlab.tracking.runs import Parent, TrackedRun
from cnnlab.train.outputs import Outputs

CONFIDENT = 0.9  # an error with at least this confidence is a confident one
MOST_CONFIDENT = 100  # errors of each run that are listed
PER_RUN = ("runs", "classes", "calibration", "errors")  # tables of all runs; the others are of the first seed

Tables = dict[str, pd.DataFrame]


def evaluate_variant(runs: Sequence[Run]) -> None:
    """Write `reports/evaluation/<variant>/` as a whole from the outputs of stage train, and log it to MLflow.

    There, one run per variant and recipe has the metrics of metrics.json, and the evaluated runs as its child runs.

    Shares, accuracies and confidences are in [0, 1]. Tables of all runs begin with `seed` and `run_id` (MLflow's),
    except runs.csv, which begins with `variant` and `data`:

    - metrics.json: means over seeds, and a 95 % interval of the test accuracy;
    - recipe.json: run ID and recipe of the first seed;
    - runs.csv: one row per run: scores, costs, mean `confidence`, expected `calibration_error`, the `temperature` that
      suits the validation images and the `scaled_calibration_error` with it, number of `errors` and of
      `confident_errors`;
    - classes.csv: one row per run and class: `class`, `images`, `recall`;
    - calibration.csv: one row per run and confidence bin: `images`, `confidence`, `accuracy`;
    - errors.csv: one row per error, the most confident of each run first: `image` (index in the test set), `actual`,
      `predicted`, `confidence`;
    - confusion.csv: one row per test image of the first seed: `actual`, `predicted`, `confidence`;
    - curves.csv: learning curves of the first seed: `split` (training, with one row per 32 steps, or validation,
      with one row per epoch), `images` seen, `loss`, `accuracy`;
    - confusion.png, curves.png, and SHA256SUMS, the digests of the others.

    Raises UserError if the outputs of a run are missing or damaged, or if its MLflow journal is.
    """
    card = read_card(runs[0].data)
    classes = list(card["classes"])
    tables = [_tables(run, card) for run in runs]
    all_runs = {name: pd.concat([each[name] for each in tables]) for name in PER_RUN}
    means, recipe = summary(all_runs["runs"]), Outputs.of(runs[0]).record()
    with atomic_folder(Evaluation(runs[0].variant).folder) as folder:
        for name, table in {**tables[0], **all_runs}.items():
            write_text(folder / f"{name}.csv", table.to_csv(index=False))
        write_text(folder / "metrics.json", json.dumps(means, indent=2) + "\n")
        write_text(folder / "recipe.json", json.dumps(recipe, indent=2) + "\n")
        _draw(runs[0].variant, tables[0], classes, folder)
        write_manifest(folder)
    parent = _parent(recipe, all_runs["runs"], means)
    for run, each in zip(runs, tables, strict=True):
        _log(run, each, classes, parent)


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Means over the rows of runs.csv, and the 95 % interval of the test accuracy with the name of its method.

    For one run: Wilson's interval, over test images. For several: Student's t interval, over seeds.
    """
    numbers = table.select_dtypes("number").drop(columns=["seed", "test_accuracy_low", "test_accuracy_high"])
    if len(table) > 1:
        _, low, high = mean_interval(table["test_accuracy"].tolist())
    else:
        low, high = table["test_accuracy_low"].iloc[0], table["test_accuracy_high"].iloc[0]
    return {
        "seeds": len(table),
        "interval": "95 % Student t over seeds" if len(table) > 1 else "95 % Wilson over test images",
        "test_accuracy_low": float(low),
        "test_accuracy_high": float(high),
        **{str(name): float(value) for name, value in numbers.mean().items()},
    }


def _tables(run: Run, card: Card) -> Tables:
    """The tables of one run."""
    outputs = Outputs.of(run)
    logits, labels = outputs.predictions()
    classes = np.array(card["classes"])
    test = classification(logits, labels, len(classes))
    predicted, confidence = logits.argmax(axis=1), confidences(logits)
    images = pd.DataFrame({"actual": classes[labels], "predicted": classes[predicted], "confidence": confidence})
    errors = images[predicted != labels].rename_axis("image").reset_index()
    suitable = temperature(*outputs.predictions("validation"))
    row = {
        "variant": run.variant,
        "data": run.data,
        "seed": run.seed,
        "run_id": outputs.run_id(),
        **outputs.metrics(),
        **{f"test_{name}": test[name] for name in ("accuracy_low", "accuracy_high")},
        **{name: metric(logits, labels) for name, metric in METRICS.items()},
        "temperature": suitable,
        "scaled_calibration_error": METRICS["calibration_error"](logits / suitable, labels),
        "errors": len(errors),
        "confident_errors": int((errors["confidence"] >= CONFIDENT).sum()),
    }
    if card["superclasses"]:
        group = {name: number for number, names in enumerate(card["superclasses"].values()) for name in names}
        row["test_coarse_accuracy"] = coarse_accuracy(logits, labels, np.array([group[name] for name in classes]))
    count = test["confusion"].sum(axis=1)
    each_class = pd.DataFrame({"class": classes, "images": count, "recall": test["recall"]})
    listed = errors.sort_values("confidence", ascending=False, kind="stable").head(MOST_CONFIDENT)
    own = {"classes": each_class, "calibration": calibration(logits, labels)[0], "errors": listed}
    for table in own.values():
        table.insert(0, "seed", run.seed)
        table.insert(1, "run_id", row["run_id"])
    return {"runs": pd.DataFrame([row]), **own, "confusion": images, "curves": _curves(*outputs.curves())}


def _curves(history: pd.DataFrame, curve: pd.DataFrame) -> pd.DataFrame:
    images = (history["epoch"] * curve["images"].max() / len(history)).round().astype(int)
    validation = history[["val_loss", "val_accuracy"]].set_axis(["loss", "accuracy"], axis=1).assign(images=images)
    splits = {"training": curve[["images", "loss", "accuracy"]], "validation": validation}
    return pd.concat(splits, names=["split"]).reset_index("split")


def _draw(variant: str, tables: Tables, classes: list[str], folder: Path) -> list[Path]:
    """Draw the figures of one run into `folder`, and return their paths."""
    row = tables["runs"].iloc[0]
    images = len(tables["confusion"])
    title = f"{variant}, seed {row['seed']}: {100 * row['test_accuracy']:.1f} % of {images:,} test images"
    figures = [folder / "confusion.png", folder / "curves.png"]
    plots.confusions(figures[0], {title: counts(tables["confusion"], classes)}, classes)
    plots.learning_curves(figures[1], {variant: tables["curves"]})
    return figures


def _parent(recipe: Mapping[str, Any], runs: pd.DataFrame, means: Mapping[str, Any]) -> Parent:
    """The MLflow run of a recipe, whatever the seeds and folds of its runs."""
    variant = runs["variant"].iloc[0]
    mean, low, high = (100 * means[f"test_accuracy{end}"] for end in ("", "_low", "_high"))
    interval = f"{low:.1f}–{high:.1f} % ({means['interval']})"
    return Parent(
        variant,
        {name: value for name, value in recipe.items() if name not in ("run_id", "seed", "fold")},
        runs["run_id"].tolist(),
        {name: value for name, value in means.items() if name != "interval"},
        {"variant": variant, "interval": interval},
        f"Variant {variant}: test accuracy {mean:.1f} %, interval {interval}, n = {means['seeds']}. The child runs are "
        "its seeds.",
    )


def _log(run: Run, tables: Tables, classes: list[str], parent: Parent) -> None:
    row = tables["runs"].iloc[0]
    if (tracker := TrackedRun.resume(row["run_id"])) is None:
        print(f"MLflow run {row['run_id']} is not in the tracking store: its evaluation is not logged")
        return
    tracker.join(parent)
    interval = {name: row[name] for name in ("test_accuracy_low", "test_accuracy_high")}
    tracker.log_metrics([(int(row["epochs"]), interval)])
    with tempfile.TemporaryDirectory() as temporary:
        for figure in _draw(run.variant, tables, classes, Path(temporary)):
            tracker.log_file(figure, "figures")
        tracker.finish()
