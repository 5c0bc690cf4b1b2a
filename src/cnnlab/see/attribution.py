"""Which pixels a decision rests on: saliency, Grad-CAM, occlusion; and the picture that a unit would like to see."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from cnnlab.see.layers import as_floats, mapped, through, up_to

PATCH = 4  # parts of the side that the covering square takes: a quarter
STEPS, STEP = 96, 0.05  # of climbing; a step moves the fastest pixel by that share of black to white
ROUGHNESS = 0.02  # how much differences between neighbouring pixels cost, against the unit's answer
JITTER = 2  # pixels by which the picture is shifted in a step, so that it holds no grid


def saliency(model: keras.Model, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """How much each pixel of uint8 `images` would move its logit: (n, height, width), the largest of the channels.

    The absolute gradient (Simonyan, Vedaldi, Zisserman 2013, arXiv:1312.6034); `classes` (n,) names the logits.
    """
    pixels = tf.constant(as_floats(images))
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        logits = tf.gather(through(model.layers, pixels), classes, batch_dims=1)
    return np.asarray(tf.reduce_max(tf.abs(tape.gradient(logits, pixels)), axis=3))


def grad_cam(model: keras.Model, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Where the last maps speak for a class: (n, height, width) of the picture, 0 or more.

    The maps' sum, each weighted by its mean gradient, without what speaks against (Selvaraju et al. 2017,
    arXiv:1610.02391, equations 1 and 2), enlarged to the picture.
    """
    last = mapped(model, pools=False)[-1]
    maps = through(up_to(model, last), tf.constant(as_floats(images)))
    with tf.GradientTape() as tape:
        tape.watch(maps)
        logits = through(model.layers[model.layers.index(last) + 1 :], maps)
        told = tf.gather(logits, classes, batch_dims=1)
    weights = tf.reduce_mean(tape.gradient(told, maps), axis=(1, 2), keepdims=True)
    cam = tf.nn.relu(tf.reduce_sum(weights * maps, axis=3, keepdims=True))
    return np.asarray(tf.image.resize(cam, images.shape[1:3]))[..., 0]


def occlusion(model: keras.Model, picture: np.ndarray, label: int) -> np.ndarray:
    """How much the probability of class `label` falls where a grey square covers the uint8 picture; (height, width).

    Positive where what is covered speaks for the class. The square has a quarter of the side and moves by half its own;
    a pixel has the mean of all squares on it (Zeiler, Fergus 2014, arXiv:1311.2901).
    """
    height, width, _ = picture.shape
    side = max(1, min(height, width) // PATCH)
    step = max(1, side // 2)
    corners = [(y, x) for y in _starts(height, side, step) for x in _starts(width, side, step)]
    covered = np.repeat(as_floats(picture)[None], len(corners) + 1, axis=0)
    for image, (y, x) in zip(covered[1:], corners, strict=True):
        image[y : y + side, x : x + side] = 0.5
    whole, *rest = tf.nn.softmax(through(model.layers, covered))[:, label].numpy()
    falls, times = np.zeros((2, height, width), np.float32)
    for (y, x), probability in zip(corners, rest, strict=True):
        falls[y : y + side, x : x + side] += whole - probability
        times[y : y + side, x : x + side] += 1
    return np.asarray(falls / times)


def maximise(model: keras.Model, layer: keras.Layer, units: np.ndarray, mean: Sequence[float], seed: int) -> np.ndarray:
    """The picture that each of a layer's `units` answers most to; uint8, a row a unit.

    The climb begins at a little noise around the colour `mean` (channels, in [0, 1]), that of the data.

    Of a map its mean counts, of logits the unit's own. It follows the gradient's direction, pays for roughness, and
    shifts the picture a little in each step (Erhan et al. 2009; Olah et al. 2017, doi:10.23915/distill.00007). Equal
    seeds give equal pictures.
    """
    random = np.random.default_rng(seed)
    shape = (len(units), *model.input_shape[1:])
    pictures = tf.Variable((np.asarray(mean) + 0.02 * random.standard_normal(shape)).astype(np.float32))
    climb = _climb(up_to(model, layer), tf.constant(np.asarray(units)))
    for _ in range(STEPS):
        shift = random.integers(-JITTER, JITTER + 1, 2)
        gradient = climb(pictures, tf.constant(shift, tf.int32))
        fastest = tf.reduce_max(tf.abs(gradient), axis=(1, 2, 3), keepdims=True)
        pictures.assign(tf.clip_by_value(pictures + STEP * gradient / (fastest + 1e-12), 0, 1))
    return np.asarray(np.round(255 * pictures.numpy()), np.uint8)


def _climb(part: Sequence[keras.Layer], units: tf.Tensor) -> Callable[[tf.Variable, tf.Tensor], tf.Tensor]:
    def gradient(pictures: tf.Variable, shift: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            answer = through(part, tf.roll(pictures, shift, axis=(1, 2)))
            if len(answer.shape) == 4:
                answer = tf.reduce_mean(answer, axis=(1, 2))
            wanted = tf.reduce_sum(tf.gather(answer, units, batch_dims=1))
            rough = tf.reduce_sum(tf.image.total_variation(pictures))
            aim = wanted - ROUGHNESS * rough
        return tape.gradient(aim, pictures)

    return tf.function(gradient)  # type: ignore[no-any-return]


def _starts(size: int, side: int, step: int) -> list[int]:
    return sorted({*range(0, size - side, step), size - side})
