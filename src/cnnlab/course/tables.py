"""The tables that the lesson is written from: its own, and those of stages evaluate and see."""

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cnnlab.data.store import read_card
from cnnlab.evaluation.results import Evaluation
from cnnlab.files import REPORTS, verified
from cnnlab.params import Params, variants
from cnnlab.report.tables import records
from cnnlab.see.best import depths, seen

LESSON = REPORTS / "lesson"
METHODS = "lesson/methods.csv"
TRAININGS = "lesson/trainings.csv"
CONTRASTS = "lesson/contrasts.csv"
COMMAND = "python pipeline/lesson.py"
RGB = 3  # channels
Row = dict[str, Any]


@dataclass(frozen=True)
class Course:
    """Worked examples, networks, classic methods, and the results of the variants."""

    parameters: Params
    examples: Row
    activations: list[Row]
    networks: dict[str, Row]  # the lesson's four, see `lesson_networks.computed_tables`
    lenet: list[Row]  # layers of the handout's LeNet-5 with stride 2 in both poolings
    anatomy: dict[str, list[Row]]  # layers of every variant
    methods: pd.DataFrame
    trainings: pd.DataFrame  # short ones, and their
    contrasts: pd.DataFrame
    seen: list[Row]  # one row per variant that stage see drew
    depths: pd.DataFrame  # one row per convolution of these
    metrics: dict[str, Row]  # of every variant, from stage evaluate
    runs: dict[str, pd.DataFrame]  # of every variant, one row per training run

    def coloured(self) -> list[str]:
        """Names of the data sets with three channels."""
        return [name for name in self.methods["data"].unique() if read_card(name)["shape"][2] == RGB]


def gather(parameters: Params) -> Course:
    """Read the tables in reports/. Raises UserError if one is missing or damaged."""
    names = list(variants(parameters))
    return Course(
        parameters,
        _read("examples"),
        records(_table("lesson/activations.csv")),
        _read("networks"),
        _read("lenet"),
        _read("anatomy"),
        _table(METHODS),
        _table(TRAININGS),
        _table(CONTRASTS),
        seen(),
        depths(),
        {name: Evaluation(name).metrics() for name in names},
        {name: Evaluation(name).table("runs") for name in names},
    )


def _read(name: str) -> Any:
    return json.loads(verified(LESSON / f"{name}.json", COMMAND).read_text())


def _table(name: str) -> pd.DataFrame:
    return pd.read_csv(verified(REPORTS / name, COMMAND))
