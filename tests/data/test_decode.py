import contextlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from small_sets import Small, cifar_bytes, idx_bytes, png_bytes

from cnnlab import catalog
from cnnlab.data import decode
from cnnlab.errors import UserError
from cnnlab.tracking.classifier import fitted

COUNTS = st.integers(1, 5)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decode") / "file"


@given(data=st.data(), count=COUNTS, height=st.integers(1, 6), width=st.integers(1, 6))
def test_idx_round_trip(path: Path, data: st.DataObject, count: int, height: int, width: int) -> None:
    images = data.draw(arrays(np.uint8, (count, height, width)))
    path.write_bytes(idx_bytes(images))
    decoded = decode.idx_images(path, (height, width, 1))
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, images[..., None])
    labels = data.draw(arrays(np.uint8, count, elements=st.integers(0, 9)))
    path.write_bytes(idx_bytes(labels))
    assert decode.idx_labels(path, 10).dtype == np.int32
    assert np.array_equal(decode.idx_labels(path, 10), labels)


@given(data=st.data(), count=COUNTS, height=st.integers(1, 6), width=st.integers(1, 6))
def test_cifar_and_sheet_round_trip(path: Path, data: st.DataObject, count: int, height: int, width: int) -> None:
    shape = (height, width, 3)
    images = data.draw(arrays(np.uint8, (count, *shape)))
    labels = data.draw(arrays(np.uint8, count, elements=st.integers(0, 9)))
    path.write_bytes(cifar_bytes(images, labels))
    decoded, decoded_labels = decode.cifar(path, shape, 10)
    assert np.array_equal(decoded, images)
    assert decoded.flags.c_contiguous
    assert (decoded.dtype, decoded_labels.dtype) == (np.uint8, np.int32)
    assert np.array_equal(decoded_labels, labels)
    assert decode.records(decoded, decoded_labels).tobytes() == path.read_bytes()
    assert np.array_equal(decode.sheet(png_bytes(images), "sheet", count, shape), images)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expected: a header of 16 bytes. Received: 0 bytes"),
        (idx_bytes(np.zeros((2, 4, 4), np.uint8))[:-1], "Expected: 48 bytes .* Received: 47 bytes"),
        (idx_bytes(np.zeros((2, 4, 4), np.uint8)) + b"x", "Expected: 48 bytes .* Received: 49 bytes"),
        (idx_bytes(np.zeros(40, np.uint8)), "Expected: first bytes 00000803. Received: 00000801"),
        (idx_bytes(np.zeros((2, 4, 5), np.uint8)), r"Expected: images of \(4, 4\). Received: \(4, 5\)"),
    ],
)
def test_bad_idx_is_refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path}.*{message}"):
        decode.idx_images(path, (4, 4, 1))


def test_bad_labels_and_records_are_refused(path: Path) -> None:
    path.write_bytes(idx_bytes(np.array([3, 10], np.uint8)))
    with pytest.raises(UserError, match=r"labels in 0\.\.9. Received: 10"):
        decode.idx_labels(path, 10)
    path.write_bytes(bytes(14))
    with pytest.raises(UserError, match=r"records of 13 bytes. Received: 14 bytes"):
        decode.cifar(path, (2, 2, 3), 10)
    path.write_bytes(bytes([200]) + bytes(12))
    with pytest.raises(UserError, match=r"labels in 0\.\.9. Received: 200"):
        decode.cifar(path, (2, 2, 3), 10)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"3", b"[1, 2.0]", b"[1, true]", b"[10]", b"[-1]", b"[" * 100_000, b"\xff"]
)
def test_bad_label_lists_are_refused(content: bytes) -> None:
    with pytest.raises(UserError, match=r"Invalid file labels\.json"):
        decode.label_list(content, "labels.json", 10)


def test_good_label_list() -> None:
    assert decode.label_list(json.dumps([0, 9, 3]).encode(), "labels.json", 10).tolist() == [0, 9, 3]


def test_bad_sheets_are_refused() -> None:
    images = np.zeros((3, 2, 2, 3), np.uint8)
    with pytest.raises(UserError, match=r"4 x 5 pixels. Received: \(4, 3\)"):
        decode.sheet(png_bytes(images), "sheet", 5, (2, 2, 3))
    with pytest.raises(UserError, match="a PNG image"):
        decode.sheet(b"GIF89a", "sheet", 3, (2, 2, 3))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # where the damage is in the width
@given(data=st.data())
def test_a_damaged_sheet_never_ends_in_another_error(data: st.DataObject) -> None:
    content = bytearray(png_bytes(np.arange(300, dtype=np.uint8).reshape(25, 2, 2, 3)))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    content = content[: data.draw(st.integers(position, len(content)))]
    with contextlib.suppress(UserError):
        assert decode.sheet(bytes(content), "sheet", 25, (2, 2, 3)).shape == (25, 2, 2, 3)


def test_split_checks_that_images_and_labels_belong_together(small_mnist: Small, tmp_path: Path) -> None:
    raw = small_mnist.plain(tmp_path) / "mnist"
    images, labels = decode.split(small_mnist.data_set, raw, "train")
    assert (images.shape, labels.shape) == ((300, 28, 28, 1), (300,))
    (raw / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(299, np.uint8)))
    with pytest.raises(UserError, match=r"299 images, one per label\. Received: 300"):
        decode.split(small_mnist.data_set, raw, "train")


MNIST_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # LeCun's page on MNIST


@pytest.mark.parametrize(
    ("name", "train", "test"), [("mnist", MNIST_COUNTS, None), ("cifar10", [5000] * 10, [1000] * 10)]
)
def test_the_real_sets_have_their_published_counts(
    request: pytest.FixtureRequest, name: str, train: list[int], test: list[int] | None
) -> None:
    data_set, raw = catalog.CATALOG[name], request.getfixturevalue(f"real_{name}")
    images, labels = decode.split(data_set, raw, "train")
    assert images.shape == (data_set.counts["train"], *data_set.shape)
    assert np.bincount(labels).tolist() == train
    images, labels = decode.split(data_set, raw, "test")
    assert images.shape == (data_set.counts["test"], *data_set.shape)
    assert test is None or np.bincount(labels).tolist() == test


def test_an_image_is_rotated_put_on_white_and_fitted(tmp_path: Path) -> None:
    """A wide red image, half of it transparent, that its EXIF data rotates: white above, red below, at any size."""
    wide = Image.new("RGBA", (90, 60), (255, 0, 0, 255))
    wide.paste((0, 0, 0, 0), (0, 0, 45, 60))  # the left half is nothing
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise: left becomes top
    wide.save(tmp_path / "turned.png", exif=exif)
    image = decode.read_image(tmp_path / "turned.png")
    assert image.shape == (90, 60, 3)
    assert (image[:45] == 255).all()
    assert (image[45:] == [255, 0, 0]).all()
    colour = fitted(image, (32, 32, 3))
    assert colour.dtype == np.uint8
    assert (colour[:12] == 255).all()
    assert (colour[20:] == [255, 0, 0]).all()
    grey = fitted(image, (28, 28, 1))
    assert grey.shape == (28, 28, 1)
    assert (grey[20:] == 76).all()  # 0.299 of 255, ITU-R 601


def test_an_unreadable_image_is_refused(tmp_path: Path) -> None:
    Image.new("I;16", (9, 9), 999).save(tmp_path / "deep.png")
    (tmp_path / "text.png").write_text("not an image")
    Image.effect_noise((200, 200), 90).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    for name in ("deep.png", "text.png", "cut.jpg", "none.png"):
        with pytest.raises(UserError, match=rf"^Invalid image .*{re.escape(name)}\. Expected: an image file"):
            decode.read_image(tmp_path / name)
