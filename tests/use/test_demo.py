"""The page of `cnnlab demo` in a real browser: Keras's own predictions, and errors that it survives."""

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
from cnnlab.files import write_manifest
from cnnlab.use import demo

pytestmark = pytest.mark.filterwarnings("ignore:::keras")  # saving, with this NumPy
IMAGE = np.random.default_rng(4).integers(0, 256, (28, 28), dtype=np.uint8)
MIRRORED = {"lenet5": False, "slides": True}  # whether predictions are averaged over the mirror image


def network(variant: str) -> keras.Model:
    """One of two networks, whose logits differ clearly between images and networks."""
    model = convolutional(1, 28, 10, seed=[*MIRRORED].index(variant))
    model.layers[-2].set_weights([50 * model.layers[-2].get_weights()[0], np.zeros(10, np.float32)])
    return model


def predicted(variant: str, image: np.ndarray = IMAGE) -> dict[str, float]:
    """Keras's own probabilities by class for an image (28, 28), the largest first."""
    pixels = image[None, ..., None] / np.float32(255)
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
    for rank, (variant, mirrored) in enumerate(MIRRORED.items()):
        models = folder / "models/mnist" / variant
        models.mkdir(parents=True)
        network(variant).save(models / "model.keras")
        (models / "run.json").write_text(json.dumps({"run_id": variant, "tta": {"flip": mirrored, "shift": 0}}))
        metrics = {"parameters": 1234, "validation_accuracy": 0.5 + rank / 10, "test_accuracy": 0.4321}
        (models / "metrics.json").write_text(json.dumps(metrics))
        write_manifest(models)
    return folder


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def url(top: Path, port: int) -> Iterator[str]:
    """The page, served by a process behind a proxy that is down; Ctrl-C stops it, and no uploaded image remains."""
    temporary = top / "temporary"
    temporary.mkdir()
    down = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "cnnlab.cli", "demo", "--port", str(port)]
    with (
        (top / "errors.txt").open("w") as errors,
        subprocess.Popen(
            command,
            cwd=top,
            env={**os.environ, **down, "TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        try:
            assert process.stdout
            assert process.stdout.readline().decode() == f"The page: http://127.0.0.1:{port} (Ctrl-C stops it)\n", (
                top / "errors.txt"
            ).read_text()
            yield f"http://127.0.0.1:{port}"
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
            assert "Traceback" not in (top / "errors.txt").read_text()
            assert not [*temporary.glob("cnnlab-demo-*")]
        finally:
            process.kill()


def drop(page: Page, path: Path) -> None:
    if (clear := page.locator("#image").get_by_label("Clear")).count():
        clear.click()
    page.locator("#image input[type=file]").set_input_files(path)


def test_an_image_is_classified_and_networks_are_switched(
    page: Page, asked_elsewhere: list[str], url: str, tmp_path: Path
) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "noise.png")
    slides, lenet5 = predicted("slides"), predicted("lenet5")
    assert next(iter(slides)) != next(iter(lenet5))
    page.goto(url)
    expect(page.locator("#about")).to_contain_text("60.0 % validation accuracy, 43.2 % test accuracy")
    expect(page.get_by_label("mnist / slides")).to_be_checked()
    drop(page, tmp_path / "noise.png")
    shows(page, slides)
    for name, size in (("#input", (392, 392)), ("#cam", (392, 392)), ("#maps", None)):
        image = page.locator(f"{name} img")
        expect(image).to_have_js_property("complete", True)
        width, height = image.evaluate("image => [image.naturalWidth, image.naturalHeight]")
        assert (width, height) == size if size else min(width, height) > 300
    expect(page.locator("#input")).to_contain_text("28×28")
    page.get_by_label("mnist / lenet5").check()
    shows(page, lenet5)
    expect(page.locator("#about")).to_contain_text("50.0 % validation accuracy")
    assert page.locator("footer a, footer button").count() == 0
    assert asked_elsewhere == []


def shows(page: Page, expected: dict[str, float]) -> None:
    """The label has the five likeliest classes with whole percentages."""
    expect(page.get_by_test_id("label-output-value")).to_have_text(next(iter(expected)))
    rows = [f"{label}.*{100 * share:.0f}%" for label, share in [*expected.items()][:5]]
    expect(page.locator("#prediction .confidence-set")).to_have_text([re.compile(row, re.DOTALL) for row in rows])


def test_a_transparent_rotated_image_is_classified(
    page: Page, asked_elsewhere: list[str], url: str, tmp_path: Path
) -> None:
    """EXIF gives the rotation, and transparent areas are white."""
    opacity = np.where(IMAGE > 200, 0, 255).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90° clockwise
    rotated = np.rot90(np.dstack([IMAGE, IMAGE, IMAGE, opacity]))
    Image.fromarray(rotated).save(tmp_path / "rotated.png", exif=exif)
    page.goto(url)
    drop(page, tmp_path / "rotated.png")
    shows(page, predicted("slides", np.where(IMAGE > 200, 255, IMAGE).astype(np.uint8)))
    assert asked_elsewhere == []


def test_files_that_are_not_images_are_rejected_and_the_page_survives(
    page: Page, asked_elsewhere: list[str], url: str, tmp_path: Path
) -> None:
    for name in ("note.txt", "note.png"):
        (tmp_path / name).write_text("not an image")
    Image.fromarray(IMAGE).save(tmp_path / "noise.png")
    page.goto(url)
    expect(page.locator("#about")).to_contain_text("1,234 parameters")
    page.locator("#image input[type=file]").set_input_files(tmp_path / "note.txt")
    expect(page.get_by_test_id("toast-body")).to_contain_text("Invalid file type: note.txt")
    drop(page, tmp_path / "note.png")
    message = "Invalid image note.png. Expected: an image file such as PNG or JPEG."
    expect(page.get_by_role("alert").filter(has_text=message)).to_be_visible()
    assert str(tmp_path) not in page.locator("#error").inner_text()
    drop(page, tmp_path / "noise.png")
    shows(page, predicted("slides"))
    expect(page.locator("#error p")).to_have_count(0)
    assert asked_elsewhere == []


def test_a_test_image_can_be_clicked(page: Page, asked_elsewhere: list[str], url: str) -> None:
    page.goto(url)
    examples = page.locator(".gallery-item")
    expect(examples).to_have_count(demo.EXAMPLES)
    examples.first.click()
    expect(page.locator("#prediction .confidence-set")).to_have_count(5)
    assert asked_elsewhere == []


def test_only_this_machine_and_only_its_own_files_are_served(page: Page, url: str, port: int, top: Path) -> None:
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.2", port)) != 0  # an address of this machine that 0.0.0.0 would include
    for path in ("/etc/passwd", str(top / "params.yaml"), str(top / "models/mnist/slides/run.json")):
        assert page.request.get(f"{url}/gradio_api/file={path}").status == 403
    assert page.request.get(f"{url}/gradio_api/info").json() == {"named_endpoints": {}, "unnamed_endpoints": {}}
    with pytest.raises(
        UserError, match=rf"^Cannot listen on port {port} of 127\.0\.0\.1\. .* in use by another program"
    ):
        demo.serve(params.load(top / "params.yaml"), port)


def test_without_a_trained_network_the_error_says_how_to_train_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = params.load(TOP / "params.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^No trained network in models\. .* make repro, or make train VARIANT=impro"):
        demo.trained(parameters)
    damaged = tmp_path / "models/mnist/slides/metrics.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{}")
    write_manifest(damaged.parent)
    damaged.write_text("{")
    with pytest.raises(UserError, match=r"file models/mnist/slides/metrics\.json\. .* make train VARIANT=slides"):
        demo.trained(parameters)


def test_the_overlay_is_brightest_where_grad_cam_is_largest() -> None:
    image, cam = np.full((4, 4, 3), 100, np.uint8), np.zeros((4, 4), np.float32)
    assert np.ptp(demo.overlay(image, cam)) < 40  # no evidence: grey
    cam[1, 2] = 0.001
    brightness = demo.overlay(image, cam).sum(axis=2)
    assert np.unravel_index(brightness.argmax(), (4, 4)) == (1, 2)
