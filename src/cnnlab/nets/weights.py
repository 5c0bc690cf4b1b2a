"""Transfer learning: initialise a network with the features of another."""

import keras
import numpy as np
from keras import layers


def transfer_weights(source: keras.Model, target: keras.Model, *, frozen: bool) -> list[str]:
    """Copy the feature weights of `source` to `target`; return the names of the layers that were initialised.

    Both models are sequential. Layers with weights are matched in order, up to the first pair that differs in class or
    shape; the last one, the classifier, is never copied. The first convolution is adapted to other channels: for
    greyscale images, kernels are summed over the channels; for colour images, a third of the greyscale kernel is used
    for each channel. A larger first kernel gets the smaller one at its centre and zeros around it. If `frozen`, copied
    layers do not train, and normalisations keep their statistics (Yosinski et al. 2014, arXiv:1411.1792).
    """
    copied = []
    for number, (old, new) in enumerate(zip(_features(source), _features(target), strict=False)):
        weights = _first_kernel(old, new) if number == 0 else old.get_weights()
        if type(old) is not type(new) or [w.shape for w in weights] != [w.shape for w in new.get_weights()]:
            break
        new.set_weights(weights)
        if frozen:
            new.trainable = False
        copied.append(new.name)
    return copied


def _features(model: keras.Model) -> list[keras.Layer]:
    """The layers with weights, without the classifier."""
    return [layer for layer in model.layers if layer.weights][:-1]


def _first_kernel(old: keras.Layer, new: keras.Layer) -> list[np.ndarray]:
    """The weights of the first convolution, adapted to the channels and kernel size of the new one."""
    kernel, *rest = old.get_weights()
    if not isinstance(old, layers.Conv2D) or not isinstance(new, layers.Conv2D):
        return [kernel, *rest]
    before, after = kernel.shape[2], new.kernel.shape[2]
    if (before, after) == (3, 1):
        kernel = kernel.sum(axis=2, keepdims=True)
    elif (before, after) == (1, 3):
        kernel = np.repeat(kernel / 3, 3, axis=2)
    wider = new.kernel.shape[0] - kernel.shape[0]
    if wider > 0 and wider % 2 == 0:
        kernel = np.pad(kernel, [(wider // 2, wider // 2)] * 2 + [(0, 0)] * 2)
    return [kernel, *rest]
