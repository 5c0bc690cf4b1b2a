"""Several worker processes: they match one replica, only the chief writes, and a lost worker is reported."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pytest
import tensorflow as tf
from train.processed import write_mnist
from train.worker import train

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("worker.py")
TRAIN = ROOT / "pipeline" / "train.py"
VARIANTS = """
  steady: &steady
    data: mnist
    network: {name: homework, filters: [4], depths: [2], conv_dropout: [0.25], dense_units: 8, dense_dropout: 0.5}
    validation: 60
    epochs: 12
    batch_size: 8
    optimizer: {name: adam, learning_rate: 0.003, ema: 0.9}
    augment: {shift: 0.1, flip: random, cutmix: 1.0}
  broken:
    <<: *steady
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def start(arguments: Callable[[int], list[str]], folders: list[Path]) -> list[subprocess.Popen[str]]:
    """A worker in each folder, all of one cluster."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(len(folders))]
    children = []
    for index, folder in enumerate(folders):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        environment |= {"TF_CONFIG": json.dumps(cluster), "CUDA_VISIBLE_DEVICES": "-1"}
        children.append(
            subprocess.Popen(
                [sys.executable, *arguments(index)],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return children


def finish(children: list[subprocess.Popen[str]]) -> list[str]:
    """What they printed; all must succeed."""
    printed = [child.communicate(timeout=300)[0] for child in children]
    assert [child.returncode for child in children] == [0] * len(children), "\n".join(printed)
    return printed


def follows(
    folder: Path, floatx: str, one_replica: tf.distribute.Strategy, two_replicas: tf.distribute.Strategy, bar: float
) -> dict[str, dict[str, np.ndarray]]:
    """Train on one replica, on two, and on two workers; the losses of all must stay within `bar`, relative."""
    outs = [folder / f"{index}.npz" for index in (0, 1)]
    printed = finish(start(lambda index: [str(WORKER), floatx, str(outs[index])], [folder] * 2))
    assert all("worker of 2, 2 replicas" in text for text in printed)
    chief, other = (dict(np.load(out)) for out in outs)
    assert all(np.array_equal(other[part], chief[part]) for part in chief)
    one, two = train(one_replica, floatx), train(two_replicas, floatx)
    assert one["losses"].shape == (200,)
    assert one["losses"][-10:].mean() < 0.9 * one["losses"][:10].mean()
    for together in (two, chief):
        np.testing.assert_allclose(together["losses"], one["losses"], rtol=bar)
    return {"one": one, "two": two, "workers": chief}


def test_two_workers_and_two_replicas_follow_one(
    tmp_path: Path, one_replica: tf.distribute.Strategy, two_replicas: tf.distribute.Strategy
) -> None:
    follows(tmp_path, "float32", one_replica, two_replicas, bar=1e-3)


@pytest.mark.usefixtures("float64")
def test_they_follow_one_in_double_precision(
    tmp_path: Path, one_replica: tf.distribute.Strategy, two_replicas: tf.distribute.Strategy
) -> None:
    """Weights, moving statistics, optimizer state and averages within 1e-8."""
    trained = follows(tmp_path, "float64", one_replica, two_replicas, bar=1e-8)
    for together in ("two", "workers"):
        for part, expected in trained["one"].items():
            np.testing.assert_allclose(trained[together][part], expected, rtol=1e-8, atol=1e-8, err_msg=part)


def host(folder: Path) -> Path:
    """A folder as another host would have it: parameters and data, nothing shared."""
    folder.mkdir()
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text() + VARIANTS)
    write_mnist(folder)
    return folder


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def killed_after_an_epoch(children: list[subprocess.Popen[str]], victim: int, checkpoint: Path) -> str:
    """Kill one worker once one more epoch is saved; what the other printed before it ended on its own."""
    before, deadline = epochs_saved(checkpoint), time.monotonic() + 120
    while time.monotonic() < deadline and epochs_saved(checkpoint) == before:
        assert all(child.poll() is None for child in children), [child.communicate()[0] for child in children]
        time.sleep(0.05)
    children[victim].kill()
    children[victim].communicate()
    printed = children[1 - victim].communicate(timeout=60)[0]  # the bar: a clear end within 60 s
    assert children[1 - victim].returncode == 2, printed
    return printed


def epochs_saved(checkpoint: Path) -> int:
    if not checkpoint.exists():
        return 0
    with np.load(checkpoint, allow_pickle=False) as file:
        return len(json.loads(str(file["state"]))["history"]["epochs"])


def test_a_lost_worker_is_reported_and_a_restart_resumes(tmp_path: Path) -> None:
    hosts = [host(tmp_path / name) for name in ("chief", "other")]
    before = files(hosts[1])
    for printed in finish(start(lambda _: [str(TRAIN), "steady"], hosts)):
        assert "Traceback" not in printed
    checkpoint = hosts[0] / ".checkpoints" / "mnist" / "broken" / "seed-0.npz"
    for victim in (1, 0):
        printed = killed_after_an_epoch(start(lambda _: [str(TRAIN), "broken"], hosts), victim, checkpoint)
        assert "error: A worker was lost: broken seed 0. Expected 2 workers. Received: " in printed
        assert "Restart all of them: the training resumes from its checkpoint." in printed
        assert "Traceback" not in printed
    printed = finish(start(lambda _: [str(TRAIN), "broken"], hosts))
    assert "broken seed 0  resumes after" in printed[0]
    assert "epoch" not in printed[1]  # the chief alone speaks
    assert files(hosts[1]) == before  # and writes

    models = hosts[0] / "models" / "mnist"
    with (
        np.load(models / "steady" / "predictions.npz") as never,
        np.load(models / "broken" / "predictions.npz") as often,
    ):
        assert all(np.array_equal(never[part], often[part]) for part in never.files)
    store = mlflow.MlflowClient(f"sqlite:///{hosts[0]}/mlruns/mlflow.db")
    ids = [store.get_experiment_by_name("mnist").experiment_id]
    (run,) = store.search_runs(ids, "tags.variant = 'broken'")
    assert (run.info.status, run.data.tags["workers"]) == ("FINISHED", "2")
    points = store.get_metric_history(run.info.run_id, "val_loss")
    assert sorted(point.step for point in points) == list(range(1, 13))
