"""Ablations: single changes of the base, the steps of a ladder, and its last variant without each ingredient."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cnnlab import params
from cnnlab.data.store import read_card
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


CONTRASTS = ("factor", "step", "ingredient")  # columns of effects.csv with the name of a contrast


@dataclass(frozen=True)
class AblationPlan(SettingsPlan):
    """An ablation: single changes of the base, steps of a ladder, and ingredients of its last variant.

    The first setting is the base. `contrasts` maps each (setting, base) to its names: a factor, a step or an
    ingredient, or several of these. An ingredient is compared with the last variant without it.
    """

    contrasts: dict[tuple[str, str], dict[str, str]]

    kind = "ablation"
    sentence = "An ablation: single changes of the base, the steps of a ladder, and its last variant without each part."

    @property
    def attrs(self) -> Attrs:
        """The contrasts."""
        rows = [{"setting": setting, "base": base, **names} for (setting, base), names in self.contrasts.items()]
        return {"objectives": self.objectives, "contrasts": rows}


def make_plan(parameters: params.Params, url: str) -> AblationPlan:
    """The ablation of params.yaml under its budget; whatever changes a training makes it a new study.

    Settings that train alike are one setting. Raises UserError for changes that make no valid variant, or change
    nothing.
    """
    ablation, chosen = parameters.ablation, parameters.scale.ablation
    base = params.variant(parameters, ablation.base)
    validation = params.set_aside(parameters, base.data, chosen.validation, base.validation)
    settings, contrasts = _settings(parameters, base)
    shared = {
        "settings": {name: variant.model_dump() for name, variant in settings.items()},
        "contrasts": [*contrasts.items()],
        "budget": chosen.model_dump(),
        "preprocess": parameters.preprocess.model_dump(),
        "validation": validation,
        "folds": parameters.scale.training.folds,
    }
    return AblationPlan(
        study=study_name(ablation.base, shared),
        storage=url,
        data=base.data,
        base=base,
        settings=settings,
        contrasts=contrasts,
        seeds=chosen.seeds,
        budget=parameters.scale.training,
        epochs=chosen.epochs,
        train_images=chosen.train_images,
        validation=validation,
        devices=parameters.strategy,
        train=parameters.train,
    )


def _settings(
    parameters: params.Params, base: params.Variant
) -> tuple[dict[str, params.Variant], dict[tuple[str, str], dict[str, str]]]:
    """The settings, each once and named like the variant if it is one, and the contrasts between them."""
    ablation, chosen = parameters.ablation, parameters.scale.ablation
    settings: dict[str, params.Variant] = {}
    contrasts: dict[tuple[str, str], dict[str, str]] = {}

    def add(name: str, variant: params.Variant) -> str:
        same = variant.model_copy(update={"epochs": chosen.epochs, "validation": None})
        known = next((known for known, other in settings.items() if other == same), name)
        settings.setdefault(known, same)
        return known

    def compare(setting: str, other: str, kind: str, name: str, section: str) -> None:
        if setting == other:
            raise UserError(
                f"Invalid {section}. Expected a change of {other}, apart from its epochs. Received: {name}, which "
                "changes nothing."
            )
        contrasts.setdefault((setting, other), {})[kind] = name

    root = add(ablation.base, _changed(base, base, parameters))
    steps = [add(name, _changed(params.variant(parameters, name), base, parameters)) for name in ablation.ladder]
    for below, step, name in zip(steps, steps[1:], ablation.ladder[1:], strict=False):
        compare(step, below, "step", name, "ablation.ladder")
    for name in ablation.factors if chosen.factors is None else chosen.factors:
        section = f"ablation.factors.{name}"
        factor = add(name, overrides.apply(settings[root], ablation.factors[name], section))
        compare(factor, root, "factor", name, section)
    for name in ablation.leave_one_out if chosen.leave_one_out is None else chosen.leave_one_out:
        section = f"ablation.leave_one_out.{name}"
        without = add(f"without {name}", overrides.apply(settings[steps[-1]], ablation.leave_one_out[name], section))
        compare(steps[-1], without, "ingredient", name, section)
    return settings, contrasts


def _changed(variant: params.Variant, base: params.Variant, parameters: params.Params) -> params.Variant:
    """The variant with the budget's changes of those keys where it has the value of the base."""
    changes = parameters.scale.ablation.changes
    section = f"ablation.budgets.{parameters.budget}.changes"
    overrides.apply(base, changes, section)  # reports an unknown key
    same = {key: value for key, value in changes.items() if overrides.value(variant, key) == overrides.value(base, key)}
    return overrides.apply(variant, same, section)


def ablate(plan: AblationPlan, slots: list[Slot], say: Language) -> None:
    """Start or continue an ablation, and write its results to reports/ablation: tables, summary.md and forest.png.

    Raises as `run_study`, and UserError if no training of the base is complete.
    """
    ledger = run_study(plan, slots)
    base = next(iter(plan.settings))
    runs = with_retries(lambda: runs_table(ledger.study)).assign(chance=1 / len(read_card(plan.data)["classes"]))
    if not any((runs["setting"] == base) & (runs["state"] == "COMPLETE")):
        reasons = "; ".join(runs.loc[runs["setting"] == base, "reason"].unique())
        raise UserError(f"No training of {base} succeeded. Expected at least one to compare with. Received: {reasons}")
    contrasts = pd.DataFrame(plan.attrs["contrasts"], columns=[*CONTRASTS, "setting", "base"])
    effects = contrasts.merge(paired_effects(runs, [*plan.contrasts]), on=["setting", "base"])

    def write(folder: Path) -> dict[str, float]:
        for name, rows in {"runs": runs, "effects": effects, "changes": changes(plan)}.items():
            write_text(folder / f"{name}.csv", rows.to_csv(index=False))
        write_text(folder / "summary.md", summary(runs, effects, base, say))
        factors = effects[effects["factor"].notna()]
        forest(folder / "forest.png", factors.assign(name=factors["factor"].map(say.name)), base, say)
        return {}

    publish(ledger, FOLDER, write)


def changes(plan: AblationPlan) -> pd.DataFrame:
    """One row per key of the variant that differs in a contrast: setting, base, key, and its values `from` and `to`."""
    dumps = {name: pd.json_normalize(v.model_dump(), sep=".").iloc[0].to_dict() for name, v in plan.settings.items()}
    rows = [
        {"setting": setting, "base": base, "key": key, "from": dumps[base].get(key), "to": dumps[setting].get(key)}
        for setting, base in plan.contrasts
        for key in dict.fromkeys([*dumps[setting], *dumps[base]])
        if dumps[setting].get(key) != dumps[base].get(key)
    ]
    return pd.DataFrame(rows, columns=["setting", "base", "key", "from", "to"], dtype=object)


def summary(runs: pd.DataFrame, effects: pd.DataFrame, base: str, say: Language) -> str:
    """Markdown: one row per factor, the best first, per step of the ladder, and per ingredient; failed trainings."""
    mean = runs.loc[(runs["setting"] == base) & (runs["state"] == "COMPLETE"), "accuracy"].mean()
    page = Page(say, FOLDER)
    text = say("Mean validation accuracy of {base} over its seeds: {accuracy}.", base=base, accuracy=say.percent(mean))
    page.note(f"{text} {say('runs.csv lists the MLflow run of each training.')}")
    for kind, text in (
        ("factor", say("Each factor by itself, relative to {base}:", base=base)),
        ("step", say("Each step of the ladder against the one before:")),
        ("ingredient", say("The last variant of the ladder, relative to itself without one ingredient:")),
    ):
        rows = effects[effects[kind].notna()]
        if len(rows):
            page.note(text)
            _add_table(page, kind, rows if kind == "step" else rows.sort_values("difference", ascending=False))
    return "\n\n".join(filter(None, [*page.blocks, failures(runs, say)])) + "\n"


def _add_table(page: Page, column: str, found: pd.DataFrame) -> None:
    say = page.language
    columns = ("n", "points (simultaneous 95 % interval)", "p (corrected)", "verdict", "time", "FLOPs", "parameters")
    rows = [
        (
            say.name(row[column]),
            str(row["n"]),
            interval(row, say),
            say.p_value(row["p"]),
            say(row["verdict"]),
            *(f"× {say.number(row[name], 2)}" for name in ("seconds", "training_flop", "parameters")),
        )
        for row in records(found)
    ]
    page.table([say(column), *map(say, columns)], rows, 1)
