"""A real PostgreSQL server for tests, which can be stopped, killed and started again at the same address."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg

PASSWORD = "a-secret"  # noqa: S105  # of a server that lives as long as the tests


def programs() -> Path | None:
    """The folder of PostgreSQL's `postgres` and `initdb`; None where it is not installed."""
    found = shutil.which("postgres")
    folders = [Path(found).parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((f for f in folders if (f / "postgres").exists() and (f / "initdb").exists()), None)


class Postgres:
    """A server on a loopback port, with its files in `folder`, an empty folder that any user may enter.

    It refuses to run as root, so root runs it as user postgres or nobody.
    """

    def __init__(self, folder: Path) -> None:
        found = programs()
        assert found, "PostgreSQL is not installed"
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        self._data = folder / "data"
        self._log = folder / "log"
        self._user = _user()
        self._count = 0
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "password").write_text(PASSWORD)
        if self._user:
            for path in (folder, folder / "password"):
                os.chown(path, self._user["user"], self._user["group"])
        command: list[str | Path] = [found / "initdb", "--pgdata", self._data, "--no-sync", "--username", "postgres"]
        command += ["--auth", "scram-sha-256", "--pwfile", folder / "password", "--encoding", "UTF8", "--locale", "C"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, **self._user)
        self._command: list[str | Path] = [found / "postgres", "-D", self._data, "-h", "127.0.0.1"]
        self._command += ["-p", str(self.port), "-k", "", "-F"]  # no socket file, no fsync

    def url(self, database: str = "postgres") -> str:
        """The address of a database."""
        return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it responds."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._data, stdout=log, stderr=log, start_new_session=True, **self._user
            )
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server; all connections end."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Stop the server as a crash of the machine would: nothing is tidied up."""
        self._end(signal.SIGQUIT)

    def restart(self) -> None:
        """Stop the server and start it again."""
        self.stop()
        self.start()

    def new_database(self) -> str:
        """The address of a new, empty database."""
        self._count += 1
        self._execute(f"CREATE DATABASE test{self._count}")
        return self.url(f"test{self._count}")

    def drop(self, url: str) -> None:
        """Delete a database, whoever is connected."""
        self._execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def _execute(self, command: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(command.encode())

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.url(), connect_timeout=5):
                return True
        except psycopg.OperationalError:
            return False

    def _end(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)
        self._process.wait()


def _user() -> dict[str, Any]:
    """The arguments of Popen that give up root's rights."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    chosen = names.get("postgres") or names["nobody"]
    return {"user": chosen.pw_uid, "group": chosen.pw_gid, "extra_groups": []}
