"""An `mlflow server` that tests kill and start again, and its database, which plain sqlite3 reads."""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any


class Server:
    """An `mlflow server` that can be killed and started again at the same address, on the same files."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        self.database = folder / "server.db"
        self.url = f"http://127.0.0.1:{port}"
        self.command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        self.command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.database}"]
        self.command += ["--artifacts-destination", str(folder / "artifacts")]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(self.command, stdout=quiet, stderr=quiet, start_new_session=True)
        while not self._is_up():
            assert self.process.poll() is None
            time.sleep(0.1)

    def _is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5):  # noqa: S310  # a loopback address
                return True
        except OSError:
            return False

    def kill(self) -> None:
        assert self.process
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def metrics(self, run_id: str) -> list[tuple[Any, ...]]:
        """(key, value, timestamp, step) of every point of a run, in the order in which they arrived."""
        return rows(
            self.database,
            "SELECT key, value, timestamp, step FROM metrics WHERE run_uuid = ? ORDER BY rowid",
            run_id,
        )


def rows(database: Path, query: str, *values: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return connection.execute(query, values).fetchall()
