"""Errors that the user can fix, reported in one line instead of a traceback."""

import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DISK_REFUSES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


class UserError(Exception):
    """An error that the user can fix; its message says what is invalid, expected and received, and what to do."""


def run(main: Callable[[], object]) -> None:
    """Run a script's `main`; exit with one line and status 2 on a `UserError`, 1 on a disk error, 130 on Ctrl-C.

    Any other exception is a bug and keeps its traceback.
    """
    try:
        main()
    except UserError as error:
        sys.exit(_fail(str(error), 2))
    except OSError as error:
        if error.errno not in DISK_REFUSES:
            raise
        sys.exit(_fail(f"{error.strerror or error}: {error.filename or 'no file named'}", 1))
    except KeyboardInterrupt as error:
        sys.exit(_fail(str(error) or "interrupted", 130))


@contextmanager
def on_interrupt(stop: Callable[[], object], message: str) -> Iterator[None]:
    """In the block, the first SIGTERM or Ctrl-C prints `message` and calls `stop`; the next has its usual effect."""
    signals = (signal.SIGTERM, signal.SIGINT)
    earlier = {number: signal.getsignal(number) for number in signals}

    def interrupt(*_: object) -> None:
        stop()
        for number in signals:
            signal.signal(number, earlier[number])
        # Not print(): the signal may interrupt another print, which Python does not allow to be re-entered.
        os.write(2, f"{message}; interrupt again to stop at once\n".encode())

    for number in signals:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in signals:
            signal.signal(number, earlier[number])


@contextmanager
def interrupt_held() -> Iterator[None]:
    """Delay Ctrl-C until the block ends, in the main thread, the only one that receives it.

    A process started in the block is recorded before the interrupt arrives, so that it can be terminated.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    earlier = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)
    if received:
        raise KeyboardInterrupt


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


def masked(text: str) -> str:
    """`text` without the user names and passwords of its URLs."""
    return re.sub(r"//[^@/\s]*@", "//***@", text)
