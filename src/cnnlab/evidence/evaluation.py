"""From the predictions of a variant's runs to its metrics, tables and pictures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cnnlab import track
from cnnlab.data.store import Card, read_card
from cnnlab.errors import UserError
from cnnlab.evidence import figures
from cnnlab.files import MODELS, REPORTS, write_text
from cnnlab.params import Run
from cnnlab.train.evaluate import classification, coarse_accuracy, mean_interval

EVALUATION = REPORTS / "evaluation"


def run_folder(run: Run) -> Path:
    """Where stage train left a run: the variant's folder for the first seed, `seed-<n>` in it for further ones."""
    folder = MODELS / run.data / run.variant
    return folder / f"seed-{run.seed}" if run.seed else folder


def evaluate_variant(runs: Sequence[Run]) -> None:
    """Write `reports/evaluation/<variant>/` from the logits that stage train saved, and add the pictures to MLflow.

    metrics.json: means over seeds, with a 95 % interval of the test accuracy; runs.csv: a row a run; confusion.csv: a
    row a test image of the first seed; confusion.png and curves.png. Raises UserError where a run is missing.
    """
    card = read_card(runs[0].data)
    folder = EVALUATION / runs[0].variant
    table = pd.DataFrame([_run_row(run, card) for run in runs])
    write_text(folder / "runs.csv", table.to_csv(index=False))
    write_text(folder / "metrics.json", json.dumps(summary(table), indent=2) + "\n")
    for run in reversed(runs):  # the first seed's pictures are the ones that stay
        _draw(run, folder, list(card["classes"]))
        _add_to_mlflow(run, folder)


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Means over the runs of a variant and the 95 % interval of the test accuracy, with how it was taken.

    One run: Wilson's interval, which speaks of the test images only. Several: Student's over seeds.
    """
    numbers = table.drop(columns=["variant", "data", "seed", "run_id", "test_accuracy_low", "test_accuracy_high"])
    if len(table) > 1:
        _, low, high = mean_interval(table["test_accuracy"].tolist())
    else:
        low, high = table["test_accuracy_low"][0], table["test_accuracy_high"][0]
    return {
        "seeds": len(table),
        "interval": "95 % Student t over seeds" if len(table) > 1 else "95 % Wilson over test images",
        "test_accuracy_low": float(low),
        "test_accuracy_high": float(high),
        **{str(name): float(value) for name, value in numbers.mean().items()},
    }


def _run_row(run: Run, card: Card) -> dict[str, Any]:
    folder = run_folder(run)
    try:
        metrics = json.loads((folder / "metrics.json").read_text())
        run_id = json.loads((folder / "run.json").read_text())["run_id"]
        logits, labels = _predictions(folder)
    except FileNotFoundError as error:
        raise UserError(
            f"Run {run.variant} seed {run.seed} is missing. Expected {error.filename}. "
            f"Run: make train VARIANT={run.variant}"
        ) from error
    test = classification(logits, labels, list(card["classes"]))
    told = {f"test_{name}": test[name] for name in ("accuracy_low", "accuracy_high")}
    if card["superclasses"]:
        told["test_coarse_accuracy"] = coarse_accuracy(logits, labels, _groups(card))
    return {"variant": run.variant, "data": run.data, "seed": run.seed, "run_id": run_id, **metrics, **told}


def _predictions(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of the test images."""
    with np.load(folder / "predictions.npz", allow_pickle=False) as file:
        return file["test_logits"], file["test_labels"]


def _groups(card: Card) -> np.ndarray:
    """The number of each class's superclass."""
    group = {name: number for number, members in enumerate(card["superclasses"].values()) for name in members}
    return np.array([group[name] for name in card["classes"]])


def _draw(run: Run, folder: Path, classes: list[str]) -> None:
    source = run_folder(run)
    logits, labels = _predictions(source)
    test = classification(logits, labels, classes)
    title = f"{run.variant}, seed {run.seed}: {100 * test['accuracy']:.1f} % of {test['images']:,} test images"
    figures.confusion(folder / "confusion.png", np.array(test["confusion"]), classes, title)
    history, curve = pd.read_csv(source / "history.csv"), pd.read_csv(source / "curve.csv")
    figures.learning_curves(folder / "curves.png", {run.variant: (history, curve)})
    names = np.array(classes)
    pairs = pd.DataFrame({"actual": names[labels], "predicted": names[logits.argmax(axis=1)]})
    write_text(folder / "confusion.csv", pairs.to_csv(index=False))


def _add_to_mlflow(run: Run, folder: Path) -> None:
    run_id = json.loads((run_folder(run) / "run.json").read_text())["run_id"]
    tracker = track.Run.resume(run_id)
    if tracker is None:
        print(f"MLflow run {run_id} is not in the tracking store: the pictures are in {folder} only")
        return
    for picture in ("confusion.png", "curves.png"):
        tracker.log_file(folder / picture, "figures")
    tracker.finish()
