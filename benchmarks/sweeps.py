"""Benchmark sweeps: the training steps that pruning saves, and the cost of a second worker.

Prints a table and writes it to benchmarks/results/<date>-<processor>-sweeps.md, with all trials' figures as .json.
Needs data/processed/cifar10 (dvc repro preprocess@cifar10). Each study is a run of pipeline/sweep.py in its own folder.
"""

import argparse
import datetime
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from bench import write
from machine import inspect, slug
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from report import Result, Rounds, Row, markdown, result
from ruamel.yaml import YAML

from cnnlab import errors
from cnnlab.data.store import open_processed
from cnnlab.errors import UserError
from cnnlab.files import PROCESSED

HERE = Path(__file__).parent
TOP = HERE.parent
DATA = "cifar10"


def describe(budget: Mapping[str, int]) -> str:
    """A budget as text."""
    return ", ".join(f"{key} {value:,}" for key, value in budget.items())


PRUNING = {"trials": 24, "epochs": 12, "train_images": 1024, "validation": 2000}
WORKERS = {"trials": 8, "epochs": 8, "train_images": 1536, "validation": 2000}
METHOD = f"""\
Every study searches the space of params.yaml around its base, from a new journal file and MLflow store.

Pruning: {describe(PRUNING)}; two workers, with the pruner of params.yaml and with none, one pair per search seed.
Steps and FLOPs (convolutions and dense layers) are sums over all trials; the accuracy is that of the best complete
trial, on the same validation images.

Workers: {describe(WORKERS)}; no pruner, so that both sides train the same; seconds of the complete command, in
alternating order.
"""
ROWS = {
    "pruning": [
        Row("Training steps, pruned against unpruned", ("pruned", "steps"), ("unpruned", "steps"), 0.5, at_most=True),
        Row("Training FLOPs, pruned against unpruned", ("pruned", "TFLOP"), ("unpruned", "TFLOP"), 0.5, at_most=True),
        Row("Best validation accuracy, pruned against unpruned", ("pruned", "%"), ("unpruned", "%")),
    ],
    "workers": [Row("8 trials by 2 workers against 1", ("2", "seconds"), ("1", "seconds"), 1.05, at_most=True)],
}


@contextmanager
def project(budget: Mapping[str, int], pruner: str, seed: int) -> Iterator[Path]:
    """A folder with this project's data and params.yaml, with another laptop budget, pruner and seed of the sweep."""
    yaml = YAML()
    chosen = yaml.load((TOP / "params.yaml").read_text())
    chosen["sweep"] |= {"pruner": pruner, "seed": seed, "budgets": {"laptop": dict(budget)}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        (folder / "data" / "processed").symlink_to(PROCESSED.absolute())
        with (folder / "params.yaml").open("w") as stream:
            yaml.dump(chosen, stream)
        yield folder


def study(budget: Mapping[str, int], pruner: str, workers: int, seed: int = 0) -> dict[str, Any]:
    """Run a study with the command of stage sweep; returns its figures and those of its trials."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "CNNLAB_STORAGE")}
    with project(budget, pruner, seed) as folder:
        command = [sys.executable, str(TOP / "pipeline" / "sweep.py"), "--budget", "laptop", "--workers", str(workers)]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise UserError(f"A study failed. Expected exit status 0. Received:\n{done.stderr}")
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "mlruns" / "optuna.journal")))
        [name] = optuna.get_all_study_names(storage)
        trials = optuna.load_study(study_name=name, storage=storage).get_trials()
    return {
        "seconds": seconds,
        "steps": sum(t.user_attrs.get("steps", 0) for t in trials),
        "TFLOP": sum(t.user_attrs.get("training_flop", 0) for t in trials) / 1e12,
        "%": 100 * max(t.values[0] for t in trials if t.state is TrialState.COMPLETE),
        "trials": [
            {"state": t.state.name, "accuracy": t.intermediate_values, "steps": t.user_attrs.get("steps")}
            for t in trials
        ],
    }


def pruning(seed: int) -> dict[str, dict[str, Any]]:
    """Run a pair of studies with one seed, unpruned and pruned."""
    pruner = YAML().load((TOP / "params.yaml").read_text())["sweep"]["pruner"]
    sides = {"unpruned": "none", "pruned": pruner}
    return {side: study(PRUNING, name, 2, seed) for side, name in sides.items()}


def workers(turn: int) -> dict[str, dict[str, Any]]:
    """Run a pair of studies, with one worker and with two."""
    return {str(count): study(WORKERS, "none", count) for count in ((1, 2), (2, 1))[turn % 2]}


def compare(name: str, pairs: int, seed: int) -> tuple[list[Result], Rounds]:
    """Measure one comparison, one printed line per study."""
    rounds: dict[str, list[dict[str, Any]]] = {}
    for turn in range(pairs):
        for side, figures in (pruning(seed + turn) if name == "pruning" else workers(turn)).items():
            rounds.setdefault(side, []).append(figures)
            line = f"{figures['seconds']:.0f} s, {figures['steps']:,} steps, best {figures['%']:.2f} %"
            print(f"{name}  pair {turn + 1}/{pairs}  {side}: {line}", flush=True)
    return [result(row, rounds, {}) for row in ROWS[name]], rounds


def difference(rounds: Rounds) -> str:
    """The change in best accuracy due to pruning, in percentage points."""
    points = [float(p["%"]) - float(u["%"]) for p, u in zip(rounds["pruned"], rounds["unpruned"], strict=True)]
    each = ", ".join(f"{value:+.2f}" for value in points)
    return f"best accuracy, pruned minus unpruned, in percentage points: {each}; mean {statistics.mean(points):+.2f}"


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=ROWS, help="run a single comparison; the file names include its name")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of studies (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first pair's search (default: 0)")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="output folder")
    options = parser.parse_args()
    open_processed(DATA)  # fails early if it is missing
    machine = inspect(sys.executable)
    results: list[Result] = []
    rounds: dict[str, Rounds] = {}
    for name in [options.only] if options.only else ROWS:
        measured, rounds[name] = compare(name, options.pairs, options.seed)
        results += measured
    today = datetime.date.today().isoformat()
    facts = [f"{name}: {value}" for name, value in machine.facts.items()]
    facts += [f"first seed of pruning: {options.seed}", difference(rounds["pruning"])] if "pruning" in rounds else []
    page = markdown(results, f"cnnlab benchmark of sweeps, {today}", facts, METHOD)
    print(page)
    raw = {"date": today, "machine": machine.facts, "rows": [each.asdict() for each in results], "rounds": rounds}
    write(options.results / "-".join([today, slug(machine), options.only or "sweeps"]), page, raw)


if __name__ == "__main__":
    errors.run(main)
