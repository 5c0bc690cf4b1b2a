"""One training from its parameters to its files: data, network, loop, checkpoint, MLflow run, predictions."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from cnnlab import params, track
from cnnlab.data.batches import place
from cnnlab.data.catalog import Split
from cnnlab.data.store import Processed, open_processed
from cnnlab.errors import UserError, on_interrupt
from cnnlab.files import CHECKPOINTS, MODELS, write_text
from cnnlab.nets.anatomy import training_flop
from cnnlab.nets.build import build
from cnnlab.nets.carry import carry
from cnnlab.nets.speedrun import whiten
from cnnlab.nets.whole import whole
from cnnlab.registry import Proposal
from cnnlab.train import recipe, state
from cnnlab.train.callbacks import EarlyStopping, Logger, Saver
from cnnlab.train.card import model_card
from cnnlab.train.evaluate import score
from cnnlab.train.history import History
from cnnlab.train.loop import Interrupted, Loop, fit
from cnnlab.train.strategy import broadcast, is_chief, sum_over_workers, workers
from cnnlab.train.strategy import strategy as make_strategy

Watcher = Callable[[track.Run, History], keras.callbacks.Callback]

WHITENED = 5000  # pictures whose patches the speedrun's first layer is computed from, as by its authors
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # Keras's dtype policies
LOST_WORKER = (  # what TensorFlow raises on the workers that are left
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)


def train_variant(runs: Sequence[params.Run], devices: params.Strategy, knobs: params.Train) -> None:
    """Train the seeds of one variant and write `models/<set>/<variant>/`, whole or not at all.

    The first seed's files lie in the folder itself, further seeds' in `seed-<n>/`: model.keras, history.csv (a row an
    epoch), curve.csv (a row a compiled call), metrics.json, predictions.npz (logits and labels of validation and test
    images) and run.json (MLflow's run id, the recipe). A killed training continues from its last checkpoint; a finished
    seed is not trained again. Every worker of a cluster calls it; the chief alone writes.
    """
    first = runs[0]
    strategy = make_strategy(devices)
    checkpoints, folder = CHECKPOINTS / first.data / first.variant, MODELS / first.data / first.variant
    chief = is_chief(strategy)
    with _whole_folder(folder, checkpoints / "finished") if chief else nullcontext(folder) as partial:
        for run in runs:
            target = partial if run is first else partial / f"seed-{run.seed}"
            entry = track.Entry(run.data, f"{run.variant} seed {run.seed}")
            Experiment(run, strategy, knobs, checkpoints / f"seed-{run.seed}.npz", entry).execute(target)
    if chief:
        shutil.rmtree(checkpoints, ignore_errors=True)


@dataclass(frozen=True)
class Trained:
    """What is at hand when a training is through; `tracker` is None for every worker but the chief."""

    loop: Loop
    data: Processed
    train: np.ndarray
    validation: np.ndarray
    history: History
    tracker: track.Run | None


@dataclass(frozen=True)
class Experiment:
    """One run with the strategy it trains under, the checkpoint it continues from, and its entry in MLflow."""

    run: params.Run
    strategy: tf.distribute.Strategy
    knobs: params.Train
    checkpoint: Path
    entry: track.Entry

    def execute(self, folder: Path) -> None:
        """Train, score the test set once, and write the run's files into `folder` and to MLflow's runs and registry.

        Raises UserError as `trained`.
        """
        with self.trained() as done, done.loop.averaged():
            logits = self._logits(done)
            if done.tracker:
                self._write(folder, done, logits, done.tracker)

    @contextmanager
    def trained(self, watchers: Sequence[Watcher] = ()) -> Iterator[Trained]:
        """Train; in the block the MLflow run is open. A watcher makes a Keras callback of that run and the history.

        Raises UserError where memory does not suffice, the training diverges, or another worker is lost.
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
                f"A worker was lost: {self.entry.title}. Expected {workers(self.strategy)} of them. Received: "
                f"{_reason(error)}. Start all again: the training continues from its checkpoint."
            ) from error

    @contextmanager
    def _trained(self, watchers: Sequence[Watcher]) -> Iterator[Trained]:
        data = open_processed(self.run.data)
        train, validation = data.split(self.run.validation, self.run.train_images)
        train = np.tile(train, self.run.passes)
        loop = self._loop(data, train)
        saved = self._restored(self.checkpoint, loop.model, data)
        standing = saved or state.State()
        keep_best = self.run.early_stopping is not None
        saver = Saver(
            self.checkpoint, standing, self._fingerprint(data), self.knobs.checkpoint_minutes, keep_best=keep_best
        )
        with self._tracked(standing, saver, loop.model, data) as tracker:
            callbacks = [EarlyStopping(standing.history, self.run.early_stopping)]
            if tracker:
                callbacks += [saver, Logger(tracker, standing.history)]
                callbacks += [watcher(tracker, standing.history) for watcher in watchers]
            self._train(loop, train, validation, standing.history, callbacks, saver)
            if keep_best:
                self._restored(saver.best, loop.model, data)
            yield Trained(loop, data, train, validation, standing.history, tracker)
        sum_over_workers(self.strategy, np.zeros(1))  # nobody leaves before the chief has written

    def _loop(self, data: Processed, train: np.ndarray) -> Loop:
        keras.config.set_dtype_policy(PRECISIONS[self.run.precision])
        source = self._source()
        keras.utils.set_random_seed(self.run.seed)
        with self.strategy.scope():
            model = build(self.run.network, data.card)
            if self.run.network.name == "speedrun":
                whiten(model, data.train_images[train[:WHITENED]])
            if source and self.run.start and not carry(source, model, frozen=self.run.start.frozen):
                raise UserError(
                    f"Invalid start of {self.run.variant}. Expected a variant whose first layers are alike. "
                    f"Received: {self.run.start.variant}."
                )
            recipe.prepare(model, self.run, steps=-(-len(train) // self.run.batch_size) * self.run.epochs)
            return Loop(
                model,
                place(data.train_images, data.train_labels, self.strategy, self.knobs.feeding, self.run.augment.crop),
                self.strategy,
                batch_size=self.run.batch_size,
                seed=self.run.seed,
                augment=self.run.augment,
                views=self.run.views,
            )

    def _source(self) -> keras.Model | None:
        """The trained network whose weights this one starts with."""
        if self.run.origin is None:
            return None
        path = MODELS / self.run.origin / "model.keras"
        if not path.exists():
            raise UserError(
                f"Variant {self.run.variant} starts with weights that are missing. Expected {path}. "
                f"Run: make train VARIANT={path.parent.name}"
            )
        return keras.saving.load_model(path, compile=False)

    def _restored(self, path: Path, model: keras.Model, data: Processed) -> state.State | None:
        """What the chief finds at `path`, loaded on every worker; None where there is nothing for this recipe."""
        content = state.read(path, self._fingerprint(data)) if is_chief(self.strategy) else b""
        content = broadcast(self.strategy, content)
        return state.restore(content, model, path) if content else None

    @contextmanager
    def _tracked(
        self, standing: state.State, saver: Saver, model: keras.Model, data: Processed
    ) -> Iterator[track.Run | None]:
        """The MLflow run, new or continued, closed at the end; None for every worker but the chief."""
        if not is_chief(self.strategy):
            yield None
            return
        saver.set_model(model)
        if standing.run_id is None:
            saver.save()  # the key first, so that a training killed from here on finds the run it began
        else:
            print(f"{self.entry.title}  continues after {_where(standing.history)}")
        tracker = self._started(standing, model, data)
        standing.run_id = tracker.id
        try:
            yield tracker
        except BaseException as error:
            tracker.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        tracker.finish()

    def _started(self, standing: state.State, model: keras.Model, data: Processed) -> track.Run:
        devices = ", ".join(sorted(self.strategy.extended.worker_devices))
        tracker = track.Run.start(
            self.entry.key or standing.key,
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
            f"Network {self.run.network.name} on {self.run.data}, trained by variant {self.run.variant}.",
            known_id=None if self.entry.key else standing.run_id,
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
            with on_interrupt(loop.stop, "stopping after the present steps"):
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
            where = f"interrupted: {self.entry.title} was saved after {_where(history)}; the same command continues it"
            raise Interrupted(where) from error

    def _logits(self, done: Trained) -> dict[str, np.ndarray]:
        """Of validation images, as many training images without augmentation, and the test images."""
        loop, data = done.loop, done.data
        test = place(data.test_images, data.test_labels, self.strategy, self.knobs.feeding)
        return {
            "train": loop.logits(loop.data, done.train[: len(done.validation)]),
            "validation": loop.logits(loop.data, done.validation),
            "test": loop.logits(test, np.arange(len(data.test_labels))),
        }

    def _write(self, folder: Path, done: Trained, logits: dict[str, np.ndarray], tracker: track.Run) -> None:
        folder.mkdir(exist_ok=True)
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
        _without_optimizer(model).save(folder / "model.keras")
        pd.DataFrame(history.epochs).to_csv(folder / "history.csv", index=False)
        pd.DataFrame(history.curve).to_csv(folder / "curve.csv", index=False)
        arrays: dict[str, Any] = {f"{part}_logits": logits[part] for part in logits}
        arrays |= {f"{part}_labels": labels[part] for part in labels}
        np.savez(folder / "predictions.npz", **arrays)
        write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
        record = {"run_id": tracker.id, **self.run.model_dump()}
        write_text(folder / "run.json", json.dumps(record, indent=2) + "\n")
        tracker.log_metrics([(len(history.epochs), scores)], time_ms=int(history.epochs[-1]["time"]))
        example = data.train_images[done.validation[:2]].astype(np.float32) / 255
        tracker.log_model(folder / "model.keras", example)
        self._propose(tracker, model, data, metrics, data.train_images[done.validation[:2]])
        print(f"{self.entry.title}  test accuracy {metrics['test_accuracy']:.4f}", flush=True)

    def _propose(
        self, tracker: track.Run, model: keras.Model, data: Processed, metrics: Mapping[str, float], example: np.ndarray
    ) -> None:
        """Let the run compete to be the champion of its data set."""
        card = model_card(self.run, data, metrics)
        digest, classes = data.card["digests"]["train"], data.card["classes"]
        proposal = Proposal(self.run.data, digest, metrics["validation_accuracy"], classes, card)
        with tempfile.TemporaryDirectory() as temporary:
            network = Path(temporary) / "network.keras"
            whole(model, self.run.views).save(network)
            tracker.propose(proposal, network, example)

    def _fingerprint(self, data: Processed) -> str:
        facts = {"run": self.run.model_dump(), "data": data.card["digests"]}
        if self.run.origin is not None:
            facts["origin"] = json.loads((MODELS / self.run.origin / "run.json").read_text())["run_id"]
        return track.digest(facts)


def _where(history: History) -> str:
    step = f" and {history.progress.step} steps" if history.progress.step else ""
    return f"{len(history.epochs)} epochs{step}"


def _without_optimizer(model: keras.Model) -> keras.Model:
    """The network alone, as users load it: the optimizer's state triples the file and may need cnnlab to be read."""
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


def _reason(error: BaseException) -> str:
    """The line of an error that says what happened; TensorFlow puts where the graph was built before it."""
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    return str(text).rpartition("<stack traces unavailable>")[2].strip().splitlines()[0].rstrip(".")


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
