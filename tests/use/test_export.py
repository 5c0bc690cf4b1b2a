"""Exported files, loaded with TensorFlow itself."""

import shutil
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from see.small_nets import noise
from use.registered import CHANNELS, CLASSES, SIDE, network

from cnnlab.errors import UserError
from cnnlab.tracking.classifier import Classifier
from cnnlab.use.export import export
from cnnlab.use.network import TrainedNetwork

pytestmark = pytest.mark.filterwarnings("ignore:::keras", "ignore:::tensorflow")  # exporting, of their own code


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("exports")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(top)
        return top / export(TrainedNetwork(Classifier(network(), CLASSES), "pets", "small"))


def test_the_files_give_the_networks_logits(exported: Path) -> None:
    assert exported.parts[-3:] == ("exports", "pets", "small")
    assert (exported / "classes.txt").read_text().splitlines() == CLASSES
    pictures = noise(7, SIDE, CHANNELS, seed=9)
    expected = np.asarray(network()(pictures))
    loaded = tf.saved_model.load(str(exported / "saved_model"))
    signature = loaded.signatures["serving_default"](pictures=tf.constant(pictures))
    np.testing.assert_allclose(next(iter(signature.values())), expected, atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(str(exported / "network.tflite"))
    (accepted,) = interpreter.get_input_details()
    assert (accepted["dtype"], [*accepted["shape_signature"]]) == (np.uint8, [-1, SIDE, SIDE, CHANNELS])
    (logits,) = interpreter.get_signature_runner()(pictures=pictures).values()
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_a_bfloat16_network_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = network()
    finally:
        keras.config.set_dtype_policy("float32")
    assert (export(TrainedNetwork(Classifier(model, CLASSES), "pets", "half")) / "network.tflite").exists()


def test_files_with_other_logits_are_removed(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that draws new noise at each call looks like a file with wrong logits."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(exported, tmp_path / "exports/pets/small")
    pictures = keras.Input((SIDE, SIDE, CHANNELS), dtype="uint8", name="pictures")
    noisy = keras.random.normal((1, 3))

    class Noise(keras.layers.Layer):
        def call(self, pixels: tf.Tensor) -> tf.Tensor:
            return tf.random.normal((tf.shape(pixels)[0], 3)) + noisy

    model = keras.Model(pictures, Noise()(pictures))
    with pytest.raises(UserError, match="saved_model disagrees with the network"):
        export(TrainedNetwork(Classifier(model, CLASSES), "pets", "small"))
    assert (tmp_path / "exports/pets/small/network.tflite").exists()  # the earlier export
    assert [path.name for path in (tmp_path / "exports/pets").iterdir()] == ["small"]
