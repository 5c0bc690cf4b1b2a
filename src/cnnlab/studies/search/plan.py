"""Plan of a sweep: a sampler chooses trials around a base variant; they cost equal FLOPs and may be pruned."""

from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial

from cnnlab import params
from cnnlab.errors import UserError
from cnnlab.studies.plan import Attrs, Plan, study_name
from cnnlab.studies.search import sampler, space


@dataclass(frozen=True)
class SearchPlan(Plan):
    """A sweep of `trials` trials of `base` with values from `sweep.space`."""

    sweep: params.Sweep
    trials: int

    kind = "sweep"

    @property
    def attrs(self) -> Attrs:
        """What summary.md and the figures need to know of the plan."""
        return {
            "baseline": self.sweep.base,
            "objectives": self.objectives,
            "epochs": self.epochs,
            "train_images": self.train_images,
            "seed": self.sweep.seed,
        }

    @property
    def description(self) -> tuple[str, Attrs]:
        """Base and search space."""
        searched = {key: str(value) for key, value in self.sweep.space.items()}
        parameters = {"study": self.study, "base": self.sweep.base, "space": searched}
        return f"A sweep around variant {self.sweep.base}: its trials are the child runs.", parameters

    @property
    def objectives(self) -> list[str]:
        """Accuracy, and the quantity to minimise, if any."""
        second = {None: [], "parameters": ["parameters"], "flop": ["FLOPs"]}[self.sweep.minimise]
        return ["validation accuracy", *second]

    @property
    def sampler(self) -> optuna.samplers.BaseSampler:
        """Multivariate TPE with the sweep's seed."""
        return sampler.NumberedTPE(self.sweep.seed)

    @property
    def pruner(self) -> optuna.pruners.BasePruner:
        """The sweep's pruner; none with two objectives, which Optuna does not prune."""
        return sampler.pruner("none" if self.sweep.minimise else self.sweep.pruner, self.epochs)

    def enqueued(self, first: int) -> list[tuple[Attrs, Attrs]]:
        """The baseline, then trials whose values the sampler chooses."""
        trials: list[tuple[Attrs, Attrs]] = [({}, {})] * self.trials
        trials[0] = (space.baseline(self.sweep.space, self.base), {"role": "baseline"})
        return trials[first:]

    def choose(self, trial: optuna.Trial) -> params.Variant:
        """The base with the values that the sampler suggests."""
        return space.variant(space.suggest(trial, self.sweep.space, self.base), self.sweep.space, self.base)

    def seed(self, trial: FrozenTrial) -> int:
        """The same seed for all: trials differ in the variant only."""
        return self.sweep.seed


def make_plan(
    parameters: params.Params, budget: str | None, trials: int | None, study: str | None, url: str
) -> SearchPlan:
    """The sweep of params.yaml, in storage `url`; a changed space is a new study.

    `budget`, `trials` and `study` replace the budget, the number of trials and the name of the study, unless None.
    Raises UserError for an unknown budget.
    """
    sweep = parameters.sweep
    if budget and budget not in sweep.budgets:
        raise UserError(f"Invalid BUDGET. Expected one of: {', '.join(sweep.budgets)}. Received: {budget!r}.")
    chosen = sweep.budgets[budget] if budget else parameters.scale.sweep
    base = params.variant(parameters, sweep.base)
    validation = params.set_aside(parameters, base.data, chosen.validation, base.validation)
    shared = {
        "base": base.model_dump(),
        "space": {key: searched.model_dump() for key, searched in sweep.space.items()},
        "sweep": sweep.model_dump(include={"minimise", "pruner", "seed"}),
        "budget": chosen.model_dump(exclude={"trials"}),
        "preprocess": parameters.preprocess.model_dump(),
        "validation": validation,
    }
    return SearchPlan(
        study=study_name(study or sweep.base, shared),
        storage=url,
        data=base.data,
        base=base,
        sweep=sweep,
        trials=trials or chosen.trials,
        epochs=chosen.epochs,
        train_images=chosen.train_images,
        validation=validation,
        devices=parameters.strategy,
        train=parameters.train,
    )
