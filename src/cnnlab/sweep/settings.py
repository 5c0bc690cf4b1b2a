"""Studies of named settings, each trained with the same seeds: what ablations and transfers share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from cnnlab import params, track
from cnnlab.evidence.effects import effects
from cnnlab.sweep.plan import Attrs, Plan
from cnnlab.sweep.study import Ledger

COSTS = ("seconds", "steps", "training_flop", "parameters")


@dataclass(frozen=True)
class Settings(Plan):
    """Each of `settings` with as many seeds, from 0, as `seeds` says."""

    settings: dict[str, params.Variant]
    seeds: dict[str, int]

    @property
    def shown(self) -> tuple[str, Attrs]:
        """The settings."""
        told = f"{(self.__doc__ or '').splitlines()[0]} A run for each with each seed."
        return told, {"study": self.study, "settings": ", ".join(self.settings), "seeds": max(self.seeds.values())}

    def check(self) -> None:
        """The settings are valid variants already."""

    def enqueued(self, first: int) -> list[tuple[Attrs, Attrs]]:
        """All settings with one seed, then with the next: pairs are whole as early as possible."""
        pairs = [
            {"setting": name, "seed": seed}
            for seed in range(max(self.seeds.values()))
            for name in self.settings
            if seed < self.seeds[name]
        ]
        return [(pair, {"role": self.kind}) for pair in pairs[first:]]

    def choose(self, asked: optuna.Trial) -> params.Variant:
        """The variant of the enqueued setting."""
        asked.suggest_int("seed", 0, max(self.seeds.values()) - 1)
        return self.settings[asked.suggest_categorical("setting", list(self.settings))]

    def seed(self, trial: FrozenTrial) -> int:
        """The enqueued one."""
        return int(trial.params["seed"])

    def title(self, trial: FrozenTrial) -> str:
        """Setting and seed."""
        return f"{trial.params['setting']}, seed {trial.params['seed']}"


def table(study: optuna.Study) -> pd.DataFrame:
    """A row a setting and seed, by its last attempt: state, accuracy (share of 1), cost, run, reason of failure."""
    last = {(t.params["setting"], t.params["seed"]): t for t in study.get_trials(deepcopy=False) if "seed" in t.params}
    return pd.DataFrame([_row(setting, seed, trial) for (setting, seed), trial in last.items()])


def _row(setting: str, seed: int, trial: FrozenTrial) -> dict[str, object]:
    return {
        "setting": setting,
        "seed": seed,
        "state": trial.state.name,
        "accuracy": trial.values[0] if trial.state is TrialState.COMPLETE else None,
        **{name: trial.user_attrs.get(name) for name in (*COSTS, "run_id", "reason")},
    }


def compared(runs: pd.DataFrame, against: Mapping[str, str]) -> pd.DataFrame:
    """The effects of those settings of `against` of which, as of their bases, a training ended with a common seed."""
    complete = runs[runs["state"] == "COMPLETE"]
    seeds = complete.groupby("setting")["seed"].agg(set).to_dict()
    paired = {name: base for name, base in against.items() if seeds.get(name, set()) & seeds.get(base, set())}
    return effects(complete, paired)


def failures(runs: pd.DataFrame) -> list[str]:
    """A line of Markdown for each training that failed."""
    failed = runs[runs["state"] != "COMPLETE"]
    return [f"- {r['setting']}, seed {r['seed']}, failed: {r['reason']}" for r in failed.to_dict("records")]


def keep(ledger: Ledger, folder: Path) -> None:
    """Keep the folder's files with the study's MLflow run, and print its summary."""
    run = track.Run(ledger.parent)
    for path in sorted(folder.iterdir()):
        run.log_file(path, folder.name)
    run.finish()
    print((folder / "summary.md").read_text())
