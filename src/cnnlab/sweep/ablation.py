"""The ablation's plan: the base and each factor alone, with every seed, on the same images."""

from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial

from cnnlab import params
from cnnlab.sweep import space
from cnnlab.sweep.plan import Attrs, Plan, study_name

BASE = "base"


@dataclass(frozen=True)
class Factors(Plan):
    """Each of `settings` trained with the seeds 0 to `seeds` - 1; the first of them, `BASE`, is the base itself."""

    settings: dict[str, params.Variant]
    seeds: int

    kind = "ablation"

    @property
    def facts(self) -> Attrs:
        """What the report says of the study."""
        return {"objectives": self.objectives, "settings": list(self.settings), "seeds": self.seeds}

    @property
    def shown(self) -> tuple[str, Attrs]:
        """The settings."""
        told = "An ablation: the base and each factor alone, a run below this one for each with each seed."
        return told, {"study": self.study, "settings": ", ".join(self.settings), "seeds": self.seeds}

    def check(self) -> None:
        """The settings are valid variants already."""

    def enqueued(self, first: int) -> list[tuple[Attrs, Attrs]]:
        """All settings with one seed, then with the next: pairs are whole as early as possible."""
        pairs = [{"setting": name, "seed": seed} for seed in range(self.seeds) for name in self.settings]
        return [(pair, {"role": self.kind}) for pair in pairs[first:]]

    def choose(self, asked: optuna.Trial) -> params.Variant:
        """The variant of the enqueued setting."""
        asked.suggest_int("seed", 0, self.seeds - 1)
        return self.settings[asked.suggest_categorical("setting", list(self.settings))]

    def seed(self, trial: FrozenTrial) -> int:
        """The enqueued one."""
        return int(trial.params["seed"])

    def title(self, trial: FrozenTrial) -> str:
        """Setting and seed."""
        return f"{trial.params['setting']}, seed {trial.params['seed']}"


def make_plan(parameters: params.Params, url: str) -> Factors:
    """The ablation of params.yaml under its budget; whatever changes a training begins another study.

    Raises UserError for a factor that makes no valid variant.
    """
    ablation = parameters.ablation
    chosen = ablation.budgets[parameters.budget]
    base = params.variant(parameters, ablation.base)
    names = ablation.factors if chosen.factors is None else chosen.factors
    factors = {name: space.apply(base, ablation.factors[name], f"ablation.factors.{name}") for name in names}
    settings = {BASE: base, **factors}
    shared = {
        "settings": {name: variant.model_dump() for name, variant in settings.items()},
        "budget": chosen.model_dump(),
        "preprocess": parameters.preprocess.model_dump(),
    }
    return Factors(
        study=study_name(ablation.base, shared),
        storage=url,
        data=base.data,
        base=base,
        settings=settings,
        seeds=chosen.seeds,
        epochs=chosen.epochs,
        train_images=chosen.train_images,
        validation=chosen.validation or base.validation or parameters.preprocess.validation,
        devices=parameters.strategy,
        train=parameters.train,
    )
