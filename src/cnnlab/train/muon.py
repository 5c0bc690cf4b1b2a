"""Muon for convolutional networks: orthogonalised momentum."""

import math
from typing import Any

import keras
from keras import ops


class Muon(keras.optimizers.Muon):
    """Keras's Muon, extended to convolution kernels.

    The update of a hidden kernel is the (semi-)orthogonal matrix nearest to its Nesterov momentum, computed by
    `ns_steps` Newton-Schulz iterations (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/). As there, a
    convolution kernel (height, width, in, out) is a matrix with one row per output channel; a dense kernel (in, out) is
    a matrix already. The classifier (the last kernel), biases and normalisation are updated by AdamW.

    One learning rate serves both parts: an orthogonal (n, m) matrix times 0.2 √max(n, m) has entries of root mean
    square 0.2, about that of Adam's updates (Liu et al. 2025, https://arxiv.org/abs/2502.16982). With `rms_rate` None
    the matrix is not scaled, as in Jordan's airbench94_muon.py: where a layer has no more filters than inputs per
    filter, the update of each filter has norm 1, and the learning rate is relative to filters of norm 1.
    One decoupled `weight_decay` applies to both parts too; Keras's `adam_weight_decay` has no effect.
    """

    # Keras's Muon decays its two parts separately, copying every kernel from the first device to the others.
    _apply_weight_decay = keras.optimizers.Optimizer._apply_weight_decay

    def build(self, var_list: list[keras.Variable]) -> None:
        """Create the state for a model's variables, in the model's order: the last kernel is the classifier."""
        kernels = [self._var_key(variable) for variable in var_list if len(variable.shape) >= 2]
        self._hidden_kernels = frozenset(kernels[:-1])
        super().build(var_list)

    def _should_use_adamw(self, variable: keras.Variable) -> bool:
        return self._var_key(variable) not in self._hidden_kernels

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable. Unlike Keras's other optimizers, its Muon does not cast the learning rate itself."""
        super().update_step(gradient, variable, ops.cast(learning_rate, variable.dtype))

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        """Orthogonalise a kernel as a matrix; the result has the kernel's shape."""
        matrix = ops.reshape(x, (-1, x.shape[-1]))  # transposed, which only transposes the result
        return ops.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape)

    def lr_adjust(self, x: Any) -> Any:
        """Keras's factor `rms_rate` √max(n, m), from the matrix's shape rather than the kernel's; 1 for None."""
        if self.rms_rate is None:
            return x
        return x * (self.rms_rate * math.sqrt(max(math.prod(x.shape[:-1]), x.shape[-1])))
