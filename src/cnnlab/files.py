"""Where things lie in a checkout, and how files are written: whole or not at all."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# Relative to the top of the checkout, where DVC and make run every command.
RAW = Path("data/raw")
PROCESSED = Path("data/processed")
MODELS = Path("models")
REPORTS = Path("reports")
CHECKPOINTS = Path(".checkpoints")  # outside DVC outs: DVC deletes a stage's outs before it runs the stage
MLRUNS = Path("mlruns")


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for binary writing; it appears complete when the block ends, or not at all if the block fails.

    The bytes go to a temporary name in the same folder, are synced to disk and renamed over `path`.
    Missing parent folders are made. Raises OSError (disk full, permission) with `filename` set to `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide the file from a colleague on the same machine
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


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def has_digest(path: Path, expected: str) -> bool:
    """Whether a file's content has the digest `expected`, as in md5:<hex> or sha256:<hex>."""
    name, _, digest = expected.partition(":")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, name).hexdigest() == digest
