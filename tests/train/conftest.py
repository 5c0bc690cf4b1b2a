"""Two logical CPUs and the small trainings that the tests of the loop share."""

import os
from collections.abc import Iterator

import keras
import pytest
import tensorflow as tf

from cnnlab.params import Strategy
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
