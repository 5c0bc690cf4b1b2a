"""Two logical CPUs and the small trainings that the tests of the loop share."""

import os
from collections.abc import Iterator
from pathlib import Path

import keras
import mlflow
import pytest
import tensorflow as tf
from train.experiments import Recorder
from train.processed import write_mnist

from cnnlab.params import Strategy
from cnnlab.tracking.runs import TrackedRun
from cnnlab.train.strategy import strategy


def pytest_collection_modifyitems() -> None:
    """Split the CPU in two once all tests are collected and none has run: the first operation fixes the devices."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # these tests compare replicas to the last bit: on the CPU they may
    strategy(Strategy(replicas=2))


@pytest.fixture(scope="session")
def one_replica() -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(["CPU:0"])


@pytest.fixture(scope="session")
def two_replicas() -> tf.distribute.Strategy:
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert mirrored.num_replicas_in_sync == 2
    return mirrored


@pytest.fixture(params=[1, 2])
def replicas(
    request: pytest.FixtureRequest, one_replica: tf.distribute.Strategy, two_replicas: tf.distribute.Strategy
) -> tf.distribute.Strategy:
    """One replica, then two."""
    return one_replica if request.param == 1 else two_replicas


@pytest.fixture
def float64() -> Iterator[None]:
    """Double precision, in which two ways to compute one number differ by rounding alone."""
    for set_precision in (keras.config.set_floatx, keras.config.set_dtype_policy):  # layers follow the policy alone
        set_precision("float64")
    yield
    for set_precision in (keras.config.set_floatx, keras.config.set_dtype_policy):
        set_precision("float32")


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder, with data and an MLflow store of its own."""
    folder = tmp_path_factory.mktemp("checkout")
    write_mnist(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")  # MLflow sets it when it logs a model: forgotten with this fixture
        patch.delenv("MLFLOW_TRACKING_URI")
        patch.chdir(folder)
        yield folder
        mlflow.set_tracking_uri(None)


@pytest.fixture
def recorder(top: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorded = Recorder()
    monkeypatch.setattr(TrackedRun, "start", lambda *_, **__: recorded)
    return recorded
