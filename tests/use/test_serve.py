"""The scoring server as a process: correct predictions, concurrent requests, and invalid ones, which it survives."""

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
from use.registered import CHANNELS, CLASSES, SIDE, predictions, probabilities

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow", "ignore:::keras")  # their own
IMAGES = noise(3, SIDE, CHANNELS)
GOOD = {"inputs": IMAGES.tolist()}


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    process: subprocess.Popen[str]

    def post(self, **body: Any) -> requests.Response:
        return requests.post(f"{self.url}/invocations", timeout=120, **body)


def command(port: int, data: str = "pets") -> list[str]:
    return [sys.executable, "-m", "cnnlab.cli", "serve", "--data", data, "--port", str(port)]


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
        while not _responds(started.url):
            assert process.poll() is None
            time.sleep(0.1)
        yield started
        process.kill()


def _responds(url: str) -> bool:
    try:
        return requests.get(f"{url}/ping", timeout=5).ok
    except requests.ConnectionError:
        return False


def check(response: requests.Response) -> None:
    assert response.status_code == 200, response.text
    for predicted, row in zip(predictions(response.text), probabilities(IMAGES), strict=True):
        assert predicted == pytest.approx(dict(zip(CLASSES, row, strict=True)), rel=1e-4)


def test_images_of_any_size_are_classified(server: Server) -> None:
    check(server.post(json=GOOD))
    larger = IMAGES.repeat(5, axis=1).repeat(5, axis=2)
    (predicted,) = predictions(server.post(json={"inputs": larger[:1].tolist()}).text)
    assert sum(predicted.values()) == pytest.approx(1)


def test_concurrent_requests_get_their_own_predictions(server: Server) -> None:
    images = noise(64, SIDE, CHANNELS, seed=7)
    expected = probabilities(images)
    with ThreadPoolExecutor(16) as pool:
        responses = [*pool.map(lambda image: server.post(json={"inputs": [image.tolist()]}), images)]
    assert {response.status_code for response in responses} == {200}
    predicted = [[*predictions(response.text)[0].values()] for response in responses]
    np.testing.assert_allclose(predicted, expected, rtol=1e-4, atol=1e-6)


WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "no fourth axis": ({"json": {"inputs": IMAGES[0].tolist()}}, 400, "does not match expected shape"),
    "two channels": ({"json": {"inputs": IMAGES[..., :2].tolist()}}, 400, "1, 3 or 4 channels"),
    "rows of two lengths": ({"json": {"inputs": [[[[0, 0, 0]], [[0, 0, 0]] * 2]]}}, 400, "inhomogeneous"),
    "no image": ({"json": {"inputs": []}}, 400, "(-1, -1, -1, -1)"),
    "above 255": ({"json": {"inputs": [[[[256]]]]}}, 400, "256 out of bounds for uint8"),
    "below 0": ({"json": {"inputs": [[[[-1]]]]}}, 400, "-1 out of bounds for uint8"),
    "fractions": ({"json": {"inputs": (IMAGES / 255).tolist()}}, 400, "Expected: integers from 0 to 255"),
    "words": ({"json": {"inputs": [[[["red"]]]]}}, 400, "'red'"),
    "another key": ({"json": {"pictures": []}}, 400, "must be a JSON dictionary with exactly one of the input fields"),
    "a list": ({"json": [1, 2]}, 400, "Received a list"),
    "not JSON": ({"data": "cat.png", "headers": {"Content-Type": "application/json"}}, 400, "valid JSON"),
    "nothing": ({"data": "", "headers": {"Content-Type": "application/json"}}, 400, "valid JSON"),
    "an image file": ({"data": b"\x89PNG", "headers": {"Content-Type": "image/png"}}, 415, "application/json"),
    "deep": ({"data": "[" * 100_000, "headers": {"Content-Type": "application/json"}}, 400, "JSON"),
    "long": ({"data": '{"inputs": ' + "9" * 5000 + "}", "headers": {"Content-Type": "application/json"}}, 400, "JSON"),
    "1,001 images": ({"json": {"inputs": [[[[0]]]] * 1001}}, 400, "Expected at most 1000. Received: 1001"),
    "100 MB": ({"data": b"[" + b"0," * 50_000_000}, 413, "Expected at most 32,000,000 bytes"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_an_invalid_request_gets_a_reason_and_the_server_survives(server: Server, mistake: str) -> None:
    body, status, message = WRONG[mistake]
    response = server.post(**body)
    assert response.status_code == status
    assert message in response.text
    assert "Traceback" not in response.text
    check(server.post(json=GOOD))


def test_a_broken_connection_does_not_affect_others(server: Server) -> None:
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


def test_a_port_in_use_and_a_missing_champion_are_reported(server: Server, top: Path) -> None:
    port = int(server.url.rpartition(":")[2])
    assert "in use by another program" in refused(port, top)
    assert "port must be 0-65535" in refused(70000, top)
    assert "No champion of mnist" in refused(0, top, "mnist")


def test_ctrl_c_ends_it_without_a_traceback(server: Server) -> None:
    """The last test, because it stops the server."""
    os.kill(server.process.pid, signal.SIGINT)
    assert server.process.wait(60) in (0, 130)
