"""Ablations: the base, each factor on its own, and the steps of a ladder, with the same seeds and images."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pandas as pd

from cnnlab import params
from cnnlab.errors import UserError
from cnnlab.files import REPORTS, write_text
from cnnlab.report.document import Page
from cnnlab.report.language import Language
from cnnlab.report.plots import forest
from cnnlab.report.tables import records
from cnnlab.studies import overrides
from cnnlab.studies.host import run_study
from cnnlab.studies.plan import Attrs, Slot, study_name
from cnnlab.studies.publish import publish
from cnnlab.studies.settings import SettingsPlan, failures, interval, paired_effects, runs_table
from cnnlab.studies.storage import with_retries

FOLDER = REPORTS / "ablation"


@dataclass(frozen=True)
class AblationPlan(SettingsPlan):
    """An ablation: each of `factors` is compared with the base, each step of `ladder` with the one before.

    The settings are the base, the factors and the steps; the first setting is the base.
    """

    factors: list[str]
    ladder: list[str]

    kind = "ablation"
    sentence = "An ablation: the base, single changes of it, and the steps of a ladder."

    @property
    def attrs(self) -> Attrs:
        """Factors and ladder."""
        return {"objectives": self.objectives, "factors": self.factors, "ladder": self.ladder}


def make_plan(parameters: params.Params, url: str) -> AblationPlan:
    """The ablation of params.yaml under its budget; whatever changes a training makes it a new study.

    Raises UserError for a factor that makes no valid variant.
    """
    ablation = parameters.ablation
    chosen = parameters.scale.ablation
    base = params.variant(parameters, ablation.base)
    names = ablation.factors if chosen.factors is None else chosen.factors
    factors = {name: overrides.apply(base, ablation.factors[name], f"ablation.factors.{name}") for name in names}
    ladder = {name: params.variant(parameters, name) for name in ablation.ladder}
    settings = {ablation.base: base, **factors, **ladder}
    seeds = dict.fromkeys(ladder, chosen.ladder_seeds) | dict.fromkeys(factors, chosen.seeds)
    seeds[ablation.base] = max(chosen.seeds, seeds.get(ablation.base, 0))
    validation = params.set_aside(parameters, base.data, chosen.validation, base.validation)
    shared = {
        "settings": {name: variant.model_dump() for name, variant in settings.items()},
        "ladder": ablation.ladder,
        "budget": chosen.model_dump(),
        "preprocess": parameters.preprocess.model_dump(),
        "validation": validation,
    }
    return AblationPlan(
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
        validation=validation,
        devices=parameters.strategy,
        train=parameters.train,
    )


def ablate(plan: AblationPlan, slots: list[Slot], say: Language) -> None:
    """Start or continue an ablation, and write its results to reports/ablation: tables, summary.md and forest.png.

    Raises as `run_study`, and UserError if no training of the base is complete.
    """
    ledger = run_study(plan, slots)
    base = next(iter(plan.settings))
    runs = with_retries(lambda: runs_table(ledger.study))
    if not any((runs["setting"] == base) & (runs["state"] == "COMPLETE")):
        reasons = "; ".join(runs.loc[runs["setting"] == base, "reason"].unique())
        raise UserError(f"No training of {base} succeeded. Expected at least one to compare with. Received: {reasons}")
    tables = {
        "runs": runs,
        "effects": paired_effects(runs, dict.fromkeys(plan.factors, base)),
        "ladder": paired_effects(runs, {step: before for before, step in pairwise(plan.ladder)}),
    }

    def write(folder: Path) -> dict[str, float]:
        for name, rows in tables.items():
            write_text(folder / f"{name}.csv", rows.to_csv(index=False))
        write_text(folder / "summary.md", summary(tables, base, say))
        named = tables["effects"].assign(setting=tables["effects"]["setting"].map(say.name))
        forest(folder / "forest.png", named, base, say)
        return {}

    publish(ledger, FOLDER, write)


def summary(tables: Mapping[str, pd.DataFrame], base: str, say: Language) -> str:
    """Markdown: one row per factor, the best first, one row per step of the ladder, and the failed trainings."""
    runs, ladder = tables["runs"], tables["ladder"]
    mean = runs.loc[(runs["setting"] == base) & (runs["state"] == "COMPLETE"), "accuracy"].mean()
    page = Page(say, FOLDER)
    _add_table(page, say("factor"), tables["effects"].sort_values("difference", ascending=False))
    text = say("Mean validation accuracy of {base} over its seeds: {accuracy}.", base=base, accuracy=say.percent(mean))
    page.note(f"{text} {say('runs.csv lists the MLflow run of each training.')}")
    if len(ladder):
        page.note(say("Each step of the ladder against the one before:"))
        _add_table(page, say("step"), ladder)
    return "\n\n".join(filter(None, [*page.blocks, failures(runs, say)])) + "\n"


def _add_table(page: Page, heading: str, found: pd.DataFrame) -> None:
    say = page.language
    columns = ("n", "points (95 % interval)", "p (Holm)", "verdict", "time", "FLOPs", "parameters")
    rows = [
        (
            say.name(row["setting"]),
            str(row["n"]),
            interval(row, say),
            say.number(row["p_holm"], 3),
            say(row["verdict"]),
            *(f"× {say.number(row[name], 2)}" for name in ("seconds", "training_flop", "parameters")),
        )
        for row in records(found)
    ]
    page.table([heading, *(say(column) for column in columns)], rows, 1)
