"""One training from its parameters to its files: data, network, loop, checkpoint, MLflow run, predictions."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from cnnlab import track
from cnnlab.data.batches import Resident
from cnnlab.data.catalog import Split, lookup
from cnnlab.data.store import Processed, open_processed
from cnnlab.files import CHECKPOINTS, MODELS, write_text
from cnnlab.nets.build import build
from cnnlab.params import Run
from cnnlab.train import recipe, state
from cnnlab.train.evaluate import score
from cnnlab.train.loop import History, Loop, fit
from cnnlab.train.strategy import strategy as make_strategy


def train_variant(runs: Sequence[Run]) -> None:
    """Train the seeds of one variant and write `models/<set>/<variant>/`, whole or not at all.

    The first seed's files lie in the folder itself, further seeds' in `seed-<n>/`: model.keras, history.csv (a row an
    epoch), curve.csv (a row a compiled call), metrics.json, predictions.npz (logits and labels of validation and test
    images) and run.json (MLflow's run id, the recipe). A killed training continues from its last epoch; a finished seed
    is not trained again.
    """
    first = runs[0]
    strategy = make_strategy(first.replicas)
    checkpoints = CHECKPOINTS / first.data / first.variant
    with _whole_folder(MODELS / first.data / first.variant, checkpoints / "finished") as folder:
        for run in runs:
            seed_folder = folder if run is first else folder / f"seed-{run.seed}"
            seed_folder.mkdir(exist_ok=True)
            Experiment(run, strategy, checkpoints / f"seed-{run.seed}.npz").execute(seed_folder)
    shutil.rmtree(checkpoints, ignore_errors=True)


@dataclass(frozen=True)
class Experiment:
    """One run with the strategy it trains under and the checkpoint it continues from."""

    run: Run
    strategy: tf.distribute.Strategy
    checkpoint: Path

    def execute(self, folder: Path) -> None:
        """Train, score the test set once, and write the run's files into `folder` and to MLflow."""
        data = open_processed(self.run.data)
        train, validation = data.split(self.run.validation, self.run.train_images)
        keras.utils.set_random_seed(self.run.seed)
        with self.strategy.scope():
            model = build(self.run.network, lookup(self.run.data))
            recipe.prepare(model, self.run.optimizer)
            loop = Loop(
                model,
                Resident(data.train_images, data.train_labels),
                self.strategy,
                batch_size=self.run.batch_size,
                augment=self.run.augment,
                seed=self.run.seed,
            )
        tracker, history = self._start(model, data)
        saver = _EpochEnd(self.checkpoint, tracker, history, self._fingerprint(data))
        try:
            fit(loop, train, validation, self.run.epochs, history=history, callbacks=[saver], title=self._title())
            self._write(folder, loop, data, validation, history, tracker)
        except BaseException as error:
            tracker.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        tracker.finish()

    def _start(self, model: keras.Model, data: Processed) -> tuple[track.Run, History]:
        """The MLflow run and history to continue, or new ones."""
        saved = state.restore(self.checkpoint, model, self._fingerprint(data))
        tracker = track.Run.resume(saved.run_id) if saved else None
        if saved:
            print(f"{self._title()}  continues after epoch {len(saved.history.epochs)}")
        if tracker is None:
            tracker = track.Run.start(
                self.run.data,
                self._title(),
                {**self.run.model_dump(), "parameters": model.count_params()},
                {"variant": self.run.variant, "seed": str(self.run.seed), "devices": self._devices()},
                f"Network {self.run.network.name} on {self.run.data}, trained by variant {self.run.variant}.",
            )
            origin = lookup(self.run.data).downloads[0].url
            contexts: dict[Split, str] = {"train": "training", "test": "testing"}
            for split, context in contexts.items():
                tracker.log_data(f"{self.run.data} {split}", data.card["digests"][split], origin, context)
        return tracker, saved.history if saved else History()

    def _write(
        self, folder: Path, loop: Loop, data: Processed, validation: np.ndarray, history: History, tracker: track.Run
    ) -> None:
        with self.strategy.scope():
            test = Resident(data.test_images, data.test_labels)
        logits = {
            "validation": loop.logits(loop.data, validation),
            "test": loop.logits(test, np.arange(len(data.test_labels))),
        }
        labels = {"validation": data.train_labels[validation], "test": np.asarray(data.test_labels)}
        metrics = {
            **{f"{part}_{k}": v for part in logits for k, v in score(logits[part], labels[part]).items()},
            **{f"train_{k}": history.epochs[-1][k] for k in ("loss", "accuracy")},
            "epochs": len(history.epochs),
            "train_seconds": sum(row["seconds"] for row in history.epochs),
            "images_per_s": float(np.median([row["images_per_s"] for row in history.epochs])),
            "parameters": loop.model.count_params(),
        }
        loop.model.save(folder / "model.keras")
        pd.DataFrame(history.epochs).to_csv(folder / "history.csv", index=False)
        pd.DataFrame(history.curve).to_csv(folder / "curve.csv", index=False)
        arrays: dict[str, Any] = {f"{part}_logits": logits[part] for part in logits}
        arrays |= {f"{part}_labels": labels[part] for part in labels}
        np.savez(folder / "predictions.npz", **arrays)
        write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
        record = {"run_id": tracker.id, **self.run.model_dump()}
        write_text(folder / "run.json", json.dumps(record, indent=2) + "\n")
        final = {k: v for k, v in metrics.items() if k.startswith(("test_", "validation_"))}
        tracker.log_metrics([(len(history.epochs), final)])
        tracker.log_model(loop.model, loop.data.take(validation[:2])[0].numpy())
        print(f"{self._title()}  test accuracy {metrics['test_accuracy']:.4f}", flush=True)

    def _title(self) -> str:
        return f"{self.run.variant} seed {self.run.seed}"

    def _devices(self) -> str:
        return ", ".join(sorted(self.strategy.extended.worker_devices))

    def _fingerprint(self, data: Processed) -> str:
        return track.digest({"run": self.run.model_dump(), "data": data.card["digests"]})


class _EpochEnd(keras.callbacks.Callback):
    """After each epoch: save the checkpoint, then log to MLflow what it lacks, in one request.

    What a kill between the two left out is logged when the training is continued, before its next epoch.
    """

    def __init__(self, checkpoint: Path, tracker: track.Run, history: History, fingerprint: str) -> None:
        super().__init__()
        self._checkpoint = checkpoint
        self._tracker = tracker
        self._history = history
        self._fingerprint = fingerprint
        self._logged = max(tracker.steps("loss"), default=0)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._log()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        state.save(self._checkpoint, self.model, state.State(self._history, self._tracker.id), self._fingerprint)
        self._log()

    def _log(self) -> None:
        rows = [row for row in self._history.epochs if row["epoch"] > self._logged]
        points = [point for point in self._history.curve if point["epoch"] > self._logged]
        if rows:
            self._tracker.log_metrics(
                [(int(row["epoch"]), {k: v for k, v in row.items() if k != "epoch"}) for row in rows]
                + [(int(p["images"]), {"curve_loss": p["loss"], "curve_accuracy": p["accuracy"]}) for p in points]
            )
        self._logged = len(self._history.epochs)


@contextmanager
def _whole_folder(folder: Path, partial: Path) -> Iterator[Path]:
    """The empty folder `partial` to fill; it replaces `folder` when the block ends, and a failed block leaves none.

    It lies outside `models/`, which is a dependency of later stages.
    """
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
