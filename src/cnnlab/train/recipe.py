"""From a recipe in params.yaml to Keras's optimizer and loss."""

import keras

from cnnlab.params import Optimizer

OPTIMIZERS: dict[str, type[keras.optimizers.Optimizer]] = {
    "sgd": keras.optimizers.SGD,
    "adam": keras.optimizers.Adam,
    "rmsprop": keras.optimizers.RMSprop,
}


def optimizer(knobs: Optimizer) -> keras.optimizers.Optimizer:
    """Keras's optimizer; with `decay` the learning rate is rate / (1 + decay · step), as the `decay` argument of the
    handout's Keras 2 did (cell In [6])."""
    rate: float | keras.optimizers.schedules.LearningRateSchedule = knobs.learning_rate
    if knobs.decay:
        rate = keras.optimizers.schedules.InverseTimeDecay(knobs.learning_rate, decay_steps=1, decay_rate=knobs.decay)
    return OPTIMIZERS[knobs.name](rate)


def prepare(model: keras.Model, knobs: Optimizer) -> None:
    """Give `model` its optimizer, with all its state, and its loss: cross-entropy of logits, one value an image.

    Call it inside the strategy's scope, so that the optimizer's state lies on every device.
    """
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    model.compile(optimizer=optimizer(knobs), loss=loss)
    model.optimizer.build(model.trainable_variables)
