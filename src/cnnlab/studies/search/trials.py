"""What the trials of a search say: the best one, the baseline, accuracies and states."""

import math
from collections import Counter

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


def best(study: Study) -> FrozenTrial | None:
    """The complete trial with the highest accuracy; among equals the cheapest to train, then the first.

    None if no trial is complete yet.
    """
    return min(complete(study), key=_rank, default=None)


def complete(study: Study) -> list[FrozenTrial]:
    """The complete trials."""
    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])


def baseline(study: Study) -> FrozenTrial | None:
    """The baseline's trial: of several attempts the complete one, else the latest."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.user_attrs.get("role") == "baseline"]
    return max(trials, key=lambda trial: (trial.state is TrialState.COMPLETE, trial.number), default=None)


def accuracy(trial: FrozenTrial) -> float | None:
    """Accuracy of a complete trial, else the last one reported; a share in [0, 1], None if there is none."""
    if trial.state is TrialState.COMPLETE:
        return float(trial.values[0])
    reported = trial.intermediate_values
    return reported[max(reported)] if reported else None


def epochs(trial: FrozenTrial) -> int | None:
    """Last epoch reported."""
    return max(trial.intermediate_values, default=None)


def states(study: Study) -> Counter[TrialState]:
    """Number of trials in each state."""
    return Counter(trial.state for trial in study.get_trials(deepcopy=False))


def _rank(trial: FrozenTrial) -> tuple[float, float, int]:
    return -trial.values[0], trial.user_attrs.get("training_flop", math.inf), trial.number
