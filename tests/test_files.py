"""Files are written completely or not at all."""

import errno
import hashlib
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnlab import files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that was written earlier, alone in its folder."""
    path = tmp_path / "folder" / "file.txt"
    files.write_text(path, "earlier")
    return path


@contextmanager
def small_files() -> Iterator[None]:
    """Limit files to 1000 bytes, which fails a write in the middle as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def alone_and_earlier(path: Path) -> bool:
    return [*path.parent.iterdir()] == [path] and path.read_text() == "earlier"


@given(text=st.text())
def test_text_comes_back_as_utf_8(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "text" / "a"
    files.write_text(path, text)
    assert path.read_bytes() == text.encode("utf-8")
    assert files.sha256(path) == hashlib.sha256(text.encode("utf-8")).hexdigest()


def test_a_colleague_can_read_it(file: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o644


def test_the_earlier_file_stays_until_the_block_ends(file: Path) -> None:
    with files.atomic(file) as stream:
        stream.write(b"new")
        stream.flush()
        assert file.read_text() == "earlier"
    assert file.read_text() == "new"
    assert [*file.parent.iterdir()] == [file]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failed_block_leaves_the_earlier_file_alone(file: Path, error: type[BaseException]) -> None:
    def write() -> None:
        with files.atomic(file) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert alone_and_earlier(file)


def test_a_failed_write_names_the_file_and_leaves_the_earlier_one(file: Path) -> None:
    with pytest.raises(OSError, match="too large") as failure, small_files():
        files.write_text(file, "x" * 1001)
    assert (failure.value.errno, failure.value.filename) == (errno.EFBIG, str(file))
    assert alone_and_earlier(file)


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_text(tmp_path / "taken", "text")
    assert [*tmp_path.iterdir()] == [tmp_path / "taken"]


def test_an_error_of_another_file_keeps_its_name(file: Path) -> None:
    with pytest.raises(FileNotFoundError) as failure, files.atomic(file):
        Path("/no/such/file").read_bytes()
    assert failure.value.filename == "/no/such/file"


@pytest.mark.parametrize(
    ("raised", "status", "line"),
    [
        ("errors.UserError('Invalid x. Expected 1. Received 2.')", 2, "Invalid x. Expected 1. Received 2."),
        ("OSError(28, 'No space left on device', 'a/b')", 1, "No space left on device: a/b"),
        ("OSError(13, 'Permission denied')", 1, "Permission denied: no file named"),
        ("KeyboardInterrupt", 130, "interrupted"),
    ],
)
def test_a_script_ends_with_one_line_and_a_status(raised: str, status: int, line: str) -> None:
    script = f"from cnnlab import errors\ndef main(): raise {raised}\nerrors.run(main)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", f"error: {line}\n")


@pytest.mark.parametrize("raised", ["ZeroDivisionError", "FileNotFoundError(2, 'No such file or directory', 'a')"])
def test_a_bug_keeps_its_traceback(raised: str) -> None:
    script = f"from cnnlab import errors\ndef main(): raise {raised}\nerrors.run(main)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert raised.partition("(")[0] in done.stderr.splitlines()[-1]
