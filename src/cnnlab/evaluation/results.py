"""Results of stage evaluate in `reports/evaluation/<variant>/`, checked against their digests before use."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cnnlab.files import MODELS, REPORTS, verified

EVALUATION = REPORTS / "evaluation"


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one variant; `evaluate_variant` documents its files.

    Every reader raises UserError if the file is missing or damaged.
    """

    variant: str

    @property
    def folder(self) -> Path:
        """The folder that holds the files."""
        return EVALUATION / self.variant

    @property
    def command(self) -> str:
        """The command that writes the files again, from the outputs of stage train."""
        seeds = 1 + len([*MODELS.glob(f"*/{self.variant}/seed-*")])  # fewer would drop the others from the tables
        return f"python pipeline/evaluate.py {self.variant}" + (f" --seeds {seeds}" if seeds > 1 else "")

    def metrics(self) -> dict[str, Any]:
        """Means over seeds, and the 95 % interval of the test accuracy."""
        return dict(json.loads(self._verified("metrics.json").read_text()))

    def recipe(self) -> dict[str, Any]:
        """Recipe and MLflow run ID of the first seed."""
        return dict(json.loads(self._verified("recipe.json").read_text()))

    def confusion(self, classes: list[str]) -> np.ndarray:
        """Confusion matrix (classes, classes) of the first seed: counts, true classes in rows, predicted in columns."""
        return counts(self.table("confusion"), classes)

    def table(self, name: str) -> pd.DataFrame:
        """Table `name`: runs, classes, calibration, errors, confusion or curves; see `evaluate_variant`."""
        # A class may be called "null" or "1".
        text = dict.fromkeys(("class", "actual", "predicted", "run_id"), str)
        return pd.read_csv(self._verified(f"{name}.csv"), dtype=text, keep_default_na=False, na_values=[""])

    def _verified(self, name: str) -> Path:
        return verified(self.folder / name, self.command)


def first_seed(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of seed 0."""
    return table[table["seed"] == 0]


def counts(pairs: pd.DataFrame, classes: list[str]) -> np.ndarray:
    """Confusion matrix (classes, classes) of the class names `actual` and `predicted`."""
    table = pd.crosstab(pairs["actual"], pairs["predicted"])
    return np.asarray(table.reindex(index=classes, columns=classes, fill_value=0))
