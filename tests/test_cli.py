"""The `cnnlab` command: quick help, arguments passed on exactly as typed, errors in one line."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from checkout import TOP
from typer.testing import CliRunner

from cnnlab import cli
from cnnlab.use import network, predict

COMMANDS = {
    "train", "predict", "demo", "export", "serve", "see", "anatomy", "compare", "doctor", "sweep-status", "sweep-ui",
    "sync",
}  # fmt: skip
AWKWARD = ["my cat.jpg", 'it\'s "one".png', "$(touch pwned).png", "-odd.png", "--top", "*", ""]


def cnnlab(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cnnlab.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_help_lists_every_command_without_tensorflow() -> None:
    script = (
        "import sys; from cnnlab.cli import main; main(['--help'], standalone_mode=False); "
        "print('heavy:', sorted({'tensorflow', 'keras', 'mlflow', 'optuna'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(re.findall(r"^│ ([a-z][a-z-]*) ", done.stdout, re.MULTILINE)) == COMMANDS
    assert done.stdout.endswith("heavy: []\n")


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_says_what_it_does_and_shows_an_example(command: str) -> None:
    shown = CliRunner().invoke(cli.main, [command, "--help"])
    assert shown.exit_code == 0
    assert f"Example: cnnlab {command}" in shown.output


def test_awkward_file_names_arrive_intact(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[Any] = []
    monkeypatch.setattr(network, "load", lambda *options: SimpleNamespace(classifier=options[1:]))
    monkeypatch.setattr(predict, "predict", lambda *arguments: received.append(arguments))
    done = CliRunner().invoke(cli.main, ["predict", "--top", "5", "--", *AWKWARD])
    assert done.exit_code == 0, done.output
    assert received == [((None, "cifar10"), AWKWARD, 5)]


@pytest.mark.parametrize("command", [["see", "none"], ["train", "none"], ["predict", "--variant", "none", "a.png"]])
def test_an_unknown_variant_takes_one_line(command: list[str], tmp_path: Path) -> None:
    shutil.copy(TOP / "params.yaml", tmp_path)
    done = cnnlab(tmp_path, *command)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: Unknown variant. Expected one of: ")


@pytest.mark.parametrize(
    "command", ["nothing", "predict", "predict --none a", "predict --top 0 a", "export --variant lesson --data mnist"]
)
def test_a_mistyped_command_is_refused_without_a_traceback(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.main, command.split())
    assert done.exit_code == 2
    assert "Error" in done.stderr
    assert isinstance(done.exception, SystemExit)
