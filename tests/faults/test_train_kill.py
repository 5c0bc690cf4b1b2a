"""The stage train as a process, killed in the middle: run again, it ends as if it had never been killed."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import h5py
import mlflow
import numpy as np
import pytest
from train.processed import TRAIN, VALIDATION, write_mnist

ROOT = Path(__file__).parents[2]
# Two variants of one recipe, dropout and augmentation on: one is killed, the other is not.
VARIANTS = """
  whole: &whole
    data: mnist
    network: {name: homework, filters: [4], conv_dropout: 0.25, dense_units: 8, dense_dropout: 0.5}
    validation: 60
    epochs: 4
    batch_size: 8
    optimizer: {name: rmsprop, learning_rate: 0.003, decay: 1e-6}
    augment: {shift: 0.1, flip: true}
  killed:
    <<: *whole
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text() + VARIANTS)
    write_mnist(folder)
    return folder


def start(checkout: Path, variant: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, str(ROOT / "pipeline" / "train.py"), variant]
    return subprocess.Popen(
        command, cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(child: subprocess.Popen[str]) -> str:
    printed, complaints = child.communicate()
    assert child.returncode == 0, complaints
    return printed


def kill_when(child: subprocess.Popen[str], checkpoint: Path) -> None:
    """Kill `child` at once when its first checkpoint appears."""
    while not checkpoint.exists():
        assert child.poll() is None, child.communicate()
        time.sleep(0.001)
    child.kill()
    child.communicate()


def weights(folder: Path) -> dict[str, np.ndarray]:
    """Every array of model.keras, read without Keras."""
    found: dict[str, np.ndarray] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with zipfile.ZipFile(folder / "model.keras") as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content) as file:
        file.visititems(keep)
    return found


def rows(path: Path) -> list[dict[str, str]]:
    """A table without its times."""
    with path.open() as stream:
        return [
            {k: v for k, v in row.items() if k not in ("seconds", "images_per_s")} for row in csv.DictReader(stream)
        ]


@pytest.mark.filterwarnings("ignore:.*``noload``")  # in MLflow's own code
def test_a_killed_training_ends_as_if_never_killed(checkout: Path) -> None:
    models = checkout / "models" / "mnist"
    checkpoints = checkout / ".checkpoints" / "mnist"
    finish(start(checkout, "whole"))
    kill_when(start(checkout, "killed"), checkpoints / "killed" / "seed-0.npz")
    assert [path.name for path in models.iterdir() if not path.name.startswith(".")] == ["whole"]
    saved = shutil.copy(checkpoints / "killed" / "seed-0.npz", checkout / "saved.npz")
    with np.load(saved, allow_pickle=False) as file:
        state = json.loads(str(file["state"]))
    done = len(state["history"]["epochs"])
    printed = finish(start(checkout, "killed"))
    assert f"killed seed 0  continues after epoch {done}\n" in printed
    assert f"epoch {done}/4" not in printed
    assert f"epoch {done + 1}/4" in printed
    assert sorted(path.name for path in models.iterdir()) == ["killed", "whole"]
    assert not (checkpoints / "killed").exists()

    whole, killed = weights(models / "whole"), weights(models / "killed")
    assert len(whole) >= 8
    assert whole.keys() == killed.keys()
    assert all(np.array_equal(whole[name], killed[name]) for name in whole)
    for table, length in (("history.csv", 4), ("curve.csv", 4)):
        assert rows(models / "killed" / table) == rows(models / "whole" / table)
        assert len(rows(models / "killed" / table)) == length
    assert [row["images"] for row in rows(models / "killed" / "curve.csv")] == [
        *(str(epoch * (TRAIN - VALIDATION)) for epoch in (1, 2, 3, 4))
    ]
    assert json.loads((models / "killed" / "run.json").read_text())["run_id"] == state["run_id"]

    store = mlflow.MlflowClient(f"sqlite:///{checkout}/mlruns/mlflow.db")
    ids = [store.get_experiment_by_name("mnist").experiment_id]
    (run,) = store.search_runs(ids, "tags.variant = 'killed'")
    assert (run.info.run_id, run.info.status) == (state["run_id"], "FINISHED")
    for metric in ("loss", "val_accuracy"):
        points = store.get_metric_history(run.info.run_id, metric)
        assert sorted(point.step for point in points) == [1, 2, 3, 4]
    curve = store.get_metric_history(run.info.run_id, "curve_loss")
    assert sorted(point.step for point in curve) == [240, 480, 720, 960]
