"""Learning-rate schedule, optimizer and loss of a recipe, as Keras objects."""

from typing import Any

import keras
from keras.optimizers import schedules

from cnnlab.params import Optimizer, Recipe, Schedule
from cnnlab.params.recipe import OPTIMIZERS
from cnnlab.train.muon import Muon

ONE_CYCLE_START, ONE_CYCLE_END = 1 / 25, 1 / 25e4  # relative to the peak: PyTorch's div_factor 25, final_div_factor 1e4
OWN: dict[str, Any] = {  # in place of the class of that name in keras.optimizers
    "SGD": lambda momentum, **common: keras.optimizers.SGD(momentum=momentum, nesterov=momentum > 0, **common),
    "Muon": Muon,
}


def schedule(knobs: Schedule, peak: float, steps: int) -> float | schedules.LearningRateSchedule:
    """Learning rate of each of the `steps` steps of a training, counted from 0.

    In a warm-up of n = round(warm_up · steps) steps, step s has the rate peak · (s + 1) / n, so that step n - 1 has the
    peak; without warm-up step 0 has it. From there, t = 0, to the last step, t = T:

    - constant: peak; without warm-up a plain number, so that Keras's callbacks can set it
    - inverse_time: peak / (1 + decay · t), the `decay` argument of the handout's Keras 2 (cell In [6])
    - cosine: half a cosine from peak to final · peak (Loshchilov & Hutter 2017, arXiv:1608.03983)
    - linear: a line from peak to final · peak
    - one_cycle: instead of the warm-up half a cosine from peak / 25 up to the peak, then half a cosine down to
      peak / 250,000 (Smith & Topin 2018, arXiv:1708.07120, as in PyTorch's OneCycleLR)
    """
    top = max(round(knobs.warm_up * steps) - 1, 0)
    rest = max(steps - 1 - top, 1)
    match knobs.name:
        case "inverse_time":
            falling = schedules.InverseTimeDecay(peak, decay_steps=1, decay_rate=knobs.decay)
        case "cosine":
            falling = schedules.CosineDecay(peak, rest, alpha=knobs.final)
        case "linear":
            falling = schedules.PolynomialDecay(peak, rest, knobs.final * peak)
        case "one_cycle":
            falling = schedules.CosineDecay(peak, rest, alpha=ONE_CYCLE_END)
        case "constant":
            if not top:
                return peak
            falling = schedules.PolynomialDecay(peak, rest, peak)
    if not top:
        return falling
    if knobs.name == "one_cycle":
        rising = schedules.CosineDecay(ONE_CYCLE_START * peak, top, alpha=1 / ONE_CYCLE_START)
    else:
        rising = schedules.PolynomialDecay(peak / (top + 1), top, peak)
    return _Then(rising, top, falling)


class _Then(schedules.LearningRateSchedule):
    """One schedule for `steps` steps, then another, whose steps count from 0 again."""

    def __init__(
        self, first: schedules.LearningRateSchedule, steps: int, second: schedules.LearningRateSchedule
    ) -> None:
        self._first, self._steps, self._second = first, steps, second

    def __call__(self, step: Any) -> Any:
        return keras.ops.where(step < self._steps, self._first(step), self._second(step - self._steps))


def optimizer(knobs: Optimizer, steps: int) -> keras.optimizers.Optimizer:
    """Keras's optimizer for a training of `steps` steps.

    Before its update, each step multiplies the weights by 1 - rate · weight_decay (Loshchilov & Hutter 2019,
    arXiv:1711.05101) and clips the gradient's norm to `clip_norm`. With `ema`, the optimizer also holds the moving
    average of the weights, which replaces them only by `finalize_variable_values`.
    """
    common = {
        "learning_rate": schedule(knobs.schedule, knobs.learning_rate, steps),
        "weight_decay": knobs.weight_decay or None,
        "global_clipnorm": knobs.clip_norm,
        "use_ema": knobs.ema > 0,
        "ema_momentum": knobs.ema,
    }
    name, settings = OPTIMIZERS[knobs.name]
    create = OWN.get(name) or getattr(keras.optimizers, name)
    return create(**common, **{argument: getattr(knobs, setting) for setting, argument in settings.items()})


def prepare(model: keras.Model, recipe: Recipe, steps: int) -> None:
    """Compile `model` for a training of `steps` steps: the optimizer with its state, and the loss.

    The loss is the cross-entropy of logits with (n, classes) targets, which mixing makes soft: one value per image.
    Call it inside the strategy's scope, so that the optimizer's state is on every device.
    """
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=recipe.label_smoothing, reduction="none"
    )
    model.compile(optimizer=optimizer(recipe.optimizer, steps), loss=loss)
    variables = model.trainable_variables
    model.optimizer.exclude_from_weight_decay([v for v in variables if len(v.shape) < 2])  # biases and normalisation
    model.optimizer.build(variables)
