"""Callbacks of a training: checkpoints, MLflow logging, early stopping."""

import time
from pathlib import Path

import keras
import numpy as np

from cnnlab.tracking.runs import TrackedRun
from cnnlab.train import checkpoints
from cnnlab.train.history import History
from cnnlab.train.machine import Machine


class Saver(keras.callbacks.Callback):
    """Saves a checkpoint after every epoch, and every `minutes` within an epoch.

    With `keep_best`, the epoch with the lowest validation loss is also saved to `best`.
    """

    def __init__(
        self, path: Path, progress: checkpoints.State, fingerprint: str, minutes: float, keep_best: bool
    ) -> None:
        super().__init__()
        self.best = path.with_suffix(".best.npz")
        self._path = path
        self._keep_best = keep_best
        self._progress = progress
        self._fingerprint = fingerprint
        self._seconds = 60 * minutes
        self._saved_at = time.monotonic()

    def save(self) -> None:
        """Save now, unless a weight is not finite: then the last good checkpoint stays."""
        if checkpoints.is_finite(self.model):
            checkpoints.save(self._path, self.model, self._progress, self._fingerprint)
        self._saved_at = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if time.monotonic() - self._saved_at >= self._seconds:
            self.save()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self._keep_best and not epochs_since_best(self._progress.history):
            checkpoints.save(self.best, self.model, self._progress, self._fingerprint)
        self.save()


class EarlyStopping(keras.callbacks.Callback):
    """Stops after `patience` epochs without a lower validation loss.

    Keras's EarlyStopping counts in memory, so a resumed training would count from zero.
    """

    def __init__(self, history: History, patience: int | None) -> None:
        super().__init__()
        self._history = history
        self._patience = patience

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._stop_if_due()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._stop_if_due()

    def _stop_if_due(self) -> None:
        if self._patience and epochs_since_best(self._history) >= self._patience:
            self.model.stop_training = True


class Logger(keras.callbacks.Callback):
    """Logs each epoch, its part of the curve and the machine's load at its end to MLflow, in one record.

    A resumed training logs its earlier epochs again: a kill may have prevented the last record, and a deleted run has
    none. MLflow stores points of the same time, step and value once.
    """

    def __init__(self, tracker: TrackedRun, history: History) -> None:
        super().__init__()
        self._tracker = tracker
        self._machine = Machine()
        self._history = history

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        for row in self._history.epochs:
            self._log(row, {})

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._log(self._history.epochs[-1], self._machine.load())

    def _log(self, row: dict[str, float], load: dict[str, float]) -> None:
        values = {k: v for k, v in row.items() if k not in ("epoch", "time")} | load
        curve = [point for point in self._history.curve if point["epoch"] == row["epoch"]]
        points = [(int(p["images"]), {"curve_loss": p["loss"], "curve_accuracy": p["accuracy"]}) for p in curve]
        self._tracker.log_metrics([(int(row["epoch"]), values), *points], time_ms=int(row["time"]))


def epochs_since_best(history: History) -> int:
    """Epochs since the one with the lowest validation loss; 0 before the first."""
    losses = [row["val_loss"] for row in history.epochs]
    return len(losses) - 1 - int(np.argmin(losses)) if losses else 0
