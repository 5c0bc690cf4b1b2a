"""Transfer: what one network has learnt as the beginning of another."""

import keras
import numpy as np
from keras import layers


def carry(source: keras.Model, target: keras.Model, *, frozen: bool) -> list[str]:
    """Copy the weights of the `source`'s features into the `target`; return the names of the layers that got them.

    Both are sequential. Layers with weights are taken in their order, up to the first that differs in kind or shape;
    the classifier, the last one, always begins anew. The first convolution may see other channels: a grey picture is a
    coloured one of three equal channels, so its kernel is the sum of theirs, and a coloured one is seen as grey, a
    third of each; a larger kernel gets the smaller one in its middle. Where `frozen`, what was copied does not train,
    normalisations keep their statistics (Yosinski et al. 2014, arXiv:1411.1792).
    """
    carried = []
    pairs = zip(_features(source), _features(target), strict=False)
    for number, (old, new) in enumerate(pairs):
        weights = old.get_weights()
        if number == 0:
            weights = _first_kernel(old, new)
        if type(old) is not type(new) or [w.shape for w in weights] != [w.shape for w in new.get_weights()]:
            break
        new.set_weights(weights)
        if frozen:
            new.trainable = False
        carried.append(new.name)
    return carried


def _features(model: keras.Model) -> list[keras.Layer]:
    """The layers with weights but the classifier."""
    return [layer for layer in model.layers if layer.weights][:-1]


def _first_kernel(old: keras.Layer, new: keras.Layer) -> list[np.ndarray]:
    """The first convolution's weights for the channels and the kernel of the other one."""
    kernel, *rest = old.get_weights()
    if not isinstance(old, layers.Conv2D) or not isinstance(new, layers.Conv2D):
        return [kernel, *rest]
    before, after = kernel.shape[2], new.kernel.shape[2]
    if (before, after) == (3, 1):
        kernel = kernel.sum(axis=2, keepdims=True)
    elif (before, after) == (1, 3):
        kernel = np.repeat(kernel / 3, 3, axis=2)
    wider = new.kernel.shape[0] - kernel.shape[0]
    if wider > 0 and wider % 2 == 0:  # for a larger stride: the same filter, and nothing around it
        kernel = np.pad(kernel, [(wider // 2, wider // 2)] * 2 + [(0, 0)] * 2)
    return [kernel, *rest]
