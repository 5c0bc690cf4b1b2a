"""Devices to strategies: one device, clusters described by TF_CONFIG and Slurm, and what is refused."""

import json
from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from train.small import make_loop, pictures, same, timeless, tiny, values

from cnnlab import params
from cnnlab.errors import UserError
from cnnlab.params import Augment, Optimizer
from cnnlab.train.loop import fit
from cnnlab.train.strategy import _cluster, broadcast, is_chief, strategy, sum_over_workers, uses_xla, workers

VARIABLES = [
    "TF_CONFIG",
    "SLURM_PROCID",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_STEP_NODELIST",
    "SLURM_STEP_TASKS_PER_NODE",
]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One that names no cluster."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def config(addresses: Any, index: Any, kind: str = "worker") -> str:
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": kind, "index": index}})


# A single process


@pytest.mark.parametrize("knobs", [{}, {"devices": "one"}, {"replicas": 2}], ids=["all", "one", "two"])
def test_a_single_process_is_the_chief(knobs: dict[str, Any]) -> None:
    made = strategy(params.Strategy(**knobs))
    assert made.num_replicas_in_sync == knobs.get("replicas", 1)
    assert workers(made) == 1
    assert is_chief(made) is True
    assert not uses_xla(made)
    array = np.arange(3.0)
    assert np.array_equal(sum_over_workers(made, array), array)
    for content in (b"", b"a", b"\0\xff\0"):
        assert broadcast(made, content) == content


def test_one_device_takes_the_plain_strategy() -> None:
    assert type(strategy(params.Strategy(devices="one"))) is tf.distribute.OneDeviceStrategy
    assert type(strategy(params.Strategy())) is tf.distribute.MirroredStrategy


@pytest.mark.parametrize("feeding", ["resident", "streamed"])
def test_one_device_trains_as_one_mirrored(one_replica: tf.distribute.Strategy, feeding: Any) -> None:
    knobs = Optimizer(name="adam", learning_rate=0.01, clip_norm=1.0, ema=0.9)
    histories, ended = [], []
    for each in (one_replica, strategy(params.Strategy(devices="one"))):
        augment, network = Augment(shift=0.1, flip="random", mixup=0.3), partial(tiny, 0.5)
        loop = make_loop(each, pictures(70), knobs, batch_size=8, network=network, augment=augment, feeding=feeding)
        histories.append(fit(loop, np.arange(52), np.arange(52, 70), 2))
        ended.append(values(loop.model))
    assert same(*ended)
    assert timeless(histories[0].epochs) == timeless(histories[1].epochs)
    assert histories[0].curve == histories[1].curve


@pytest.mark.parametrize("names", [["GPU:0"], ["GPU:1", "GPU:0"]])
def test_a_missing_gpu_is_named(names: list[str]) -> None:
    with pytest.raises(UserError) as refusal:
        strategy(params.Strategy(devices=names))
    assert str(refusal.value) == (
        "Invalid strategy.devices. Expected some of: none, as this host has no GPU. "
        f"Received: {', '.join(names)}. To use every device, set devices: all."
    )


# TF_CONFIG


def test_no_cluster() -> None:
    assert _cluster() is None


@pytest.mark.parametrize("addresses", [["a:1", "b:2"], ["a:1", "a:2", "b:1"]])
@pytest.mark.parametrize("index", [0, 1])
def test_tf_config_names_the_cluster(addresses: list[str], index: int, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TF_CONFIG", text := config(addresses, index))
    assert _cluster() == json.loads(text)


def test_a_cluster_of_one_is_a_single_process(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TF_CONFIG", config(["localhost:1"], 0))
    assert _cluster() is None
    made = strategy(params.Strategy())
    assert type(made) is tf.distribute.MirroredStrategy
    assert (workers(made), is_chief(made)) == (1, True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not JSON",
        "[]",
        "null",
        "3",
        "{}",
        '{"cluster": {"worker": ["a:1", "b:1"]}}',
        '{"task": {"type": "worker", "index": 0}}',
        '{"cluster": {}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker"}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
        config([], 0),
        config(None, 0),
        config(["a:1", "b:1"], 2),
        config(["a:1", "b:1"], "0"),
        config(["a:1", "b:1"], None),
        config(["a:1", "b:1"], 0, "chief"),
        config(["a:1", "b:1"], -1),
        config("a:1", 0),
    ],
)
def test_an_invalid_tf_config_is_refused(text: str, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TF_CONFIG", text)
    with pytest.raises(UserError) as refusal:
        strategy(params.Strategy())
    assert str(refusal.value) == (
        'Invalid TF_CONFIG. Expected {"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}} '
        f"with an index among the workers. Received: {text}. See docs/distributed.md."
    )


# Slurm


def under_slurm(environment: pytest.MonkeyPatch, number: int, tasks: int, nodes: str, per_node: str) -> None:
    environment.setenv("SLURM_PROCID", str(number))
    environment.setenv("SLURM_STEP_NUM_TASKS", str(tasks))
    environment.setenv("SLURM_STEP_NODELIST", nodes)
    environment.setenv("SLURM_STEP_TASKS_PER_NODE", per_node)


@pytest.mark.parametrize(
    ("nodes", "per_node", "hosts"),
    [
        ("localhost", "2", ["localhost", "localhost"]),
        ("node[1-2]", "1(x2)", ["node1", "node2"]),
        ("node[1-2]", "2(x2)", ["node1", "node1", "node2", "node2"]),
        ("a,b7", "2,1", ["a", "a", "b7"]),
    ],
)
def test_slurm_names_the_cluster(nodes: str, per_node: str, hosts: list[str], environment: pytest.MonkeyPatch) -> None:
    """A worker for each task, neighbours on ports of their own, and all tasks agree."""
    described = []
    for number in range(len(hosts)):
        under_slurm(environment, number, len(hosts), nodes, per_node)
        cluster = _cluster()
        assert cluster is not None
        assert cluster["task"] == {"type": "worker", "index": number}
        described.append(cluster["cluster"])
    assert all(each == described[0] for each in described)
    assert set(described[0]) == {"worker"}
    addresses = described[0]["worker"]
    assert [address.partition(":")[0] for address in addresses] == hosts
    assert len(set(addresses)) == len(hosts)
    assert all(1024 <= int(address.partition(":")[2]) < 65536 for address in addresses)


def test_one_task_of_slurm_is_a_single_process(environment: pytest.MonkeyPatch) -> None:
    under_slurm(environment, 0, 1, "localhost", "1")
    assert _cluster() is None


def test_tf_config_comes_before_slurm(environment: pytest.MonkeyPatch) -> None:
    under_slurm(environment, 0, 2, "localhost", "2")
    environment.setenv("TF_CONFIG", text := config(["a:1", "b:1"], 1))
    assert _cluster() == json.loads(text)
