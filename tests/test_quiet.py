"""TensorFlow's start-up notes do not reach stderr; its warnings, errors and last words do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from train.processed import VALIDATION, write_mnist

TRAINING = """
import numpy as np
import cnnlab
import keras
model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(np.zeros((8, 8, 8, 1), np.float32), np.zeros(8), verbose=0)
"""
ERROR = "import cnnlab, tensorflow as tf; tf.reshape(tf.zeros(3), (2, 2))"
ABORT = """
import importlib.machinery, os
load = importlib.machinery.SourceFileLoader.exec_module
def load_and_abort(self, module):
    load(self, module)
    if module.__name__ == "tensorflow":
        os.write(2, b"F0000 Illegal instruction\\n")
        os.abort()
importlib.machinery.SourceFileLoader.exec_module = load_and_abort
import cnnlab, tensorflow
"""
CLOSED = (
    "import os, sys; os.close(2); sys.stderr = None; import cnnlab, tensorflow; print(tensorflow.add(1, 2).numpy())"
)


def python(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def test_a_training_writes_nothing_to_stderr() -> None:
    done = python(TRAINING)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_warning_of_the_start_and_a_later_error_still_show() -> None:
    done = python(ERROR, TF_ENABLE_ONEDNN_OPTS="maybe")
    assert done.returncode == 1
    assert "TF_ENABLE_ONEDNN_OPTS is not set to" in done.stderr
    assert "InvalidArgumentError" in done.stderr
    assert "absl::InitializeLog" not in done.stderr


def test_the_last_words_of_a_library_that_aborts_show() -> None:
    done = python(ABORT)
    assert done.returncode < 0
    assert "Illegal instruction" in done.stderr


def test_stderr_may_be_closed() -> None:
    assert python(CLOSED).stdout == "3\n"


@pytest.mark.parametrize("command", ["pipeline/train.py", "-m cnnlab.cli train"])
def test_a_training_by_command_is_quiet(command: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    knobs = (root / "params.yaml").read_text()
    for old, new in (
        ("budget: laptop ", "budget: smoke "),
        ("train_images: 2048, seeds", "train_images: null, seeds"),
        ("validation: 5000", f"validation: {VALIDATION}"),
    ):
        assert old in knobs
        knobs = knobs.replace(old, new)
    (tmp_path / "params.yaml").write_text(knobs)
    write_mnist(tmp_path)
    program = [str(root / word) if word.endswith(".py") else word for word in command.split()]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(
        [sys.executable, *program, "lenet5"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    noise = [line for line in done.stderr.splitlines() if " INFO mlflow." not in line]
    assert noise == []
