"""The training that the tests of experiments share, how to run it without MLflow, and how to read its files."""

import csv
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from train.processed import VALIDATION
from train.small import timeless

from cnnlab.data.store import open_processed
from cnnlab.nets.families.homework import Homework
from cnnlab.params import Augment, Optimizer, Run, Schedule, Strategy, Train
from cnnlab.tracking.runs import Entry
from cnnlab.train.experiment import Experiment
from cnnlab.train.strategy import strategy

RUN = Run(
    variant="tiny",
    seed=0,
    data="mnist",
    network=Homework(name="homework", filters=[4], depths=[2], conv_dropout=[0.25], dense_units=8, dense_dropout=0.5),
    validation=VALIDATION,
    train_images=None,
    epochs=2,
    batch_size=16,
    optimizer=Optimizer(name="rmsprop", learning_rate=0.003, schedule=Schedule(name="inverse_time", decay=1e-6)),
    augment=Augment(shift=0.1, flip="random"),
)
KNOBS = Train(feeding="auto", checkpoint_minutes=5)


def make_experiment(run: Run, checkpoint: Path, devices: tf.distribute.Strategy | None = None) -> Experiment:
    entry = Entry(run.data, f"{run.variant} seed {run.seed}")
    return Experiment(run, devices or strategy(Strategy()), KNOBS, checkpoint, entry)


class Recorder:
    """In MLflow's place: keeps how the run ended and what was logged last."""

    id = "recorder"

    def __init__(self) -> None:
        self.status: list[str] = []
        self.final: dict[str, float] = {}

    def log_metrics(self, points: Any, time_ms: int | None = None) -> None:
        self.final = dict(points[-1][1])

    def log_data(self, *_: Any) -> None: ...

    def log_model(self, *_: Any) -> None: ...

    def propose(self, *_: Any) -> None: ...

    def finish(self, status: str = "FINISHED") -> None:
        self.status.append(status)


def loaded(folder: Path) -> list[np.ndarray]:
    return keras.saving.load_model(folder / "model.keras").get_weights()


def rows(path: Path) -> list[dict[str, float]]:
    with path.open() as stream:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def logits_of(model: keras.Model) -> np.ndarray:
    return np.asarray(model.predict(open_processed("mnist").test_images / np.float32(255), verbose=0))


def assert_same_outcome(left: Path, right: Path) -> None:
    assert all(np.array_equal(a, b) for a, b in zip(loaded(left), loaded(right), strict=True))
    for table in ("history.csv", "curve.csv"):
        assert timeless(rows(left / table)) == timeless(rows(right / table))
    with np.load(left / "predictions.npz") as mine, np.load(right / "predictions.npz") as its:
        assert all(np.array_equal(mine[name], its[name]) for name in its.files)
