"""The tables that the lesson is written from: its own, and those of stages evaluate and see."""

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cnnlab.evaluation.results import Evaluation
from cnnlab.files import REPORTS, verified
from cnnlab.params import Params, variants
from cnnlab.report.tables import records
from cnnlab.see.best import seen

LESSON = REPORTS / "lesson"
METHODS = "lesson/methods.csv"
COMMAND = "python pipeline/lesson.py"
Row = dict[str, Any]


@dataclass(frozen=True)
class Course:
    """Worked examples, networks, classic methods, and the results of the variants."""

    parameters: Params
    examples: Row
    activations: list[Row]
    networks: dict[str, Row]  # the lesson's four, see `lesson_networks.computed_tables`
    anatomy: dict[str, list[Row]]  # layers of every variant
    methods: pd.DataFrame
    seen: list[Row]  # one row per variant that stage see drew
    metrics: dict[str, Row]  # of every variant, from stage evaluate
    runs: dict[str, pd.DataFrame]  # of every variant, one row per training run


def gather(parameters: Params) -> Course:
    """Read the tables in reports/. Raises UserError if one is missing or damaged."""
    names = list(variants(parameters))
    return Course(
        parameters,
        _read("examples"),
        records(pd.read_csv(verified(LESSON / "activations.csv", COMMAND))),
        _read("networks"),
        _read("anatomy"),
        pd.read_csv(verified(REPORTS / METHODS, COMMAND)),
        seen(),
        {name: Evaluation(name).metrics() for name in names},
        {name: Evaluation(name).table("runs") for name in names},
    )


def _read(name: str) -> Any:
    return json.loads(verified(LESSON / f"{name}.json", COMMAND).read_text())
