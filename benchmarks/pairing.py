"""Sides of a comparison, processes of their own, measured in turns, so that a change of the machine's speed meets all.

A side is started once and idle while another one measures: it waits for a line on its standard input.
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

FAREWELL_S = 20  # what a process gets to end by itself
SETTINGS = {
    "OMP_WAIT_POLICY": "passive",  # PyTorch's idle threads must not spin while another side measures
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # all sides of a comparison share a GPU's memory
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


@dataclass(frozen=True)
class Command:
    """What starts a side: a command line, and how many workers train together."""

    line: Sequence[str]
    workers: int = 1

    def environments(self) -> list[dict[str, str]]:
        """The environment of each worker; they find each other on the loopback interface by TF_CONFIG."""
        inherited = {k: v for k, v in os.environ.items() if k != "TF_CONFIG" and not k.startswith("SLURM_")}
        common = {**inherited, **SETTINGS}
        if self.workers == 1:
            return [common]
        cluster = {"worker": [f"127.0.0.1:{port}" for port in _free_ports(self.workers)]}
        tasks = [{"cluster": cluster, "task": {"type": "worker", "index": i}} for i in range(self.workers)]
        return [{**common, "TF_CONFIG": json.dumps(task)} for task in tasks]


def measure(name: str, commands: Mapping[str, Command], pairs: int) -> dict[str, list[protocol.Answer]]:
    """Let the sides do a round each in turn, `pairs` times, in alternating order; the answers of each.

    A round before them compiles and is not counted. Prints a line a turn, headed `name`. Raises UserError where a side
    fails, with its last words.
    """
    answers: dict[str, list[protocol.Answer]] = {label: [] for label in commands}
    with ExitStack() as stack:
        sides = {label: stack.enter_context(_side(label, command)) for label, command in commands.items()}
        for side in sides.values():
            side.wait()
        for turn in range(pairs + 1):
            for label in reversed(sides) if turn % 2 else sides:
                answers[label].append(sides[label].round())
            told = ", ".join(f"{label} {_first_figure(answers[label][-1])}" for label in sides)
            print(f"{name}  {f'pair {turn}/{pairs}' if turn else 'warm-up'}  {told}", flush=True)
    return {label: all_of_it[1:] for label, all_of_it in answers.items()}


class _Side:
    def __init__(self, label: str, processes: Sequence[subprocess.Popen[str]], log: IO[str]) -> None:
        self._label = label
        self._processes = processes
        self._log = log

    def wait(self) -> None:
        """Until all its processes are ready."""
        for process in self._processes:
            self._read(process)

    def round(self) -> protocol.Answer:
        """Its first process's answer; workers end a round together."""
        for process in self._processes:
            print("go", file=process.stdin, flush=True)
        answers: list[protocol.Answer] = [json.loads(self._read(process)) for process in self._processes]
        return answers[0]

    def _read(self, process: subprocess.Popen[str]) -> str:
        line = process.stdout.readline() if process.stdout else ""
        if line:
            return line
        self._log.seek(0)
        words = self._log.read().strip().splitlines()[-20:] or ["nothing"]
        told = words[-1:] if words[-1].startswith("error: ") else words
        raise UserError(f"Side {self._label!r} failed. Expected its answer. Received:\n" + "\n".join(told))


@contextmanager
def _side(label: str, command: Command) -> Iterator[_Side]:
    """The side with its processes, which end with the block."""
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
        process.wait(FAREWELL_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _first_figure(answer: protocol.Answer) -> str:
    unit, value = next(iter(answer.items()))
    return f"{value:.4g} {unit}"


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
