"""What a sweep does with every trial: the facts its processes share, and how MLflow shows a trial."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import optuna
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from optuna.trial import FrozenTrial

from cnnlab import params, track
from cnnlab.errors import UserError
from cnnlab.files import CHECKPOINTS
from cnnlab.sweep import storage

MOST_WORKERS = 8  # by default, for each takes more than a gigabyte of memory


@dataclass(frozen=True)
class Plan:
    """A sweep by its parameters: `trials` of `base`, changed as `sweep.space` says, each with `epochs`."""

    study: str
    storage: str
    base: params.Variant
    sweep: params.Sweep
    trials: int
    epochs: int
    train_images: int | None
    validation: int
    devices: params.Strategy
    train: params.Train

    @property
    def folder(self) -> Path:
        """Where the trials' checkpoints and logs lie."""
        return CHECKPOINTS / "sweep" / self.study

    @property
    def objectives(self) -> list[str]:
        """The names of the study's objectives: the first is maximised, a second minimised."""
        second = {None: [], "parameters": ["parameters"], "flop": ["FLOPs"]}[self.sweep.minimise]
        return ["validation accuracy", *second]

    def pruner(self) -> optuna.pruners.BasePruner:
        """The pruner; none with two objectives, which Optuna does not prune."""
        return storage.pruner("none" if self.sweep.minimise else self.sweep.pruner, self.epochs)

    def run(self, trial: FrozenTrial, images: int) -> params.Run:
        """The training of a trial on `images`; the same for all attempts, so that a later one finds the checkpoint."""
        variant = params.Variant.model_validate(trial.user_attrs["variant"])
        recipe = {name: getattr(variant, name) for name in params.Recipe.model_fields}
        return params.Run(
            **recipe | {"epochs": self.epochs},
            variant=f"trial-{trial.user_attrs['original']}",
            seed=self.sweep.seed,
            validation=self.validation,
            train_images=images,
        )


def make_plan(parameters: params.Params, budget: str | None, trials: int | None, study: str | None, url: str) -> Plan:
    """The plan of params.yaml; what is not None replaces its budget, number of trials and name of the study.

    The name tells by a digest what all trials of a study share, so a changed space begins another study.
    """
    name = budget or parameters.budget
    if name not in parameters.sweep.budgets:
        raise UserError(f"Invalid BUDGET. Expected one of: {', '.join(parameters.sweep.budgets)}. Received: {name!r}.")
    chosen, sweep = parameters.sweep.budgets[name], parameters.sweep
    base = params.variant(parameters, sweep.base)
    shared = {
        "base": base.model_dump(),
        "space": {key: searched.model_dump() for key, searched in sweep.space.items()},
        "sweep": sweep.model_dump(include={"minimise", "pruner", "seed"}),
        "budget": chosen.model_dump(exclude={"trials"}),
        "preprocess": parameters.preprocess.model_dump(),
    }
    return Plan(
        study=f"{study or sweep.base}-{track.digest(shared)[:8]}",
        storage=url,
        base=base,
        sweep=sweep,
        trials=trials or chosen.trials,
        epochs=chosen.epochs,
        train_images=chosen.train_images,
        validation=chosen.validation or base.validation or parameters.preprocess.validation,
        devices=parameters.strategy,
        train=parameters.train,
    )


@dataclass(frozen=True)
class Share:
    """A trial's share of the host: its cores, and its GPUs where there are any."""

    cores: list[int]
    gpus: list[str]


def shares(sweep: params.Sweep, workers: int | None) -> list[Share]:
    """One share for each trial that runs at a time; raises UserError where the host has too few cores or GPUs."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    gpus = _gpus()
    groups = [gpus[i : i + sweep.gpus_per_trial] for i in range(0, len(gpus), sweep.gpus_per_trial)]
    groups = [group for group in groups if len(group) == sweep.gpus_per_trial]
    if gpus and not groups:
        raise UserError(
            f"Invalid sweep.gpus_per_trial. Expected at most the {len(gpus)} GPUs of this host. "
            f"Received: {sweep.gpus_per_trial} GPUs."
        )
    most = min(len(groups), len(cores)) if gpus else len(cores)
    count = workers or sweep.workers or (most if gpus else min(most, MOST_WORKERS))
    if not 1 <= count <= most:
        what = f"{len(gpus)} GPUs and {len(cores)} cores" if gpus else f"{len(cores)} cores"
        raise UserError(
            f"Invalid number of workers. Expected 1 to {most}, as this host has {what} and a trial takes "
            f"{sweep.gpus_per_trial if gpus else 'no'} GPUs. Received: {count}."
        )
    return [Share(cores[i::count], groups[i] if gpus else []) for i in range(count)]


def _gpus() -> list[str]:
    """The GPUs by their numbers, without asking TensorFlow, which would take them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name and name != "-1"]
    if not (program := shutil.which("nvidia-smi")):
        return []
    answer = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    return [str(i) for i, line in enumerate(answer.stdout.splitlines()) if line.startswith("GPU ")]


def entry(plan: Plan, parent: str, trial: FrozenTrial) -> track.Entry:
    """The MLflow entry of a trial: a child of run `parent`, found again by the trial's number."""
    attrs = trial.user_attrs
    again = f", attempt {attrs['attempt']} at trial {attrs['original']}" if attrs["attempt"] > 1 else ""
    return track.Entry(
        f"{plan.base.data} sweeps",
        f"trial {trial.number}{again}",
        {
            MLFLOW_PARENT_RUN_ID: parent,
            "optuna.study": plan.study,
            "optuna.trial": str(trial.number),
            **{f"optuna.{name}": str(attrs[name]) for name in ("original", "attempt", "role")},
        },
        key=f"{parent}-{trial.number}",
    )
