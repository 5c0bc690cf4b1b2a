"""The lines of `cnnlab doctor` for real files, a real server, a real store, and in folders where things are missing."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cards import write_card
from loopback_server import Loopback

from cnnlab import params
from cnnlab.use import doctor
from cnnlab.use.doctor import Finding, line

ROOT = Path(__file__).parents[2]
DVC = (sys.executable, "-m", "dvc")


@pytest.fixture
def parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> params.Params:
    """The shipped parameters, one second for a source to answer; an empty working folder without a store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shipped = params.load(ROOT / "params.yaml")
    return shipped.model_copy(update={"fetch": params.Fetch(timeout_s=1)})


def test_a_line_is_ok_or_has_advice() -> None:
    assert line(Finding("disk", "9.0 GiB free")) == "ok       disk               9.0 GiB free"
    assert line(Finding("disk", "1.0 GiB free", "Make room.")) == "warning  disk               1.0 GiB free. Make room."


def test_every_package_has_the_version_of_the_lock() -> None:
    found = doctor._packages(ROOT / "requirements.txt")
    assert found.advice == ""
    assert int(found.result.split()[0]) > 100


def test_another_version_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text("numpy==0.1 ; python_version > '3' \\\n    --hash=sha256:00\nno-such-package==1.0 \\\n")
    found = doctor._packages(lock)
    assert found.result == "1 of the lock's 2 installed, 1 with another version"
    assert found.advice.startswith(f"numpy {importlib.metadata.version('numpy')}, not 0.1. Run: ")
    assert "Run from the top" in doctor._packages(tmp_path / "none.txt").advice


@pytest.mark.parametrize(("wanted", "warns"), [(0, False), (10**9, True)])
def test_memory_and_disk_against_what_a_run_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: int, warns: bool
) -> None:
    monkeypatch.setattr(doctor, "MEMORY", wanted)
    monkeypatch.setattr(doctor, "DISK", wanted)
    assert [bool(found.advice) for found in (doctor._memory(), doctor._disk(tmp_path))] == [warns, warns]


@pytest.mark.usefixtures("own_cache")
def test_where_data_is_or_could_be_fetched(
    parameters: params.Params,
    tmp_path: Path,
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    loopback: Callable[[Path], Loopback],
) -> None:
    """Nearest first: processed, downloaded, a mirror's folder, a mirror's server, nothing."""
    monkeypatch.setenv("PATH", str(tmp_path))  # no npm
    monkeypatch.setattr(doctor, "_responds", only_here(doctor._responds))
    nothing = doctor._data("cifar100", parameters)
    assert nothing.result == "no source available, the pipeline runs without it"
    assert "CNNLAB_MIRROR" in nothing.advice
    assert doctor._data("mnist", parameters).result == "no source available, the pipeline cannot run"
    served = tmp_path / "served"
    served.mkdir()
    (served / "cifar-100-images.zip").write_bytes(b"zip")
    for mirror in (str(served), loopback(served).url):
        monkeypatch.setenv("CNNLAB_MIRROR", mirror)
        assert doctor._data("cifar100", parameters) == Finding("data cifar100", "available from the mirror")
        assert doctor._data("imagenette", parameters).advice
    (own_cache / "cifar100").mkdir(parents=True)
    (own_cache / "cifar100" / "train.bin").write_bytes(b"x")
    assert doctor._data("cifar100", parameters).result == "in the download cache"
    write_card(tmp_path, "mnist")
    assert doctor._data("mnist", parameters) == Finding("data mnist", "processed")


def only_here(reachable: Callable[[str, float], bool]) -> Callable[[str, float], bool]:
    """The function without access to other hosts, on which a test must not depend."""
    return lambda place, timeout_s: ("://" not in place or "127.0.0.1" in place) and reachable(place, timeout_s)


def test_a_server_that_is_down_does_not_respond() -> None:
    assert not doctor._responds("http://127.0.0.1:9/file", 1)


def test_a_users_own_folder_is_checked(parameters: params.Params, tmp_path: Path) -> None:
    for path, warns in ((tmp_path, False), (tmp_path / "none", True)):
        source = params.DataSource(path=str(path), size=32)
        found = doctor._data("mine", parameters.model_copy(update={"data": {"mine": source}}))
        assert bool(found.advice) == warns


def test_the_store_is_named_without_its_password(parameters: params.Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    found = doctor._mlflow()
    assert "secret" not in line(found)
    assert "make sync" in found.advice


def test_all_checks_are_printed(tmp_path: Path) -> None:
    """In a folder with only params.yaml: warnings, no traceback."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text().replace("timeout_s: 10", "timeout_s: 1"))
    done = subprocess.run(
        [sys.executable, "-m", "cnnlab.cli", "doctor"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    names = [printed[9:28].strip() for printed in done.stdout.splitlines()]
    sets = [f"data {name}" for name in ("mnist", "cifar10", "cifar100", "imagenette")]
    assert names == ["Python", "packages", "devices", "memory", "disk", *sets, "MLflow", "DVC"]
    assert "Traceback" not in done.stderr + done.stdout


@pytest.fixture
def in_a_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline of two stages, one of which DVC always runs."""
    monkeypatch.chdir(tmp_path)
    subprocess.run([*DVC, "init", "--no-scm", "--quiet"], check=True)
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n"
        "  digests: {cmd: echo digests, always_changed: true}\n"
        "  copy: {cmd: cp a.txt b.txt, deps: [a.txt], outs: [b.txt]}\n"
    )


@pytest.mark.usefixtures("in_a_pipeline")
def test_the_stages_that_would_run_are_named() -> None:
    assert doctor._dvc().result == "stages to run: copy"
    subprocess.run([*DVC, "repro", "--quiet"], check=True)
    found = doctor._dvc()
    assert found.result.startswith("all stages are up to date")
    assert found.advice == ""


@pytest.mark.usefixtures("parameters")
def test_without_a_pipeline_the_reason_is_given() -> None:
    found = doctor._dvc()
    assert found.result == "status unknown"
    assert "you are not inside of a DVC repository" in found.advice
