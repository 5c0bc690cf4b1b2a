"""Stage tuned trains and evaluates in one stage; a change to the evaluation alone must not train again."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cards import write_card
from checkout import copy_checkout
from damage import DAMAGES
from ruamel.yaml import YAML

from cnnlab import params
from cnnlab.files import write_manifest
from cnnlab.train import outputs
from cnnlab.train.outputs import Outputs

ROOT = Path(__file__).parents[1]
TUNED = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]["tuned"]
TRAINS = 99  # the exit status of a script that imported TensorFlow
WATCH = (
    "import os, runpy, sys; sys.argv = sys.argv[1:]\n"
    "def watch(event, arguments):\n"
    f"    if event == 'import' and arguments[0] == 'tensorflow': os._exit({TRAINS})\n"
    "sys.addaudithook(watch); runpy.run_path(sys.argv[0], run_name='__main__')\n"
)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the checkout in which variant tuned has just been trained, by hand."""
    copy_checkout(tmp_path)
    monkeypatch.chdir(tmp_path)
    write_card(tmp_path, "cifar10")
    parameters = params.load()
    runs = params.runs(parameters, "tuned")
    for run in runs:
        folder = Outputs.of(run).folder
        folder.mkdir(parents=True)
        for name in ("model.keras", "history.csv", "curve.csv", "metrics.json", "predictions.npz", "run.json"):
            (folder / name).write_text(f"{name} of seed {run.seed}")
        write_manifest(folder)
    outputs.write_identity(Outputs.of(runs[0]).folder, outputs.identity(runs, parameters.strategy))
    return tmp_path


def train(checkout: Path) -> subprocess.CompletedProcess[str]:
    """Run the first command of stage tuned, up to where it would import TensorFlow to train."""
    _, *command = TUNED["cmd"][0].split()
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    return subprocess.run(
        [sys.executable, "-c", WATCH, *command],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_dvc_keeps_the_outputs_of_the_training() -> None:
    assert TUNED["outs"][0] == {"models/${sweep.data}/tuned": {"persist": True}}
    assert [command.split()[1] for command in TUNED["cmd"]] == ["pipeline/train.py", "pipeline/evaluate.py"]


def test_a_metric_of_evaluation_and_a_comment_train_nothing(checkout: Path) -> None:
    edit(checkout / "src/cnnlab/evaluation/metrics.py", "import numpy as np\n", "import numpy as np\n\nNEW = 1\n")
    edit(checkout / "src/cnnlab/train/loop.py", "import keras\n", "import keras  # a comment\n")
    before = {path: path.read_bytes() for path in (checkout / "models").rglob("*.*")}
    done = train(checkout)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tuned was trained with the same recipe")
    assert {path: path.read_bytes() for path in (checkout / "models").rglob("*.*")} == before


def test_a_statement_of_the_training_trains_again(checkout: Path) -> None:
    edit(checkout / "src/cnnlab/train/loop.py", "EVALUATION_BATCH = ", "EVALUATION_BATCH = 1 + ")
    done = train(checkout)
    assert done.returncode == TRAINS, done.stderr


def are_finished() -> bool:
    parameters = params.load()
    return outputs.are_finished(params.runs(parameters, "tuned"), parameters.strategy)


def change_best(path: Path) -> None:
    edit(path, "\nepochs: ", "\nepochs: 1")
    write_manifest(path.parent)


def change_data(top: Path) -> None:
    edit(top / "data/processed/cifar10/card.json", "airplane", "aeroplane")
    write_manifest(top / "data/processed/cifar10")


def test_whatever_decides_the_result_trains_again(checkout: Path) -> None:
    changes: dict[str, Callable[[Path], object]] = {
        "reports/sweep/best.yaml": change_best,
        "params.yaml": lambda path: edit(path, "  replicas: 1", "  replicas: 2"),
        "params.yaml ": lambda path: edit(path, "train_images: null, seeds: 1", "train_images: null, seeds: 2"),
        "data/processed/cifar10/card.json": lambda _: change_data(checkout),
        **{f"models/cifar10/tuned/{name}": DAMAGES["half"] for name in ("model.keras", "identity.txt", "SHA256SUMS")},
    }
    for name, change in changes.items():
        path = checkout / name.strip()
        folder = {each: each.read_bytes() for each in path.parent.iterdir() if each.is_file()}
        assert are_finished()
        change(path)
        assert not are_finished(), name
        for each, content in folder.items():
            each.write_bytes(content)
    shutil.rmtree(checkout / "models")
    assert not are_finished()
