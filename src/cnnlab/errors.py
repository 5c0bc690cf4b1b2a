"""Mistakes a user can mend, told in one line instead of a traceback."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DISK_REFUSES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


class UserError(Exception):
    """Something the user can mend: says what is invalid, what was expected, what was received, what to do."""


def run(main: Callable[[], object]) -> None:
    """Run a script's `main`; end with one line and exit status 2 on a `UserError`, 1 where the disk refuses.

    Any other exception is a mistake of ours and keeps its traceback.
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
def on_interrupt(stop: Callable[[], object], told: str) -> Iterator[None]:
    """In the block, SIGTERM and Ctrl-C call `stop` and tell so; a second one does what it did before the block."""
    signals = (signal.SIGTERM, signal.SIGINT)
    earlier = {number: signal.getsignal(number) for number in signals}

    def interrupt(*_: object) -> None:
        stop()
        for number in signals:
            signal.signal(number, earlier[number])
        # Not printed: the signal may have come in the middle of another print, which Python refuses to enter again.
        os.write(2, f"{told}; once more stops at once\n".encode())

    for number in signals:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in signals:
            signal.signal(number, earlier[number])


@contextmanager
def interrupt_held() -> Iterator[None]:
    """Hold Ctrl-C back until the block is through, in the main thread, which alone gets it.

    A process that is started there is known before the interrupt can come, and can be ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    earlier = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)
    if came:
        raise KeyboardInterrupt


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status
