"""Image folders: which files are listed and skipped, and how TensorFlow decodes them, compared with Pillow."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cnnlab.data import folders, store
from cnnlab.data.augment import draw_crops
from cnnlab.data.batches import Block, Decoded, blocks, epoch_blocks, place
from cnnlab.data.images import ImageFiles
from cnnlab.errors import UserError

SIZE = 16


def image(seed: int, height: int = 40, width: int = 60, mode: str = "RGB") -> Image.Image:
    """A smooth image, which JPEG changes little."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def write(path: Path, content: Image.Image, kind: str = "JPEG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content.save(path, kind, **({"quality": 95} if kind == "JPEG" else {}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, each with ten training images and four test images."""
    for label, name in enumerate(("cat", "dog")):
        for i in range(14):
            write(tmp_path / "pets" / ("train" if i < 10 else "val") / name / f"{i:02}.jpg", image(20 * label + i))
    return tmp_path / "pets"


def preprocess(root: Path, tmp_path: Path, max_broken: int = 0) -> store.Processed:
    target = tmp_path / "processed"
    store.preprocess_images("pets", root, target, size=SIZE, max_broken=max_broken, mirrored=True, validation=4, seed=0)
    return store.open_processed("pets", target)


# Which files are listed


def test_the_card_describes_the_folder(root: Path, tmp_path: Path) -> None:
    (root / "train" / "cat" / ".DS_Store").write_bytes(b"hidden")
    write(root / "train" / "dog" / "again.jpg", image(20))  # dog's first
    data = preprocess(root, tmp_path)
    assert (data.card["classes"], data.card["shape"]) == (["cat", "dog"], [SIZE, SIZE, 3])
    assert [sum(counts) for counts in data.card["counts"].values()] == [17, 4, 8]
    assert data.card["duplicates"]["train"]["indices"] == [[10, 20]]
    assert (len(data.train_images), np.bincount(data.test_labels).tolist()) == (21, [4, 4])
    train, _ = data.split(4)
    pixels = data.train_images[np.sort(train)].astype(np.float64) / 255
    assert data.card["mean"] == pytest.approx(pixels.mean(axis=(0, 1, 2)))
    assert data.card["std"] == pytest.approx(pixels.std(axis=(0, 1, 2)))
    assert json.loads((tmp_path / "processed" / "files.json").read_text())["root"] == str(root)


def test_the_digest_depends_on_content_and_labels(root: Path, tmp_path: Path) -> None:
    before = preprocess(root, tmp_path).card["digests"]
    (root / "train" / "cat" / "00.jpg").rename(root / "train" / "cat" / "zz.jpg")
    assert preprocess(root, tmp_path).card["digests"] == before
    (root / "train" / "cat" / "zz.jpg").rename(root / "train" / "dog" / "zz.jpg")
    after = preprocess(root, tmp_path).card["digests"]
    assert (after["train"] != before["train"], after["test"]) == (True, before["test"])


def test_a_thousand_and_one_classes(tmp_path: Path) -> None:
    stream = io.BytesIO()
    image(0, 8, 8).save(stream, "JPEG")
    for part in ("train", "val"):
        for label in range(1001):
            (folder := tmp_path / "many" / part / f"n{label:04}").mkdir(parents=True)
            (folder / "x.jpg").write_bytes(stream.getvalue())
    data = preprocess(tmp_path / "many", tmp_path)
    assert (len(data.card["classes"]), int(data.test_labels.max())) == (1001, 1000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rename val/dog val/wolf", r"same classes in train/ and val/\. Received: dog only in train/"),
        ("make val/wolf", r"Received: wolf only in val/"),
        ("empty train/cat", r"at least one image per class\. Received: none in train/cat"),
        ("remove train/dog val/dog", r"at least two classes, one folder per class\. Received: 1 in"),
        ("remove val", r"folders train and val with one folder per class\. Received: no folder .*/val"),
    ],
)
def test_an_invalid_folder_is_refused(root: Path, tmp_path: Path, change: str, message: str) -> None:
    action, *places = change.split()
    paths = [root / place for place in places]
    if action == "rename":
        paths[0].rename(paths[1])
    elif action == "make":
        paths[0].mkdir()
    else:
        for path in paths:
            for file in path.rglob("*"):
                if file.is_file():
                    file.unlink()
            if action == "remove":
                for inner in [*path.iterdir(), path]:
                    inner.rmdir()
    with pytest.raises(UserError, match=rf"^Invalid image folder {root}\. Expected: .*{message}"):
        preprocess(root, tmp_path)
    assert not (tmp_path / "processed").exists()


# Which files are skipped


def test_broken_files_are_listed_and_counted(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (root / "train" / "cat" / "03.jpg").read_bytes()
    (root / "train" / "cat" / "03.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "val" / "dog" / "notes.txt").write_text("not an image")
    (root / "val" / "dog" / "empty.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"at most 2 unreadable files, .* Received: 3, first train/cat/03\.jpg: "):
        preprocess(root, tmp_path, max_broken=2)
    assert not (tmp_path / "processed").exists()
    capsys.readouterr()
    data = preprocess(root, tmp_path, max_broken=3)
    assert [entry["file"] for entry in data.card["broken"]] == [
        *("train/cat/03.jpg", "val/dog/empty.jpg", "val/dog/notes.txt")
    ]
    assert all(entry["reason"] for entry in data.card["broken"])
    assert [sum(counts) for counts in data.card["counts"].values()] == [15, 4, 8]
    said = capsys.readouterr().out
    assert all(f"{root / entry['file']} is skipped: {entry['reason']}" in said for entry in data.card["broken"])


def test_a_class_of_broken_files_is_refused(root: Path, tmp_path: Path) -> None:
    for file in (root / "val" / "dog").iterdir():
        file.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"at least one readable image per class\. Received: none in val/dog"):
        preprocess(root, tmp_path, max_broken=99)


def test_a_file_that_becomes_unreadable(root: Path, tmp_path: Path) -> None:
    data = preprocess(root, tmp_path)
    (root / "val" / "cat" / "10.jpg").unlink()
    with pytest.raises(UserError, match=r"^Cannot read an image\. .*10\.jpg.* To fix this, run: dvc repro -f fetch"):
        data.test_images[:]
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    streamed = place(data.test_images, data.test_labels, strategy)
    with pytest.raises(UserError, match=r"^Cannot read an image"):
        list(streamed.feed(blocks(np.arange(8), 4), strategy))


# How files are decoded


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "L"), ("PNG", "RGBA")]
)
@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (SIZE, SIZE), (5, 7)])
def test_the_centre_square_matches_pillow(tmp_path: Path, kind: str, mode: str, height: int, width: int) -> None:
    """Both resize with a triangle filter; JPEG decoders differ by a few levels."""
    write(tmp_path / "x", image(1, height, width, mode), kind)
    ours = ImageFiles(tmp_path, ["x"], SIZE)[0]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    with Image.open(tmp_path / "x") as opened:
        square = opened.convert("RGB").crop((left, top, left + side, top + side))
    theirs = np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    assert ours.shape == (SIZE, SIZE, 3)
    assert np.abs(ours.astype(int) - theirs.astype(int)).mean() < 3


def test_it_can_be_indexed_like_an_array(root: Path) -> None:
    found = folders.scan(root)
    images = ImageFiles(root, found.files["train"], SIZE)
    assert (images.shape, len(images), images.nbytes) == ((20, SIZE, SIZE, 3), 20, 20 * SIZE**2 * 3)
    decoded = images[:]
    rows = np.array([[3, 1], [19, 0]])
    np.testing.assert_array_equal(images[rows], decoded[rows])
    np.testing.assert_array_equal(images[-1], decoded[-1])
    np.testing.assert_array_equal(images[2:5], decoded[2:5])
    with pytest.raises(IndexError):
        images[20]


@given(seed=st.integers(0, 99), smallest=st.floats(0.01, 0.99), height=st.integers(3, 90), width=st.integers(3, 90))
def test_a_random_crop_lies_within_the_image(seed: int, smallest: float, height: int, width: int) -> None:
    from cnnlab.data.images import _random  # noqa: PLC0415

    crops = draw_crops(smallest, seed, epoch=1, step=2, batch=8)
    assert (crops.shape, crops.dtype) == ((8, 4), np.float32)
    assert ((smallest - 1e-6 <= crops[:, 0]) & (crops[:, 0] <= 1)).all()
    assert ((crops[:, 1] >= 3 / 4 - 1e-6) & (crops[:, 1] <= 4 / 3 + 1e-6)).all()
    for crop in crops:
        top, left, rows, columns = _random(tf.constant([height, width, 3]), tf.constant(crop)).numpy().tolist()
        assert 0 <= top <= top + rows <= height
        assert 0 <= left <= left + columns <= width
        assert rows >= 1
        assert columns >= 1
        if rows < height and columns < width:
            assert rows * columns == pytest.approx(crop[0] * height * width, abs=(height + width) / 2 + 1)


# Feeding


def fed(data: store.Processed, crop: float, ahead: list[Block]) -> list[tuple[np.ndarray, np.ndarray]]:
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    feeding = place(data.train_images, data.train_labels, strategy, smallest_crop=crop)
    assert isinstance(feeding, Decoded)
    return [
        (np.stack([feeding.take(source, s)[0] for s in range(len(block.rows))]), source[1].numpy())
        for block, source in feeding.feed(ahead, strategy)
    ]


def test_without_crop_training_uses_centre_squares(root: Path, tmp_path: Path) -> None:
    data = preprocess(root, tmp_path)
    ahead = epoch_blocks(np.arange(20), 3, 2, seed=0, epoch=1)
    assert len({block.rows.shape for block in ahead}) > 1
    for block, (images, labels) in zip(ahead, fed(data, 0.0, ahead), strict=True):
        np.testing.assert_allclose(images * 255, data.train_images[block.rows], atol=1e-3)
        np.testing.assert_array_equal(labels, data.train_labels[block.rows])


def test_crops_are_a_function_of_seed_epoch_and_step(root: Path, tmp_path: Path) -> None:
    data = preprocess(root, tmp_path)
    ahead = epoch_blocks(np.arange(20), 4, 2, seed=0, epoch=1)
    first, again = fed(data, 0.3, ahead), fed(data, 0.3, ahead)
    for (a, _), (b, _) in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    resumed = fed(data, 0.3, [ahead[1].after(ahead[1].first_step + 1)])  # a killed training resumes within a block
    np.testing.assert_array_equal(resumed[0][0], first[1][0][1:])
    other = epoch_blocks(np.arange(20), 4, 2, seed=0, epoch=2)
    moved = [Block(block.rows, block.first_step, other[0].key) for block in ahead]
    assert not np.array_equal(fed(data, 0.3, moved)[0][0], first[0][0])
    centre = fed(data, 0.3, blocks(np.arange(20), 4))  # evaluation
    np.testing.assert_allclose(centre[0][0][0] * 255, data.train_images[:4], atol=1e-3)
