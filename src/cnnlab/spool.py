"""Records that wait on disk until MLflow has them: a journal for each run, and the thread that sends it.

`mlruns/spool/<run id>/` holds records.jsonl (a record a line, only ever appended to), `acknowledged` (how many of them
MLflow has) and files/ (what records name). Sending a record twice must do no harm: a kill between sending and
acknowledging repeats it.
"""

import json
import os
import queue
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from cnnlab.errors import UserError
from cnnlab.files import MLRUNS, write_text

SPOOL = MLRUNS / "spool"
PATIENCE_S = 60.0
_FIRST_DELAY_S, _LONGEST_DELAY_S = 1.0, 30.0

Record = dict[str, Any]


class Journal:
    """The records of one run on disk. One process at a time holds it, from its making until `close` or its death."""

    def __init__(self, run_id: str, wait_s: float = PATIENCE_S) -> None:
        """Open the run's journal, empty where there is none. Raises UserError if it is damaged or stays in use."""
        self.folder = SPOOL.absolute() / run_id
        self._records, self._sent = self.folder / "records.jsonl", self.folder / "acknowledged"
        SPOOL.mkdir(parents=True, exist_ok=True)
        # Beside the folder, which comes and goes under it. Not of a thread: the sender releases what Run acquired.
        self._lock = FileLock(self.folder.with_suffix(".lock"), timeout=wait_s, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise InUseError(f"MLflow run {run_id} is in use by another process. Wait for its end.") from error
        self.folder.mkdir(exist_ok=True)
        try:
            data = self._records.read_bytes() if self._records.exists() else b""
            self._size = data.rfind(b"\n") + 1  # the rest is a line that a kill cut off: its append never returned
            records: list[Record] = [json.loads(line) for line in data[: self._size].splitlines()]
            self.sent = int(self._sent.read_text()) if self._sent.exists() else 0
            if self.sent > len(records):
                raise ValueError(f"{self.sent} records acknowledged of {len(records)}")
        except ValueError as error:
            self._lock.release()
            raise UserError(
                f"Damaged journal {self.folder}. Expected JSON lines that cnnlab wrote. Received: {error}. "
                "Delete the folder to give up what it holds."
            ) from error
        self.count = len(records)
        self.waiting = records[self.sent :]

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def new_file(self, name: str) -> Path:
        """Where to put a file, atomically, that the next record will name, relative to the folder."""
        return self.folder / "files" / str(self.count) / name

    def append(self, record: Record) -> None:
        """Add a record; when this returns, it survives a kill and a power cut."""
        line = json.dumps(record).encode() + b"\n"
        with self._records.open("ab") as stream:
            stream.truncate(self._size)  # half a line, left by a kill or a full disk
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        self._size += len(line)
        self.count += 1

    def acknowledge(self) -> None:
        """Note on disk that one more record need not be sent again."""
        write_text(self._sent, str(self.sent + 1))
        self.sent += 1

    def close(self) -> None:
        """Let others use the journal; one that has nothing left to send is removed."""
        if self.sent == self.count:
            # In this order: whatever of it a kill leaves, replayed from the start, is whole.
            self._sent.unlink(missing_ok=True)
            self._records.unlink(missing_ok=True)
            shutil.rmtree(self.folder)
            Path(self._lock.lock_file).unlink()
        self._lock.release()


class InUseError(UserError):
    """Another process holds the journal."""


@dataclass(frozen=True)
class Failure:
    """Why a record was not sent; `refused`: the store answered that it will not take it, whenever it is asked."""

    reason: str
    refused: bool


Send = Callable[[Record], Failure | None]


def drain(journal: Journal, send: Send) -> Failure | None:
    """Send in order what waited when the journal was opened; ends at the first failure, which it returns."""
    return next((failure for record in journal.waiting if (failure := _deliver(journal, send, record))), None)


def _deliver(journal: Journal, send: Send, record: Record) -> Failure | None:
    failure = send(record)
    if failure is None:
        try:
            journal.acknowledge()
        except OSError as error:  # a full disk: what is not noted is sent again
            return Failure(str(error), refused=False)
    return failure


class Sender:
    """Sends a journal's records in order from a thread of its own, and tries again where the server fails."""

    def __init__(self, journal: Journal, send: Send) -> None:
        self.failure: Failure | None = None
        self._journal = journal
        self._send = send
        self._closing = threading.Event()
        self._queue: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        for record in journal.waiting:
            self._queue.put(record)
        self._thread = threading.Thread(target=self._work, name=f"send {journal.folder.name}", daemon=True)
        self._thread.start()

    def append(self, record: Record) -> None:
        """Put a record into the journal and have it sent; does not wait for that."""
        self._journal.append(record)
        self._queue.put(record)

    def close(self) -> None:
        """Wait until all is sent, or the server fails once more, or nothing was sent for PATIENCE_S.

        Then the thread has ended and the journal is closed, unless it hangs in a call that does not return: it will
        close the journal after that.
        """
        self._queue.put(None)
        self._closing.set()
        sent = -1
        while self._thread.is_alive() and self._journal.sent > sent:
            sent = self._journal.sent
            self._thread.join(PATIENCE_S)

    def _work(self) -> None:
        try:
            for record in iter(self._queue.get, None):
                if not self._insist(record):
                    break
        finally:
            self._journal.close()

    def _insist(self, record: Record) -> bool:
        """Send one record, however long that takes; False where the run ends while it cannot be sent."""
        delay = _FIRST_DELAY_S
        while failure := _deliver(self._journal, self._send, record):
            self._tell(failure)
            if self._closing.is_set():
                return False
            self._closing.wait(delay)
            delay = min(2 * delay, _LONGEST_DELAY_S)
        self._tell(None)
        return True

    def _tell(self, failure: Failure | None) -> None:
        """Say once that sending fails, and once that it works again."""
        before, self.failure = self.failure, failure
        if self._closing.is_set() or bool(before) == bool(failure):
            return
        if failure:
            kept = f"The run goes on; its records are kept in {self._journal.folder}"
            print(f"MLflow {'refuses a record' if failure.refused else 'fails'}: {failure.reason}. {kept}", flush=True)
        else:
            print("MLflow works again: the kept records are sent", flush=True)
