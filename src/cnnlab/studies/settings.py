"""Studies that compare settings, each trained with the same seeds: ablations and transfers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from cnnlab import params
from cnnlab.evaluation.effects import effects
from cnnlab.report.language import Language
from cnnlab.report.tables import records
from cnnlab.studies.plan import Attrs, Plan

RECORDED = ("top5_accuracy", "seconds", "images", "steps", "training_flop", "parameters", "run_id", "reason")


@dataclass(frozen=True)
class SettingsPlan(Plan):
    """A study that trains each of `settings` with `seeds` seeds: 0, 1, …, under the split of `budget`."""

    settings: dict[str, params.Variant]
    seeds: int
    budget: params.Budget

    sentence: ClassVar[str]  # of its MLflow run

    @property
    def description(self) -> tuple[str, Attrs]:
        """The settings."""
        parameters = {"study": self.study, "settings": ", ".join(self.settings), "seeds": self.seeds}
        return f"{self.sentence} One child run per setting and seed.", parameters

    def enqueued(self, first: int) -> list[tuple[Attrs, Attrs]]:
        """All settings with one seed, then with the next, so that pairs are complete as early as possible."""
        pairs = [{"setting": name, "seed": seed} for seed in range(self.seeds) for name in self.settings]
        return [(pair, {"role": self.kind}) for pair in pairs[first:]]

    def choose(self, trial: optuna.Trial) -> params.Variant:
        """The variant of the enqueued setting."""
        trial.suggest_int("seed", 0, self.seeds - 1)
        return self.settings[trial.suggest_categorical("setting", list(self.settings))]

    def seed(self, trial: FrozenTrial) -> int:
        """The enqueued seed."""
        return int(trial.params["seed"])

    def run(self, trial: FrozenTrial, images: int | None) -> params.Run:
        """The training of the setting, on the images of the seed's fold."""
        run = super().run(trial, images)
        return run.model_copy(update={"fold": self.budget.fold(run.seed)})

    def title(self, trial: FrozenTrial) -> str:
        """Setting and seed."""
        return f"{trial.params['setting']}, seed {trial.params['seed']}"


def runs_table(study: optuna.Study) -> pd.DataFrame:
    """One row per setting and seed, from the last attempt: state, accuracy, and what the trial recorded.

    Accuracies are shares; with up to five classes there is no top-5 accuracy. `images` counts them once per epoch.
    """
    last = {(t.params["setting"], t.params["seed"]): t for t in study.get_trials(deepcopy=False) if "seed" in t.params}
    rows = [
        {
            "setting": setting,
            "seed": seed,
            "state": trial.state.name,
            "accuracy": trial.values[0] if trial.state is TrialState.COMPLETE else None,
            **{name: trial.user_attrs.get(name) for name in RECORDED},
        }
        for (setting, seed), trial in last.items()
    ]
    return pd.DataFrame(rows)


def paired_effects(runs: pd.DataFrame, contrasts: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Effects of the `contrasts` (setting, base) that have a complete training with a common seed."""
    complete = runs[runs["state"] == "COMPLETE"]
    seeds = complete.groupby("setting")["seed"].agg(set).to_dict()
    paired = [(name, base) for name, base in contrasts if seeds.get(name, set()) & seeds.get(base, set())]
    return effects(complete, paired)


def interval(effect: Mapping[str, Any], say: Language) -> str:
    """Difference in percentage points, with its interval if it has one."""
    difference = say.points(effect["difference"])
    if pd.isna(effect["low"]):
        return difference
    return say(
        "{difference} ({low} to {high})",
        difference=difference,
        low=say.points(effect["low"]),
        high=say.points(effect["high"]),
    )


def failures(runs: pd.DataFrame, say: Language) -> str:
    """A Markdown list of the trainings that failed."""
    failed = records(runs[runs["state"] != "COMPLETE"])
    return "\n".join(
        "- "
        + say(
            "failed: {setting}, seed {seed}: {reason}",
            setting=say.name(r["setting"]),
            seed=r["seed"],
            reason=r["reason"],
        )
        for r in failed
    )
