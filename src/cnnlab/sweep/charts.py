"""What a sweep's pictures show, as PNG or interactive: trials, parameters, importances, which pictures there are."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

ACCURACY = "validation accuracy (%)"
FEW = 20  # complete trials; from fewer, importances change with every trial added


@dataclass(frozen=True)
class Sweep:
    """What the pictures show: a study of baseline and search alone, accuracies in per cent.

    `study` has one objective; `both` is the same with the second, which is minimized and called `second`, None where
    there is none. Both keep the trials' numbers; `best` and `baseline` are numbers of complete trials, `failed` of
    failed ones.
    """

    study: Study
    both: Study | None
    best: int | None
    baseline: int | None
    baseline_name: str
    failed: Sequence[int]
    second: str | None

    @property
    def complete(self) -> list[FrozenTrial]:
        """The complete trials."""
        return self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])

    @property
    def pruned(self) -> list[FrozenTrial]:
        """The pruned trials that reported an accuracy."""
        trials = self.study.get_trials(deepcopy=False, states=[TrialState.PRUNED])
        return [trial for trial in trials if trial.intermediate_values]

    @cached_property
    def importances(self) -> dict[str, float]:
        """The share of the accuracy's variance that fANOVA's forest lays on each of `shared`, the greatest first.

        Empty where the forest finds nothing to share out, or the search space changed between trials.
        """
        try:
            return get_param_importances(self.study, evaluator=FanovaImportanceEvaluator(seed=0), params=shared(self))
        except (RuntimeError, ValueError):
            return {}

    def is_baseline(self, trial: FrozenTrial) -> bool:
        """Whether `trial` is the baseline."""
        return trial.number == self.baseline


@dataclass(frozen=True)
class Parameter:
    """A parameter that differs between complete trials: its value by trial number, and how an axis shows it.

    `choices` are those of a categorical parameter that were tried, in the axis's order; None for a numeric one.
    """

    name: str
    values: dict[int, Any]
    log: bool
    whole: bool
    choices: list[Any] | None

    def place(self, value: Any) -> float:
        """Where `value` lies along the axis, in the axis's own units."""
        if self.choices is not None:
            return float(self.choices.index(value))
        return math.log10(value) if self.log else float(value)


@dataclass(frozen=True)
class Chart:
    """What one picture is called, and what stands against making it from a sweep, None if nothing does."""

    heading: str
    obstacle: Callable[[Sweep], str | None]


def charts(sweep: Sweep) -> dict[str, Chart]:
    """The pictures `sweep` has, by name, in the order of the page; the Pareto front only with a second objective."""
    return {name: chart for name, chart in CHARTS.items() if name != "pareto" or sweep.both is not None}


def parameters(trials: Sequence[FrozenTrial]) -> list[Parameter]:
    """The parameters with at least two values among `trials`, sorted by name."""
    distributions = {name: kind for trial in trials for name, kind in trial.distributions.items()}
    found = (_parameter(name, distributions[name], trials) for name in sorted(distributions))
    return [parameter for parameter in found if len({label(v) for v in parameter.values.values()}) > 1]


def label(value: Any) -> str:
    """A parameter's value as params.yaml spells it, numbers to three digits."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def basis(sweep: Sweep) -> str:
    """How many complete trials the importances rest on, and a warning where these are few."""
    told = f"from {count(len(behind(sweep)), 'complete trial')}"
    return f"{told}: a hint, not evidence" if is_hint(sweep) else told


def is_hint(sweep: Sweep) -> bool:
    """Whether the importances rest on too few trials to be more than a hint."""
    return len(behind(sweep)) < max(FEW, len(shared(sweep)))


def behind(sweep: Sweep) -> list[FrozenTrial]:
    """The complete trials that have every parameter that is weighed."""
    names = set(shared(sweep))
    return [trial for trial in sweep.complete if trial.params.keys() >= names]


def shared(sweep: Sweep) -> list[str]:
    """The names of the varying parameters that every complete trial has, the baseline's own excepted."""
    wanted = [trial for trial in sweep.complete if not sweep.is_baseline(trial)]
    having = {trial.number for trial in wanted}
    return [p.name for p in parameters(sweep.complete) if having and having <= p.values.keys()]


def front_of(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that no other beats, by rising second objective: each is more accurate than all cheaper ones."""
    front: list[FrozenTrial] = []
    for trial in sorted(trials, key=lambda t: (cost(t), -accuracy(t), t.number)):
        if not front or accuracy(trial) > accuracy(front[-1]):
            front.append(trial)
    return front


def accuracy(trial: FrozenTrial) -> float:
    """The accuracy of a complete trial, in per cent."""
    return float(trial.values[0])


def cost(trial: FrozenTrial) -> float:
    """The second objective of a complete trial, in that objective's unit."""
    return float(trial.values[1])


def count(n: int, noun: str) -> str:
    """`n` and `noun`, in the plural where `n` is not 1."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _parameter(name: str, kind: BaseDistribution, trials: Sequence[FrozenTrial]) -> Parameter:
    values = {trial.number: trial.params[name] for trial in trials if name in trial.params}
    if not isinstance(kind, CategoricalDistribution):
        return Parameter(name, values, getattr(kind, "log", False), isinstance(kind, IntDistribution), None)
    choices = [choice for choice in kind.choices if choice in values.values()]
    if all(isinstance(choice, int | float) for choice in choices):
        choices = sorted(choices, key=lambda choice: float(choice or 0))
    return Parameter(name, values, False, False, choices)


# What stands against a figure


def _no_complete(sweep: Sweep) -> str | None:
    return None if sweep.complete else "No trial is complete yet."


def _too_few(sweep: Sweep) -> str | None:
    n = len(sweep.complete)
    return None if n >= 2 else f"It takes at least 2 complete trials; so far there {'is' if n == 1 else 'are'} {n}."


def _nothing_varies(sweep: Sweep) -> str | None:
    if few := _too_few(sweep):
        return few
    return None if parameters(sweep.complete) else "No parameter has two values among the complete trials yet."


def _nothing_to_weigh(sweep: Sweep) -> str | None:
    if obstacle := _nothing_varies(sweep):
        return obstacle
    if not shared(sweep):
        return "No parameter that every complete trial has takes two values yet."
    if len({accuracy(trial) for trial in sweep.complete}) == 1:
        return "All complete trials have the same accuracy, so no parameter made a difference."
    return None if sweep.importances else "The complete trials are too few or too alike to tell parameters apart yet."


def _nothing_reported(sweep: Sweep) -> str | None:
    if any(trial.intermediate_values for trial in sweep.study.get_trials(deepcopy=False)):
        return None
    if sweep.both is not None:
        return "Optuna takes no reports of epochs in a study of two objectives."
    return "No trial has reported the accuracy of an epoch yet."


CHARTS = {
    "history": Chart("What the search found", _no_complete),
    "importances": Chart("Which settings mattered", _nothing_to_weigh),
    "slices": Chart("Accuracy against each setting", _nothing_varies),
    "parallel": Chart("Settings that go together", _nothing_varies),
    "epochs": Chart("How the trials learned", _nothing_reported),
    "pareto": Chart("Accuracy against cost", _too_few),
}
