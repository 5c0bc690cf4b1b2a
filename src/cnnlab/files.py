"""Paths in a checkout, atomic writes of files and folders, and verified reads."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cnnlab.errors import UserError

# Relative to the root of the checkout, where DVC and make run every command.
RAW = Path("data/raw")
PROCESSED = Path("data/processed")
MODELS = Path("models")
REPORTS = Path("reports")
CHECKPOINTS = Path(".checkpoints")  # no DVC output: DVC deletes a stage's outputs before it runs the stage
MLRUNS = Path("mlruns")

MANIFEST = "SHA256SUMS"  # digests of the files in a folder, in the format of `sha256sum -c`
LOCALE = Path(__file__).with_name("report") / "locale"
ENGLISH = "en"  # the language of the msgids; it has no catalogue


def catalogue(language: str) -> Path:
    """Path of a language's gettext catalogue."""
    return LOCALE / language / "LC_MESSAGES/cnnlab.po"


def languages() -> list[str]:
    """Codes of the report languages: English and every language with a catalogue."""
    return [ENGLISH, *sorted(path.parents[1].name for path in LOCALE.glob("*/LC_MESSAGES/cnnlab.po"))]


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for binary writing; it appears complete when the block ends, and not at all if the block fails.

    The bytes go to a temporary file in the same folder, which is synced to disk and renamed to `path`. Missing parent
    folders are created. Raises OSError (disk full, permission denied) with `filename` set to `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide the file from other users of the machine
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, temporary):
            error.filename = str(path)
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically."""
    with atomic(path) as stream:
        stream.write(text.encode())


@contextmanager
def atomic_folder(folder: Path, partial: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder to fill; it replaces `folder` when the block ends, and is removed if the block fails.

    The folder to fill is `partial`, on the file system of `folder`, by default beside it; leftovers of a killed process
    there are removed. Its files are synced to disk before it is renamed.
    """
    partial = partial or folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in (*partial.rglob("*"), partial):
            _sync(path)
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)
        else:
            folder.unlink(missing_ok=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Create Python's temporary files in `folder` instead of TMPDIR; it is deleted before and after the block.

    TensorFlow writes one file per compiled function and deletes it at exit, which a killed process never reaches.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    before, tempfile.tempdir = tempfile.tempdir, str(folder.absolute())
    try:
        yield
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(folder: Path, pattern: str = "*") -> None:
    """Write the digests of the files in `folder` that match `pattern` to its `SHA256SUMS`."""
    names = sorted(str(path.relative_to(folder)) for path in folder.glob(pattern) if path.is_file())
    lines = [f"{sha256(folder / name)}  {name}\n" for name in names if name != MANIFEST]
    write_text(folder / MANIFEST, "".join(lines))


def verified(path: Path, command: str) -> Path:
    """Return `path` after comparing its content with the digest in the `SHA256SUMS` beside it.

    A file is hashed once per process unless it changes. Raises UserError, which names the `command` that rebuilds the
    file, where the file or its digest is damaged or missing.
    """
    manifest = path.with_name(MANIFEST)
    try:
        expected = _manifest(manifest)[path.name]
    except (OSError, ValueError, KeyError) as error:
        received = "no line for it" if isinstance(error, KeyError) else problem(error)
        if not os.path.lexists(path):
            received += f"; {path.name} is missing, too"
        raise UserError(
            f"Cannot check {path}. Expected: its sha256 in {manifest}. Received: {received}. "
            f"To fix this, run: {command}"
        ) from error
    check(path, expected, command)
    return path


def verified_folder(folder: Path, expected: str, command: str) -> Path:
    """Return `folder` after comparing its `SHA256SUMS` with the SHA-256 `expected`, and its files with `SHA256SUMS`.

    Raises UserError as `verified`.
    """
    check(folder / MANIFEST, expected, command)
    for name, digest in _manifest(folder / MANIFEST).items():
        check(folder / name, digest, command)
    return folder


def check(path: Path, expected: str, command: str) -> None:
    """Raise UserError where the SHA-256 of a file is not `expected`; `command` rebuilds the file."""
    try:
        received = f"sha256 {_known_sha256(path)}"
    except OSError as error:
        received = problem(error)
    if received != f"sha256 {expected}":
        raise UserError(
            f"Invalid file {path}. Expected: sha256 {expected}. Received: {received}. To fix this, run: {command}"
        )


def problem(error: Exception) -> str:
    """Why a file cannot be read, in a few words."""
    if isinstance(error, FileNotFoundError):
        return "missing"
    if isinstance(error, IsADirectoryError):
        return "a directory"
    return f"unreadable ({getattr(error, 'strerror', None) or 'not text'})"


def _manifest(path: Path) -> dict[str, str]:
    """Digests by file name."""
    lines = [line.partition("  ") for line in path.read_text().splitlines()]
    return {name: digest for digest, _, name in lines}


_DIGESTS: dict[tuple[str | int, ...], str] = {}


def _known_sha256(path: Path) -> str:
    status = path.stat()  # a program can reset the modification time, but not st_ctime
    key = (str(path.absolute()), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if key not in _DIGESTS:
        _DIGESTS[key] = sha256(path)
    return _DIGESTS[key]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
