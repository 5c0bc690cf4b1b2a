"""System metrics of the training machine, from MLflow's collectors."""

from collections.abc import Callable
from typing import Any

from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor


class Machine:
    """CPU, memory, disk and network of this machine, and its GPUs where NVIDIA's library is installed."""

    def __init__(self) -> None:
        monitors = (_started(kind) for kind in (CPUMonitor, DiskMonitor, NetworkMonitor, GPUMonitor))
        self._monitors = [monitor for monitor in monitors if monitor]

    def load(self) -> dict[str, float]:
        """Current values, named as on MLflow's page of system metrics; CPU load is the mean since the last call."""
        return {f"system/{name}": value for monitor in self._monitors for name, value in _read(monitor).items()}


def _started(kind: Callable[[], Any]) -> Any:
    """The collector after a first reading, which later ones refer to; None where the machine lacks the device."""
    try:
        monitor = kind()
        monitor.collect_metrics()
    except Exception:  # no GPU, no network, or a container that hides them must not prevent training
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
