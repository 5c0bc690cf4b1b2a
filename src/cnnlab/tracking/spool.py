"""MLflow records queued on disk until the server has them: one journal per run, and the thread that sends it.

`mlruns/spool/<run id>/` holds records.jsonl (append-only; after a header, one record per line), `acknowledged` (how
many records MLflow has, and how many there are at least) and files/ (which records name, with their digests). Every
line carries its own SHA-256. Records must be idempotent: a kill between sending and acknowledging
repeats one.

The retries are not a library's, such as tenacity's: they are one loop, must end when the run ends, and print once
per outage, which would be three callbacks there.
"""

import hashlib
import json
import os
import queue
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from cnnlab.errors import UserError
from cnnlab.files import MLRUNS, atomic_folder, problem, write_text

SPOOL = MLRUNS / "spool"
PATIENCE_S = 60.0
_FIRST_DELAY_S, _LONGEST_DELAY_S = 1.0, 30.0

Record = dict[str, Any]


class RunJournal:
    """The queued records of one run. One process at a time holds it, from construction to `close` or its death."""

    def __init__(self, run_id: str, wait_s: float = PATIENCE_S) -> None:
        """Open the run's journal, or create it. Raises UserError if it is damaged or stays in use for `wait_s`."""
        self.folder = SPOOL.absolute() / run_id
        self._records, self._acknowledged = self.folder / "records.jsonl", self.folder / "acknowledged"
        SPOOL.mkdir(parents=True, exist_ok=True)
        # Beside the folder, which is removed under the lock. Not thread-local: the sender's thread releases it.
        self._lock = FileLock(self.folder.with_suffix(".lock"), timeout=wait_s, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise InUseError(f"MLflow run {run_id} is in use by another process. Wait until it ends.") from error
        try:
            self._open(run_id)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, run_id: str) -> None:
        shutil.rmtree(self._sent_folder, ignore_errors=True)
        if not self.folder.exists():
            with atomic_folder(self.folder) as partial:  # so that a folder without records.jsonl is a damaged one
                write_text(partial / self._records.name, _line({"run": run_id}))
        data = self._content(self._records)
        self._size = data.rfind(b"\n") + 1
        if self._size < len(data):  # cut off by a kill: `append` never returned
            print(f"MLflow: the last line of {self._records} is incomplete and was dropped", flush=True)
        try:
            _header, *records = (_value(line) for line in data[: self._size].splitlines())
        except ValueError as error:
            raise self._damaged(self._records, "a line with another digest, or none") from error
        self.sent, least = 0, 0
        if os.path.lexists(self._acknowledged):
            try:
                self.sent, least = _value(self._content(self._acknowledged))
            except ValueError as error:
                raise self._damaged(self._acknowledged, "another digest, or none") from error
        self.count = len(records)
        files = [int(path.name) for path in self.folder.glob("files/*") if path.name.isdigit()]
        if max(least, *files, 0) > self.count:  # a kill can leave the files of one record that was not appended
            raise self._damaged(self._records, f"only {self.count} records")
        self.waiting: list[Record] = records[self.sent :]

    def _content(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise self._damaged(path, problem(error)) from error

    def _damaged(self, path: Path, received: str) -> UserError:
        remedy = f"To send all of the run's records again, run: rm -r {path}"
        if path == self._records:
            remedy = f"To discard the run's queued records, run: rm -r {self.folder}"
        return UserError(
            f"Damaged journal {path}. Expected lines with their sha256, as cnnlab writes them. Received: {received}. "
            f"{remedy}"
        )

    def __enter__(self) -> "RunJournal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def new_file(self, name: str) -> Path:
        """Path, inside the folder, for a file that the next record will name; write it atomically."""
        return self.folder / "files" / str(self.count) / name

    def append(self, record: Record) -> None:
        """Add a record; when this returns, the record survives a kill and a power cut."""
        line = _line(record).encode()
        with self._records.open("ab") as stream:
            stream.truncate(self._size)  # an incomplete line, left by a kill or a full disk
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        self._size += len(line)
        self.count += 1

    def acknowledge(self) -> None:
        """Note on disk that one more record was sent."""
        self._note(self.sent + 1)
        self.sent += 1

    def _note(self, sent: int) -> None:
        write_text(self._acknowledged, _line([sent, self.count]))

    def close(self) -> None:
        """Release the journal; one with nothing left to send is removed."""
        if self.sent == self.count:
            self.folder.rename(self._sent_folder)  # at once: a kill in the middle of a removal leaves no half journal
            shutil.rmtree(self._sent_folder)
            Path(self._lock.lock_file).unlink()
        else:
            with suppress(OSError):  # a full disk: only a later truncation would not be noticed
                self._note(self.sent)
        self._lock.release()

    @property
    def _sent_folder(self) -> Path:
        return self.folder.with_suffix(".sent")


def _line(value: Any) -> str:
    """JSON with its digest, in one line."""
    text = json.dumps(value)
    return f"{hashlib.sha256(text.encode()).hexdigest()}  {text}\n"


def _value(line: bytes) -> Any:
    """What `_line` was given. Raises ValueError where the digest does not match."""
    digest, _, text = line.rstrip(b"\n").partition(b"  ")
    if hashlib.sha256(text).hexdigest().encode() != digest:
        raise ValueError
    return json.loads(text)


class InUseError(UserError):
    """Another process holds the journal."""


Send = Callable[[Record], str | None]  # returns why it failed


def drain(journal: RunJournal, send: Send) -> str | None:
    """Send in order what was queued when the journal was opened; stops at the first failure and returns its reason."""
    return next((failure for record in journal.waiting if (failure := _deliver(journal, send, record))), None)


def _deliver(journal: RunJournal, send: Send, record: Record) -> str | None:
    failure = send(record)
    if failure is None:
        try:
            journal.acknowledge()
        except OSError as error:  # a full disk: the record will be sent again
            return str(error)
    return failure


class Sender:
    """Sends a journal's records in order from its own thread, and retries while the server fails."""

    def __init__(self, journal: RunJournal, send: Send) -> None:
        self.failure: str | None = None
        self._journal = journal
        self._send = send
        self._closing = threading.Event()
        self._queue: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        for record in journal.waiting:
            self._queue.put(record)
        self._thread = threading.Thread(target=self._work, name=f"send {journal.folder.name}", daemon=True)
        self._thread.start()

    def append(self, record: Record) -> None:
        """Write a record to the journal and queue it; does not wait until it is sent."""
        self._journal.append(record)
        self._queue.put(record)

    def close(self) -> None:
        """Wait until everything is sent, the server fails once more, or nothing was sent for PATIENCE_S.

        Then the thread has ended and the journal is closed, unless the thread hangs in a call that does not return: it
        closes the journal after that call.
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
                if not self._retry(record):
                    break
        finally:
            self._journal.close()

    def _retry(self, record: Record) -> bool:
        """Send one record, however long it takes; False if the run ends before that."""
        delay = _FIRST_DELAY_S
        while failure := _deliver(self._journal, self._send, record):
            self._report(failure)
            if self._closing.is_set():
                return False
            self._closing.wait(delay)
            delay = min(2 * delay, _LONGEST_DELAY_S)
        self._report(None)
        return True

    def _report(self, failure: str | None) -> None:
        """Print once that sending fails, and once that it works again."""
        before, self.failure = self.failure, failure
        if self._closing.is_set() or bool(before) == bool(failure):
            return
        if failure:
            queued = f"The run continues; its records are queued in {self._journal.folder}"
            print(f"MLflow fails: {failure}. {queued}", flush=True)
        else:
            print("MLflow works again: sending the queued records", flush=True)
