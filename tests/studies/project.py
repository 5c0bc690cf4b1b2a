"""A project folder with a sweep of short trainings on MNIST, and its commands as processes."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial
from ruamel.yaml import YAML

from cnnlab import files

ROOT = Path(__file__).parents[2]
BASE = {
    "data": "mnist",
    "network": {
        "name": "homework",
        "filters": [4],
        "depths": [1],
        "conv_dropout": [0.0],
        "dense_units": 16,
        "dense_dropout": 0.0,
    },
    "epochs": 1,
    "batch_size": 64,
    "optimizer": {"name": "sgd", "learning_rate": 0.05},
}
SPACE = {
    "network.dense_units": {"choices": [0, 16, 32]},
    "network.activation": {"choices": ["relu", "tanh"]},
    "optimizer.learning_rate": {"low": 0.01, "high": 0.2, "log": True},
}
GENEROUS_S = 300.0


@dataclass
class Project:
    """A checkout's params.yaml, data and stores, and a folder for temporary files."""

    top: Path
    temporary: Path | None = None
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def write(
        self,
        base: dict[str, Any] | None = None,
        budget: dict[str, Any] | None = None,
        ablation: dict[str, Any] | None = None,
        variants: dict[str, Any] | None = None,
        transfer: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        folds: bool = False,
        **sweep: Any,
    ) -> None:
        """Write params.yaml: the shipped one with such a base, variants, data, budget, and sections of stages."""
        yaml = YAML(typ="safe")
        parameters = yaml.load(ROOT / "params.yaml")
        scale = {"trials": 3, "epochs": 2, "train_images": 1024, "validation": 500, **(budget or {})}
        changes = {"base": "small", "data": "mnist", "budgets": {"smoke": scale}, "space": SPACE, "workers": None}
        parameters["sweep"] |= changes | sweep
        parameters["ablation"] |= {"base": "small", "data": "mnist", "ladder": [], "leave_one_out": {}} | (
            ablation or {}
        )
        parameters["transfer"]["tried"] = {"tanh": {"network.activation": "tanh"}}
        parameters["transfer"]["budgets"] = {
            "smoke": parameters["transfer"]["budgets"]["smoke"] | {"variants": {"small": ["small"]}} | (transfer or {})
        }
        parameters["data"] |= data or {}
        parameters |= {"budget": "smoke", "variants": {"small": {**BASE, **(base or {})}, **(variants or {})}}
        parameters["budgets"]["smoke"]["folds"] = folds
        parameters["on_demand"] = {}
        with (self.top / "params.yaml").open("w") as stream:
            yaml.dump(parameters, stream)

    def start(self, *options: str, stage: str = "sweep") -> subprocess.Popen[str]:
        """Start a stage, or a command of cnnlab, in a session of its own, as a terminal does."""
        script = ROOT / "pipeline" / f"{stage}.py"
        program = [str(script)] if script.exists() else ["-m", "cnnlab.cli", stage]
        strange = {"MLFLOW_TRACKING_URI", "CNNLAB_STORAGE"}
        environment = {name: value for name, value in os.environ.items() if name not in strange}
        if self.temporary:
            environment["TMPDIR"] = str(self.temporary)
        process = subprocess.Popen(
            [sys.executable, *program, *options],
            cwd=self.top,
            env=environment | {"CUDA_VISIBLE_DEVICES": "-1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def run(self, *options: str, stage: str = "sweep") -> subprocess.CompletedProcess[str]:
        """Run a stage to its end."""
        return ended(self.start(*options, stage=stage))

    def end(self) -> None:
        """Kill what still runs."""
        for process in self.running:
            if process.poll() is None:
                for pid in (*trials_of(process.pid), *children(process.pid), process.pid):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.communicate()

    def study(self) -> optuna.Study:
        """The only study of the journal, read without cnnlab."""
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(self.top / "mlruns" / "optuna.journal")))
        (name,) = optuna.get_all_study_names(storage)
        return optuna.load_study(study_name=name, storage=storage)

    def trials(self) -> list[FrozenTrial]:
        """All trials of the study, none before it has begun."""
        return self.study().get_trials() if (self.top / "mlruns" / "optuna.journal").exists() else []

    def log(self, trial: int) -> str:
        """What the attempts at a trial printed."""
        return (self.top / files.CHECKPOINTS / "sweep" / self.study().study_name / f"trial-{trial}.log").read_text()


@contextmanager
def project(top: Path, processed_mnist: Path) -> Iterator[Project]:
    """A project in the folder `top`, with these processed images; nothing of it runs after the block."""
    (top / files.PROCESSED).mkdir(parents=True)
    (top / files.PROCESSED / "mnist").symlink_to(processed_mnist)
    with tempfile.TemporaryDirectory() as temporary:  # pytest's own path would be too long for sockets
        made = Project(top, temporary=Path(temporary))
        try:
            yield made
        finally:
            made.end()


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """What a process that ends on its own printed."""
    printed, complaints = process.communicate(timeout=GENEROUS_S)
    return subprocess.CompletedProcess(process.args, process.returncode, printed, complaints)


def wait(until: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait for something to become true, while `process` runs."""
    end = time.monotonic() + GENEROUS_S
    while not until():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    """The processes that a process began, the server of its trials among them."""
    return _children(_parents(), pid)


def trials_of(pid: int) -> list[int]:
    """The processes of a sweep's trials, which its server began."""
    parents = _parents()
    return [trial for server in _children(parents, pid) for trial in _children(parents, server)]


def is_alive(pid: int) -> bool:
    return pid in _parents()


def _children(parents: dict[int, int], pid: int) -> list[int]:
    return [own for own, parent in parents.items() if parent == pid]


def _parents() -> dict[int, int]:
    """The parent of every process that has not ended."""
    lines = subprocess.run(["ps", "-eo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in lines.splitlines()]
    return {int(own): int(parent) for own, parent, state in rows if not state.startswith("Z")}
