"""Sampler and pruner of a search, with all their arguments."""

import warnings
from typing import Any

import numpy as np
import optuna


class NumberedTPE(optuna.samplers.BaseSampler):
    """Multivariate TPE whose random numbers are a function of (seed, trial number).

    So a study that is resumed or shared by hosts draws the same values as a single process with the same finished
    trials, and no two processes draw the same. Running trials count as bad ones (constant liar), so that parallel
    workers explore different values. Bergstra et al. 2011, «Algorithms for hyper-parameter optimization»; Falkner et
    al. 2018, arXiv:1807.01774, for the multivariate form.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._number = -1
        self._sampler: optuna.samplers.TPESampler

    def infer_relative_search_space(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
        """Search space of the keys that are sampled jointly."""
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, Any]
    ) -> dict[str, Any]:
        """Sample the keys of that space."""
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """Sample a key outside that space."""
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def _of(self, trial: optuna.trial.FrozenTrial) -> optuna.samplers.TPESampler:
        if trial.number != self._number:
            self._number = trial.number
            seed = int(np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of `group`, since 2021
                self._sampler = optuna.samplers.TPESampler(
                    n_startup_trials=8,
                    n_ei_candidates=24,
                    multivariate=True,
                    group=True,  # samples conditional keys in separate groups
                    constant_liar=True,
                    seed=seed,
                )
        return self._sampler


def pruner(name: str, epochs: int) -> optuna.pruners.BasePruner:
    """Successive halving (Li et al. 2020, arXiv:1810.05934), Hyperband over it (arXiv:1603.06560), or none.

    The resource is epochs. Halving continues the better half of the trials that reach 1, 2, 4, … epochs; Hyperband
    continues the best third after 1, 3, 9, … epochs. Thirds lost more of the best accuracy (docs/LOG.md).
    """
    match name:
        case "halving":
            return optuna.pruners.SuccessiveHalvingPruner(
                min_resource=1, reduction_factor=2, min_early_stopping_rate=0, bootstrap_count=0
            )
        case "hyperband":
            return optuna.pruners.HyperbandPruner(
                min_resource=1, max_resource=epochs, reduction_factor=3, bootstrap_count=0
            )
    return optuna.pruners.NopPruner()
