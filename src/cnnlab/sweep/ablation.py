"""Ablations: base, each factor alone, rungs of a ladder, with the same seeds and images; their tables and picture."""

from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from cnnlab import params
from cnnlab.errors import UserError
from cnnlab.evidence.figures import forest
from cnnlab.files import REPORTS, write_text
from cnnlab.sweep import space
from cnnlab.sweep.plan import Attrs, Share, study_name
from cnnlab.sweep.settings import Settings, compared, failures, keep, table
from cnnlab.sweep.storage import patiently
from cnnlab.sweep.study import Ledger
from cnnlab.sweep.sweep import conduct

FOLDER = REPORTS / "ablation"


@dataclass(frozen=True)
class Factors(Settings):
    """An ablation: the base, which is the first setting, each of `factors` alone, and a `ladder` from the lowest rung.

    A rung is compared with the one below.
    """

    factors: list[str]
    ladder: list[str]

    kind = "ablation"

    @property
    def facts(self) -> Attrs:
        """What the report says of the study."""
        return {"objectives": self.objectives, "factors": self.factors, "ladder": self.ladder}


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
    seeds = dict.fromkeys(ladder, chosen.ladder_seeds) | dict.fromkeys(factors, chosen.seeds)
    seeds[ablation.base] = max(chosen.seeds, seeds.get(ablation.base, 0))
    shared = {
        "settings": {name: variant.model_dump() for name, variant in settings.items()},
        "ladder": ablation.ladder,
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
        seeds=seeds,
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
    facts = patiently(lambda: ledger.study.user_attrs)
    base = ledger.study.study_name.rpartition("-")[0]
    runs = patiently(lambda: table(ledger.study))
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
    keep(ledger, FOLDER)


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
    return "\n".join([*lines, *failures(runs)]) + "\n"


def _table(heading: str, found: pd.DataFrame) -> list[str]:
    rows = [
        f"| {heading} | n | points (95 % interval) | p, Holm | verdict | time | FLOPs | parameters |",
        "|---|---:|---|---:|---|---:|---:|---:|",
    ]
    for row in found.to_dict("records"):
        tested = pd.notna(row["p_holm"])
        spread = f" ({row['low']:+.2f} to {row['high']:+.2f})" if tested else ""
        p = f"{row['p_holm']:.3f}" if tested else "–"
        rows.append(
            f"| {row['setting']} | {row['n']} | {row['difference']:+.2f}{spread} | {p} | {row['verdict']} | "
            f"× {row['seconds']:.2f} | × {row['training_flop']:.2f} | × {row['parameters']:.2f} |"
        )
    return rows
