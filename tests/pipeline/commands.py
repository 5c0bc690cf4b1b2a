"""What the tests of the pipeline share: the shipped variants, and commands typed in the clone."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from checkout import Run

VARIANTS = {
    "lenet5": "mnist", "slides": "mnist", "lesson": "cifar10", "lesson_longer": "cifar10", "improved": "cifar10",
    "tuned": "cifar10",
}  # fmt: skip
# Blocks of commands that have a test of their own, which also checks their outcome.
TESTED_APART = ("make test", "make see", "dvc plots diff", "IMAGES=-", "make export VARIANT=slides", "/invocations")

Serve = Callable[[str], AbstractContextManager[str]]


def shell(run: Run, script: str, **variables: str) -> str:
    """Run a shell script that stops at the first command that fails; returns its output."""
    return run("bash", "-euo", "pipefail", "-c", script, **variables).stdout


def stages_run(printed: str) -> set[str]:
    """The stages that `dvc repro` ran, from its output."""
    return {line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")}
