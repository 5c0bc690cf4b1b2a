"""Trials and sweeps killed at random moments: every trial still ends, once, and MLflow agrees with the study.

In short form here; in full, 40 trials, 20 kills and a restart of PostgreSQL:
`CNNLAB_SWEEP_KILLS=20 pytest tests/faults/test_sweep_kills.py` (docs/LOG.md).
"""

import functools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from ruamel.yaml import YAML
from studies.postgres import Postgres

from cnnlab import files
from cnnlab.catalog import CATALOG
from cnnlab.data import store
from cnnlab.studies.storage import open_storage
from cnnlab.tracking import runs as track
from cnnlab.tracking import store as tracking_store

pytest_plugins = ["studies.conftest"]
ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("CNNLAB_SWEEP_KILLS", 0))
TRIALS, EPOCHS, SWEEPS = (40 if KILLS else 4), 2, 2


@pytest.fixture
def checkout(tmp_path: Path, real_cifar10: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Real CIFAR-10, and a sweep of short trials."""
    yaml = YAML(typ="safe")
    params = yaml.load(ROOT / "params.yaml")
    budget = {"trials": TRIALS, "epochs": EPOCHS, "train_images": 1024, "validation": 500}
    params["sweep"] |= {"budgets": {"laptop": budget}, "base": "lesson"}
    params |= {"variants": {"lesson": params["variants"]["lesson"]}, "on_demand": {}, "budget": "laptop"}
    targets = {"cifar10": {"steps": 20, "shares": [0.05]}}
    params["transfer"]["budgets"]["laptop"] |= {"targets": targets, "variants": {"lesson": []}}
    params |= {"data": {"cifar10": {}}}
    params["ablation"] |= {"ladder": [], "leave_one_out": {}}
    with (tmp_path / "params.yaml").open("w") as stream:
        yaml.dump(params, stream)
    processed = tmp_path / files.PROCESSED / "cifar10"
    store.preprocess(CATALOG["cifar10"], real_cifar10, processed, validation=5000, seed=0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


class Command:
    """A sweep's command with one worker, restarted whenever it is killed, as a supervisor would."""

    def __init__(self, checkout: Path, url: str, index: int) -> None:
        self._checkout, self._url = checkout, url
        self.log = checkout / f"sweep-{index}.log"
        self._process = self._start()

    def poll(self) -> int | None:
        """The exit status, once it ended without being killed."""
        status = self._process.poll()
        if status == -signal.SIGKILL:
            self._process = self._start()
            return None
        return status

    def processes(self) -> list[int]:
        """The command, and the processes of its trials."""
        lines = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        parents = {int(pid): int(parent) for pid, parent in map(str.split, lines.splitlines())}
        own = self._process.pid
        servers = [pid for pid, parent in parents.items() if parent == own]
        return [own, *(pid for pid, parent in parents.items() if parent in servers)]

    def kill(self) -> None:
        """End it and all of its processes."""
        for pid in self.processes():
            _kill(pid)
        self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(ROOT / "pipeline" / "sweep.py"), "--workers", "1"]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "CNNLAB_STORAGE": self._url}
        with self.log.open("ab") as log:
            return subprocess.Popen(command, cwd=self._checkout, env=environment, stdout=log, stderr=log)


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def _commands(checkout: Path, url: str) -> Iterator[list[Command]]:
    commands = [Command(checkout, url, index) for index in range(SWEEPS)]
    try:
        yield commands
    finally:
        for command in commands:
            command.kill()


@functools.cache  # a storage has no close: one per database is enough
def _storage(url: str, _: Path) -> optuna.storages.BaseStorage:
    return open_storage(url)


def _study(url: str) -> optuna.Study:
    storage = _storage(url, Path.cwd())
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def _begun(url: str) -> int:
    """Number of trials that have started."""
    try:
        return sum(trial.state is not TrialState.WAITING for trial in _study(url).get_trials(deepcopy=False))
    except Exception:  # no study yet, or the server restarts
        return 0


def _torment(commands: list[Command], url: str, kills: int, postgres: Postgres | None) -> int:
    """Kill a random process of a sweep `kills` times while trials run; how many of them were trials."""
    moments = random.Random(2026)  # noqa: S311
    met = trials = 0
    while met < kills and any(command.poll() is None for command in commands):
        time.sleep(moments.uniform(1, 12))
        processes = [command.processes() for command in commands if command.poll() is None]
        # Trials four times as often as the whole sweep, which takes its trials with it.
        victims = [pid for own in processes for pid in [own[0], *own[1:] * 4]]
        if not victims or _begun(url) < 1 + met // 4:
            continue
        victim = moments.choice(victims)
        met += _kill(victim)
        trials += victim not in [own[0] for own in processes]
        if postgres and met == kills // 2:
            threading.Timer(3.0, postgres.start).start()
            postgres.stop()
            time.sleep(4.0)
            postgres = None
    return trials


@pytest.mark.timeout(5400)
@pytest.mark.parametrize("kind", ["journal", "postgresql"])
def test_every_trial_ends_once_whatever_is_killed(kind: str, checkout: Path, request: pytest.FixtureRequest) -> None:
    if KILLS and kind == "journal":
        pytest.skip("the full campaign runs on PostgreSQL")
    url = "" if kind == "journal" else str(request.getfixturevalue("database"))
    server = request.getfixturevalue("postgres") if url and KILLS else None
    begin = time.monotonic()
    with _commands(checkout, url) as commands:
        killed = _torment(commands, url, KILLS or 2, server)
        while any(command.poll() is None for command in commands):
            time.sleep(0.5)
        for command in commands:
            assert command.poll() == 0, command.log.read_text()
    print(f"{KILLS or 2} kills, {killed} of them of trials; {time.monotonic() - begin:.0f} s")
    trials = _study(url).get_trials()
    check_trials(trials)
    check_mlflow(trials)


def check_trials(trials: list[FrozenTrial]) -> None:
    """The planned number of trials, each ended, each attempt made once and the last one complete."""
    assert all(trial.state.is_finished() for trial in trials)
    attempts: dict[int, list[FrozenTrial]] = {}
    for trial in trials:
        attempts.setdefault(trial.user_attrs["original"], []).append(trial)
    assert len(attempts) == TRIALS
    for tried in attempts.values():
        *failed, last = tried
        assert all(trial.state is TrialState.FAIL and trial.user_attrs["reason"] for trial in failed)
        assert [trial.user_attrs["attempt"] for trial in tried] == list(range(1, len(tried) + 1))
        # A trial killed while it chose its values has only some of them: its retry keeps these and chooses the others.
        assert all(trial.params.items() <= last.params.items() for trial in failed)
        if last.state is TrialState.COMPLETE:
            assert sorted(last.intermediate_values) == list(range(1, EPOCHS + 1))
            assert last.values[0] == last.intermediate_values[EPOCHS]
        elif last.state is TrialState.FAIL:
            assert last.user_attrs["retry"] == "no" or len(tried) == 3


def check_mlflow(trials: list[FrozenTrial]) -> None:
    """One run per trial, which agrees with the study."""
    (experiment,) = tracking_store.client().search_experiments(filter_string="name = 'cifar10 sweeps'")
    (parent,) = tracking_store.client().search_runs([experiment.experiment_id], "tags.`optuna.trial` is null")
    runs = track.children(parent.info.run_id)
    assert sorted(int(run.data.tags["optuna.trial"]) for run in runs) == list(range(len(trials)))
    for run in runs:
        trial = trials[int(run.data.tags["optuna.trial"])]
        assert run.data.tags["optuna.state"] == trial.state.name
        assert run.info.status == ("FAILED" if trial.state is TrialState.FAIL else "FINISHED")
        assert run.data.tags.get("reason", "") == trial.user_attrs.get("reason", "")
        assert run.info.run_id == trial.user_attrs.get("run_id", run.info.run_id)
        history = tracking_store.client().get_metric_history(run.info.run_id, "val_accuracy")
        known = {point.step: point.value for point in history}
        assert len(known) == len(history)
        assert {**known, **trial.intermediate_values} == known
    assert not any((files.MLRUNS / "spool").glob("*/"))
