"""Sentences and table columns that both questions of the homework share."""

from pathlib import Path
from typing import Any

import pandas as pd

from cnnlab.evaluation.effects import INCONCLUSIVE, NOT_TESTED
from cnnlab.homework.findings import LONG_VARIANTS
from cnnlab.report.document import Claim, Page
from cnnlab.report.language import DASH, Language
from cnnlab.report.tables import records

# Columns of effects in tables: heading and template
POINTS = {"points (simultaneous 95 % interval)": "{difference:points}{range}", "p (corrected)": "{p:p_value}"}
VERDICT = {"verdict": "{outcome}", "time": "× {seconds:number.2}"}


def described(effects: pd.DataFrame, say: Language) -> pd.DataFrame:
    """Effects with texts: the interval as `range` for cells and as `interval` with n for sentences, and the `outcome`.

    An effect that was not tested has no interval. The outcome is the verdict; if it is inconclusive, with the smallest
    effect that this n could have shown and the number of seeds that would decide.
    """
    ranges, intervals, outcomes = [], [], []
    for row in records(effects):
        known = not pd.isna(row["low"])
        ranges.append(say.fill(" ({low:points} – {high:points})", row) if known else "")
        interval = "95 % interval {low:points} to {high:points}, n = {n}"
        intervals.append(say(interval, **row) if known else f"n = {row['n']}")
        outcomes.append(_outcome(row, say))
    return effects.assign(range=ranges, interval=intervals, outcome=outcomes)


def _outcome(row: dict[str, Any], say: Language) -> str:
    if row["verdict"] == NOT_TESTED and row["n"] > 1:
        return say("not tested: the base is below 3 × chance, or all runs are equal")
    if row["verdict"] != INCONCLUSIVE:
        return say(row["verdict"])
    if pd.isna(row["seeds_needed"]):
        return say("inconclusive; {n} seeds show effects of {detectable:number.1} points or more", **row)
    return say(
        "inconclusive; {n} seeds show effects of {detectable:number.1} points or more, about {seeds_needed:count} "
        "seeds would decide",
        **row,
    )


def completed(runs: pd.DataFrame) -> pd.DataFrame:
    """The training runs of a study that completed."""
    return runs[runs["state"] == "COMPLETE"]


def long_claims(rows: pd.DataFrame, page: Page) -> list[Claim]:
    """One claim per long training, quoted from docs/results."""
    english = (
        "Long run on {data}: {variant} (epochs: {epochs:count}) classifies {test_accuracy:percent} of the test images "
        "correctly (95 % interval {low:percent} – {high:percent}, n = {n}; `{folder}`)."
    )
    return page.each(english, LONG_VARIANTS, "variant", records(rows))


def long_table(rows: pd.DataFrame, page: Page) -> None:
    """Add a table of long trainings, quoted from docs/results."""
    columns = {
        "variant": "{variant}",
        "data set": "{data}",
        "recipe": "{recipe}",
        "folder": "`{folder}`",
        "n": "{n}",
        "epochs": "{epochs:count}",
        "training time": "{train_seconds:seconds}",
        "test accuracy (95 %)": "{test_accuracy:percent} ({low:percent} – {high:percent})",
        "top-5": "{top5}",
    }
    say = page.language
    top5 = [DASH if pd.isna(share) else say.percent(share) for share in rows["test_top5_accuracy"]]
    recipes = [DASH if pd.isna(recipe) else say.value(recipe) for recipe in rows["recipe"]]
    folders = [Path(folder).name for folder in rows["folder"]]
    page.records(records(rows.assign(top5=top5, recipe=recipes, folder=folders)), columns, 4)


def failures(runs: pd.DataFrame, file: str, page: Page) -> None:
    """Report each training run of a study that failed."""
    failed = records(runs[runs["state"] != "COMPLETE"])
    for claim in page.each("{setting:name}, seed {seed}, failed: {reason}", file, "setting seed", failed):
        page.say(claim)
