"""Trainings that overflow, run out of memory, or lose a worker."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from train.experiments import RUN, Recorder, make_experiment
from train.processed import TRAIN, VALIDATION

from cnnlab.errors import UserError
from cnnlab.params import Optimizer
from cnnlab.train.loop import Call, Interrupted, Loop

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow", "ignore:::keras")  # their own, in their own code
# Decay by more than float32 holds: the first step's loss is finite, what its update leaves is not.
HOT = RUN.model_copy(
    update={
        "batch_size": TRAIN - VALIDATION,
        "optimizer": Optimizer(name="sgd", learning_rate=3e38, weight_decay=1e3),
    }
)


def test_an_interruption_saves_no_overflow(recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Loop.train

    def interrupted(self: Loop, *arguments: Any) -> Call:
        self.interrupt = True
        return training(self, *arguments)

    monkeypatch.setattr(Loop, "train", interrupted)
    with pytest.raises(Interrupted):
        make_experiment(HOT, tmp_path / "a.npz").execute(tmp_path / "out")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert all(np.isfinite(file[name]).all() for name in file.files if name != "state")


@pytest.mark.filterwarnings("ignore::RuntimeWarning:scipy")  # of infinite logits
def test_a_diverged_training_fails(recorder: Recorder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"The training diverged: .* of epoch 1, learning rate 3e\+38\."):
        make_experiment(HOT, tmp_path / "a.npz").execute(tmp_path / "out")
    assert recorder.status == ["FAILED"]
    assert not (tmp_path / "out").exists()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert all(np.isfinite(file[name]).all() for name in file.files if name != "state")


class Refused(tf.errors.ResourceExhaustedError):
    def __init__(self) -> None:
        super().__init__(None, None, "OOM when allocating tensor with shape[8]\nmore\nlines")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Refused(), "OOM when allocating tensor with shape[8]"),
        (MemoryError("Unable to allocate 9 TiB."), "Unable to allocate 9 TiB"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_out_of_memory_is_one_line(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def train(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Loop, "train", train)
    with pytest.raises(UserError) as refusal:
        make_experiment(RUN, tmp_path / "a.npz").execute(tmp_path / "out")
    assert str(refusal.value) == (
        "Out of memory: tiny seed 0. Expected a network, batches and data that fit the device. "
        f"Received: {reason}. Lower batch_size, filters or dense_units, or set train.feeding to streamed."
    )
    assert refusal.value.__cause__ is error
    assert recorder.status == ["FAILED"]


def test_a_single_process_loses_no_worker(recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow's error stays: it is a bug."""

    def train(*_: Any) -> None:
        raise tf.errors.InternalError(None, None, "a kernel failed")

    monkeypatch.setattr(Loop, "train", train)
    with pytest.raises(tf.errors.InternalError, match="a kernel failed"):
        make_experiment(RUN, tmp_path / "a.npz").execute(tmp_path / "out")
