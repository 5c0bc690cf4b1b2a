"""One trial in its own process, because TensorFlow never returns memory, and so that a crash ends nothing else."""

import math
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import keras
import optuna
import tensorflow as tf
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from cnnlab import params
from cnnlab.data.store import open_processed
from cnnlab.errors import UserError
from cnnlab.nets.anatomy import training_flop
from cnnlab.nets.registry import build
from cnnlab.studies.ledger import mlflow_entry
from cnnlab.studies.plan import Plan, Slot, temporary_folder
from cnnlab.studies.search.plan import SearchPlan
from cnnlab.studies.storage import open_storage, with_retries
from cnnlab.tracking.runs import TrackedRun
from cnnlab.train.experiment import Experiment, Trained
from cnnlab.train.history import History
from cnnlab.train.strategy import strategy


def main(plan: Plan, parent: str, number: int, slot: Slot, log: Path) -> None:
    """Train trial `number` of the plan's study in `slot` and report the result to the study and to MLflow.

    The trial's MLflow run is a child of run `parent`. Output goes to `log`. If the trial fails, its attributes `reason`
    and `retry` are set and the exit status is not 0. The process ends with the host's process, however that ends.
    """
    _set_up_process(slot, log)
    trial = Trial(plan, parent, number)
    try:
        trial.run()
    except UpdateFinishedTrialError:
        sys.exit("the trial was ended by another process")
    except KeyboardInterrupt:
        trial.set_attrs(reason="interrupted", retry="continue")
        sys.exit(1)
    except Exception as error:
        traceback.print_exc()
        trial.set_attrs(reason=_one_line(error), retry="no" if _is_permanent(error) else "again")
        sys.exit(1)


class Trial:
    """A running trial of a study, seen from its own process."""

    def __init__(self, plan: Plan, parent: str, number: int) -> None:
        self._plan = plan
        self._parent = parent
        self._storage = with_retries(lambda: open_storage(plan.storage))
        self._study = with_retries(
            lambda: optuna.load_study(study_name=plan.study, storage=self._storage, pruner=plan.pruner)
        )
        self._id = with_retries(lambda: self._study.get_trials(deepcopy=False)[number]._trial_id)

    def frozen(self) -> FrozenTrial:
        """The trial's state in the storage."""
        return with_retries(lambda: self._storage.get_trial(self._id))

    def set_attrs(self, **values: Any) -> None:
        """Set user attributes of the trial."""
        for name, value in values.items():
            with_retries(partial(self._storage.set_trial_user_attr, self._id, name, value))

    def report(self, epoch: int, accuracy: float) -> bool:
        """Report the validation accuracy after an epoch, counted from 1; return whether to prune the trial."""
        with_retries(lambda: self._storage.set_trial_intermediate_value(self._id, epoch, accuracy))
        if epoch >= self._plan.epochs:
            return False
        trial = self.frozen()
        worse = with_retries(lambda: self._study.pruner.prune(self._study, trial))  # also records it for comparison
        return worse and trial.user_attrs["role"] == "search"  # the baseline is never pruned

    def run(self) -> None:
        """Train, and report the result."""
        plan, trial = self._plan, self.frozen()
        checkpoint = plan.folder / f"trial-{trial.user_attrs['original']}.npz"
        devices = strategy(plan.devices)  # before the first network is built
        variant = params.Variant.model_validate(trial.user_attrs["variant"])
        images = _affordable_images(plan, variant) if isinstance(plan, SearchPlan) else plan.train_images
        run = plan.run(trial, images)
        pruner = PruningCallback(self)
        experiment = Experiment(run, devices, plan.train, checkpoint, mlflow_entry(plan, self._parent, trial))
        with experiment.trained([pruner.watch]) as done:
            values = self._finish(done, pruner.pruned)
        state = TrialState.PRUNED if pruner.pruned else TrialState.COMPLETE
        with_retries(lambda: self._storage.set_trial_state_values(self._id, state, values))
        checkpoint.unlink(missing_ok=True)

    def _finish(self, done: Trained, pruned: bool) -> list[float]:
        """Record the costs of a training, and return the values of the objectives."""
        history, model = done.history, done.loop.model
        epochs = history.epochs
        images = history.curve[-1]["images"]
        costs = {
            "images": images,
            "steps": len(epochs) * math.ceil(images / len(epochs) / done.loop.batch_size),
            "seconds": sum(row["seconds"] for row in epochs),
            "parameters": model.count_params(),
            "training_flop": training_flop(model) * images,
        }
        self.set_attrs(**costs, top5_accuracy=epochs[-1].get("val_top5_accuracy"))
        second = {"parameters": costs["parameters"], "FLOPs": costs["training_flop"]}
        values = [float(epochs[-1]["val_accuracy"]), *(float(second[name]) for name in self._plan.objectives[1:])]
        if done.tracker:
            done.tracker.log_metrics([(len(epochs), {"validation_accuracy": values[0], **costs})])
            done.tracker.set_tags({"optuna.state": "PRUNED" if pruned else "COMPLETE"})
        return values


class PruningCallback(keras.callbacks.Callback):
    """Reports every epoch, including those before a kill, and stops the training if the study's pruner says so."""

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        self.pruned = False
        self._trial = trial
        self._history = History()

    def watch(self, tracker: TrackedRun, history: History) -> "PruningCallback":
        """Set the MLflow run and the history of the training, and return this callback."""
        self._trial.set_attrs(run_id=tracker.id)
        self._history = history
        return self

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Report the epochs of a resumed training."""
        for row in self._history.epochs:
            self._report(row)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Report the epoch."""
        self._report(self._history.epochs[-1])

    def _report(self, row: dict[str, float]) -> None:
        if self._trial.report(int(row["epoch"]), float(row["val_accuracy"])):
            self.pruned = self.model.stop_training = True


def _affordable_images(plan: SearchPlan, variant: params.Variant) -> int:
    """Largest number of training images that cost at most the FLOPs of the base, so that trials are comparable."""
    data = open_processed(variant.data)
    train, _ = data.split(plan.validation, None)
    base, own = (training_flop(build(v.network, data.card)) for v in (plan.base, variant))
    base_images = min(plan.train_images or len(train), len(train))
    return min(len(train), max(1, base_images * base // own))


def _set_up_process(slot: Slot, log: Path) -> None:
    """Take the slot's cores and GPUs, redirect output to `log`, and end when the parent process ends.

    A forked process ends by `os._exit`, without removing temporary files such as TensorFlow's
    `__autograph_generated_file*.py`. They go to a folder that the host removes, or this process if the host was killed.
    """
    os.setsid()  # the host handles Ctrl-C, and then asks this process to stop
    signal.signal(signal.SIGTERM, _interrupt)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
    temporary = temporary_folder(log)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    tempfile.tempdir = os.environ["TMPDIR"] = str(temporary.absolute())
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(slot.gpus)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, slot.cores)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        if parent:
            parent.join()
        shutil.rmtree(temporary, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _is_permanent(error: Exception) -> bool:
    """Whether a retry would fail in the same way: an error in the settings, but not a lack of memory."""
    return isinstance(error, UserError) and not isinstance(
        error.__cause__, MemoryError | tf.errors.ResourceExhaustedError
    )


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__ if not isinstance(error, UserError) else ''} {error}".split())[:500]
