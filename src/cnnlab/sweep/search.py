"""The sweep's own plan: trials that a sampler chooses from the space around a base, at equal cost, pruned."""

from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial

from cnnlab import params
from cnnlab.errors import UserError
from cnnlab.sweep import space, storage
from cnnlab.sweep.plan import Attrs, Plan, study_name


@dataclass(frozen=True)
class Search(Plan):
    """A sweep: `trials` of `base`, changed as `sweep.space` says."""

    sweep: params.Sweep
    trials: int

    kind = "sweep"

    @property
    def facts(self) -> Attrs:
        """What summary.md and the pictures say of the study."""
        return {
            "baseline": self.sweep.base,
            "objectives": self.objectives,
            "epochs": self.epochs,
            "train_images": self.train_images,
            "seed": self.sweep.seed,
        }

    @property
    def shown(self) -> tuple[str, Attrs]:
        """The base and the space."""
        searched = {key: str(value) for key, value in self.sweep.space.items()}
        told = f"A sweep around variant {self.sweep.base}: each trial is a run below it."
        return told, {"study": self.study, "base": self.sweep.base, "space": searched}

    @property
    def objectives(self) -> list[str]:
        """Accuracy, and what `minimise` names."""
        second = {None: [], "parameters": ["parameters"], "flop": ["FLOPs"]}[self.sweep.minimise]
        return ["validation accuracy", *second]

    @property
    def sampler(self) -> optuna.samplers.BaseSampler:
        """Multivariate TPE of the sweep's seed."""
        return storage.NumberedTPE(self.sweep.seed)

    @property
    def pruner(self) -> optuna.pruners.BasePruner:
        """The pruner; none with two objectives, which Optuna does not prune."""
        return storage.pruner("none" if self.sweep.minimise else self.sweep.pruner, self.epochs)

    def check(self) -> None:
        """Check the space."""
        space.check(self.sweep.space, self.base)

    def enqueued(self, first: int) -> list[tuple[Attrs, Attrs]]:
        """The baseline, then trials without values."""
        whole: list[tuple[Attrs, Attrs]] = [({}, {})] * self.trials
        whole[0] = (space.baseline(self.sweep.space, self.base), {"role": "baseline"})
        return whole[first:]

    def choose(self, asked: optuna.Trial) -> params.Variant:
        """The base with the values that the sampler suggests."""
        return space.apply(self.base, space.suggest(asked, self.sweep.space, self.base))

    def seed(self, trial: FrozenTrial) -> int:
        """One for all: what differs is the variant."""
        return self.sweep.seed


def make_plan(parameters: params.Params, budget: str | None, trials: int | None, study: str | None, url: str) -> Search:
    """The plan of params.yaml; what is not None replaces its budget, number of trials and name of the study.

    A changed space begins another study.
    """
    name = budget or parameters.budget
    if name not in parameters.sweep.budgets:
        raise UserError(f"Invalid BUDGET. Expected one of: {', '.join(parameters.sweep.budgets)}. Received: {name!r}.")
    chosen, sweep = parameters.sweep.budgets[name], parameters.sweep
    base = params.variant(parameters, sweep.base)
    shared = {
        "base": base.model_dump(),
        "space": {key: searched.model_dump() for key, searched in sweep.space.items()},
        "sweep": sweep.model_dump(include={"minimise", "pruner", "seed"}),
        "budget": chosen.model_dump(exclude={"trials"}),
        "preprocess": parameters.preprocess.model_dump(),
    }
    return Search(
        study=study_name(study or sweep.base, shared),
        storage=url,
        data=base.data,
        base=base,
        sweep=sweep,
        trials=trials or chosen.trials,
        epochs=chosen.epochs,
        train_images=chosen.train_images,
        validation=chosen.validation or base.validation or parameters.preprocess.validation,
        devices=parameters.strategy,
        train=parameters.train,
    )
