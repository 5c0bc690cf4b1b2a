"""A network with its preprocessing and views, against the parts."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from see.small_nets import convolutional, noise

from cnnlab.data import augment
from cnnlab.nets.inference import inference_model
from cnnlab.params.recipe import TTA


@pytest.mark.filterwarnings("ignore:::keras")  # saving, with this NumPy
@pytest.mark.parametrize("views", [TTA(), TTA(flip=True), TTA(shift=2), TTA(flip=True, shift=1)])
def test_the_logits_are_the_mean_over_the_views(views: TTA, tmp_path: Path) -> None:
    model = convolutional(3)
    images = noise(6, channels=3)
    pixels = tf.constant(images / np.float32(255))
    expected = np.mean([np.asarray(model(view)) for view in augment.views(pixels, views)], axis=0)
    np.testing.assert_allclose(np.asarray(inference_model(model, views)(images)), expected, atol=1e-6)
    inference_model(model, views).save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")  # in safe mode: nothing of ours is in it
    np.testing.assert_allclose(np.asarray(again(images)), expected, atol=1e-6)
    assert again.inputs[0].dtype == "uint8"


def test_a_bfloat16_network_computes_in_float32() -> None:
    images = noise(4)
    expected = np.asarray(convolutional(1)(images / np.float32(255)))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = convolutional(1)
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(np.asarray(inference_model(model, TTA())(images)), expected, atol=1e-6)
