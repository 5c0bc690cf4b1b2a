"""Where the servers of this room listen: on this machine alone."""

import errno
import socket

from cnnlab.errors import UserError

HOST = "127.0.0.1"


def check_free(port: int) -> None:
    """Raises UserError where nothing can listen on `port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            reason = "another program listens there" if getattr(error, "errno", 0) == errno.EADDRINUSE else error
            raise UserError(
                f"Cannot listen on port {port} of {HOST}. Expected a free one. Received: {reason}. "
                f"Name another: PORT={port % 60000 + 1}"
            ) from error
