"""What a run on this machine would find: Python, packages, devices, memory, disk, data, MLflow, DVC."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import platformdirs
import requests

from cnnlab import files, track
from cnnlab.data.catalog import ARCHIVES, CATALOG
from cnnlab.errors import UserError
from cnnlab.params import Params

LOCK = Path("requirements.txt")
PYTHONS = ((3, 11), (3, 13))
MEMORY, DISK = 6, 8  # GiB that `make repro` wants: data sets, models and caches, and what a training takes
GIB = 2**30


class Finding(NamedTuple):
    """A line: what was looked at, what was found, and what to do; nothing to do where all is well."""

    name: str
    told: str
    advice: str = ""


def examine(parameters: Params) -> Iterator[Finding]:
    """Look at everything that a run needs, one thing after another; nothing is changed or downloaded.

    MLflow's own store is created where there is none, as any run would.
    """
    yield _python()
    yield _packages(LOCK)
    yield _devices(parameters)
    yield _memory()
    yield _disk(Path())
    for name in (*parameters.data, *parameters.optional_data):
        yield _data(name, parameters)
    yield _mlflow()
    yield _dvc()


def line(finding: Finding) -> str:
    """A finding as a line of text: ok, or a warning with what to do."""
    state = "warning" if finding.advice else "ok"
    return f"{state:<8} {finding.name:<18} {finding.told}" + (f". {finding.advice}" if finding.advice else "")


def _python() -> Finding:
    version = sys.version_info[:2]
    told = f"{sys.version.split()[0]} in {sys.prefix}"
    low, high = (".".join(map(str, end)) for end in PYTHONS)
    known = PYTHONS[0] <= version <= PYTHONS[1]
    return Finding("Python", told, "" if known else f"Take Python {low} to {high}: make setup PYTHON=python{high}")


def _packages(lock: Path) -> Finding:
    """Whether what is installed has the versions of the lock; what this system does not need is not installed."""
    if not lock.exists():
        return Finding("packages", f"no {lock}", "Run from the top of the checkout.")
    pinned: dict[str, list[str]] = {}  # more than one where it depends on Python or the system
    for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock.read_text(), re.MULTILINE):
        pinned.setdefault(name, []).append(version)
    found = {}
    for name in pinned:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    other = [
        f"{name} {version}, not {' or '.join(pinned[name])}"
        for name, version in found.items()
        if version not in pinned[name]
    ]
    told = f"{len(found)} of the lock's {len(pinned)} installed, {len(other)} with another version"
    return Finding("packages", told, f"{', '.join(other[:3])}. Run: rm -r .venv; make setup" if other else "")


def _devices(parameters: Params) -> Finding:
    from cnnlab.train.strategy import strategy  # noqa: PLC0415  # TensorFlow takes seconds to import

    try:
        chosen = strategy(parameters.strategy)
    except UserError as error:
        return Finding("devices", "none as params.yaml asks", str(error))
    names = ", ".join(device.rpartition("device:")[2] for device in chosen.extended.worker_devices)
    cores = f", {os.cpu_count()} cores" if "CPU" in names else ""
    return Finding("devices", f"{type(chosen).__name__} on {names}{cores}")


def _memory() -> Finding:
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    except (ValueError, OSError, AttributeError):
        return Finding("memory", "not told by this system")
    advice = f"A run wants {MEMORY} GiB. Sweep with fewer workers: make sweep WORKERS=1" if found < MEMORY else ""
    return Finding("memory", f"{found:.1f} GiB", advice)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / GIB
    return Finding(
        "disk", f"{free:.1f} GiB free", f"A run wants {DISK} GiB. Make room, or: make clean" if free < DISK else ""
    )


def _data(name: str, parameters: Params) -> Finding:
    """Where a data set is, or the first place that it could be fetched from."""
    place, source = f"data {name}", {**parameters.data, **parameters.optional_data}[name]
    if (files.PROCESSED / name / "card.json").exists():
        return Finding(place, "processed")
    if source.path is not None:
        found = Path(source.path).is_dir()
        return Finding(
            place, source.path, "" if found else f"Name the folder of its pictures in params.yaml, {name}.path"
        )
    if any((platformdirs.user_cache_path("cnnlab") / name).glob("*")):
        return Finding(place, "in the download cache")
    for told in _sources(name, parameters.fetch.timeout_s):
        return Finding(place, told)
    rest = "the pipeline goes on without it" if name in parameters.optional_data else "no run can begin"
    return Finding(
        place, f"no source answers, {rest}", "Set CNNLAB_MIRROR to a folder or URL that holds it: docs/data.md"
    )


def _sources(name: str, timeout_s: float) -> Iterator[str]:
    """The sources of a data set that answer: the mirror, its official site, the registry's client."""
    known, archives = CATALOG.get(name), ARCHIVES.get(name, ())
    official = [download.url for download in known.downloads] if known else []
    official += [f"{archive.site}/{archive.basename}" for archive in archives if archive.site]
    held = [url.rpartition("/")[2] for url in official] + [archive.basename for archive in archives]
    held += [known.pictures.basename] if known and known.pictures else []
    mirror = os.environ.get("CNNLAB_MIRROR", "").rstrip("/")
    if mirror and any(_answers(f"{mirror}/{file}", timeout_s) for file in held):
        yield "the mirror has it"
    if any(_answers(url, timeout_s) for url in official):
        yield "its official site answers"
    if known and known.package and shutil.which("npm"):
        yield f"neither mirror nor official site answers; npm may have {known.package.spec}"


def _answers(location: str, timeout_s: float) -> bool:
    if "://" not in location:
        return Path(location).exists()
    try:
        with requests.get(location, timeout=timeout_s, stream=True) as response:  # some servers refuse a bare HEAD
            return response.ok
    except requests.RequestException:
        return False


def _mlflow() -> Finding:
    told = track.masked(track.tracking_uri())
    try:
        track.client()
    except UserError as error:
        return Finding("MLflow", told, f"{error} Training goes on without it; then: make sync")
    return Finding("MLflow", told)


def _dvc() -> Finding:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--quiet"], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return Finding("DVC", "all stages are up to date")
    if done.returncode == 1:
        return Finding("DVC", "stages to run", "Run: make repro")
    return Finding("DVC", "cannot tell", " ".join(done.stderr.split())[-200:] or "Run: dvc status")
