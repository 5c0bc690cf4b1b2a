"""Ablations: the base and each factor alone, with every seed, on the same images; their tables and picture."""

from dataclasses import dataclass

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from cnnlab import params, track
from cnnlab.errors import UserError
from cnnlab.evidence.effects import effects
from cnnlab.evidence.figures import forest
from cnnlab.files import REPORTS, write_text
from cnnlab.sweep import space
from cnnlab.sweep.plan import Attrs, Plan, Share, study_name
from cnnlab.sweep.study import Ledger
from cnnlab.sweep.sweep import conduct

BASE = "base"
FOLDER = REPORTS / "ablation"


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


def ablate(plan: Factors, places: list[Share]) -> None:
    """Begin or continue an ablation and write its results; raises as `conduct`."""
    publish(conduct(plan, places))


def publish(ledger: Ledger) -> None:
    """Write runs.csv, effects.csv, summary.md and forest.png, and keep them with the study's MLflow run.

    Raises UserError where no training of the base ended: there is nothing to compare with.
    """
    base = ledger.study.study_name.rpartition("-")[0]
    runs = table(ledger.study)
    complete = runs[runs["state"] == "COMPLETE"]
    seeds = complete.loc[complete["setting"] == BASE, "seed"]
    if seeds.empty:
        told = "; ".join(runs.loc[runs["setting"] == BASE, "reason"].unique())
        raise UserError(f"No training of {base} ended. Expected one at least, to compare with. Received: {told}")
    found = effects(complete[complete["seed"].isin(seeds)], BASE)
    write_text(FOLDER / "runs.csv", runs.to_csv(index=False))
    write_text(FOLDER / "effects.csv", found.to_csv(index=False))
    write_text(FOLDER / "summary.md", summary(found, runs, base))
    forest(FOLDER / "forest.png", found, base)
    run = track.Run(ledger.parent)
    for path in sorted(FOLDER.iterdir()):
        run.log_file(path, "ablation")
    run.finish()
    print((FOLDER / "summary.md").read_text())


def table(study: optuna.Study) -> pd.DataFrame:
    """A row a setting and seed, by its last attempt: state, accuracy (share of 1), cost, reason of failure."""
    last = {(t.params["setting"], t.params["seed"]): t for t in study.get_trials(deepcopy=False) if "seed" in t.params}
    return pd.DataFrame([_row(setting, seed, trial) for (setting, seed), trial in last.items()])


def summary(found: pd.DataFrame, runs: pd.DataFrame, base: str) -> str:
    """Markdown: a row a factor, the best first, and the trainings that failed."""
    lines = [
        f"| factor | n | against {base}, points (95 % interval) | p, Holm | verdict | time | FLOPs | parameters |",
        "|---|---:|---|---:|---|---:|---:|---:|",
    ]
    for row in found.sort_values("difference", ascending=False).to_dict("records"):
        lines.append(
            f"| {row['setting']} | {row['n']} | {row['difference']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f}) | "
            f"{row['p_holm']:.3f} | {row['verdict']} | × {row['seconds']:.2f} | × {row['training_flop']:.2f} | "
            f"× {row['parameters']:.2f} |"
        )
    mean = 100 * runs.loc[(runs["setting"] == BASE) & (runs["state"] == "COMPLETE"), "accuracy"].mean()
    lines += [
        "",
        f"Validation accuracy of {base}: {mean:.2f} %, mean of its seeds. runs.csv names each training's run.",
    ]
    failed = runs[runs["state"] != "COMPLETE"]
    lines += [f"- {r['setting']}, seed {r['seed']}, failed: {r['reason']}" for r in failed.to_dict("records")]
    return "\n".join(lines) + "\n"


def _row(setting: str, seed: int, trial: FrozenTrial) -> dict[str, object]:
    told = trial.user_attrs
    return {
        "setting": setting,
        "seed": seed,
        "state": trial.state.name,
        "accuracy": trial.values[0] if trial.state is TrialState.COMPLETE else None,
        **{name: told.get(name) for name in ("seconds", "steps", "training_flop", "parameters", "run_id", "reason")},
    }
