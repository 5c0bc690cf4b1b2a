"""Data of the figures of a sweep, static or interactive: trials, parameters, importances."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from cnnlab.report.language import Language
from cnnlab.studies.search.trials import baseline, best, complete

FEW = 20  # complete trials; with fewer, importances change with every trial added
SHOWN = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class SweepResults:
    """What the figures show.

    `study` is a copy in memory, with accuracies in percent and the string "null" in place of the choice None. `best`
    and `baseline` are numbers of complete trials, `failed` of failed ones; `second` is the objective to minimise, if
    any. `accuracies` is `study` with the accuracy as its only objective.
    """

    study: Study
    accuracies: Study
    best: int | None
    baseline: int | None
    base: str
    failed: Sequence[int]
    second: str | None
    say: Language

    @classmethod
    def of(cls, study: Study, say: Language) -> "SweepResults":
        """Results of `study`, for figures in one language."""
        trials = sorted(study.get_trials(deepcopy=False), key=lambda trial: trial.number)
        directions = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE][: len(study.directions)]
        top, first = best(study), baseline(study)
        return cls(
            study=_copy(trials, directions, study.study_name),
            accuracies=_copy(trials, directions[:1], study.study_name),
            best=top.number if top else None,
            baseline=first.number if first and first.state is TrialState.COMPLETE else None,
            base=study.user_attrs["baseline"],
            failed=[trial.number for trial in trials if trial.state is TrialState.FAIL],
            second=study.user_attrs["objectives"][1] if len(directions) > 1 else None,
            say=say,
        )

    @property
    def complete(self) -> list[FrozenTrial]:
        """The complete trials."""
        return complete(self.study)

    @property
    def pruned(self) -> list[FrozenTrial]:
        """The pruned trials that reported an accuracy."""
        trials = self.study.get_trials(deepcopy=False, states=[TrialState.PRUNED])
        return [trial for trial in trials if trial.intermediate_values]

    @cached_property
    def importances(self) -> dict[str, float]:
        """Share of each of `shared` in the accuracy's variance by fANOVA, in descending order.

        Empty if the forest explains no variance, or the search space changed between trials.
        """
        evaluator = FanovaImportanceEvaluator(seed=0)
        try:
            return get_param_importances(self.study, evaluator=evaluator, params=self.shared, target=percent)
        except (RuntimeError, ValueError):
            return {}

    @cached_property
    def shared(self) -> list[str]:
        """Names of the varying parameters that every complete trial has, not counting the baseline."""
        required = {trial.number for trial in self.complete if trial.number != self.baseline}
        return [p.name for p in parameters(self.complete) if required and required <= p.values.keys()]

    @property
    def weighed(self) -> list[FrozenTrial]:
        """The complete trials behind the importances: those with all shared parameters."""
        return [trial for trial in self.complete if trial.params.keys() >= {*self.shared}]

    @property
    def is_hint(self) -> bool:
        """Whether the importances rest on too few trials."""
        return len(self.weighed) < max(FEW, len(self.shared))

    @property
    def basis(self) -> str:
        """Number of trials behind the importances, with a warning if they are few."""
        n = len(self.weighed)
        if self.is_hint:
            return self.say("complete trials: {n}; a hint, not evidence", n=n)
        return self.say("complete trials: {n}", n=n)


@dataclass(frozen=True)
class Parameter:
    """A parameter that varies between complete trials: its values by trial number, and its axis.

    `choices` are the tried choices of a categorical parameter, in the axis's order; None for a numeric one.
    """

    name: str
    values: dict[int, Any]
    log: bool
    integer: bool
    choices: list[Any] | None


def parameters(trials: Sequence[FrozenTrial]) -> list[Parameter]:
    """The parameters with at least two values among `trials`, sorted by name."""
    distributions = {name: kind for trial in trials for name, kind in trial.distributions.items()}
    found = (_parameter(name, distributions[name], trials) for name in sorted(distributions))
    return [parameter for parameter in found if len({label(v) for v in parameter.values.values()}) > 1]


def label(value: Any) -> str:
    """A parameter's value as in params.yaml, numbers with three significant digits."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def pareto_front(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The Pareto front by rising cost: each trial is more accurate than all cheaper ones."""
    front: list[FrozenTrial] = []
    for trial in sorted(trials, key=lambda t: (cost(t), -percent(t), t.number)):
        if not front or percent(trial) > percent(front[-1]):
            front.append(trial)
    return front


def percent(trial: FrozenTrial) -> float:
    """Accuracy of a complete trial of `SweepResults`, in percent."""
    return float(trial.values[0])


def cost(trial: FrozenTrial) -> float:
    """Second objective of a complete trial."""
    return float(trial.values[1])


def _parameter(name: str, kind: BaseDistribution, trials: Sequence[FrozenTrial]) -> Parameter:
    values = {trial.number: trial.params[name] for trial in trials if name in trial.params}
    if not isinstance(kind, CategoricalDistribution):
        return Parameter(name, values, getattr(kind, "log", False), isinstance(kind, IntDistribution), None)
    choices = [choice for choice in kind.choices if choice in values.values()]
    if all(isinstance(choice, int | float) for choice in choices):
        choices = sorted(choices, key=lambda choice: float(choice or 0))
    return Parameter(name, values, False, False, choices)


def _copy(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection], name: str) -> Study:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would announce the copy as a new study
    try:
        copy = optuna.create_study(directions=directions, study_name=name)
    finally:
        optuna.logging.set_verbosity(verbosity)
    for trial in trials:  # failed trials stay as placeholders, so that numbers stay
        shown = trial.state in SHOWN
        copy.add_trial(_in_percent(trial, len(directions)) if shown else create_trial(state=TrialState.FAIL))
    return copy


def _in_percent(trial: FrozenTrial, objectives: int) -> FrozenTrial:
    kinds = {name: _without_none(kind) for name, kind in trial.distributions.items()}
    values = {name: "null" if value is None else value for name, value in trial.params.items()}
    names = [name for name, value in values.items() if _contains(kinds[name], value)]
    return create_trial(
        state=trial.state,
        values=[100 * trial.values[0], *trial.values[1:objectives]] if trial.state is TrialState.COMPLETE else None,
        params={name: values[name] for name in names},
        distributions={name: kinds[name] for name in names},
        intermediate_values={epoch: 100 * value for epoch, value in trial.intermediate_values.items()},
    )


def _without_none(kind: BaseDistribution) -> BaseDistribution:
    """The distribution with "null" for the choice None, which plotly would treat as missing."""
    if not isinstance(kind, CategoricalDistribution) or None not in kind.choices:
        return kind
    return CategoricalDistribution(["null" if choice is None else choice for choice in kind.choices])


def _contains(kind: BaseDistribution, value: Any) -> bool:
    """Whether `kind` contains `value`: the baseline's values may be outside the search space."""
    try:
        create_trial(value=0.0, params={"value": value}, distributions={"value": kind})
    except ValueError:
        return False
    return True


HEADINGS = {
    "history": "Accuracy of the trials",
    "importances": "Importance of the hyperparameters",
    "slices": "Accuracy against each hyperparameter",
    "parallel": "Hyperparameters in combination",
    "epochs": "Learning curves of the trials",
    "pareto": "Accuracy against cost",
}


def charts(sweep: SweepResults) -> dict[str, tuple[str, str | None]]:
    """Heading and obstacle of each figure by name, in the order of the page; the Pareto front only with two objectives.

    An obstacle is the reason why a figure cannot be drawn yet.
    """
    shown = {name: heading for name, heading in HEADINGS.items() if name != "pareto" or sweep.second}
    return {name: (sweep.say(heading), _obstacle(name, sweep)) for name, heading in shown.items()}


def _obstacle(name: str, sweep: SweepResults) -> str | None:
    say, n = sweep.say, len(sweep.complete)
    if name == "history":
        return None
    if name == "epochs":
        reported = any(trial.intermediate_values for trial in sweep.study.get_trials(deepcopy=False))
        return None if reported else say("No trial has reported an accuracy per epoch.")
    if n < 2:
        return say("At least 2 complete trials are needed; so far: {n}.", n=n)
    if name == "pareto":
        return None
    if not parameters(sweep.complete):
        return say("No hyperparameter varies between the complete trials yet.")
    if name != "importances":
        return None
    if not sweep.shared:
        return say("No hyperparameter that all complete trials have varies yet.")
    if len({percent(trial) for trial in sweep.complete}) == 1:
        return say("All complete trials have the same accuracy, so no hyperparameter made a difference.")
    return None if sweep.importances else say("The complete trials are too few or too similar.")
