"""Measure the sides of a comparison in turns, so that changes in the machine's speed affect all of them.

Each side is a process that is started once and waits on standard input while another one is measured.
"""

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO

import protocol

from cnnlab.errors import UserError

EXIT_S = 20  # after which a process is killed
SETTINGS = {
    "OMP_WAIT_POLICY": "passive",  # PyTorch's idle threads must not spin while another side measures
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # all sides of a comparison share a GPU's memory
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


@dataclass(frozen=True)
class Command:
    """The command line of a side, and its number of workers."""

    line: Sequence[str]
    workers: int = 1

    def environments(self) -> list[dict[str, str]]:
        """The environment of each worker; TF_CONFIG connects them over the loopback interface."""
        inherited = {k: v for k, v in os.environ.items() if k != "TF_CONFIG" and not k.startswith("SLURM_")}
        common = {**inherited, **SETTINGS}
        if self.workers == 1:
            return [common]
        cluster = {"worker": [f"127.0.0.1:{port}" for port in _free_ports(self.workers)]}
        tasks = [{"cluster": cluster, "task": {"type": "worker", "index": i}} for i in range(self.workers)]
        return [{**common, "TF_CONFIG": json.dumps(task)} for task in tasks]


def measure(name: str, commands: Mapping[str, Command], pairs: int) -> dict[str, list[protocol.Measurement]]:
    """Measure `pairs` rounds of each side, in turns and alternating order; returns the measurements per side.

    A warm-up round, which compiles, is not counted. Prints one line per turn, starting with `name`. Raises UserError
    with the last lines of its log if a side fails.
    """
    measured: dict[str, list[protocol.Measurement]] = {label: [] for label in commands}
    with ExitStack() as stack:
        sides = {label: stack.enter_context(_side(label, command)) for label, command in commands.items()}
        for side in sides.values():
            side.wait()
        for turn in range(pairs + 1):
            for label in reversed(sides) if turn % 2 else sides:
                measured[label].append(sides[label].round())
            figures = ", ".join(f"{label} {_first_figure(measured[label][-1])}" for label in sides)
            print(f"{name}  {f'pair {turn}/{pairs}' if turn else 'warm-up'}  {figures}", flush=True)
    return {label: rounds[1:] for label, rounds in measured.items()}


class _Side:
    def __init__(self, label: str, processes: Sequence[subprocess.Popen[str]], log: IO[str]) -> None:
        self._label = label
        self._processes = processes
        self._log = log

    def wait(self) -> None:
        """Wait until all processes are ready."""
        for process in self._processes:
            self._read(process)

    def round(self) -> protocol.Measurement:
        """Measure one round; returns the first process's measurement, as workers finish together."""
        for process in self._processes:
            print("go", file=process.stdin, flush=True)
        measurements: list[protocol.Measurement] = [json.loads(self._read(process)) for process in self._processes]
        return measurements[0]

    def _read(self, process: subprocess.Popen[str]) -> str:
        line = process.stdout.readline() if process.stdout else ""
        if line:
            return line
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()[-20:] or ["nothing"]
        message = lines[-1:] if lines[-1].startswith("error: ") else lines
        raise UserError(f"Side {self._label!r} failed. Expected a measurement. Received:\n" + "\n".join(message))


@contextmanager
def _side(label: str, command: Command) -> Iterator[_Side]:
    """Start the processes of a side; they are ended with the block."""
    with tempfile.TemporaryFile("w+") as log:
        processes = [
            subprocess.Popen(
                command.line, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
            for environment in command.environments()
        ]
        try:
            yield _Side(label, processes, log)
        finally:
            for process in processes:
                if process.stdin:
                    process.stdin.close()
            for process in processes:
                _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(EXIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _first_figure(measurement: protocol.Measurement) -> str:
    unit, value = next(iter(measurement.items()))
    return f"{value:.4g} {unit}"


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
