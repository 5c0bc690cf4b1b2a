"""Ablations: base, each factor alone, rungs of a ladder, with the same seeds and images; their tables and picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

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

FOLDER = REPORTS / "ablation"


@dataclass(frozen=True)
class Factors(Plan):
    """Each of `settings` with seeds from 0: `seeds` of the base, by its name, and factors, `ladder_seeds` of rungs."""

    settings: dict[str, params.Variant]
    factors: list[str]
    ladder: list[str]  # from the lowest rung
    seeds: int
    ladder_seeds: int

    kind = "ablation"

    @property
    def facts(self) -> Attrs:
        """What the report says of the study."""
        return {"objectives": self.objectives, "factors": self.factors, "ladder": self.ladder, "seeds": self.seeds}

    @property
    def shown(self) -> tuple[str, Attrs]:
        """The settings."""
        told = "An ablation: the base, each factor alone and a ladder of variants, a run for each with each seed."
        return told, {"study": self.study, "settings": ", ".join(self.settings), "seeds": self.seeds}

    def check(self) -> None:
        """The settings are valid variants already."""

    def enqueued(self, first: int) -> list[tuple[Attrs, Attrs]]:
        """All settings with one seed, then with the next: pairs are whole as early as possible."""
        seeds = dict.fromkeys(self.ladder, self.ladder_seeds) | dict.fromkeys(
            [next(iter(self.settings)), *self.factors], self.seeds
        )
        pairs = [
            {"setting": name, "seed": seed}
            for seed in range(max(seeds.values()))
            for name in self.settings
            if seed < seeds[name]
        ]
        return [(pair, {"role": self.kind}) for pair in pairs[first:]]

    def choose(self, asked: optuna.Trial) -> params.Variant:
        """The variant of the enqueued setting."""
        asked.suggest_int("seed", 0, max(self.seeds, self.ladder_seeds) - 1)
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
    ladder = {name: params.variant(parameters, name) for name in ablation.ladder}
    settings = {ablation.base: base, **factors, **ladder}
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
        factors=list(names),
        ladder=ablation.ladder,
        seeds=chosen.seeds,
        ladder_seeds=chosen.ladder_seeds,
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
    """Write runs.csv, effects.csv, ladder.csv, summary.md and forest.png, and keep them with the study's MLflow run.

    Raises UserError where no training of the base ended: there is nothing to compare with.
    """
    facts = ledger.study.user_attrs
    base = ledger.study.study_name.rpartition("-")[0]
    runs = table(ledger.study)
    if not any((runs["setting"] == base) & (runs["state"] == "COMPLETE")):
        told = "; ".join(runs.loc[runs["setting"] == base, "reason"].unique())
        raise UserError(f"No training of {base} ended. Expected one at least, to compare with. Received: {told}")
    found = compared(runs, dict.fromkeys(facts["factors"], base))
    rungs = compared(runs, {rung: below for below, rung in pairwise(facts["ladder"])})
    write_text(FOLDER / "runs.csv", runs.to_csv(index=False))
    write_text(FOLDER / "effects.csv", found.to_csv(index=False))
    write_text(FOLDER / "ladder.csv", rungs.to_csv(index=False))
    write_text(FOLDER / "summary.md", summary(found, rungs, runs, base))
    forest(FOLDER / "forest.png", found, base)
    run = track.Run(ledger.parent)
    for path in sorted(FOLDER.iterdir()):
        run.log_file(path, "ablation")
    run.finish()
    print((FOLDER / "summary.md").read_text())


def compared(runs: pd.DataFrame, against: Mapping[str, str]) -> pd.DataFrame:
    """The effects of those settings of `against` of which, as of their bases, a training ended with a common seed."""
    complete = runs[runs["state"] == "COMPLETE"]
    seeds = complete.groupby("setting")["seed"].agg(set).to_dict()
    paired = {name: base for name, base in against.items() if seeds.get(name, set()) & seeds.get(base, set())}
    return effects(complete, paired)


def table(study: optuna.Study) -> pd.DataFrame:
    """A row a setting and seed, by its last attempt: state, accuracy (share of 1), cost, reason of failure."""
    last = {(t.params["setting"], t.params["seed"]): t for t in study.get_trials(deepcopy=False) if "seed" in t.params}
    return pd.DataFrame([_row(setting, seed, trial) for (setting, seed), trial in last.items()])


def summary(found: pd.DataFrame, rungs: pd.DataFrame, runs: pd.DataFrame, base: str) -> str:
    """Markdown: a row a factor, the best first, a row a rung from the lowest, and the trainings that failed."""
    mean = 100 * runs.loc[(runs["setting"] == base) & (runs["state"] == "COMPLETE"), "accuracy"].mean()
    lines = _table("factor", found.sort_values("difference", ascending=False))
    lines += [
        "",
        f"Validation accuracy of {base}: {mean:.2f} %, mean of its seeds. runs.csv names each training's run.",
    ]
    if len(rungs):
        lines += ["", "Each rung against the one below:", "", *_table("rung", rungs)]
    failed = runs[runs["state"] != "COMPLETE"]
    lines += [f"- {r['setting']}, seed {r['seed']}, failed: {r['reason']}" for r in failed.to_dict("records")]
    return "\n".join(lines) + "\n"


def _table(heading: str, found: pd.DataFrame) -> list[str]:
    rows = [
        f"| {heading} | n | points (95 % interval) | p, Holm | verdict | time | FLOPs | parameters |",
        "|---|---:|---|---:|---|---:|---:|---:|",
    ]
    for row in found.to_dict("records"):
        spread = f" ({row['low']:+.2f} to {row['high']:+.2f})" if row["n"] > 1 else ""
        p = f"{row['p_holm']:.3f}" if row["n"] > 1 else "–"
        rows.append(
            f"| {row['setting']} | {row['n']} | {row['difference']:+.2f}{spread} | {p} | {row['verdict']} | "
            f"× {row['seconds']:.2f} | × {row['training_flop']:.2f} | × {row['parameters']:.2f} |"
        )
    return rows


def _row(setting: str, seed: int, trial: FrozenTrial) -> dict[str, object]:
    told = trial.user_attrs
    return {
        "setting": setting,
        "seed": seed,
        "state": trial.state.name,
        "accuracy": trial.values[0] if trial.state is TrialState.COMPLETE else None,
        **{name: told.get(name) for name in ("seconds", "steps", "training_flop", "parameters", "run_id", "reason")},
    }
