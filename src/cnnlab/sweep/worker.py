"""One trial in a process of its own: TensorFlow never gives memory back, and a crash takes nothing else down."""

import math
import multiprocessing
import os
import signal
import sys
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

from cnnlab import params, track
from cnnlab.data.store import open_processed
from cnnlab.errors import UserError
from cnnlab.nets.anatomy import training_flop
from cnnlab.nets.build import build
from cnnlab.sweep.plan import Plan, Share, entry
from cnnlab.sweep.search import Search
from cnnlab.sweep.storage import open_storage, patiently
from cnnlab.train.experiment import Experiment, Trained
from cnnlab.train.history import History
from cnnlab.train.strategy import strategy


def main(plan: Plan, parent: str, number: int, share: Share, log: Path) -> None:
    """Train trial `number` of the plan's study on `share` and tell the study the result; MLflow has it under `parent`.

    What is printed goes to `log`. A trial that fails is left to the sweep, with `reason` and `retry` set and a non-zero
    exit status. The process ends with the sweep's process, whatever ends that.
    """
    _settle_in(share, log)
    trial = Trial(plan, parent, number)
    try:
        trial.run()
    except UpdateFinishedTrialError:
        sys.exit("the trial was ended from outside")
    except KeyboardInterrupt:
        trial.note(reason="interrupted", retry="continue")
        sys.exit(1)
    except Exception as error:
        traceback.print_exc()
        trial.note(reason=_line(error), retry="no" if _certain(error) else "again")
        sys.exit(1)


class Trial:
    """A running trial of a study as its process sees it."""

    def __init__(self, plan: Plan, parent: str, number: int) -> None:
        self._plan = plan
        self._parent = parent
        self._storage = patiently(lambda: open_storage(plan.storage))
        self._study = patiently(
            lambda: optuna.load_study(study_name=plan.study, storage=self._storage, pruner=plan.pruner)
        )
        self._id = patiently(lambda: self._study.get_trials(deepcopy=False)[number]._trial_id)

    def frozen(self) -> FrozenTrial:
        """The trial as the storage knows it."""
        return patiently(lambda: self._storage.get_trial(self._id))

    def note(self, **values: Any) -> None:
        """Set user attributes of the trial."""
        for name, value in values.items():
            patiently(partial(self._storage.set_trial_user_attr, self._id, name, value))

    def report(self, epoch: int, accuracy: float) -> bool:
        """Tell the validation accuracy after an epoch, counted from 1; whether the trial should be pruned now."""
        patiently(lambda: self._storage.set_trial_intermediate_value(self._id, epoch, accuracy))
        if epoch >= self._plan.epochs:
            return False
        trial = self.frozen()
        worse = patiently(lambda: self._study.pruner.prune(self._study, trial))  # which also enters it for comparison
        return worse and trial.user_attrs["role"] == "search"  # the baseline runs in full

    def run(self) -> None:
        """Train, and tell the study the result."""
        plan, trial = self._plan, self.frozen()
        checkpoint = plan.folder / f"trial-{trial.user_attrs['original']}.npz"
        devices = strategy(plan.devices)  # before the first network is built
        variant = params.Variant.model_validate(trial.user_attrs["variant"])
        images = _affordable_images(plan, variant) if isinstance(plan, Search) else plan.train_images
        run = plan.run(trial, images)
        shown = entry(plan, self._parent, trial)
        pruner = Pruner(self)
        experiment = Experiment(run, devices, plan.train, checkpoint, shown)
        with experiment.trained([pruner.watch]) as done:
            values = self._finish(done, pruner.pruned)
        state = TrialState.PRUNED if pruner.pruned else TrialState.COMPLETE
        patiently(lambda: self._storage.set_trial_state_values(self._id, state, values))
        checkpoint.unlink(missing_ok=True)

    def _finish(self, done: Trained, pruned: bool) -> list[float]:
        history, model = done.history, done.loop.model
        epochs = history.epochs
        images = history.curve[-1]["images"]
        facts = {
            "steps": len(epochs) * math.ceil(images / len(epochs) / done.loop.batch_size),
            "seconds": sum(row["seconds"] for row in epochs),
            "parameters": model.count_params(),
            "training_flop": training_flop(model) * images,
        }
        self.note(**facts)
        second = {"parameters": facts["parameters"], "FLOPs": facts["training_flop"]}
        values = [float(epochs[-1]["val_accuracy"]), *(float(second[name]) for name in self._plan.objectives[1:])]
        if done.tracker:
            done.tracker.log_metrics([(len(epochs), {"validation_accuracy": values[0], **facts})])
            done.tracker.set_tags({"optuna.state": "PRUNED" if pruned else "COMPLETE"})
        return values


class Pruner(keras.callbacks.Callback):
    """Reports every epoch, those before a kill included, and stops the training where the study's pruner says so."""

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        self.pruned = False
        self._trial = trial
        self._history = History()

    def watch(self, tracker: track.Run, history: History) -> "Pruner":
        """This, once run and history are known."""
        self._trial.note(run_id=tracker.id)
        self._history = history
        return self

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Report what a continued training has behind it."""
        for row in self._history.epochs:
            self._report(row)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Report the epoch."""
        self._report(self._history.epochs[-1])

    def _report(self, row: dict[str, float]) -> None:
        if self._trial.report(int(row["epoch"]), float(row["val_accuracy"])):
            self.pruned = self.model.stop_training = True


def _affordable_images(plan: Search, variant: params.Variant) -> int:
    """As many training images as cost at most what the base costs on its own: equal FLOPs make trials comparable."""
    data = open_processed(variant.data)
    train, _ = data.split(plan.validation, None)
    base, own = (training_flop(build(v.network, data.card)) for v in (plan.base, variant))
    few = min(plan.train_images or len(train), len(train))
    return min(len(train), max(1, few * base // own))


def _settle_in(share: Share, log: Path) -> None:
    """Take the share of the machine, send output to `log`, and end when the parent ends."""
    os.setsid()  # Ctrl-C is the sweep's affair, which then asks for an end
    signal.signal(signal.SIGTERM, _interrupt)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
    if share.gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(share.gpus)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share.cores)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        if parent:
            parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _certain(error: Exception) -> bool:
    """Whether the trial would fail in the same way again: a mistake in its settings, but not a lack of memory."""
    return isinstance(error, UserError) and not isinstance(
        error.__cause__, MemoryError | tf.errors.ResourceExhaustedError
    )


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__ if not isinstance(error, UserError) else ''} {error}".split())[:500]
