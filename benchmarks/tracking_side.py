"""What tracking costs: MLflow's and the checkpoint's share of an epoch.

A side of its own beside sides.py, because MLflow takes seconds to import.
Usage, by bench.py: python benchmarks/tracking_side.py BATCH IMAGES
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import keras
import protocol
from sides import EPOCH, Training, seconds

from cnnlab import errors, files, track
from cnnlab.data.batches import STEPS_PER_CALL
from cnnlab.train.callbacks import Logger, Saver
from cnnlab.train.history import History
from cnnlab.train.loop import fit
from cnnlab.train.state import State


class Tracking:
    """What tracking and checkpoints add to an epoch: seconds of the training thread and of the sending thread.

    They cost the same whatever the images, so they are measured on the round's short epoch, with as many points of the
    curve as a whole one of 45,000 images has, to whose length the epoch's seconds are scaled. MLflow's store is a new
    SQLite file on the disk that holds the checkpoints.
    """

    def __init__(self, batch: int, images: int) -> None:
        self._training = Training(batch, images)
        self._points = -(-EPOCH // (batch * STEPS_PER_CALL))
        files.CHECKPOINTS.mkdir(exist_ok=True)
        # Kept for its end: with it the folder goes. cnnlab's files are relative to where it runs.
        self._folder = tempfile.TemporaryDirectory(prefix="bench-", dir=files.CHECKPOINTS.absolute())
        os.chdir(self._folder.name)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        track.client()

    def round(self) -> protocol.Answer:
        """Train for an epoch with tracking and checkpoints."""
        standing = State()
        tracker = track.Run.start(standing.key, "benchmark", "tracking", {}, {})
        saver = Clocked(Saver(Path("checkpoint.npz"), standing, "benchmark", minutes=5, keep_best=False))
        logger = Clocked(Logger(tracker, standing.history))
        callbacks = [WholeCurve(standing.history, self._points), saver, logger]
        training, history = self._training, standing.history
        fit(training.loop, training.index, training.validation, 1, history=history, callbacks=callbacks)
        before = time.process_time()
        tracker.finish()  # nothing else runs: the processor's time is the sending thread's
        logging = logger.seconds + time.process_time() - before
        return {
            "s an epoch": history.epochs[0]["seconds"] * EPOCH / len(training.index),
            "s of logging": logging,
            "s of logging and checkpoint": logging + saver.seconds,
        }


class WholeCurve(keras.callbacks.Callback):
    """Repeats the last point of an epoch's curve until there are `points`."""

    def __init__(self, history: History, points: int) -> None:
        super().__init__()
        self._history, self._points = history, points

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: D102  # Keras's hook
        curve = self._history.curve
        last = curve[-1]
        curve += [{**last, "images": last["images"] + i} for i in range(1, self._points - len(curve) + 1)]


class Clocked(keras.callbacks.Callback):
    """Adds up the seconds that the hooks of another callback take during an epoch."""

    def __init__(self, inner: keras.callbacks.Callback) -> None:
        super().__init__()
        self.seconds = 0.0
        self._inner = inner

    def set_model(self, model: keras.Model) -> None:  # noqa: D102  # Keras's hook
        self._inner.set_model(model)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: D102
        self.seconds += seconds(lambda: self._inner.on_train_batch_end(batch, logs))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: D102
        self.seconds += seconds(lambda: self._inner.on_epoch_end(epoch, logs))


if __name__ == "__main__":
    batch_size, count = map(int, sys.argv[1:])
    errors.run(lambda: protocol.serve(lambda: Tracking(batch_size, count).round))
