"""Killed at random moments, again and again, on real data: the training ends as if it had never been killed.

In short form here; in full, all images and 25 kills: `CNNLAB_KILLS=25 pytest tests/faults/test_kills.py` (docs/LOG.md).
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
from faults.outcome import rows, weights
from ruamel.yaml import YAML

from cnnlab import files
from cnnlab.catalog import CATALOG
from cnnlab.data import store

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("CNNLAB_KILLS", 0))
SHORT_KILLS, SHORT_IMAGES, EPOCHS = 2, 2048, 3


@pytest.fixture
def checkout(tmp_path: Path, real_cifar10: Path) -> Path:
    """Real CIFAR-10 and two variants of the lesson's recipe for three epochs, with a checkpoint every second or so."""
    yaml = YAML(typ="safe")
    params = yaml.load(ROOT / "params.yaml")
    variant = params["variants"]["lesson"] | {"epochs": EPOCHS}
    params |= {"variants": {"never": variant, "often": variant}, "on_demand": {}, "budget": "laptop"}
    targets = {"cifar10": {"steps": 20, "shares": [0.05]}}
    params["transfer"]["budgets"]["laptop"] |= {"targets": targets, "variants": {"never": []}}
    params["sweep"]["base"] = params["ablation"]["base"] = "never"
    params["ablation"] |= {"ladder": [], "leave_one_out": {}}
    params["train"]["checkpoint_minutes"] = 0.02
    params["budgets"]["laptop"]["train_images"] = None if KILLS else SHORT_IMAGES
    with (tmp_path / "params.yaml").open("w") as stream:
        yaml.dump(params | {"data": {"cifar10": {}}}, stream)
    processed = tmp_path / files.PROCESSED / "cifar10"
    store.preprocess(CATALOG["cifar10"], real_cifar10, processed, validation=5000, seed=0)
    return tmp_path


def start(checkout: Path, variant: str) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment |= {"CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, str(ROOT / "pipeline" / "train.py"), variant]
    with (checkout / f"{variant}.log").open("ab") as log:
        return subprocess.Popen(command, cwd=checkout, env=environment, stdout=log, stderr=log)


def killed_often(checkout: Path, kills: int, longest_s: float) -> int:
    """Start the training and kill it up to `kills` times, each after a random time; how many kills met it alive."""
    moments = random.Random(2026)  # noqa: S311
    met = 0
    for _ in range(kills):
        child = start(checkout, "often")
        try:
            child.wait(timeout=moments.uniform(0, longest_s))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            met += 1
        else:
            break
    else:
        child = start(checkout, "often")
    assert child.wait() == 0, (checkout / "often.log").read_text()
    return met


def arrays(folder: Path) -> dict[str, np.ndarray]:
    """Every weight and every prediction."""
    with np.load(folder / "predictions.npz") as predictions:
        return weights(folder) | dict(predictions)


@pytest.mark.timeout(7200)
def test_killed_at_random_moments_it_ends_as_if_never_killed(checkout: Path) -> None:
    begin = time.monotonic()
    assert start(checkout, "never").wait() == 0, (checkout / "never.log").read_text()
    duration = time.monotonic() - begin
    met = killed_often(checkout, KILLS or SHORT_KILLS, longest_s=duration / (4 if KILLS else 1))
    print(f"{met} kills met the training alive; never killed it takes {duration:.0f} s")

    never, often = (checkout / "models" / "cifar10" / name for name in ("never", "often"))
    expected, found = arrays(never), arrays(often)
    assert len(expected) >= 16
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    for table in ("history.csv", "curve.csv"):
        assert rows(often / table) == rows(never / table)
    assert len(rows(often / "history.csv")) == EPOCHS
    check_mlflow(checkout, often)


def check_mlflow(checkout: Path, folder: Path) -> None:
    """One run, finished, with every point once and one model."""
    client = mlflow.MlflowClient(f"sqlite:///{checkout}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("cifar10").experiment_id
    (run,) = client.search_runs([experiment], "tags.variant = 'often'")
    assert run.info.status == "FINISHED"
    assert run.info.run_id == json.loads((folder / "run.json").read_text())["run_id"]
    for metric, table, step in (("val_loss", "history.csv", "epoch"), ("curve_loss", "curve.csv", "images")):
        points = sorted((p.step, p.value) for p in client.get_metric_history(run.info.run_id, metric))
        column = metric.removeprefix("curve_")
        wanted = [(int(float(row[step])), float(row[column])) for row in rows(folder / table)]
        assert points == wanted
    (test_loss,) = client.get_metric_history(run.info.run_id, "test_loss")
    assert test_loss.step == EPOCHS
    assert len(run.outputs.model_outputs) == 1
    assert not any((checkout / "mlruns" / "spool").glob("*/"))
