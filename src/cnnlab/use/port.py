"""The address of all servers: this machine only."""

import errno
import socket

from cnnlab.errors import UserError

HOST = "127.0.0.1"


def check_free(port: int) -> None:
    """Raise UserError if nothing can listen on `port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            reason = "in use by another program" if getattr(error, "errno", 0) == errno.EADDRINUSE else error
            raise UserError(
                f"Cannot listen on port {port} of {HOST}. Expected: a free port. Received: {reason}. "
                f"To fix this, choose another: --port {port % 60000 + 1} (make: PORT={port % 60000 + 1})"
            ) from error
