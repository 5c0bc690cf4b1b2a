"""An HTTP server on 127.0.0.1 that serves a folder and can simulate failures."""

import http.server
import threading
from dataclasses import dataclass, field
from pathlib import Path

CHUNK = 1 << 14


@dataclass
class Loopback:
    """Settings of a server, and the requests that it received."""

    folder: Path
    url: str = ""
    ranges: bool = True  # honour Range headers
    cut: int = 0  # close the connection once, after this many bytes of a body; 0: never
    hold_at: int = 0  # wait for `released` after this many bytes; 0: never
    released: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # (path, Range header) of each request
    sent: int = 0  # bytes of all bodies


class Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, state: Loopback, *arguments: object) -> None:
        self.state = state
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        state, requested = self.state, self.headers.get("Range")
        state.requests.append((self.path, requested))
        path = state.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        body, start = path.read_bytes(), 0
        if requested and state.ranges:
            start = int(requested.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        self._send(body[start:])

    def _send(self, body: bytes) -> None:
        end = len(body)
        if self.state.cut:
            end, self.state.cut = self.state.cut, 0
        for offset in range(0, end, CHUNK):
            chunk = body[offset : min(offset + CHUNK, end)]
            try:
                self.wfile.write(chunk)
            except ConnectionError:  # the client was killed, as some tests do
                return
            self.state.sent += len(chunk)
            if 0 < self.state.hold_at <= self.state.sent:
                self.state.released.wait()

    def log_message(self, *_: object) -> None:
        """Log nothing."""
