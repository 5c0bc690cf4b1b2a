"""Ways in which a stored file can be damaged."""

import os
from collections.abc import Callable
from pathlib import Path


def flip(path: Path) -> None:
    """Flip the lowest bit of the middle byte."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def flip_unseen(path: Path) -> None:
    """Flip a bit and restore the modification time."""
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def directory(path: Path) -> None:
    """Replace the file with a folder."""
    path.unlink()
    path.mkdir()


def dangling(path: Path) -> None:
    """Replace the file with a dangling symbolic link."""
    path.unlink()
    path.symlink_to("nowhere")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flip": flip,
    "flip with the old time": flip_unseen,
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "deleted": Path.unlink,
    "directory": directory,
    "dangling link": dangling,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}
