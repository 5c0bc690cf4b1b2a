"""MLflow's own scoring server with a champion, on this machine only, and a guard before it."""

import json
import re

import mlflow.pyfunc
import uvicorn
from mlflow.pyfunc import scoring_server
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cnnlab import registry
from cnnlab.use.network import champion_files
from cnnlab.use.port import HOST, check_free

LARGEST = 32_000_000  # bytes of a request: MLflow reads a whole one into memory, and takes 40 s over 100 MB
_FRACTION = re.compile(rb"\d\s*[.eE]")


class Guard:
    """Refuses what the server would take amiss: bodies above `LARGEST`, and pixels that are not whole numbers.

    MLflow cuts 0.7 to the uint8 0 without a word, so that pictures scaled to [0, 1] would all be black.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI asks: 413 or 400 with a JSON message, or what the server answers."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body, more = bytearray(), True
        while more:  # to its end, though it is too large: a client reads no answer before it has sent all
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            if len(body) <= LARGEST:
                body += message.get("body", b"")
            more = message.get("more_body", False)
        if len(body) > LARGEST:
            await _refuse(
                send, 413, f"Too large a request. Expected at most {LARGEST:,} bytes. Scale the picture down."
            )
        elif _FRACTION.search(body):
            await _refuse(send, 400, "Invalid pixels. Expected whole numbers from 0 to 255. Received fractions.")
        else:
            try:
                await self._app(scope, _replayed(bytes(body), receive), send)
            except (RecursionError, ValueError) as error:  # of JSON too deep, of a number too long
                await _refuse(send, 400, f"Invalid JSON. Received: {error}.")


def serve(data: str, port: int) -> None:
    """Serve the champion of a data set on 127.0.0.1 until Ctrl-C: POST /invocations, GET /ping.

    Raises UserError where there is no champion, and where the port is taken.
    """
    check_free(port)
    version, folder = champion_files(data)
    app = scoring_server.init(mlflow.pyfunc.load_model(str(folder)))
    app.add_middleware(Guard)
    accuracy = version.tags.get(registry.ACCURACY, "unknown")
    print(
        f"{version.name} version {version.version} ({version.tags.get('variant', 'no variant')}, validation accuracy "
        f"{accuracy}) listens on http://{HOST}:{port}/invocations",
        flush=True,
    )
    uvicorn.run(app, host=HOST, port=port, log_level="warning")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, once, and then what the connection tells."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def give() -> Message:
        return waiting.pop() if waiting else await receive()

    return give


async def _refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps({"error_code": "BAD_REQUEST", "message": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
