"""Mistakes a user can mend, told in one line instead of a traceback."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend: says what is invalid, what was expected, what was received, what to do."""


def run(main: Callable[[], object]) -> None:
    """Run a script's `main`; end with one line and exit status 2 on a `UserError`, 1 on an operating system error.

    An `OSError` here is a full disk, a missing permission or the like: its own message names the file and the reason.
    """
    try:
        main()
    except UserError as error:
        sys.exit(_fail(str(error), 2))
    except OSError as error:
        sys.exit(_fail(f"{error.strerror or error}: {error.filename or 'no file named'}", 1))
    except KeyboardInterrupt:
        sys.exit(_fail("interrupted", 130))


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status
