"""Finished runs written by hand: what stage train leaves, with answers that are right as often as a test wants."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
from PIL import Image

from cnnlab import track
from cnnlab.evidence.effects import effects
from cnnlab.evidence.evaluation import run_folder
from cnnlab.files import write_text
from cnnlab.params import Run

IMAGES = 50
RUN = {"batch normalisation": "normalised"}  # ids have no spaces
ACCURACIES = {  # by setting, of seeds 0, 1, 2: a sure gain, a sure loss, and something that changes nothing for sure
    "lesson": (0.40, 0.42, 0.44),
    "batch normalisation": (0.50, 0.521, 0.539),
    "sigmoid": (0.10, 0.121, 0.139),
    "tanh": (0.40, 0.43, 0.43),
}


def answers(right: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits (IMAGES, 10) and labels: the first `right` images are right, the others are taken for the next class."""
    labels = np.arange(IMAGES) % 10
    predicted = np.where(np.arange(IMAGES) < right, labels, (labels + 1) % 10)
    return (4.0 * np.eye(10, dtype=np.float32))[predicted], labels


def write_run(run: Run, right: int, **metrics: Any) -> str:
    """Write the run's folder below the working one and begin its MLflow run; returns the run's id."""
    folder = run_folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    logits, labels = answers(right)
    np.savez(folder / "predictions.npz", test_logits=logits, test_labels=labels)
    values = {"test_accuracy": right / IMAGES, "test_loss": 1.25, "validation_accuracy": 0.5, "epochs": run.epochs}
    values |= {
        "training_flop": 10**12,
        "parameters": 1000,
        "images_per_s": 500.0,
        "train_seconds": 12.0,
        "train_accuracy": 0.9,
    } | metrics
    (folder / "metrics.json").write_text(json.dumps(values))
    name = f"{run.variant} seed {run.seed}"
    tracker = track.Run.start(uuid4().hex, run.data, name, run.model_dump(), {"seed": str(run.seed)})
    tracker.finish()
    (folder / "run.json").write_text(json.dumps({"run_id": tracker.id}))
    history = {"epoch": [1, 2], "val_loss": [2.0, 1.5], "val_accuracy": [0.3, 0.4]}
    pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
    curve = {"images": [100, 200, 300, 400], "loss": [2.3, 2.0, 1.7, 1.6], "accuracy": [0.1, 0.2, 0.3, 0.35]}
    pd.DataFrame(curve).to_csv(folder / "curve.csv", index=False)
    return tracker.id


def write_ablation(folder: Path) -> None:
    """The tables of stage ablate: four settings with three seeds, a failed one, and a rung."""
    costs = {"seconds": 10.0, "training_flop": 1e9, "parameters": 1000, "state": "COMPLETE", "reason": None}
    runs = [
        {"setting": name, "seed": seed, "accuracy": accuracy, "run_id": f"{RUN.get(name, name)}-{seed}", **costs}
        for name, values in {**ACCURACIES, "better": ACCURACIES["batch normalisation"]}.items()
        for seed, accuracy in enumerate(values)
    ]
    runs.append({**runs[0], "setting": "ELU", "state": "FAIL", "accuracy": None, "reason": "The training diverged."})
    table = pd.DataFrame(runs)
    against = {name: "lesson" for name in ACCURACIES if name != "lesson"}
    write_text(folder / "runs.csv", table.to_csv(index=False))
    write_text(folder / "effects.csv", effects(table, against).to_csv(index=False))
    write_text(folder / "ladder.csv", effects(table, {"better": "lesson"}).to_csv(index=False))


def write_sweep(folder: Path) -> None:
    """The tables of stage sweep: the baseline, a pruned trial and two complete ones."""
    trials = pd.DataFrame({
        "trial": [0, 1, 2, 3], "state": ["COMPLETE", "PRUNED", "COMPLETE", "COMPLETE"],
        "role": ["baseline", "search", "search", "search"], "validation_accuracy": [0.3, 0.9, 0.455, 0.4],
    })  # fmt: skip
    importances = pd.DataFrame({"setting": ["network.kernel", "epochs"], "share": [0.75, 0.25], "trials": [2, 2]})
    write_text(folder / "trials.csv", trials.to_csv(index=False))
    write_text(folder / "importances.csv", importances.to_csv(index=False))


def is_picture(path: Path) -> bool:
    """A PNG that can be read to its end, of a size to look at, with ink on it but mostly paper."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        grey = np.asarray(image.convert("L"))
    return min(grey.shape) >= 400 and 0.005 < (grey < 200).mean() < 0.6
