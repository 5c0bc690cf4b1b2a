"""One training, end to end: data, network, loop, checkpoints, MLflow run, output files."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from cnnlab import params
from cnnlab.catalog import Split
from cnnlab.data.batches import place
from cnnlab.data.store import Processed, identity, open_processed
from cnnlab.errors import UserError, on_interrupt
from cnnlab.files import CHECKPOINTS, atomic_folder, temporary_files_in
from cnnlab.nets.anatomy import training_flop
from cnnlab.nets.inference import inference_model
from cnnlab.nets.registry import build
from cnnlab.nets.weights import transfer_weights
from cnnlab.tracking.registry import Proposal
from cnnlab.tracking.runs import Entry, TrackedRun, digest
from cnnlab.train import checkpoints, optimizers, outputs
from cnnlab.train.callbacks import EarlyStopping, Logger, Saver
from cnnlab.train.card import model_card
from cnnlab.train.history import History
from cnnlab.train.loop import Interrupted, Loop, fit
from cnnlab.train.scores import score
from cnnlab.train.strategy import broadcast, is_chief, sum_over_workers, worker_index, workers
from cnnlab.train.strategy import strategy as make_strategy

Watcher = Callable[[TrackedRun, History], keras.callbacks.Callback]

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # Keras's dtype policies
LOST_WORKER = (  # what TensorFlow raises on the remaining workers
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)


def train_variant(
    runs: Sequence[params.Run], devices: params.Strategy, knobs: params.Train, language: str = "en"
) -> None:
    """Train one variant for each seed in `runs` and write all its `outputs`, or none if a training fails.

    A killed training resumes from its last checkpoint, and finished seeds are not trained again. Every worker of a
    cluster calls this; only the chief writes. Model cards are in `language`.
    """
    target = outputs.Outputs(runs[0].data, runs[0].variant).folder
    identity = outputs.identity(runs, devices)
    strategy = make_strategy(devices)
    folder = CHECKPOINTS / runs[0].data / runs[0].variant
    chief = is_chief(strategy)
    finished = folder / "finished"  # not in models/, which later stages depend on
    with (
        temporary_files_in(folder / f"worker-{worker_index(strategy)}.tmp"),
        atomic_folder(target, finished) if chief else nullcontext(finished),
    ):
        for run in runs:
            entry = Entry(run.data, f"{run.variant} seed {run.seed}")
            Experiment(run, strategy, knobs, folder / f"seed-{run.seed}.npz", entry).execute(
                finished / outputs.Outputs.of(run).folder.relative_to(target), language
            )
        if chief:
            outputs.write_identity(finished, identity)
    if chief:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Trained:
    """A finished training: model, data, and the indices it was trained and validated on.

    `tracker` is None for every worker but the chief.
    """

    loop: Loop
    data: Processed
    train: np.ndarray
    validation: np.ndarray
    history: History
    tracker: TrackedRun | None


@dataclass(frozen=True)
class Experiment:
    """A run, the strategy it trains under, the checkpoint it resumes from, and its entry in MLflow."""

    run: params.Run
    strategy: tf.distribute.Strategy
    knobs: params.Train
    checkpoint: Path
    entry: Entry

    def execute(self, folder: Path, language: str = "en") -> None:
        """Train, evaluate the test set once, write the run's files to `folder` and log them to MLflow.

        The model card is in `language`. Raises UserError as `trained`.
        """
        with self.trained() as done, done.loop.averaged():
            logits = self._logits(done)
            if done.tracker:
                self._write(folder, done, logits, done.tracker, language)

    @contextmanager
    def trained(self, watchers: Sequence[Watcher] = ()) -> Iterator[Trained]:
        """Train; the MLflow run is open in the block. A watcher returns a Keras callback for that run and the history.

        Raises UserError when out of memory, when the training diverges, and when another worker is lost.
        """
        try:
            with self._trained(watchers) as done:
                yield done
        except (tf.errors.ResourceExhaustedError, MemoryError) as error:
            raise UserError(
                f"Out of memory: {self.entry.title}. Expected a network, batches and data that fit the device. "
                f"Received: {_reason(error)}. Lower batch_size, filters or dense_units, or set train.feeding to "
                "streamed."
            ) from error
        except LOST_WORKER as error:
            if workers(self.strategy) == 1:
                raise
            raise UserError(
                f"A worker was lost: {self.entry.title}. Expected {workers(self.strategy)} workers. Received: "
                f"{_reason(error)}. Restart all of them: the training resumes from its checkpoint."
            ) from error

    @contextmanager
    def _trained(self, watchers: Sequence[Watcher]) -> Iterator[Trained]:
        data = open_processed(self.run.data)
        train, validation = data.split(self.run.validation, self.run.train_images, self.run.fold)
        train = np.tile(train, self.run.passes)
        loop = self._loop(data, train)
        saved = self._restored(self.checkpoint, loop.model, data)
        progress = saved or checkpoints.State()
        keep_best = self.run.early_stopping is not None
        saver = Saver(
            self.checkpoint, progress, self._fingerprint(data), self.knobs.checkpoint_minutes, keep_best=keep_best
        )
        with self._tracked(progress, saver, loop.model, data) as tracker:
            callbacks = [EarlyStopping(progress.history, self.run.early_stopping)]
            if tracker:
                callbacks += [saver, Logger(tracker, progress.history)]
                callbacks += [watcher(tracker, progress.history) for watcher in watchers]
            self._train(loop, train, validation, progress.history, callbacks, saver)
            if keep_best:
                self._restored(saver.best, loop.model, data)
            yield Trained(loop, data, train, validation, progress.history, tracker)
        sum_over_workers(self.strategy, np.zeros(1))  # no worker leaves before the chief has written

    def _loop(self, data: Processed, train: np.ndarray) -> Loop:
        keras.config.set_dtype_policy(PRECISIONS[self.run.precision])
        source = self._source()
        keras.utils.set_random_seed(self.run.seed)
        with self.strategy.scope():
            model = build(self.run.network, data.card)
            if images := self.run.network.initial_images:
                self.run.network.initialise(model, data.train_images[train[:images]])
            if source and self.run.init_from and not transfer_weights(source, model, frozen=self.run.init_from.frozen):
                raise UserError(
                    f"Invalid init_from of {self.run.variant}. Expected a variant with the same first layers. "
                    f"Received: {self.run.init_from.variant}."
                )
            optimizers.prepare(model, self.run, steps=-(-len(train) // self.run.batch_size) * self.run.epochs)
            return Loop(
                model,
                place(data.train_images, data.train_labels, self.strategy, self.knobs.feeding, self.run.augment.crop),
                self.strategy,
                batch_size=self.run.batch_size,
                seed=self.run.seed,
                augment=self.run.augment,
                tta=self.run.tta,
            )

    def _source(self) -> keras.Model | None:
        """The trained network whose weights initialise this one."""
        if self.run.origin is None:
            return None
        return keras.saving.load_model(outputs.Outputs.at(self.run.origin).model(), compile=False)

    def _restored(self, path: Path, model: keras.Model, data: Processed) -> checkpoints.State | None:
        """Load the chief's checkpoint at `path` on every worker; None if there is none for this recipe."""
        content = checkpoints.read(path, self._fingerprint(data)) if is_chief(self.strategy) else b""
        content = broadcast(self.strategy, content)
        return checkpoints.restore(content, model, path) if content else None

    @contextmanager
    def _tracked(
        self, progress: checkpoints.State, saver: Saver, model: keras.Model, data: Processed
    ) -> Iterator[TrackedRun | None]:
        """The MLflow run, new or resumed, closed at the end; None for every worker but the chief."""
        if not is_chief(self.strategy):
            yield None
            return
        saver.set_model(model)
        if progress.run_id is None:
            saver.save()  # before the run is created, so that a killed training finds it by its key
        else:
            print(f"{self.entry.title}  resumes after {_where(progress.history)}")
        tracker = self._started(progress, model, data)
        progress.run_id = tracker.id
        try:
            yield tracker
        except BaseException as error:
            tracker.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        tracker.finish()

    def _started(self, progress: checkpoints.State, model: keras.Model, data: Processed) -> TrackedRun:
        devices = ", ".join(sorted(self.strategy.extended.worker_devices))
        tracker = TrackedRun.start(
            self.entry.key or progress.key,
            self.entry.experiment,
            self.entry.title,
            {**self.run.model_dump(), "parameters": model.count_params()},
            {
                "variant": self.run.variant,
                "seed": str(self.run.seed),
                "devices": devices,
                "workers": str(workers(self.strategy)),
                **self.entry.tags,
            },
            f"{self.run.network.name} network, {self.run.data}, variant {self.run.variant}",
            known_id=None if self.entry.key else progress.run_id,
        )
        contexts: dict[Split, str] = {"train": "training", "test": "testing"}
        for split, context in contexts.items():
            tracker.log_data(f"{self.run.data} {split}", data.card["digests"][split], data.card["source"], context)
        return tracker

    def _train(
        self,
        loop: Loop,
        train: np.ndarray,
        validation: np.ndarray,
        history: History,
        callbacks: list[keras.callbacks.Callback],
        saver: Saver,
    ) -> None:
        try:
            with on_interrupt(loop.stop, "stopping after the current steps"):
                fit(
                    loop,
                    train,
                    validation,
                    self.run.epochs,
                    history=history,
                    callbacks=callbacks,
                    title=self.entry.title,
                )
        except Interrupted as error:
            if is_chief(self.strategy):
                saver.save()
            message = f"interrupted: {self.entry.title} was saved after {_where(history)}; the same command resumes it"
            raise Interrupted(message) from error

    def _logits(self, done: Trained) -> dict[str, np.ndarray]:
        """Logits of validation images, an equal number of training images without augmentation, and test images."""
        loop, data = done.loop, done.data
        test = place(data.test_images, data.test_labels, self.strategy, self.knobs.feeding)
        return {
            "train": loop.logits(loop.data, done.train[: len(done.validation)]),
            "validation": loop.logits(loop.data, done.validation),
            "test": loop.logits(test, np.arange(len(data.test_labels))),
        }

    def _write(
        self, folder: Path, done: Trained, logits: dict[str, np.ndarray], tracker: TrackedRun, language: str
    ) -> None:
        model, data, history = done.loop.model, done.data, done.history
        labels = {
            "train": data.train_labels[done.train[: len(done.validation)]],
            "validation": data.train_labels[done.validation],
            "test": np.asarray(data.test_labels),
        }
        scores = {f"{part}_{k}": v for part in logits for k, v in score(logits[part], labels[part]).items()}
        metrics = {
            **scores,
            "epochs": len(history.epochs),
            "train_seconds": sum(row["seconds"] for row in history.epochs),
            "images_per_s": float(np.median([row["images_per_s"] for row in history.epochs])),
            "parameters": model.count_params(),
            "training_flop": training_flop(model) * int(history.curve[-1]["images"]),
        }
        arrays = {f"{part}_logits": logits[part] for part in logits}
        arrays |= {f"{part}_labels": labels[part] for part in labels}
        file = outputs.write(
            folder,
            network=_without_optimizer(model),
            history=pd.DataFrame(history.epochs),
            curve=pd.DataFrame(history.curve),
            metrics=metrics,
            arrays=arrays,
            record={"run_id": tracker.id, **self.run.model_dump()},
        )
        tracker.log_metrics([(len(history.epochs), scores)], time_ms=int(history.epochs[-1]["time"]))
        example = data.train_images[done.validation[:2]].astype(np.float32) / 255
        tracker.log_model(file, example)
        self._propose(tracker, done, model_card(self.run, data, metrics, language), metrics["validation_accuracy"])
        print(f"{self.entry.title}  test accuracy {metrics['test_accuracy']:.4f}", flush=True)

    def _propose(self, tracker: TrackedRun, done: Trained, card: str, accuracy: float) -> None:
        """Let the run compete to be the champion of its data set."""
        about = done.data.card
        proposal = Proposal(self.run.data, about["digests"]["train"], accuracy, about["classes"], card)
        with tempfile.TemporaryDirectory() as temporary:
            network = Path(temporary) / "network.keras"
            inference_model(done.loop.model, self.run.tta).save(network)
            tracker.propose(proposal, network, done.data.train_images[done.validation[:2]])

    def _fingerprint(self, data: Processed) -> str:
        facts: dict[str, Any] = {"run": self.run.model_dump(), "data": identity(data.card)}
        if self.run.origin is not None:
            facts["origin"] = outputs.Outputs.at(self.run.origin).run_id()
        return digest(facts)


def _where(history: History) -> str:
    step = f" and {history.progress.step} steps" if history.progress.step else ""
    return f"{len(history.epochs)} epochs{step}"


def _without_optimizer(model: keras.Model) -> keras.Model:
    """The network as users load it: the optimizer's state triples the file size and may need cnnlab to be read."""
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


def _reason(error: BaseException) -> str:
    """The line of an error that says what happened; TensorFlow precedes it with where the graph was built."""
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    return str(text).rpartition("<stack traces unavailable>")[2].strip().splitlines()[0].rstrip(".")
