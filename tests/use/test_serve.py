"""The scoring server as a process: right answers, many at once, requests that are wrong, and it lives on."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from see.small_nets import noise
from use.registered import CHANNELS, CLASSES, SIDE, answered, probabilities

pytestmark = pytest.mark.filterwarnings("ignore:.*``noload``", "ignore:::mlflow", "ignore:::keras")  # their own
SCRIPT = Path(__file__).parents[2] / "pipeline" / "serve.py"
PICTURES = noise(3, SIDE, CHANNELS)
GOOD = {"inputs": PICTURES.tolist()}


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    process: subprocess.Popen[str]

    def post(self, **body: Any) -> requests.Response:
        return requests.post(f"{self.url}/invocations", timeout=120, **body)


def command(port: int, data: str = "pets") -> list[str]:
    return [sys.executable, str(SCRIPT), "--data", data, "--port", str(port)]


@pytest.fixture(scope="module")
def server(top: Path) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen(command(port), cwd=top, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        assert "cnnlab-pets version 1 (first, validation accuracy 0.5) listens on" in line
        started = Server(f"http://127.0.0.1:{port}", process)
        while not _answers(started.url):
            assert process.poll() is None
            time.sleep(0.1)
        yield started
        process.kill()


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/ping", timeout=5).ok
    except requests.ConnectionError:
        return False


def check(response: requests.Response) -> None:
    assert response.status_code == 200, response.text
    for told, row in zip(answered(response.text), probabilities(PICTURES), strict=True):
        assert told == pytest.approx(dict(zip(CLASSES, row, strict=True)), rel=1e-4)


def test_pictures_of_any_size_are_told(server: Server) -> None:
    check(server.post(json=GOOD))
    larger = PICTURES.repeat(5, axis=1).repeat(5, axis=2)
    (told,) = answered(server.post(json={"inputs": larger[:1].tolist()}).text)
    assert sum(told.values()) == pytest.approx(1)


def test_many_at_once_get_their_own_answers(server: Server) -> None:
    pictures = noise(64, SIDE, CHANNELS, seed=7)
    expected = probabilities(pictures)
    with ThreadPoolExecutor(16) as pool:
        responses = [*pool.map(lambda picture: server.post(json={"inputs": [picture.tolist()]}), pictures)]
    assert {response.status_code for response in responses} == {200}
    told = [[*answered(response.text)[0].values()] for response in responses]
    np.testing.assert_allclose(told, expected, rtol=1e-4, atol=1e-6)


WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "no fourth axis": ({"json": {"inputs": PICTURES[0].tolist()}}, 400, "does not match expected shape"),
    "two channels": ({"json": {"inputs": PICTURES[..., :2].tolist()}}, 400, "1, 3 or 4 channels"),
    "rows of two lengths": ({"json": {"inputs": [[[[0, 0, 0]], [[0, 0, 0]] * 2]]}}, 400, "inhomogeneous"),
    "no picture": ({"json": {"inputs": []}}, 400, "(-1, -1, -1, -1)"),
    "above 255": ({"json": {"inputs": [[[[256]]]]}}, 400, "256 out of bounds for uint8"),
    "below 0": ({"json": {"inputs": [[[[-1]]]]}}, 400, "-1 out of bounds for uint8"),
    "fractions": ({"json": {"inputs": (PICTURES / 255).tolist()}}, 400, "Expected whole numbers from 0 to 255"),
    "words": ({"json": {"inputs": [[[["red"]]]]}}, 400, "'red'"),
    "another key": ({"json": {"pictures": []}}, 400, "must be a JSON dictionary with exactly one of the input fields"),
    "a list": ({"json": [1, 2]}, 400, "Received a list"),
    "not JSON": ({"data": "cat.png", "headers": {"Content-Type": "application/json"}}, 400, "valid JSON"),
    "nothing": ({"data": "", "headers": {"Content-Type": "application/json"}}, 400, "valid JSON"),
    "a picture file": ({"data": b"\x89PNG", "headers": {"Content-Type": "image/png"}}, 415, "application/json"),
    "deep": ({"data": "[" * 100_000, "headers": {"Content-Type": "application/json"}}, 400, "JSON"),
    "long": ({"data": '{"inputs": ' + "9" * 5000 + "}", "headers": {"Content-Type": "application/json"}}, 400, "JSON"),
    "1,001 pictures": ({"json": {"inputs": [[[[0]]]] * 1001}}, 400, "Expected at most 1000. Received: 1001"),
    "100 MB": ({"data": b"[" + b"0," * 50_000_000}, 413, "Expected at most 32,000,000 bytes"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_request_is_told_what_is_wrong_and_the_server_lives(server: Server, mistake: str) -> None:
    body, status, message = WRONG[mistake]
    response = server.post(**body)
    assert response.status_code == status
    assert message in response.text
    assert "Traceback" not in response.text
    check(server.post(json=GOOD))


def test_a_connection_that_breaks_off_harms_nobody(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    check(server.post(json=GOOD))


def test_it_listens_on_this_machine_only(server: Server) -> None:
    port = int(server.url.rpartition(":")[2])
    with (
        pytest.raises(OSError, match=r"refused|timed out|reach|assign"),
        socket.create_connection(("127.0.0.2", port), 5),
    ):
        pass


def refused(port: int, top: Path, data: str = "pets") -> str:
    done = subprocess.run(command(port, data), cwd=top, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_taken_port_and_a_missing_champion_are_told(server: Server, top: Path) -> None:
    port = int(server.url.rpartition(":")[2])
    assert "another program listens there" in refused(port, top)
    assert "port must be 0-65535" in refused(70000, top)
    assert "No champion of mnist" in refused(0, top, "mnist")


def test_ctrl_c_ends_it_without_a_traceback(server: Server) -> None:
    """The last of these tests: it ends the server."""
    os.kill(server.process.pid, signal.SIGINT)
    assert server.process.wait(60) in (0, 130)
