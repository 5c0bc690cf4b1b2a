"""Sweeps on real MNIST as their command runs them: to the end, without success, killed, interrupted and continued."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from damage import DAMAGES
from optuna.trial import FrozenTrial, TrialState
from ruamel.yaml import YAML
from studies.project import Project, children, ended, is_alive, project, trials_of, wait

from cnnlab import files, params
from cnnlab.errors import UserError

WAITING, RUNNING, COMPLETE, FAIL = TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE, TrialState.FAIL
FIGURES = {f"{name}.png" for name in ("history", "importances", "slices", "pareto")}
TABLES = {"trials.csv", "importances.csv", "best.yaml", "summary.md", "figures.html", files.MANIFEST}
LONG = 60  # epochs: a training that can be met in the middle


@pytest.fixture
def here(tmp_path: Path, processed_mnist: Path) -> Iterator[Project]:
    with project(tmp_path, processed_mnist) as made:
        yield made


def states(of: Project) -> list[TrialState]:
    return [trial.state for trial in of.trials()]


def runs(of: Project) -> tuple[Any, dict[int, Any]]:
    """MLflow's run of the study, and the runs of its trials by number."""
    store = mlflow.MlflowClient(f"sqlite:///{of.top}/mlruns/mlflow.db")
    experiment = store.get_experiment_by_name("mnist sweeps")
    found = list(store.search_runs([experiment.experiment_id]))
    (parent,) = (run for run in found if "mlflow.parentRunId" not in run.data.tags)
    children = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == len(found) - 1
    by_number = {int(run.data.tags["optuna.trial"]): run for run in children}
    assert len(by_number) == len(children)
    return parent, by_number


def check_mlflow(of: Project) -> None:
    """One child run per trial of the study's run, which agrees with the study."""
    parent, children = runs(of)
    assert parent.info.status == "FINISHED"
    trials = of.trials()
    assert sorted(children) == [trial.number for trial in trials]
    for trial in trials:
        run = children[trial.number]
        assert run.data.tags["optuna.state"] == trial.state.name
        assert run.data.tags.get("reason", "") == trial.user_attrs.get("reason", "")
        assert run.info.status == ("FAILED" if trial.state is FAIL else "FINISHED")


# To the end


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, processed_mnist: Path) -> Iterator[Project]:
    """An undisturbed sweep of three trials and two objectives."""
    with project(tmp_path_factory.mktemp("swept"), processed_mnist) as made:
        made.write(minimise="parameters")
        done = made.run()
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert (made.top / "reports/sweep/summary.md").read_text() in done.stdout
        yield made


def parameters(trial: FrozenTrial) -> int:
    """Of a trial's network, counted by hand: 4 filters of 3×3, 13×13 pixels after the pool, two dense layers."""
    inputs, units = 4 * 13 * 13, int(trial.params["network.dense_units"])
    dense = [inputs, units, 10] if units else [inputs, 10]
    return 4 * (9 + 1) + sum(outputs * (before + 1) for before, outputs in itertools.pairwise(dense))


def test_every_trial_is_complete_and_cost_no_more_than_the_base(swept: Project) -> None:
    trials = swept.trials()
    assert [trial.state for trial in trials] == [COMPLETE] * 3
    base = trials[0]
    assert base.params == {
        "network.dense_units": 16,
        "network.activation": "relu",
        "optimizer.learning_rate": 0.05,
    }
    for trial in trials:
        assert trial.values == [trial.intermediate_values[2], parameters(trial)]
        assert 0 < trial.user_attrs["training_flop"] <= base.user_attrs["training_flop"]
    assert not list((swept.top / files.CHECKPOINTS).rglob("*.npz"))


def test_the_reports_are_there_and_agree_with_the_journal(swept: Project) -> None:
    folder = swept.top / "reports/sweep"
    names = {path.name for path in folder.iterdir()}
    assert names == FIGURES | TABLES
    for name in FIGURES:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    table = pd.read_csv(folder / "trials.csv")
    trials = swept.trials()
    assert list(table["trial"]) == [trial.number for trial in trials]
    for trial, row in zip(trials, table.to_dict("records"), strict=True):
        assert row["state"] == trial.state.name
        assert row["role"] == ("search" if trial.number else "baseline")
        assert [row["validation_accuracy"], row["parameters"]] == trial.values
        assert {name: row[name] for name in trial.params} == trial.params
        assert {name: row[name] for name in ("steps", "training_flop", "run_id")}.items() <= trial.user_attrs.items()


def test_the_reports_have_digests(swept: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(swept.top)
    for name in sorted((FIGURES | TABLES) - {files.MANIFEST}):
        files.verified(Path("reports/sweep") / name, "make sweep")


@pytest.mark.parametrize("damage", sorted(DAMAGES.keys() - {"deleted", "dangling link"}))
def test_a_damaged_best_variant_is_reported_in_one_line(
    swept: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    shutil.copytree(swept.top / "reports", tmp_path / "reports")
    shutil.copy(swept.top / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    parameters = params.load()
    assert params.variant(parameters, "tuned").data == "mnist"
    DAMAGES[damage](params.BEST)
    with pytest.raises(
        UserError, match=rf"^Invalid file {params.BEST}\. Expected: .* Received: .* To fix this, run: [^\n]*$"
    ):
        params.variant(parameters, "tuned")
    assert params.variant(parameters, "small").data == "mnist"  # and so a sweep can replace it


def test_trials_leave_no_temporary_files(swept: Project) -> None:
    """TensorFlow writes some for every trial, and the trials' processes end without removing them."""
    assert swept.temporary
    assert [*swept.temporary.iterdir()] == []
    assert [path.suffix for path in (swept.top / files.CHECKPOINTS).rglob("trial-*")] == [".log"] * 3


def test_the_best_can_be_copied_into_params_yaml(swept: Project) -> None:
    best = max(swept.trials(), key=lambda trial: trial.values[0])
    yaml = YAML(typ="safe")
    found = yaml.load(swept.top / "reports/sweep/best.yaml")
    parameters = yaml.load(swept.top / "params.yaml")
    parameters["variants"]["swept"] = found
    with (swept.top / "copied.yaml").open("w") as stream:
        yaml.dump(parameters, stream)
    accepted = params.load(swept.top / "copied.yaml").variants["swept"]
    assert accepted == params.Variant.model_validate(best.user_attrs["variant"])
    for key, value in best.params.items():
        section, name = key.split(".")
        assert getattr(getattr(accepted, section), name) == value


def test_mlflow_has_a_run_of_the_study_and_one_below_it_for_each_trial(swept: Project) -> None:
    check_mlflow(swept)
    parent, children = runs(swept)
    kept = {path.name for path in (swept.top / "mlruns/artifacts").rglob(f"{parent.info.run_id}/artifacts/sweep/*")}
    assert kept == {path.name for path in (swept.top / "reports/sweep").iterdir()}
    for trial in swept.trials():
        run = children[trial.number]
        assert run.info.run_id == trial.user_attrs["run_id"]
        assert run.data.metrics["validation_accuracy"] == trial.values[0]


def test_status_prints_the_counts(swept: Project) -> None:
    done = swept.run(stage="sweep-status")
    assert done.returncode == 0, done.stderr
    counts = "running 0 waiting 0 done 3 pruned 0 failed 0"
    assert f"{counts} best {100 * max(trial.values[0] for trial in swept.trials()):.2f} %" in " ".join(
        done.stdout.split()
    )
    assert done.stdout.count("complete") == 3


def test_status_of_a_study_that_was_never_begun(swept: Project) -> None:
    done = swept.run("--study", "other", stage="sweep-status")
    assert done.returncode == 2
    assert re.match(r"error: No study other-\w+\. Expected .* Known: small-\w+\.\n$", done.stderr)


def test_status_imports_nothing_that_takes_seconds(swept: Project) -> None:
    script = (
        "import sys; from cnnlab.cli import main; main(['sweep-status'], standalone_mode=False); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=swept.top, capture_output=True, text=True, check=True)
    assert "done 3" in " ".join(done.stdout.split())
    assert not {"mlflow", "pandas", "tensorflow", "matplotlib", "sklearn"} & {*done.stdout.split()}


def test_a_journal_whose_last_line_was_cut_repeats_that_trial(swept: Project, here: Project) -> None:
    """The last line completes the last trial."""
    shutil.copytree(swept.top / "mlruns", here.top / "mlruns")
    shutil.copy(swept.top / "params.yaml", here.top)
    journal = here.top / "mlruns/optuna.journal"
    before, content = here.trials(), journal.read_bytes()
    journal.write_bytes(content[: -len(content.splitlines()[-1]) // 2])
    done = here.run()
    assert done.returncode == 0, done.stderr
    assert here.trials()[:2] == before[:2]
    assert [trial.state for trial in here.trials()] == [COMPLETE, COMPLETE, FAIL, COMPLETE]
    assert (here.trials()[3].params, here.trials()[3].values) == (before[2].params, before[2].values)
    check_mlflow(here)


def test_one_trial_more_continues_the_study(swept: Project, here: Project) -> None:
    for name in ("mlruns", "params.yaml"):
        copy = shutil.copytree if (swept.top / name).is_dir() else shutil.copy
        copy(swept.top / name, here.top / name)
    before = here.trials()
    done = here.run("--trials", "4")
    assert done.returncode == 0, done.stderr
    assert here.trials()[:3] == before
    assert states(here) == [COMPLETE] * 4
    assert len(pd.read_csv(here.top / "reports/sweep/trials.csv")) == 4
    check_mlflow(here)


# Without success


def test_a_sweep_whose_trials_all_fail_ends_and_says_why(here: Project) -> None:
    rates = {"optimizer.learning_rate": {"low": 1e25, "high": 1e30, "log": True}}
    base = {"optimizer": {"name": "sgd", "learning_rate": 1e28}}
    here.write(base=base, budget={"trials": 8}, space=rates)
    done = here.run()
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    message = done.stderr[done.stderr.index("error: ") :]
    assert message.startswith("error: Every trial failed. Expected at least one of ")
    assert "The training diverged" in message
    assert "Lower optimizer.learning_rate" in message
    (named,) = re.findall(r"logs in (\S+)/\.", message)
    assert "The training diverged" in (here.top / named / "trial-0.log").read_text()
    found = states(here)
    assert len(found) >= 8
    assert 3 <= found.count(FAIL) < 8
    assert set(found) == {FAIL, WAITING}
    assert {run.info.status for run in runs(here)[1].values()} == {"FAILED"}
    assert not (here.top / "reports").exists()


def test_a_study_that_failed_for_good_says_so_again(here: Project) -> None:
    rates = {"optimizer.learning_rate": {"low": 1e25, "high": 1e30, "log": True}}
    here.write(base={"optimizer": {"name": "sgd", "learning_rate": 1e28}}, budget={"trials": 1}, space=rates)
    first, second = here.run(), here.run()
    assert first.returncode == second.returncode == 2
    for done in (first, second):
        assert "error: Every trial failed. Expected at least one of 1 to end. Received:\n" in done.stderr
        assert "The training diverged" in done.stderr
    assert states(here) == [FAIL]


# Killed and interrupted


def has_trained(of: Project, epochs: int) -> bool:
    """Whether the last attempt at the baseline, which runs, has reported so many epochs."""
    running = [trial for trial in of.trials() if trial.state is RUNNING and trial.user_attrs.get("original") == 0]
    return any(len(trial.intermediate_values) >= epochs for trial in running)


def check_continued(of: Project, before: FrozenTrial) -> None:
    """The baseline is complete, and continued after the epochs that it had reported `before`."""
    last = next(t for t in reversed(of.trials()) if t.user_attrs["original"] == 0)
    assert last.state is COMPLETE
    assert last.params == before.params
    assert sorted(last.intermediate_values) == [*range(1, LONG + 1)]
    assert before.intermediate_values.items() <= last.intermediate_values.items()
    _, resumed, later = re.split(r"resumes after (\d+) epochs", of.log(0))
    assert int(resumed) >= len(before.intermediate_values)
    trained = [int(epoch) for epoch in re.findall(rf" epoch (\d+)/{LONG} ", later)]
    assert trained == [*range(int(resumed) + 1, LONG + 1)]


def test_a_trial_that_the_system_killed_is_tried_again_from_its_checkpoint(here: Project) -> None:
    here.write(budget={"trials": 1, "epochs": LONG}, workers=1)
    process = here.start()
    wait(lambda: has_trained(here, 2), process)
    (trial,) = trials_of(process.pid)
    os.kill(trial, signal.SIGKILL)
    done = ended(process)
    assert done.returncode == 0, done.stderr
    killed = here.trials()[0]
    assert killed.state is FAIL
    assert killed.user_attrs["reason"] == "its process was ended by SIGKILL, perhaps by the system for lack of memory"
    attempts = [(t.user_attrs["original"], t.user_attrs["attempt"]) for t in here.trials()]
    assert attempts == [(0, 1), (0, 2)]
    check_continued(here, killed)
    check_mlflow(here)
    assert here.temporary
    assert [*here.temporary.iterdir()] == []


def test_an_interrupted_sweep_continues(here: Project) -> None:
    """Ctrl-C reaches every process of the terminal's group."""
    here.write(budget={"trials": 2, "epochs": LONG}, workers=1)
    process = here.start()
    wait(lambda: has_trained(here, 1), process)
    processes = [*children(process.pid), *trials_of(process.pid)]
    assert len(processes) >= 2
    os.killpg(process.pid, signal.SIGINT)
    done = ended(process)
    assert done.returncode == 130
    assert "saving the running trials" in done.stderr
    assert done.stderr.splitlines()[-1] == "error: the study was interrupted; the same command continues it"
    assert "Traceback" not in done.stderr
    wait(lambda: not any(is_alive(pid) for pid in processes))
    stopped, *_ = here.trials()
    assert stopped.state is FAIL
    assert stopped.user_attrs["reason"] == "interrupted"
    assert states(here)[1:] == [WAITING, WAITING]

    done = here.run()
    assert done.returncode == 0, done.stderr
    attempts = [(t.user_attrs["original"], t.user_attrs["attempt"]) for t in here.trials()]
    assert sorted(attempts) == [(0, 1), (0, 1), (1, 1)]  # an interruption is no attempt
    assert all(trial.state.is_finished() for trial in here.trials())
    check_continued(here, stopped)
    check_mlflow(here)


def test_ctrl_c_while_the_server_of_trials_starts(here: Project) -> None:
    here.write(workers=1)
    process = here.start()

    def server() -> bool:
        listed = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
        lines = (line.split(maxsplit=1) for line in listed.splitlines())
        return any("forkserver" in args for pid, args in lines if int(pid) in children(process.pid))

    wait(server, process)
    os.killpg(process.pid, signal.SIGINT)
    done = ended(process)
    assert "Traceback" not in done.stderr
    assert done.returncode == 130
    assert RUNNING not in [t.state for t in here.trials()]


def test_ctrl_c_twice_at_once_stops_at_once(here: Project) -> None:
    here.write(budget={"trials": 1, "epochs": 100_000}, workers=1)
    process = here.start()
    wait(lambda: has_trained(here, 2), process)
    os.killpg(process.pid, signal.SIGINT)
    assert process.stderr
    while "interrupt again to stop at once" not in process.stderr.readline():
        pass
    os.killpg(process.pid, signal.SIGINT)  # within the 0.2 s until the sweep looks again
    process.communicate(timeout=60)
    assert process.returncode
