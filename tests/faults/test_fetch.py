"""The stages fetch and preprocess as processes, on real MNIST: killed, on a full disk, called wrongly."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loopback_server import Loopback

from cnnlab import catalog, files

ROOT = Path(__file__).parents[2]
MNIST = catalog.CATALOG["mnist"]
MEGABYTE = 1 << 20

Stage = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder to run stages in, with the shipped parameters and nothing else."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(ROOT / "params.yaml", folder)
    return folder


@pytest.fixture
def stage(own_cache: Path) -> Iterator[Stage]:
    """Start `pipeline/<name>.py <argument>` in a folder; what still runs after the test is killed."""
    with contextlib.ExitStack() as stack:

        def start(name: str, argument: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
            command = [sys.executable, str(ROOT / "pipeline" / f"{name}.py"), argument]
            child = subprocess.Popen(
                command, cwd=folder, env=os.environ | environment, stderr=subprocess.PIPE, text=True
            )
            stack.enter_context(child)
            stack.callback(child.kill)
            return child

        yield start


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 20 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "cnnlab-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def left(folder: Path) -> list[str]:
    """Names of all files below a folder, without the lock."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def is_mnist(folder: Path) -> bool:
    digests = {path.name: files.sha256(path) for path in folder.iterdir()}
    return digests == {file.name: file.sha256 for file in MNIST.files}


def test_a_killed_fetch_resumes(
    checkout: Path,
    stage: Stage,
    own_cache: Path,
    real_mnist: Path,
    loopback: Callable[[Path], Loopback],
) -> None:
    server = loopback(real_mnist.parent)
    server.hold_at = 8 * MEGABYTE
    part = own_cache / "mnist" / "train-images-idx3-ubyte.part"
    killed = stage("fetch", "mnist", checkout, CNNLAB_MIRROR=server.url)
    while not (part.exists() and part.stat().st_size >= 2 * MEGABYTE):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert left(checkout) == ["params.yaml"]
    received = part.stat().st_size
    server.hold_at = 0
    server.released.set()
    again = stage("fetch", "mnist", checkout, CNNLAB_MIRROR=server.url)
    assert again.communicate()[1].splitlines()[-1].startswith("mnist: 55.0 MB from mirror in ")
    assert again.returncode == 0
    assert server.requests[1] == ("/mnist/train-images-idx3-ubyte", f"bytes={received}-")
    assert is_mnist(checkout / "data" / "raw" / "mnist")
    assert is_mnist(own_cache / "mnist")


@pytest.mark.parametrize("by_url", [False, True])
def test_the_cache_is_on_a_full_disk(
    checkout: Path,
    stage: Stage,
    small_disk: Path,
    real_mnist: Path,
    loopback: Callable[[Path], Loopback],
    by_url: bool,
) -> None:
    plain = real_mnist.parent
    mirror = loopback(plain).url if by_url else str(plain)
    child = stage("fetch", "mnist", checkout, CNNLAB_MIRROR=mirror, XDG_CACHE_HOME=str(small_disk))
    name = f"train-images-idx3-ubyte{'.part' if by_url else ''}"
    error = f"error: No space left on device: {small_disk}/cnnlab/mnist/{name}"
    assert child.communicate()[1].splitlines()[1:] == [error]
    assert child.returncode == 1
    assert left(checkout) == ["params.yaml"]
    assert left(small_disk) == ([name] if by_url else [])  # a part is no output: the next fetch resumes from it


def test_the_raw_folder_is_on_a_full_disk(stage: Stage, small_disk: Path, real_mnist: Path) -> None:
    shutil.copy(ROOT / "params.yaml", small_disk)
    child = stage("fetch", "mnist", small_disk, CNNLAB_MIRROR=str(real_mnist.parent))
    error = "error: No space left on device: data/raw/mnist/train-images-idx3-ubyte"
    assert child.communicate()[1].splitlines()[-1] == error
    assert child.returncode == 1
    assert left(small_disk) == ["params.yaml"]


def test_preprocess_on_a_full_disk(stage: Stage, small_disk: Path, real_mnist: Path) -> None:
    shutil.copy(ROOT / "params.yaml", small_disk)
    (small_disk / "data").mkdir()
    (small_disk / "data" / "raw").symlink_to(real_mnist.parent)
    child = stage("preprocess", "mnist", small_disk)
    error = "error: No space left on device: data/processed/.mnist.partial/train_images.npy\n"
    assert child.communicate()[1] == error
    assert child.returncode == 1
    assert left(small_disk) == ["params.yaml"]
    assert list((small_disk / "data" / "processed").iterdir()) == []


def test_preprocess_removes_what_a_killed_one_left(checkout: Path, stage: Stage, real_mnist: Path) -> None:
    (checkout / "data").mkdir()
    (checkout / "data" / "raw").symlink_to(real_mnist.parent)
    partial = checkout / "data" / "processed" / ".mnist.partial"
    partial.mkdir(parents=True)
    (partial / ".train_images.npy.abcd").write_bytes(b"half")
    child = stage("preprocess", "mnist", checkout)
    assert (child.communicate()[1], child.returncode) == ("", 0)
    assert [path.name for path in (checkout / "data" / "processed").iterdir()] == ["mnist"]
    arrays = ["splits.npz", "test_images.npy", "test_labels.npy", "train_images.npy", "train_labels.npy"]
    assert left(checkout / "data" / "processed") == ["SHA256SUMS", "card.json", *arrays]


@pytest.mark.parametrize("name", ["fetch", "preprocess"])
@pytest.mark.parametrize("argument", ["cifar11", "", "../mnist"])
def test_an_unknown_data_set_writes_nothing(
    checkout: Path, stage: Stage, own_cache: Path, name: str, argument: str
) -> None:
    child = stage(name, argument, checkout)
    error = f"error: Unknown data set. Expected one of: mnist, cifar10, cifar100, imagenette. Received: {argument!r}.\n"
    assert child.communicate()[1] == error
    assert child.returncode == 2
    assert left(checkout) == ["params.yaml"]
    assert not own_cache.exists()
