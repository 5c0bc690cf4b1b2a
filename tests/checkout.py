"""Copies of this checkout, including uncommitted changes."""

import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

TOP = Path(__file__).parents[1]
Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., AbstractContextManager[subprocess.Popen[bytes]]]


def copy_checkout(destination: Path) -> None:
    """Copy every file that git does not ignore, and commit the copies."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=TOP,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for name in filter(None, listing.split("\0")):
        if (TOP / name).exists():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, destination / name)
    subprocess.run(["git", "init", "-q"], cwd=destination, check=True, capture_output=True)
    commit(destination)


def commit(folder: Path) -> None:
    """Commit every file that git does not ignore."""
    identity = ["-c", "user.name=tester", "-c", "user.email=tester@localhost"]
    for command in (["add", "-A"], [*identity, "commit", "-qm", "copy"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
