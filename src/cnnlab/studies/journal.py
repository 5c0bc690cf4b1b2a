"""The journal file that holds the studies of one host: locked by the kernel, with a checksum in every record."""

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.storages.journal import BaseJournalBackend

from cnnlab.errors import UserError
from cnnlab.files import MLRUNS

JOURNAL = MLRUNS / "optuna.journal"
CHECKSUM = "crc32"  # key in every record; records of earlier versions have none


class Journal(BaseJournalBackend):
    """Backend of `optuna.storages.JournalStorage` with one JSON record per line.

    A last line that was cut short by a kill is dropped. Raises UserError, when opened or read, if anything else in the
    file is damaged: Optuna's own backend reads a changed digit as it is, and fails for good after a line cut short.

    The kernel releases the lock of a killed process. Optuna's own lock is a link that outlives its process. With a
    journal at a relative path its age cannot be read, so it was never released, and one kill -9 at the wrong moment
    blocked the sweep for ever (docs/LOG.md).
    """

    def __init__(self, path: Path = JOURNAL) -> None:
        self._path = path
        self._offsets = {0: 0}  # in bytes, by number of records before
        if os.path.lexists(path) and not path.is_file():
            raise self._damaged("a directory" if path.is_dir() else "a dangling link")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    @property
    def lock(self) -> FileLock:
        """The lock that a process holds while it writes."""
        return FileLock(self._path.with_suffix(".lock"))

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield all records but the first `log_number_from`."""
        with self._path.open("rb") as stream:
            stream.seek(self._offsets[log_number_from])
            for number, line in enumerate(stream, log_number_from):
                if not line.endswith(b"\n") and line.startswith(b"{"):
                    return  # being written, or cut short
                record = self._record(number, line)
                self._offsets[number + 1] = self._offsets[number] + len(line)
                yield record

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, in place of a last line that was cut short."""
        lines = [_dump({**log, CHECKSUM: _checksum(log)}) for log in logs]
        with self.lock, self._path.open("r+b") as stream:
            if end := stream.seek(0, os.SEEK_END):
                stream.seek(end - 1)
                if stream.read() != b"\n":
                    stream.seek(0)
                    stream.truncate(stream.read().rfind(b"\n") + 1)
                    stream.seek(0, os.SEEK_END)
            stream.write("".join(f"{line}\n" for line in lines).encode())
            stream.flush()
            os.fsync(stream.fileno())

    def _record(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            record: dict[str, Any] = json.loads(line)
            expected = record.pop(CHECKSUM, None)
        except (ValueError, AttributeError) as error:  # AttributeError: JSON, but not an object
            raise self._damaged(f"line {number + 1}, which is no such record") from error
        if expected is not None and expected != _checksum(record):
            raise self._damaged(f"line {number + 1}, which its checksum does not match")
        return record

    def _damaged(self, received: str) -> UserError:
        return UserError(
            f"Damaged journal {self._path}. Expected: a file with one JSON record and its checksum per line. "
            f"Received: {received}. To fix this, restore it from a backup, or start all studies again without it: "
            f"mv {self._path} {self._path}.damaged"
        )


def _dump(record: dict[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"))


def _checksum(record: dict[str, Any]) -> int:
    return zlib.crc32(_dump(record).encode())
