"""Outputs of finished stages, written by hand, with any number of correct predictions."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
from PIL import Image

from cnnlab import params
from cnnlab.course.classic import METHODS
from cnnlab.course.compute import write_tables
from cnnlab.course.trainings import contrasts
from cnnlab.evaluation.effects import effects
from cnnlab.files import write_manifest, write_text
from cnnlab.params import Run
from cnnlab.see.best import FIGURES, SEE
from cnnlab.studies.transfer.adaptations import describe
from cnnlab.tracking import runs as track
from cnnlab.train.outputs import Outputs

IMAGES = 50
RUN = {"batch normalisation": "normalised"}  # ids have no spaces
ACCURACIES = {  # by setting, of seeds 0, 1, 2: a clear gain, a clear loss, and no clear change
    "lesson": (0.40, 0.42, 0.44),
    "batch normalisation": (0.50, 0.521, 0.539),
    "sigmoid": (0.10, 0.121, 0.139),
    "tanh": (0.38, 0.44, 0.44),
}


def predictions(right: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits (IMAGES, 10) and labels: the first `right` images are right, the others are taken for the next class."""
    labels = np.arange(IMAGES) % 10
    predicted = np.where(np.arange(IMAGES) < right, labels, (labels + 1) % 10)
    return (4.0 * np.eye(10, dtype=np.float32))[predicted], labels


def write_run(run: Run, right: int, **metrics: Any) -> str:
    """Write the run's folder below the working one and begin its MLflow run; returns the run's id."""
    folder = Outputs.of(run).folder
    folder.mkdir(parents=True, exist_ok=True)
    logits, labels = predictions(right)
    arrays = {"test_logits": logits, "test_labels": labels, "validation_logits": logits, "validation_labels": labels}
    np.savez(folder / "predictions.npz", **arrays)
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
    tracker = track.TrackedRun.start(uuid4().hex, run.data, name, run.model_dump(), {"seed": str(run.seed)})
    tracker.log_metrics([(run.epochs, {"test_accuracy": right / IMAGES})])
    tracker.finish()
    (folder / "run.json").write_text(json.dumps({"run_id": tracker.id, **run.model_dump()}))
    history = {"epoch": [1, 2], "val_loss": [2.0, 1.5], "val_accuracy": [0.3, 0.4]}
    pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
    curve = {"images": [100, 200, 300, 400], "loss": [2.3, 2.0, 1.7, 1.6], "accuracy": [0.1, 0.2, 0.3, 0.35]}
    pd.DataFrame(curve).to_csv(folder / "curve.csv", index=False)
    write_manifest(folder)
    return tracker.id


def write_ablation(folder: Path, seeds: int = 3, steps: Sequence[str] = ("better",)) -> None:
    """The tables of stage ablate: four settings with several seeds, a failed one, and steps of a ladder.

    The last variant is compared with the lesson's network without batch normalisation, too, which is an ingredient.
    """
    costs = {"seconds": 10.0, "images": 2560, "steps": 80, "training_flop": 1e9, "parameters": 1000, "chance": 0.1}
    costs |= {"state": "COMPLETE", "reason": None}
    runs = [
        {"setting": name, "seed": seed, "accuracy": accuracy, "run_id": f"{RUN.get(name, name)}-{seed}", **costs}
        for name, values in {**ACCURACIES, **dict.fromkeys(steps, ACCURACIES["batch normalisation"])}.items()
        for seed, accuracy in enumerate(values[:seeds])
    ]
    failed = {"state": "FAIL", "accuracy": None, "reason": "The training diverged.", "run_id": None}
    runs.append({**runs[0], "setting": "ELU", **failed})
    table = pd.DataFrame(runs)
    names = [{"factor": name, "setting": name} for name in ACCURACIES if name != "lesson"]
    names += [{"step": step, "ingredient": "batch normalisation", "setting": step} for step in steps]
    contrasts = pd.DataFrame(names, columns=["factor", "step", "ingredient", "setting"]).assign(base="lesson")
    found = effects(table, [*zip(contrasts["setting"], contrasts["base"], strict=True)])
    write_text(folder / "runs.csv", table.to_csv(index=False))
    changed = [{"setting": step, "base": "lesson", "key": "batch_size", "from": 32, "to": 64} for step in steps]
    keys = ["setting", "base", "key", "from", "to"]
    write_text(folder / "changes.csv", pd.DataFrame(changed, columns=keys).to_csv(index=False))
    write_text(folder / "effects.csv", contrasts.merge(found, on=["setting", "base"]).to_csv(index=False))
    write_manifest(folder)


def write_leave_one_out(folder: Path) -> None:
    """A folder of docs/results with a long study of `improved` without each of two ingredients, with two seeds."""
    accuracies = {"improved": (0.86, 0.862), "without Muon": (0.85, 0.848), "without global pooling": (0.864, 0.866)}
    costs = {"seconds": 300.0, "images": 180_000, "training_flop": 1e13, "parameters": 1000, "state": "COMPLETE"}
    runs = [
        {"setting": name, "seed": seed, "accuracy": accuracy, "run_id": f"{name}-{seed}", **costs}
        for name, values in accuracies.items()
        for seed, accuracy in enumerate(values)
    ]
    ingredients = ("Muon", "global pooling")
    contrasts = [{"ingredient": one, "setting": "improved", "base": f"without {one}"} for one in ingredients]
    write_text(folder / "runs.csv", pd.DataFrame(runs).to_csv(index=False))
    write_text(folder / "effects.csv", pd.DataFrame(contrasts).to_csv(index=False))


TRANSFERRED = {  # accuracies of seeds 0, 1, 2, by share, starting point and change
    (0.01, "from scratch", ""): (0.40, 0.42, 0.44),
    (0.01, "frozen", ""): (0.60, 0.621, 0.639),
    (0.01, "fine-tuned", ""): (0.39, 0.43, 0.44),
    (1.0, "from scratch", ""): (0.60, 0.62, 0.64),
    (1.0, "frozen", ""): (0.40, 0.421, 0.439),
    (1.0, "from scratch", "half the filters"): (0.30, 0.321, 0.339),
}


def write_transfer(folder: Path, lacking: Sequence[str] = ()) -> None:
    """The tables of stage transfer for networks lesson and improved: MNIST, ImageNet, and what is unavailable."""
    facts = {"target": "mnist", "network": "improved", "state": "COMPLETE", "reason": None, "images": 640, "steps": 20}
    facts |= {"seconds": 10.0, "training_flop": 1e12, "parameters": 1000, "chance": 0.1, "top5_accuracy": 0.95}

    def named(share: float, mode: str, change: str) -> str:
        return f"mnist {share:g} {mode} {change}".strip()

    runs = pd.DataFrame([
        {"setting": named(*key), "share": key[0], "mode": key[1], "change": key[2],
         "source": "" if key[1] == "from scratch" else "lesson", "seed": seed, "accuracy": accuracy,
         "run_id": f"{key[1].replace(' ', '-')}-{key[0]:g}-{seed}", **facts}
        for key, values in TRANSFERRED.items() for seed, accuracy in enumerate(values)
    ])  # fmt: skip
    pairs = [(named(*key), named(key[0], "from scratch", "")) for key in TRANSFERRED if key[1:] != ("from scratch", "")]
    known = runs.drop_duplicates("setting")[["setting", "target", "network", "mode", "source", "change", "share"]]
    write_text(folder / "runs.csv", runs.to_csv(index=False))
    write_text(folder / "effects.csv", known.merge(effects(runs, pairs), on="setting").to_csv(index=False))
    reasons = pd.DataFrame([(name, "The set is away.") for name in lacking], columns=["name", "reason"])
    write_text(folder / "lacking.csv", reasons.to_csv(index=False))
    shipped = params.load(Path(__file__).parents[1] / "params.yaml").variants
    describe({name: shipped[name] for name in ("lesson", "improved")}, ["mnist"], folder)
    write_manifest(folder)


def write_sweep(folder: Path) -> None:
    """The tables of stage sweep: the baseline, two complete trials, one that failed, its second attempt, pruned."""
    trials = pd.DataFrame({
        "trial": [0, 1, 2, 3, 4], "state": ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE", "PRUNED"],
        "role": ["baseline", "search", "search", "search", "search"],
        "validation_accuracy": [0.3, 0.9, 0.455, 0.455, 0.4], "training_flop": [10, 10, 9, 8, 7],
        "original": [0, 1, 2, 3, 1], "run_id": [f"trial-{number}" for number in range(5)],
    })  # fmt: skip
    importances = pd.DataFrame({
        "setting": ["network.kernel", "epochs"], "share": [0.75, 0.25], "trials": [2, 2], "hint": [True, True],
        "run_ids": ["trial-2 trial-3"] * 2,
    })  # fmt: skip
    write_text(folder / "trials.csv", trials.to_csv(index=False))
    write_text(folder / "importances.csv", importances.to_csv(index=False))
    write_manifest(folder)


def is_picture(path: Path) -> bool:
    """Whether a file is a complete PNG, large enough for a reader, with ink on mostly white paper."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        grey = np.asarray(image.convert("L"))
    return min(grey.shape) >= 400 and 0.005 < (grey < 200).mean() < 0.6


def write_course(parameters: params.Params, folder: Path) -> None:
    """The tables of stages lesson and see, and a small image for each of their figures."""
    write_tables(parameters, folder)
    methods = [
        {"data": data, "method": name, "train_images": 45_000, "parameters": 1000 * (place + 1), "fit_seconds": 2.0,
         "images_per_s": 5000.0, "accuracy": accuracy, "low": accuracy - 0.01, "high": accuracy + 0.01}
        for data, accuracies in (("mnist", (0.8, 0.85, 0.95, 0.97, 0.96)), ("cifar10", (0.3, 0.25, 0.52, 0.51, 0.4)))
        for place, (name, accuracy) in enumerate(zip(METHODS, accuracies, strict=True))
    ]  # fmt: skip
    trained = [
        {"data": data, "setting": f"{data}, {network}, {given}", "network": network, "input": given, "seed": seed,
         "parameters": 50_000, "train_images": 4096, "steps": 256, "test_images": 5000, "chance": 0.1, "seconds": 2.0,
         "accuracy": accuracy + 0.001 * seed}
        for data, network, given, accuracy in (
            ("mnist", "dense", "pixels", 0.88), ("mnist", "dense", "HOG", 0.94),
            ("mnist", "convolutional", "pixels", 0.92), ("mnist", "dense", "shuffled pixels", 0.881),
            ("mnist", "convolutional", "shuffled pixels", 0.8),
            ("cifar10", "dense", "pixels", 0.33), ("cifar10", "dense", "HOG", 0.51),
            ("cifar10", "convolutional", "pixels", 0.43),
        )
        for seed in range(3)
    ]  # fmt: skip
    write_text(folder / "trainings.csv", pd.DataFrame(trained).to_csv(index=False))
    write_text(folder / "contrasts.csv", contrasts(pd.DataFrame(trained)).to_csv(index=False))
    looks = {"units": 32, "selective": 0.75, "index": 0.36, "neighbours": 0.5, "images_per_s": 9000.0, "images": 1000}
    looks |= {
        "controls": 3,
        "untrained_selective": 0.7,
        "untrained_selective_low": 0.6,
        "untrained_selective_high": 0.8,
    }
    looks |= {"untrained_index": 0.25, "untrained_index_low": 0.2, "untrained_index_high": 0.3, "unchanged_0": 0.9}
    looks |= {"shifted_4": 0.8, "shifted_8": 0.7, "shuffled_2": 0.3, "shuffled_4": 0.2}
    seen = [{"data": data, "variant": name, "run_id": f"{name}-0", **looks}
            for data, name in (("mnist", "slides"), ("cifar10", "improved"))]  # fmt: skip
    write_text(folder / "methods.csv", pd.DataFrame(methods).to_csv(index=False))
    deep = [{"data": row["data"], "variant": row["variant"], "run_id": row["run_id"], "depth": depth, "field": 3,
             "maps": 32, "images": 1000, "seeds": 3, "accuracy": 0.4 * depth, "untrained": 0.3}
            for row in seen for depth in (1, 2)]  # fmt: skip
    write_text(SEE / "depths.csv", pd.DataFrame(deep).to_csv(index=False))
    figures = ("activations", "convolution", "detector", "exercise", "flipped", "matrix", "padding", "pooling")
    for name in (*figures, "channels-cifar10", "padding-cifar10"):
        _small_picture(folder / f"{name}.png")
    for row in seen:
        for name in ("templates", "weights"):
            _small_picture(folder / f"{name}-{row['data']}.png")
        for name in FIGURES:
            _small_picture(SEE / row["variant"] / f"{name}.png")
        write_manifest(SEE / row["variant"])
    write_text(SEE / "seen.csv", pd.DataFrame(seen).to_csv(index=False))
    write_manifest(SEE)
    write_manifest(folder)


def _small_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), 200).save(path)
