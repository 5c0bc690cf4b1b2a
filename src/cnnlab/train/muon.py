"""Muon for convolutional networks: momentum whose direction is made orthogonal, matrix by matrix."""

import math
from typing import Any

import keras
from keras import ops


class Muon(keras.optimizers.Muon):
    """Keras's Muon, for convolution kernels too.

    A step of a hidden kernel is the nearest (semi-)orthogonal matrix to its Nesterov momentum, by `ns_steps` of Newton
    and Schulz: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/. As there, a convolution's kernel
    (height, width, in, out) is a matrix with a row an output channel; a dense kernel (in, out) is one already. The
    classifier, the last kernel, takes steps of AdamW, as do biases and normalisation, which are no matrices.

    One learning rate serves both parts: an orthogonal (n, m) matrix times 0.2 √max(n, m) has entries of root mean
    square 0.2, about that of Adam's steps (Liu et al. 2025, https://arxiv.org/abs/2502.16982). With `rms_rate` None
    it is taken as it is, as Jordan's airbench94_muon.py does: a filter's step has norm 1 where there are no more
    filters than inputs to each, so a rate is a share of filters that have norm 1 themselves.
    So is one `weight_decay`, decoupled; Keras's `adam_weight_decay` has no effect here.
    """

    # Keras's Muon decays its two parts apart and copies every kernel from the first device to the others for it.
    _apply_weight_decay = keras.optimizers.Optimizer._apply_weight_decay

    def build(self, var_list: list[keras.Variable]) -> None:
        """Create the state for the variables of a model, in the model's order: its last kernel is the classifier."""
        kernels = [self._var_key(variable) for variable in var_list if len(variable.shape) >= 2]
        self._hidden_kernels = frozenset(kernels[:-1])
        super().build(var_list)

    def _should_use_adamw(self, variable: keras.Variable) -> bool:
        return self._var_key(variable) not in self._hidden_kernels

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Change one variable; Keras's Muon step, unlike its others, does not cast the rate of a schedule."""
        super().update_step(gradient, variable, ops.cast(learning_rate, variable.dtype))

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        """The orthogonal matrix near that of kernel `x`, in the kernel's shape."""
        matrix = ops.reshape(x, (-1, x.shape[-1]))  # transposed, which transposes the result and changes no number
        return ops.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape)

    def lr_adjust(self, x: Any) -> Any:
        """Keras's factor `rms_rate` √max(n, m), from the matrix's shape rather than the kernel's; 1 for None."""
        if self.rms_rate is None:
            return x
        return x * (self.rms_rate * math.sqrt(max(math.prod(x.shape[:-1]), x.shape[-1])))
