"""The page of make demo, in a real browser: its answers are Keras's own, it refuses what is no picture and lives on."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from checkout import TOP
from PIL import Image
from playwright.sync_api import Page, expect
from see.small_nets import convolutional
from train.processed import write_mnist

from cnnlab import params
from cnnlab.errors import UserError
from cnnlab.use import demo

pytestmark = pytest.mark.filterwarnings("ignore:::keras")  # saving, with this NumPy
PICTURE = np.random.default_rng(4).integers(0, 256, (28, 28), dtype=np.uint8)
MIRRORED = {"lenet5": False, "slides": True}  # whether the mean over the mirror image is told
WAIT = 60_000  # milliseconds, on a busy machine


def network(variant: str) -> keras.Model:
    """One of two networks, whose logits are far enough apart to tell pictures and networks from each other."""
    model = convolutional(1, 28, 10, seed=[*MIRRORED].index(variant))
    model.layers[-2].set_weights([50 * model.layers[-2].get_weights()[0], np.zeros(10, np.float32)])
    return model


def told(variant: str, picture: np.ndarray = PICTURE) -> dict[str, float]:
    """What Keras itself tells of a picture (28, 28): probabilities by class, the largest first."""
    pixels = picture[None, ..., None] / np.float32(255)
    views = [pixels, pixels[:, :, ::-1]] if MIRRORED[variant] else [pixels]
    logits = np.mean([keras.ops.convert_to_numpy(network(variant)(view)) for view in views], axis=0)
    (probabilities,) = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    return {str(label): float(probabilities[label]) for label in np.argsort(-probabilities)}


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a small MNIST and two networks, `slides` the better one."""
    folder = tmp_path_factory.mktemp("demo")
    shutil.copy(TOP / "params.yaml", folder)
    write_mnist(folder)
    for place, (variant, mirrored) in enumerate(MIRRORED.items()):
        models = folder / "models/mnist" / variant
        models.mkdir(parents=True)
        network(variant).save(models / "model.keras")
        (models / "run.json").write_text(json.dumps({"run_id": variant, "views": {"flip": mirrored, "shift": 0}}))
        metrics = {"parameters": 1234, "validation_accuracy": 0.5 + place / 10, "test_accuracy": 0.4321}
        (models / "metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def url(top: Path, port: int) -> Iterator[str]:
    """The page of a process of its own, behind a proxy that is down; Ctrl-C ends it well, and no picture stays."""
    kept = top / "temporary"
    kept.mkdir()
    down = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, TOP / "pipeline/demo.py", "--port", str(port)]
    with (
        (top / "errors.txt").open("w") as errors,
        subprocess.Popen(
            command, cwd=top, env={**os.environ, **down, "TMPDIR": str(kept)}, stdout=subprocess.PIPE, stderr=errors
        ) as process,
    ):
        try:
            assert process.stdout
            assert process.stdout.readline().decode() == f"The page: http://127.0.0.1:{port} (Ctrl-C ends it)\n", (
                top / "errors.txt"
            ).read_text()
            yield f"http://127.0.0.1:{port}"
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
            assert "Traceback" not in (top / "errors.txt").read_text()
            assert not [*kept.glob("cnnlab-demo-*")]
        finally:
            process.kill()


def drop(page: Page, path: Path) -> None:
    if (clear := page.locator("#picture").get_by_label("Clear")).count():
        clear.click()
    page.locator("#picture input[type=file]").set_input_files(path)


def test_a_picture_is_told_and_networks_are_switched(
    page: Page, asked_elsewhere: list[str], url: str, tmp_path: Path
) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "noise.png")
    slides, lenet5 = told("slides"), told("lenet5")
    assert next(iter(slides)) != next(iter(lenet5))
    page.goto(url)
    expect(page.locator("#facts")).to_contain_text("60.0 % of the validation images and 43.2 % of the test images")
    expect(page.get_by_label("mnist / slides")).to_be_checked()
    drop(page, tmp_path / "noise.png")
    shows(page, slides)
    for name, size in (("#seen", (392, 392)), ("#cam", (392, 392)), ("#maps", None)):
        picture = page.locator(f"{name} img")
        expect(picture).to_have_js_property("complete", True)
        width, height = picture.evaluate("image => [image.naturalWidth, image.naturalHeight]")
        assert (width, height) == size if size else min(width, height) > 300
    expect(page.locator("#seen")).to_contain_text("28×28")
    page.get_by_label("mnist / lenet5").check()
    shows(page, lenet5)
    expect(page.locator("#facts")).to_contain_text("50.0 % of the validation images")
    assert page.locator("footer a, footer button").count() == 0
    assert asked_elsewhere == []


def shows(page: Page, expected: dict[str, float]) -> None:
    """The label has the five likeliest classes with whole percentages."""
    expect(page.get_by_test_id("label-output-value")).to_have_text(next(iter(expected)), timeout=WAIT)
    rows = [f"{label}.*{100 * share:.0f}%" for label, share in [*expected.items()][:5]]
    expect(page.locator("#told .confidence-set")).to_have_text([re.compile(row, re.DOTALL) for row in rows])


def test_a_transparent_picture_that_lies_on_its_side_is_told(
    page: Page, asked_elsewhere: list[str], url: str, tmp_path: Path
) -> None:
    """EXIF says how to turn it, and what is transparent is white."""
    opacity = np.where(PICTURE > 200, 0, 255).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise
    lying = np.rot90(np.dstack([PICTURE, PICTURE, PICTURE, opacity]))
    Image.fromarray(lying).save(tmp_path / "lying.png", exif=exif)
    page.goto(url)
    drop(page, tmp_path / "lying.png")
    shows(page, told("slides", np.where(PICTURE > 200, 255, PICTURE).astype(np.uint8)))
    assert asked_elsewhere == []


def test_what_is_no_picture_is_refused_and_the_page_lives_on(
    page: Page, asked_elsewhere: list[str], url: str, tmp_path: Path
) -> None:
    for name in ("note.txt", "note.png"):
        (tmp_path / name).write_text("no picture")
    Image.fromarray(PICTURE).save(tmp_path / "noise.png")
    page.goto(url)
    expect(page.locator("#facts")).to_contain_text("1,234 parameters", timeout=WAIT)
    page.locator("#picture input[type=file]").set_input_files(tmp_path / "note.txt")
    expect(page.get_by_test_id("toast-body")).to_contain_text("Invalid file type: note.txt")
    drop(page, tmp_path / "note.png")
    refused = "Invalid picture note.png. Expected: a picture file, as PNG or JPEG."
    expect(page.get_by_role("alert").filter(has_text=refused)).to_be_visible(timeout=WAIT)
    assert str(tmp_path) not in page.locator("#mistake").inner_text()
    drop(page, tmp_path / "noise.png")
    shows(page, told("slides"))
    expect(page.locator("#mistake p")).to_have_count(0)
    assert asked_elsewhere == []


def test_a_test_image_can_be_clicked(page: Page, asked_elsewhere: list[str], url: str) -> None:
    page.goto(url)
    examples = page.locator(".gallery-item")
    expect(examples).to_have_count(demo.EXAMPLES, timeout=WAIT)
    examples.first.click()
    expect(page.locator("#told .confidence-set")).to_have_count(5, timeout=WAIT)
    assert asked_elsewhere == []


def test_only_this_machine_and_only_its_own_files_are_served(page: Page, url: str, port: int, top: Path) -> None:
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.2", port)) != 0  # an address of this machine that 0.0.0.0 would include
    for path in ("/etc/passwd", str(top / "params.yaml"), str(top / "models/mnist/slides/run.json")):
        assert page.request.get(f"{url}/gradio_api/file={path}").status == 403
    assert page.request.get(f"{url}/gradio_api/info").json() == {"named_endpoints": {}, "unnamed_endpoints": {}}
    with pytest.raises(UserError, match=rf"^Cannot listen on port {port} of 127\.0\.0\.1\. .* another program"):
        demo.serve(params.load(top / "params.yaml"), port)


def test_without_a_trained_network_it_is_told_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = params.load(TOP / "params.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^No trained network in models\. .* make repro, or make train VARIANT=impro"):
        demo.trained(parameters)
    damaged = tmp_path / "models/mnist/slides/metrics.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    with pytest.raises(UserError, match=r"^Invalid models/mnist/slides/metrics\.json\. .* make train VARIANT=slides"):
        demo.trained(parameters)


def test_the_heat_lies_where_the_network_looks() -> None:
    picture, cam = np.full((4, 4, 3), 100, np.uint8), np.zeros((4, 4), np.float32)
    assert np.ptp(demo.heated(picture, cam)) < 40  # nothing speaks for the class: grey
    cam[1, 2] = 0.001
    brightness = demo.heated(picture, cam).sum(axis=2)
    assert np.unravel_index(brightness.argmax(), (4, 4)) == (1, 2)
