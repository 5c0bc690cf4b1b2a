"""Inference models: a trained network with its input scaling and test-time augmentation, in plain Keras."""

import json

import keras

from cnnlab.data.augment import views
from cnnlab.params.recipe import TTA


def inference_model(model: keras.Model, tta: TTA) -> keras.Model:
    """A model from stored images, uint8 (n, height, width, channels), to logits, float32 (n, classes).

    Pixels are divided by 255 as in training, and logits are averaged over the test-time augmentation `tta`
    (`data.augment.views`) as in the scores of a run. Everything is computed in float32, also
    for a network trained in bfloat16, which many devices do not support; its logits then differ slightly.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        return _with_scaling(_in_float32(model), tta)
    finally:
        keras.config.set_dtype_policy(before)


def _with_scaling(model: keras.Model, tta: TTA) -> keras.Model:
    images = keras.Input(model.input_shape[1:], dtype="uint8", name="pictures")  # exported programs use this name
    pixels = keras.layers.Rescaling(1 / 255)(images)
    logits = [model(view) for view in views(pixels, tta)]
    mean = keras.layers.Average()(logits) if len(logits) > 1 else logits[0]
    return keras.Model(images, mean, name=model.name)


def _in_float32(model: keras.Model) -> keras.Model:
    config = json.dumps(model.get_config()).replace('"mixed_bfloat16"', '"float32"')
    copy = type(model).from_config(json.loads(config))
    copy.set_weights(model.get_weights())
    return copy
