"""The load of the machine that trains, by MLflow's own collectors."""

from collections.abc import Callable
from typing import Any

from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor


class Machine:
    """CPU, memory, disk and network of this machine, and its GPUs where NVIDIA's library is installed."""

    def __init__(self) -> None:
        begun = (_begun(kind) for kind in (CPUMonitor, DiskMonitor, NetworkMonitor, GPUMonitor))
        self._monitors = [monitor for monitor in begun if monitor]

    def load(self) -> dict[str, float]:
        """The values now by the names that MLflow's page of system metrics shows; of the CPU, since the last call."""
        return {f"system/{name}": value for monitor in self._monitors for name, value in _read(monitor).items()}


def _begun(kind: Callable[[], Any]) -> Any:
    """The collector, after a first look, from which its later ones count; None where the machine has no such thing."""
    try:
        monitor = kind()
        monitor.collect_metrics()
    except Exception:  # no GPU, no network, a container that hides them: no reason not to train
        return None
    monitor.clear_metrics()
    return monitor


def _read(monitor: Any) -> dict[str, float]:
    try:
        monitor.collect_metrics()
        values: dict[str, float] = monitor.aggregate_metrics()
        monitor.clear_metrics()
    except Exception:  # as above
        return {}
    return values
