"""Classification of image files of every kind, and of files that are not images."""

import contextlib
import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from see.small_nets import noise
from use.registered import CHANNELS, CLASSES, SIDE, network, probabilities

from cnnlab.errors import UserError
from cnnlab.tracking.classifier import Classifier
from cnnlab.use import predict as predictions

IMAGES = noise(4, SIDE, CHANNELS)


def predict(names: list[str], top: int) -> None:
    predictions.predict(Classifier(network(), CLASSES), names, top)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with four images in `all/`, one of them in a subfolder, and a text file."""
    monkeypatch.chdir(tmp_path)
    Path("all/deep er").mkdir(parents=True)
    for index, name in enumerate(("a.png", "b.PNG", "deep er/c.bmp", "d [x].png")):
        Image.fromarray(IMAGES[index]).save(Path("all") / name)
    Path("all/note.txt").write_text("hello")
    return tmp_path


def parsed(printed: str) -> dict[str, dict[str, float]]:
    """The printed probabilities in percent, by image and class."""
    lines = [re.split(r"  +", line, maxsplit=1) for line in printed.splitlines()]
    return {
        name: {found[0]: float(found[1]) for found in re.findall(r"(\w+)\s+([\d.]+) %", rest)} for name, rest in lines
    }


def expected(index: int, top: int = 3) -> dict[str, float]:
    row = 100 * probabilities(IMAGES)[index]
    return {CLASSES[best]: row[best] for best in (-row).argsort()[:top]}


def check(printed: str, rows: dict[str, int], top: int = 3) -> None:
    found = parsed(printed)
    assert [*found] == [*rows]
    for name, index in rows.items():
        assert [*found[name]] == [*expected(index, top)]  # the most probable first
        assert found[name] == pytest.approx(expected(index, top), abs=0.0501)


@pytest.mark.usefixtures("folder")
def test_files_folders_and_patterns(capsys: pytest.CaptureFixture[str]) -> None:
    predict(["all/deep er/c.bmp", "all", "all/*.png", "all/d [x].png"], 2)
    in_folder = {"all/a.png": 0, "all/b.PNG": 1, "all/d [x].png": 3, "all/deep er/c.bmp": 2}
    lines = capsys.readouterr().out.splitlines()
    check("\n".join(lines[:1]), {"all/deep er/c.bmp": 2}, 2)
    check("\n".join(lines[1:5]), {**in_folder}, 2)
    check("\n".join(lines[5:7]), {"all/a.png": 0, "all/d [x].png": 3}, 2)
    check("\n".join(lines[7:]), {"all/d [x].png": 3}, 2)


@pytest.mark.usefixtures("folder")
def test_standard_input_is_an_image_or_a_list_of_files(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for content, rows in (
        (Path("all/a.png").read_bytes(), {"standard input": 0}),
        (b"all/b.PNG\n\nall/deep er/c.bmp\n-\n", {"all/b.PNG": 1, "all/deep er/c.bmp": 2}),
    ):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        predict(["-"], 3)
        check(capsys.readouterr().out, rows)


@pytest.mark.usefixtures("folder")
def test_a_broken_file_is_reported_and_the_others_are_classified(capsys: pytest.CaptureFixture[str]) -> None:
    content = Path("all/a.png").read_bytes()
    Path("half.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"^3 of 5 images could not be read"):
        predict(["all/a.png", "half.png", "all/note.txt", "none.png", "all/b.PNG"], 3)
    printed = capsys.readouterr()
    check(printed.out, {"all/a.png": 0, "all/b.PNG": 1})
    assert [line.split()[0] for line in printed.err.splitlines()] == ["half.png", "all/note.txt", "none.png"]


@pytest.mark.usefixtures("folder")
def test_names_without_an_image_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty/a.png").mkdir(parents=True)
    with pytest.raises(UserError, match=r"^2 of 3 images"):
        predict(["empty", 300 * "x", "all/a.png"], 3)
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.err.splitlines()] == ["empty", 300 * "x"]
    assert len(printed.out.splitlines()) == 1


@pytest.mark.usefixtures("folder")
def test_an_image_with_damaged_exif_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """Pillow's EXIF reader raises many kinds of exceptions."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(IMAGES[0]).save("intact.jpg", exif=exif)
    content = Path("intact.jpg").read_bytes()
    start = content.index(b"Exif\0\0") + 6
    for cut in range(8, 26):
        Path("damaged.jpg").write_bytes(content[: start + cut] + b"\xff" * 4 + content[start + cut + 4 :])
        with contextlib.suppress(UserError):  # some damage does not matter
            predict(["damaged.jpg"], 3)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_every_mode_and_rotation_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    """Rotated by a camera, grey, with opacity, with a palette: all are read as upright RGB images."""
    image = Image.fromarray(IMAGES[0])
    turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90° clockwise
    turned.save("turned.png", exif=exif)
    image.convert("RGBA").save("opaque.png")
    few = np.repeat(np.arange(SIDE, dtype=np.uint8)[:, None], SIDE, axis=1)
    Image.fromarray(few).save("grey.png")
    Image.fromarray(few).convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE).save("palette.gif")
    predict(["turned.png", "opaque.png", "grey.png", "palette.gif"], 3)
    lines = capsys.readouterr().out.splitlines()
    check("\n".join(lines[:2]), {"turned.png": 0, "opaque.png": 0})
    rgb = few[None, ..., None].repeat(3, axis=3)
    row = dict(zip(CLASSES, 100 * probabilities(rgb)[0], strict=True))
    for name, found in parsed("\n".join(lines[2:])).items():
        assert found == pytest.approx(row, abs=0.0501), name


def test_more_images_than_a_batch(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = noise(70, SIDE, CHANNELS, seed=3)
    (folder / "many").mkdir()
    for index, image in enumerate(many):
        Image.fromarray(image).save(folder / "many" / f"{index:02}.png")
    predict(["many"], 1)
    found = [next(iter(row)) for row in parsed(capsys.readouterr().out).values()]
    assert found == [CLASSES[index] for index in probabilities(many).argmax(axis=1)]
