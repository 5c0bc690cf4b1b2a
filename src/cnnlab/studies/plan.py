"""Plans of studies: what all processes of a study share, and how a trial becomes a training."""

import hashlib
import json
import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import optuna
from optuna.trial import FrozenTrial

from cnnlab import params
from cnnlab.errors import UserError
from cnnlab.files import CHECKPOINTS
from cnnlab.fingerprint import SOURCE, fingerprint

MAX_WORKERS = 8  # by default on CPUs: each needs more than 1 GB of memory

Attrs = dict[str, Any]


@dataclass(frozen=True)
class Plan(ABC):
    """A study whose trials train for `epochs` epochs on `train_images` images of data set `data` (None: all)."""

    study: str
    storage: str
    data: str
    base: params.Variant
    epochs: int
    train_images: int | None
    validation: int
    devices: params.Strategy
    train: params.Train

    kind: ClassVar[str]  # sweep, ablation or transfer

    @property
    def folder(self) -> Path:
        """Folder of the trials' checkpoints and logs."""
        return CHECKPOINTS / self.kind / self.study

    @property
    def experiment(self) -> str:
        """Name of the MLflow experiment."""
        return f"{self.data} {self.kind}s"

    @property
    @abstractmethod
    def attrs(self) -> Attrs:
        """User attributes of the study, from which its reports are written."""

    @property
    @abstractmethod
    def description(self) -> tuple[str, Attrs]:
        """Description and parameters of the study's MLflow run."""

    @property
    def objectives(self) -> list[str]:
        """Names of the objectives: the first is maximised, a second one minimised."""
        return ["validation accuracy"]

    @property
    def sampler(self) -> optuna.samplers.BaseSampler:
        """Sampler of the values that an enqueued trial leaves open; only a search leaves any."""
        return optuna.samplers.RandomSampler(seed=0)

    @property
    def pruner(self) -> optuna.pruners.BasePruner:
        """Only a search prunes."""
        return optuna.pruners.NopPruner()

    @abstractmethod
    def enqueued(self, first: int) -> list[tuple[Attrs, Attrs]]:
        """Values and user attributes of the planned trials from number `first` on."""

    @abstractmethod
    def choose(self, trial: optuna.Trial) -> params.Variant:
        """Suggest the values of a trial; raises UserError if they make no valid variant."""

    @abstractmethod
    def seed(self, trial: FrozenTrial) -> int:
        """Seed of a trial's training."""

    def title(self, trial: FrozenTrial) -> str:
        """Title of a trial in MLflow."""
        return f"trial {trial.number}"

    def tags(self, trial: FrozenTrial) -> dict[str, str]:
        """Further MLflow tags of a trial."""
        del trial
        return {}

    def run(self, trial: FrozenTrial, images: int | None) -> params.Run:
        """Training of a trial on `images`: the same for every attempt, so that a retry resumes from the checkpoint."""
        variant = params.Variant.model_validate(trial.user_attrs["variant"])
        recipe = {name: getattr(variant, name) for name in params.Recipe.model_fields}
        return params.Run(
            **recipe | {"epochs": self.epochs},
            variant=f"trial-{trial.user_attrs['original']}",
            seed=self.seed(trial),
            validation=self.validation,
            train_images=images,
        )


def temporary_folder(log: Path) -> Path:
    """Folder for the temporary files of a trial's process, removed when that process ends."""
    return log.with_suffix(".tmp")


def study_name(name: str, shared: Attrs) -> str:
    """`name` with a digest of what all trials share and of the training code: a change of these begins a new study."""
    code = fingerprint([SOURCE / "train" / "experiment.py"])
    content = json.dumps({**shared, "code": code}, sort_keys=True)
    return f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Slot:
    """Cores, and GPUs if the host has any, of one trial at a time."""

    cores: list[int]
    gpus: list[str]


def slots(sweep: params.Sweep, workers: int | None) -> list[Slot]:
    """One slot per parallel trial on this host; raises UserError if it has too few cores or GPUs."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    gpus = _gpus()
    groups = [gpus[i : i + sweep.gpus_per_trial] for i in range(0, len(gpus), sweep.gpus_per_trial)]
    groups = [group for group in groups if len(group) == sweep.gpus_per_trial]
    if gpus and not groups:
        raise UserError(
            f"Invalid sweep.gpus_per_trial. Expected at most the {len(gpus)} GPUs of this host. "
            f"Received: {sweep.gpus_per_trial} GPUs."
        )
    limit = min(len(groups), len(cores)) if gpus else len(cores)
    count = workers or sweep.workers or (limit if gpus else min(limit, MAX_WORKERS))
    if not 1 <= count <= limit:
        what = f"{len(gpus)} GPUs and {len(cores)} cores" if gpus else f"{len(cores)} cores"
        raise UserError(
            f"Invalid number of workers. Expected 1 to {limit}, as this host has {what} and a trial takes "
            f"{sweep.gpus_per_trial if gpus else 'no'} GPUs. Received: {count}."
        )
    return [Slot(cores[i::count], groups[i] if gpus else []) for i in range(count)]


def _gpus() -> list[str]:
    """IDs of the GPUs, without TensorFlow, which would allocate their memory."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name and name != "-1"]
    if not (program := shutil.which("nvidia-smi")):
        return []
    output = subprocess.run([program, "-L"], capture_output=True, text=True, check=False).stdout
    return [str(i) for i, line in enumerate(output.splitlines()) if line.startswith("GPU ")]
