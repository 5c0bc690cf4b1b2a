"""Sentences and table columns that both questions of the homework share."""

import pandas as pd

from cnnlab.report.document import Page
from cnnlab.report.language import Language
from cnnlab.report.tables import records

# Columns of effects in tables: heading and template
POINTS = {"points (95 % interval)": "{difference:points}{range}", "p (Holm)": "{p_holm:p_value}"}
VERDICT = {"verdict": "{verdict:message}", "time": "× {seconds:number.2}"}


def described(effects: pd.DataFrame, say: Language) -> pd.DataFrame:
    """Effects with their intervals as text: `range` for table cells, `interval` with n for sentences.

    An effect of a single pair has no interval.
    """
    ranges, intervals = [], []
    for row in records(effects):
        known = not pd.isna(row["low"])
        ranges.append(say.fill(" ({low:points} – {high:points})", row) if known else "")
        interval = "95 % interval {low:points} to {high:points}, n = {n}"
        intervals.append(say(interval, **row) if known else f"n = {row['n']}")
    return effects.assign(range=ranges, interval=intervals)


def completed(runs: pd.DataFrame) -> pd.DataFrame:
    """The training runs of a study that completed."""
    return runs[runs["state"] == "COMPLETE"]


def failures(runs: pd.DataFrame, file: str, page: Page) -> None:
    """Report each training run of a study that failed."""
    failed = records(runs[runs["state"] != "COMPLETE"])
    for claim in page.each("{setting:name}, seed {seed}, failed: {reason}", file, "setting seed", failed):
        page.say(claim)
