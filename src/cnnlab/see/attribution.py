"""Attribution of decisions to pixels (saliency, Grad-CAM, occlusion sensitivity), and activation maximisation."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from cnnlab.see.layers import as_floats, forward, map_layers, up_to

PATCH = 4  # the occluding square has 1/PATCH of the side of the image
STEPS, STEP = 96, 0.05  # of gradient ascent; a step changes the fastest pixel by that share of the range of values
ROUGHNESS = 0.02  # weight of the total variation of the input, against the activation
JITTER = 2  # random shift per step in pixels, which suppresses grid patterns


def saliency(model: keras.Model, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Saliency of each pixel for the logits `classes` (n,) of uint8 `images`: (n, height, width).

    The absolute gradient of the logit, maximum over channels (Simonyan, Vedaldi, Zisserman 2013, arXiv:1312.6034).
    """
    pixels = tf.constant(as_floats(images))
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        logits = tf.gather(forward(model.layers, pixels), classes, batch_dims=1)
    return np.asarray(tf.reduce_max(tf.abs(tape.gradient(logits, pixels)), axis=3))


def grad_cam(model: keras.Model, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Grad-CAM of the logits `classes` (n,) for uint8 `images`: (n, height, width), not negative.

    The last feature maps, weighted by their mean gradients, summed, rectified (Selvaraju et al. 2017, arXiv:1610.02391,
    equations 1 and 2) and resized to the images.
    """
    last = map_layers(model, pools=False)[-1]
    maps = forward(up_to(model, last), tf.constant(as_floats(images)))
    with tf.GradientTape() as tape:
        tape.watch(maps)
        logits = forward(model.layers[model.layers.index(last) + 1 :], maps)
        chosen = tf.gather(logits, classes, batch_dims=1)
    weights = tf.reduce_mean(tape.gradient(chosen, maps), axis=(1, 2), keepdims=True)
    cam = tf.nn.relu(tf.reduce_sum(weights * maps, axis=3, keepdims=True))
    return np.asarray(tf.image.resize(cam, images.shape[1:3]))[..., 0]


def occlusion(model: keras.Model, image: np.ndarray, label: int) -> np.ndarray:
    """Occlusion sensitivity of class `label` for a uint8 image: (height, width), in units of probability.

    How much the probability falls if a grey square covers the pixel, averaged over all squares that do. The side of the
    square is a quarter of the image's; it moves by half its side (Zeiler, Fergus 2014, arXiv:1311.2901).
    """
    height, width, _ = image.shape
    side = max(1, min(height, width) // PATCH)
    step = max(1, side // 2)
    corners = [(y, x) for y in _starts(height, side, step) for x in _starts(width, side, step)]
    occluded = np.repeat(as_floats(image)[None], len(corners) + 1, axis=0)
    for each, (y, x) in zip(occluded[1:], corners, strict=True):
        each[y : y + side, x : x + side] = 0.5
    original, *rest = tf.nn.softmax(forward(model.layers, occluded))[:, label].numpy()
    falls, times = np.zeros((2, height, width), np.float32)
    for (y, x), probability in zip(corners, rest, strict=True):
        falls[y : y + side, x : x + side] += original - probability
        times[y : y + side, x : x + side] += 1
    return np.asarray(falls / times)


def maximise(model: keras.Model, layer: keras.Layer, units: np.ndarray, mean: Sequence[float], seed: int) -> np.ndarray:
    """Activation maximisation: the input that maximises each of a layer's `units`; uint8, one image per unit.

    Gradient ascent from the data's `mean` colour (channels, in [0, 1]) with a little noise; the objective is the mean
    of a feature map, or a logit, minus a penalty on roughness, with a random shift per step (Erhan et al. 2009; Olah et
    al. 2017, doi:10.23915/distill.00007). Equal seeds give equal images.
    """
    random = np.random.default_rng(seed)
    shape = (len(units), *model.input_shape[1:])
    inputs = tf.Variable((np.asarray(mean) + 0.02 * random.standard_normal(shape)).astype(np.float32))
    gradient_of = _gradient(up_to(model, layer), tf.constant(np.asarray(units)))
    for _ in range(STEPS):
        shift = random.integers(-JITTER, JITTER + 1, 2)
        gradient = gradient_of(inputs, tf.constant(shift, tf.int32))
        fastest = tf.reduce_max(tf.abs(gradient), axis=(1, 2, 3), keepdims=True)
        inputs.assign(tf.clip_by_value(inputs + STEP * gradient / (fastest + 1e-12), 0, 1))
    return np.asarray(np.round(255 * inputs.numpy()), np.uint8)


def _gradient(part: Sequence[keras.Layer], units: tf.Tensor) -> Callable[[tf.Variable, tf.Tensor], tf.Tensor]:
    def gradient(inputs: tf.Variable, shift: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            outputs = forward(part, tf.roll(inputs, shift, axis=(1, 2)))
            if len(outputs.shape) == 4:
                outputs = tf.reduce_mean(outputs, axis=(1, 2))
            activation = tf.reduce_sum(tf.gather(outputs, units, batch_dims=1))
            roughness = tf.reduce_sum(tf.image.total_variation(inputs))
            objective = activation - ROUGHNESS * roughness
        return tape.gradient(objective, inputs)

    return tf.function(gradient)  # type: ignore[no-any-return]


def _starts(size: int, side: int, step: int) -> list[int]:
    return sorted({*range(0, size - side, step), size - side})
