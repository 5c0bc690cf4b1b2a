"""tf.distribute strategies: one device, the GPUs of this host, logical CPUs, or several hosts.

Several hosts are configured by TF_CONFIG or Slurm, see docs/distributed.md. Worker 0 is the chief, the only one that
writes files and logs to MLflow.
"""

import json
import os
import signal
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from tensorflow.compiler.xla.tsl.protobuf.coordination_config_pb2 import CoordinatedJob
from tensorflow.python.eager import context

from cnnlab.errors import UserError
from cnnlab.params import Strategy

GATHER_S = 600  # time that workers wait for each other at the start; TensorFlow's default is an hour
HEARTBEAT_S = 20  # a worker without heartbeat for this time counts as lost


def strategy(knobs: Strategy) -> tf.distribute.Strategy:
    """The strategy for this process; every worker's process calls this and waits for the others.

    Call it before anything runs on a device: TensorFlow fixes threads and logical devices at the first operation.
    Raises UserError if a device is missing, or if this process has already set up its devices differently.
    """
    cluster = _cluster()
    gpus = _chosen(tf.config.list_physical_devices("GPU"), knobs.devices)
    if not gpus:
        _set_up_cpu(1 if cluster else knobs.replicas, _workers_on_host(cluster))
    if cluster:
        return _several_workers(cluster)
    devices = [f"GPU:{i}" for i in range(len(gpus))] or [f"CPU:{i}" for i in range(knobs.replicas)]
    if knobs.devices == "one":
        return tf.distribute.OneDeviceStrategy(devices[0])
    return tf.distribute.MirroredStrategy(devices)


def workers(strategy: tf.distribute.Strategy) -> int:
    """Number of processes that train together."""
    resolver = strategy.cluster_resolver
    return resolver.cluster_spec().num_tasks("worker") if resolver and resolver.cluster_spec().jobs else 1


def worker_index(strategy: tf.distribute.Strategy) -> int:
    """Index of this process among the workers; 0 if it is the only one."""
    return strategy.cluster_resolver.task_id if workers(strategy) > 1 else 0


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process, worker 0, writes files and logs to MLflow."""
    return worker_index(strategy) == 0


def uses_xla(strategy: tf.distribute.Strategy) -> bool:
    """Whether XLA compiles forward and backward pass: on GPUs.

    Never on a CPU, where no epoch of the lesson's network finished in 6 minutes (docs/design.md).
    """
    return all("GPU" in device for device in strategy.extended.worker_devices)


def sum_over_workers(strategy: tf.distribute.Strategy, array: np.ndarray) -> np.ndarray:
    """Sum of the `array`s of all workers, the same on each; every worker must call this."""
    if workers(strategy) == 1:
        return array
    replicas = strategy.num_replicas_in_sync // workers(strategy)

    def once(context: Any) -> tf.Tensor:
        return tf.constant(array if context.replica_id_in_sync_group % replicas == 0 else np.zeros_like(array))

    return np.asarray(strategy.reduce("SUM", strategy.experimental_distribute_values_from_function(once), axis=None))


def broadcast(strategy: tf.distribute.Strategy, content: bytes) -> bytes:
    """The chief's `content` on every worker; every worker must call this, with any content."""
    mine = np.frombuffer(content if is_chief(strategy) else b"", np.uint8)
    size = int(sum_over_workers(strategy, np.array([mine.size], np.int64))[0])
    if not size:
        return b""  # TensorFlow crashes in a sum of nothing
    padded = np.zeros(-(-size // 4) * 4, np.uint8)  # as int32, which every collective can sum; zeros elsewhere
    padded[: mine.size] = mine
    return sum_over_workers(strategy, padded.view(np.int32)).tobytes()[:size]


def _chosen(gpus: list[Any], devices: Literal["all", "one"] | list[str]) -> list[Any]:
    """The GPUs to use; the others are hidden from TensorFlow."""
    if not gpus and not isinstance(devices, list):
        return []
    present = {f"GPU:{i}": gpu for i, gpu in enumerate(gpus)}
    names = {"all": list(present), "one": ["GPU:0"]}[devices] if isinstance(devices, str) else devices
    if missing := [name for name in names if name not in present]:
        raise UserError(
            f"Invalid strategy.devices. Expected some of: {', '.join(present) or 'none, as this host has no GPU'}. "
            f"Received: {', '.join(missing)}. To use every device, set devices: all."
        )
    tf.config.set_visible_devices([present[name] for name in names], "GPU")
    return [present[name] for name in names]


def _several_workers(cluster: dict[str, Any]) -> tf.distribute.Strategy:
    os.environ["TF_CONFIG"] = json.dumps(cluster)
    addresses, index = cluster["cluster"]["worker"], cluster["task"]["index"]
    # These two timeouts have no public API. MultiWorkerMirroredStrategy uses a service that is already configured.
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        cluster_register_timeout_in_ms=1000 * GATHER_S,
        heartbeat_timeout_in_ms=1000 * HEARTBEAT_S,
        coordinated_jobs=[CoordinatedJob(name="worker", num_tasks=len(addresses))],
    )
    print(f"worker {index} of {len(addresses)} at {addresses[index]} waits for the other workers", flush=True)
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own handler would run only after the wait
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise UserError(
            f"Cannot form the cluster. Expected all of {', '.join(addresses)} within {GATHER_S} s. Received: "
            f"{error.message.splitlines()[0]} Start the same command on every host."
        ) from error
    finally:
        signal.signal(signal.SIGINT, interrupt)


def _cluster() -> dict[str, Any] | None:
    """The cluster in the format of TF_CONFIG, from TF_CONFIG or Slurm; None for a single process."""
    if "TF_CONFIG" in os.environ:
        return _checked(os.environ["TF_CONFIG"])
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) == 1:
        return None
    # Only for the workers' addresses: Slurm assigns GPUs to tasks, and the resolver requires at least one.
    tasks = int(os.environ["SLURM_STEP_NUM_TASKS"])
    resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
        gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
    )
    spec = resolver.cluster_spec().as_dict()
    return {"cluster": spec, "task": {"type": resolver.task_type, "index": resolver.task_id}}


def _checked(text: str) -> dict[str, Any] | None:
    """Parse TF_CONFIG; None for a single worker."""
    try:
        cluster: dict[str, Any] = json.loads(text)
        addresses, task = cluster["cluster"]["worker"], cluster["task"]
        valid = set(cluster["cluster"]) == {"worker"} and isinstance(addresses, list) and task["type"] == "worker"
        valid = valid and 0 <= task["index"] < len(addresses)
    except (ValueError, KeyError, TypeError):
        valid = False
    if not valid:
        raise UserError(
            'Invalid TF_CONFIG. Expected {"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", '
            f'"index": 0}}}} with an index among the workers. Received: {text}. See docs/distributed.md.'
        )
    return cluster if len(addresses) > 1 else None


def _workers_on_host(cluster: dict[str, Any] | None) -> int:
    """Number of workers on this host, including this one."""
    if not cluster:
        return 1
    hosts = [address.rpartition(":")[0] for address in cluster["cluster"]["worker"]]
    return hosts.count(hosts[cluster["task"]["index"]])


def _set_up_cpu(replicas: int, local_workers: int) -> None:
    """Create one logical device per replica, with one thread per core of this worker in both thread pools.

    TensorFlow's defaults oversubscribe small machines.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, cores // local_workers)
    try:
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) < replicas:
            raise UserError(
                f"Cannot split the CPU into {replicas} replicas. Expected a new process. Received one in which "
                "TensorFlow is already running. Call strategy() first."
            ) from error
