"""The cost of tracking: the share of MLflow and of a checkpoint in an epoch.

Separate from sides.py because MLflow takes seconds to import.
Usage: python benchmarks/tracking_side.py BATCH IMAGES
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import keras
import protocol
from sides import EPOCH, Training, seconds

from cnnlab import errors, files
from cnnlab.data.batches import STEPS_PER_CALL
from cnnlab.tracking import runs as track
from cnnlab.tracking import store as tracking_store
from cnnlab.train.callbacks import Logger, Saver
from cnnlab.train.checkpoints import State
from cnnlab.train.history import History
from cnnlab.train.loop import fit


class Tracking:
    """Seconds that tracking and checkpoints add to an epoch, in the training thread and in the uploading thread.

    They do not depend on the images, so they are measured on the round's short epoch, with the number of curve points
    of an epoch of 45,000 images; the epoch's seconds are scaled to that length. MLflow's store is a new SQLite file on
    the disk of the checkpoints.
    """

    def __init__(self, batch: int, images: int) -> None:
        self._training = Training(batch, images)
        self._points = -(-EPOCH // (batch * STEPS_PER_CALL))
        files.CHECKPOINTS.mkdir(exist_ok=True)
        # An attribute: the folder is deleted with the object. cnnlab's paths are relative to the working folder.
        self._folder = tempfile.TemporaryDirectory(prefix="bench-", dir=files.CHECKPOINTS.absolute())
        os.chdir(self._folder.name)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        tracking_store.client()

    def round(self) -> protocol.Measurement:
        """Train for one epoch with tracking and checkpoints."""
        state = State()
        tracker = track.TrackedRun.start(state.key, "benchmark", "tracking", {}, {})
        saver = Clocked(Saver(Path("checkpoint.npz"), state, "benchmark", minutes=5, keep_best=False))
        logger = Clocked(Logger(tracker, state.history))
        callbacks = [WholeCurve(state.history, self._points), saver, logger]
        training, history = self._training, state.history
        fit(training.loop, training.index, training.validation, 1, history=history, callbacks=callbacks)
        before = time.process_time()
        tracker.finish()  # nothing else runs, so all CPU time is the uploading thread's
        logging = logger.seconds + time.process_time() - before
        return {
            "s per epoch": history.epochs[0]["seconds"] * EPOCH / len(training.index),
            "s of logging": logging,
            "s of logging and checkpoint": logging + saver.seconds,
        }


class WholeCurve(keras.callbacks.Callback):
    """Repeats the last point of an epoch's curve up to a total of `points`."""

    def __init__(self, history: History, points: int) -> None:
        super().__init__()
        self._history, self._points = history, points

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: D102  # Keras's hook
        curve = self._history.curve
        last = curve[-1]
        curve += [{**last, "images": last["images"] + i} for i in range(1, self._points - len(curve) + 1)]


class Clocked(keras.callbacks.Callback):
    """Sums the seconds that the hooks of another callback take during an epoch."""

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
