"""What a study does with every trial: the facts its processes share, and how MLflow shows a trial."""

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import optuna
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from optuna.trial import FrozenTrial

from cnnlab import params, track
from cnnlab.errors import UserError
from cnnlab.files import CHECKPOINTS

SOURCE, TRAINED_BY = Path(__file__).parents[1], ("data", "nets", "train")
MOST_WORKERS = 8  # by default, for each takes more than a gigabyte of memory


Attrs = dict[str, Any]


@dataclass(frozen=True)
class Plan(ABC):
    """A study by its parameters: trainings of `epochs` epochs on `train_images` of `data`, None for all."""

    study: str
    storage: str
    data: str
    base: params.Variant
    epochs: int
    train_images: int | None
    validation: int
    devices: params.Strategy
    train: params.Train

    kind: ClassVar[str]  # of study, for people

    @property
    def folder(self) -> Path:
        """Where the trials' checkpoints and logs lie."""
        return CHECKPOINTS / self.kind / self.study

    @property
    def experiment(self) -> str:
        """MLflow's experiment."""
        return f"{self.data} {self.kind}s"

    @property
    @abstractmethod
    def facts(self) -> Attrs:
        """What the study says of itself in the storage."""

    @property
    @abstractmethod
    def shown(self) -> tuple[str, Attrs]:
        """What it is in a sentence, and its parameters, for MLflow."""

    @property
    def objectives(self) -> list[str]:
        """The names of the study's objectives: the first is maximised, a second minimised."""
        return ["validation accuracy"]

    @property
    def sampler(self) -> optuna.samplers.BaseSampler:
        """What chooses the values that a trial leaves open: nothing is left open but by a search."""
        return optuna.samplers.RandomSampler(seed=0)

    @property
    def pruner(self) -> optuna.pruners.BasePruner:
        """What ends trials early: nothing but in a search."""
        return optuna.pruners.NopPruner()

    @abstractmethod
    def check(self) -> None:
        """Raise UserError where a trial would make no valid variant."""

    @abstractmethod
    def enqueued(self, first: int) -> list[tuple[Attrs, Attrs]]:
        """The values and attributes of the planned trials from number `first` on."""

    @abstractmethod
    def choose(self, asked: optuna.Trial) -> params.Variant:
        """A trial's variant; raises UserError where its values make none."""

    @abstractmethod
    def seed(self, trial: FrozenTrial) -> int:
        """The seed that a trial trains with."""

    def title(self, trial: FrozenTrial) -> str:
        """A trial's name for people."""
        return f"trial {trial.number}"

    def tags(self, trial: FrozenTrial) -> dict[str, str]:
        """What MLflow's run of a trial says of it, beside its place in the study."""
        del trial
        return {}

    def run(self, trial: FrozenTrial, images: int | None) -> params.Run:
        """The training of a trial on `images`; the same for all attempts, so that a later one finds the checkpoint."""
        variant = params.Variant.model_validate(trial.user_attrs["variant"])
        recipe = {name: getattr(variant, name) for name in params.Recipe.model_fields}
        return params.Run(
            **recipe | {"epochs": self.epochs},
            variant=f"trial-{trial.user_attrs['original']}",
            seed=self.seed(trial),
            validation=self.validation,
            train_images=images,
        )


def study_name(name: str, shared: Attrs) -> str:
    """`name` with a digest of what all trials of a study share, and of the code that trains them.

    So whatever changes what a trial means begins another study.
    """
    code = {f"{part}/{path.name}": path.read_text() for part in TRAINED_BY for path in (SOURCE / part).glob("*.py")}
    return f"{name}-{track.digest({**shared, 'code': code})[:8]}"


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
        plan.experiment,
        f"{plan.title(trial)}{again}",
        {
            MLFLOW_PARENT_RUN_ID: parent,
            "optuna.study": plan.study,
            "optuna.trial": str(trial.number),
            **{f"optuna.{name}": str(attrs[name]) for name in ("original", "attempt", "role")},
            **plan.tags(trial),
        },
        key=f"{parent}-{trial.number}",
    )
