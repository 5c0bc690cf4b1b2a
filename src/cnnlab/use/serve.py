"""Serve the champion of a data set with MLflow's scoring server, on this machine only, behind a guard."""

import json
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cnnlab.tracking import local
from cnnlab.use.network import champion_version
from cnnlab.use.port import HOST, check_free

MAX_BYTES = 32_000_000  # per request: MLflow reads all of it into memory, and takes 40 s for 100 MB
_FRACTION = re.compile(rb"\d\s*[.eE]")


class Guard:
    """ASGI middleware that rejects bodies above `MAX_BYTES` and pixels that are not integers.

    MLflow truncates 0.7 to the uint8 0 without a warning, so images scaled to [0, 1] would all be black.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond with 413 or 400 and a JSON message, or pass the request on to the server."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body, more = bytearray(), True
        while more:  # even if it is too large: a client reads no response before it has sent everything
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            if len(body) <= MAX_BYTES:
                body += message.get("body", b"")
            more = message.get("more_body", False)
        if len(body) > MAX_BYTES:
            await _reject(send, 413, f"Request too large. Expected at most {MAX_BYTES:,} bytes. Scale the image down.")
        elif _FRACTION.search(body):
            await _reject(send, 400, "Invalid pixels. Expected: integers from 0 to 255. Received: fractions.")
        else:
            try:
                await self._app(scope, _replay(bytes(body), receive), send)
            except (RecursionError, ValueError) as error:  # JSON nested too deeply, a number with too many digits
                await _reject(send, 400, f"Invalid JSON. Received: {error}.")


def serve(data: str, port: int) -> None:
    """Serve the champion of a data set on 127.0.0.1 until Ctrl-C: POST /invocations, GET /ping.

    Raises UserError if there is no champion or the port is in use.
    """
    check_free(port)
    version = champion_version(data)
    import mlflow.pyfunc  # noqa: PLC0415  # takes seconds, and an error above should not
    import uvicorn  # noqa: PLC0415
    from mlflow.pyfunc import scoring_server  # noqa: PLC0415

    app = scoring_server.init(mlflow.pyfunc.load_model(str(version.folder)))
    app.add_middleware(Guard)
    accuracy = version.tags.get(local.ACCURACY, "unknown")
    print(
        f"{version.name} version {version.version} ({version.tags.get('variant', 'no variant')}, validation accuracy "
        f"{accuracy}) listens on http://{HOST}:{port}/invocations",
        flush=True,
    )
    uvicorn.run(app, host=HOST, port=port, log_level="warning")


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that first returns the body that was already read."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed


async def _reject(send: Send, status: int, message: str) -> None:
    body = json.dumps({"error_code": "BAD_REQUEST", "message": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
