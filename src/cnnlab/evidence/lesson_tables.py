"""What the course's page is written from: what stages lesson and evaluate left."""

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cnnlab.evidence.evaluation import EVALUATION
from cnnlab.evidence.findings import records
from cnnlab.evidence.lesson_networks import Network
from cnnlab.files import REPORTS
from cnnlab.params import Params, variants

LESSON = REPORTS / "lesson"
METHODS = "lesson/methods.csv"
Row = dict[str, Any]


@dataclass(frozen=True)
class Course:
    """What stage lesson computed: the worked examples, networks, methods before them, and what was looked into."""

    parameters: Params
    examples: Row
    activations: list[Row]
    networks: dict[str, Network]  # the lesson's four, by short name
    anatomy: dict[str, list[Row]]  # every variant's layers
    methods: pd.DataFrame
    seen: list[Row]
    metrics: dict[str, Row]  # of every variant, as stage evaluate wrote them
    tables: dict[str, pd.DataFrame]  # a row a run of each variant


def gather(parameters: Params) -> Course:
    """What stages lesson and evaluate left in reports/."""
    names = list(variants(parameters))
    return Course(
        parameters,
        _read("examples"),
        records(pd.read_csv(LESSON / "activations.csv")),
        _read("networks"),
        _read("anatomy"),
        pd.read_csv(REPORTS / METHODS),
        records(pd.read_csv(LESSON / "seen.csv")),
        {name: json.loads((EVALUATION / name / "metrics.json").read_text()) for name in names},
        {name: pd.read_csv(EVALUATION / name / "runs.csv") for name in names},
    )


def _read(name: str) -> Any:
    return json.loads((LESSON / f"{name}.json").read_text())
