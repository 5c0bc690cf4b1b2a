"""A trained network with all that stands before and after it, as one Keras model that needs nothing of the house."""

import json

import keras

from cnnlab.params.recipe import Views


def whole(model: keras.Model, views: Views) -> keras.Model:
    """Pictures as they are stored to logits: uint8 (n, height, width, channels) to float32 (n, classes).

    The pixels are divided by 255, as for training, and the logits are the mean over the test-time `views`
    (`data.augment.views`, here in Keras's own operations), as in the run's own scores. All is computed in float32, also
    where the network was trained in bfloat16, for which many a device has no operations: there answers differ a bit.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        return _joined(_in_float32(model), views)
    finally:
        keras.config.set_dtype_policy(before)


def _joined(model: keras.Model, views: Views) -> keras.Model:
    pictures = keras.Input(model.input_shape[1:], dtype="uint8", name="pictures")
    pixels = keras.layers.Rescaling(1 / 255)(pictures)
    seen = [pixels]
    if views.shift:
        margin, double = [views.shift] * 2, 2 * views.shift
        padded = keras.ops.pad(pixels, [[0, 0], margin, margin, [0, 0]], "reflect")
        seen += [padded[:, :-double, :-double], padded[:, double:, double:]]
    if views.flip:
        seen += [keras.ops.flip(view, axis=2) for view in seen]
    told = [model(view) for view in seen]
    logits = keras.layers.Average()(told) if len(told) > 1 else told[0]
    return keras.Model(pictures, logits, name=model.name)


def _in_float32(model: keras.Model) -> keras.Model:
    config = json.dumps(model.get_config()).replace('"mixed_bfloat16"', '"float32"')
    copy = type(model).from_config(json.loads(config))
    copy.set_weights(model.get_weights())
    return copy
