"""The stage train as a process, killed and stopped in the middle: run again, it ends as if nothing had happened."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from faults.outcome import rows, weights
from train.processed import write_mnist

ROOT = Path(__file__).parents[2]
EPOCHS = 25  # of 3 compiled calls each, all of which save: long enough to be caught in the middle
# Variants of one recipe, dropout and augmentation on: one is not disturbed, the others are not.
VARIANTS = """
  undisturbed: &undisturbed
    data: mnist
    network: {name: homework, filters: [4], depths: [2], conv_dropout: [0.25], dense_units: 8, dense_dropout: 0.5}
    validation: 60
    epochs: 25
    batch_size: 7
    optimizer: {name: rmsprop, learning_rate: 0.003, schedule: {name: inverse_time, decay: 1e-6}, ema: 0.9}
    augment: {shift: 0.1, flip: random, mixup: 0.2}
  killed:
    <<: *undisturbed
  stopped:
    <<: *undisturbed
  huge:
    <<: *undisturbed
    network: {name: homework, filters: [4], depths: [2], conv_dropout: [0.25], dense_units: 2000000000}
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    parameters = (ROOT / "params.yaml").read_text()
    assert parameters.count("checkpoint_minutes: 5 ") == 1
    (folder / "params.yaml").write_text(
        parameters.replace("checkpoint_minutes: 5 ", "checkpoint_minutes: 1e-9 ") + VARIANTS
    )
    write_mnist(folder)
    (folder / "tmp").mkdir()
    return folder


@pytest.fixture(scope="module")
def undisturbed(checkout: Path) -> Path:
    """The folder of the training that was not disturbed."""
    finish(start(checkout, "undisturbed"))
    return checkout / "models" / "mnist" / "undisturbed"


def start(checkout: Path, variant: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment["TMPDIR"] = str(checkout / "tmp")
    command = [sys.executable, str(ROOT / "pipeline" / "train.py"), variant]
    return subprocess.Popen(
        command, cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(child: subprocess.Popen[str]) -> str:
    printed, complaints = child.communicate()
    assert child.returncode == 0, complaints
    return printed


def standing(checkout: Path, variant: str) -> dict[str, Any] | None:
    """What the checkpoint says, read without cnnlab; None where there is none."""
    path = checkout / ".checkpoints" / "mnist" / variant / "seed-0.npz"
    if not path.exists():
        return None
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
        found: dict[str, Any] = json.loads(str(file["state"]))
    return found


def send_when(
    checkout: Path, variant: str, number: signal.Signals, reached: Callable[[int, int], bool]
) -> tuple[int, str, str]:
    """Start a training and send it a signal as soon as a checkpoint is of such an epoch and step.

    Returns exit status, output and complaints.
    """
    child = start(checkout, variant)
    while not ((found := standing(checkout, variant)) and reached(*position(found))):
        assert child.poll() is None, child.communicate()
        time.sleep(0.001)
    child.send_signal(number)
    printed, complaints = child.communicate()
    assert [*(checkout / "tmp").iterdir()] == []
    return child.returncode, printed, complaints


def position(found: dict[str, Any]) -> tuple[int, int]:
    """Whole epochs and steps of the next one."""
    return len(found["history"]["epochs"]), found["history"]["progress"]["step"]


def runs(checkout: Path, variant: str) -> list[Any]:
    store = mlflow.MlflowClient(f"sqlite:///{checkout}/mlruns/mlflow.db")
    experiment = store.get_experiment_by_name("mnist")
    return [*store.search_runs([experiment.experiment_id], f"tags.variant = '{variant}'")] if experiment else []


def assert_ended_as(undisturbed: Path, folder: Path, checkout: Path) -> None:
    """Files bit for bit those of `undisturbed`, but for times; each point once in a single finished run."""
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in undisturbed.iterdir())
    expected, found = weights(undisturbed), weights(folder)
    assert len(expected) >= 8
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    with np.load(undisturbed / "predictions.npz") as its, np.load(folder / "predictions.npz") as mine:
        assert all(np.array_equal(mine[name], its[name]) for name in its.files)
    for table in ("history.csv", "curve.csv"):
        assert rows(folder / table) == rows(undisturbed / table)
    assert len(rows(folder / "history.csv")) == EPOCHS
    assert not (checkout / ".checkpoints" / "mnist" / folder.name).exists()
    assert [*(checkout / "tmp").iterdir()] == []

    (run,) = runs(checkout, folder.name)
    assert run.info.status == "FINISHED"
    assert run.info.run_id == json.loads((folder / "run.json").read_text())["run_id"]
    store = mlflow.MlflowClient(f"sqlite:///{checkout}/mlruns/mlflow.db")
    for metric in ("loss", "val_accuracy"):
        points = store.get_metric_history(run.info.run_id, metric)
        assert sorted(point.step for point in points) == [*range(1, EPOCHS + 1)]
    curve = store.get_metric_history(run.info.run_id, "curve_loss")
    assert sorted(str(point.step) for point in curve) == sorted(row["images"] for row in rows(folder / "curve.csv"))


def test_a_killed_training_ends_as_if_never_killed(checkout: Path, undisturbed: Path) -> None:
    """Three times: before its first step and its MLflow run, within its first epoch, within a later one."""
    folder = checkout / "models" / "mnist" / "killed"
    moments: list[Callable[[int, int], bool]] = [
        lambda _epochs, _step: True,
        lambda _epochs, step: step > 0,
        lambda epochs, step: epochs >= 2 and step > 0,
    ]
    before, known = None, set()
    for reached in moments:
        status, printed, complaints = send_when(checkout, "killed", signal.SIGKILL, reached)
        assert status == -signal.SIGKILL, complaints
        assert not folder.exists()
        if before:
            assert f"killed seed 0  resumes after {before[0]} epochs" in printed
        found = standing(checkout, "killed")
        assert found
        before = position(found) if found["run_id"] else None
        known.add(found["key"])
    assert before
    epochs, step = before
    assert epochs >= 2
    printed = finish(start(checkout, "killed"))
    assert f"killed seed 0  resumes after {epochs} epochs" + (f" and {step} steps\n" if step else "\n") in printed
    assert f"epoch {epochs}/{EPOCHS}" not in printed
    assert f"epoch {epochs + 1}/{EPOCHS}" in printed
    assert len(known) == 1
    assert_ended_as(undisturbed, folder, checkout)


def test_a_stopped_training_ends_as_if_never_stopped(checkout: Path, undisturbed: Path) -> None:
    """By SIGTERM, then by SIGINT (Ctrl-C)."""
    folder = checkout / "models" / "mnist" / "stopped"
    identities = set()
    for number, epochs in ((signal.SIGTERM, 1), (signal.SIGINT, 4)):
        status, printed, complaints = send_when(
            checkout, "stopped", number, lambda done, step, epochs=epochs: done >= epochs and step > 0
        )
        assert status == 130, complaints
        assert "stopping after the current steps; interrupt again to stop at once\n" in complaints
        assert "Traceback" not in complaints
        found = standing(checkout, "stopped")
        assert found
        epochs, step = position(found)
        assert complaints.splitlines()[-1] == (
            f"error: interrupted: stopped seed 0 was saved after {epochs} epochs"
            f"{f' and {step} steps' if step else ''}; the same command resumes it"
        )
        assert not folder.exists()
        (run,) = runs(checkout, "stopped")
        assert (run.info.run_id, run.info.status) == (found["run_id"], "KILLED")
        identities.add(run.info.run_id)
    printed = finish(start(checkout, "stopped"))
    assert f"stopped seed 0  resumes after {epochs} epochs" in printed
    assert_ended_as(undisturbed, folder, checkout)
    assert identities == {run.info.run_id for run in runs(checkout, "stopped")}


def test_out_of_memory_is_one_line(checkout: Path) -> None:
    """Five terabytes of weights, which no allocator even begins to give."""
    child = start(checkout, "huge")
    complaints = child.communicate()[1]
    assert child.returncode == 2, complaints
    assert "Traceback" not in complaints
    assert complaints.splitlines()[-1].startswith("error: Out of memory: huge seed 0. Expected a network, batches and ")
    assert "OOM when allocating tensor with shape[676,2000000000]" in complaints.splitlines()[-1]
    assert not (checkout / "models" / "mnist" / "huge").exists()
