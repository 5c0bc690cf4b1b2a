"""Tables behind the homework page: variants, classes, errors, calibration, ablation, sweep and transfers."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cnnlab import params
from cnnlab.data.store import read_card
from cnnlab.errors import UserError
from cnnlab.evaluation.paired import compare_on_images
from cnnlab.evaluation.results import Evaluation, first_seed
from cnnlab.files import REPORTS, verified
from cnnlab.homework.long_runs import long_effects, long_transfers, long_variants
from cnnlab.report.tables import records

# Tables below reports/, by the paths under which the page cites them
VARIANTS, CLASSES = "homework/variants.csv", "homework/classes.csv"
CALIBRATION, ERRORS = "homework/calibration.csv", "homework/mistakes.csv"
PAIRED, PAIRS = "homework/paired.csv", "homework/pairs.csv"
PAIR_IMAGES = "homework/pair_images.csv"
LONG_VARIANTS, LONG_FACTORS = "homework/long_variants.csv", "homework/long_factors.csv"
LONG_INGREDIENTS = "homework/long_ingredients.csv"
LONG_TRANSFERS, LONG_TRANSFER_EFFECTS = "homework/long_transfers.csv", "homework/long_transfer_effects.csv"
EFFECTS, RUNS, CHANGED = "ablation/effects.csv", "ablation/runs.csv", "ablation/changes.csv"
TRIALS, IMPORTANCES = "sweep/trials.csv", "sweep/importances.csv"
CHANGES, LAYERS, LACKING = "transfer/changes.csv", "transfer/layers.csv", "transfer/lacking.csv"
TRANSFERS, TRANSFER_EFFECTS = "transfer/runs.csv", "transfer/effects.csv"
STUDIES = (EFFECTS, RUNS, CHANGED, TRIALS, IMPORTANCES, CHANGES, LAYERS, LACKING, TRANSFERS, TRANSFER_EFFECTS)
SHOWN = 18  # errors in the figure
MOST_CONFUSED = 3  # pairs of classes in the figure, each with EACH images
EACH = 6


@dataclass(frozen=True)
class Findings:
    """The tables behind the page, and what they are about."""

    before: str  # the variant that the homework asks to improve
    after: str  # of the others, the one with the best validation accuracy; `before` if there is no other
    searched: str | None  # the base of the sweep; None if it searched on another data set
    budget: str
    data: str  # the data set of question 1
    changes: dict[str, Any]  # of `before` in the ablation, under this budget
    tables: dict[str, pd.DataFrame]

    def __getitem__(self, file: str) -> pd.DataFrame:
        return self.tables[file]

    def variant(self, name: str) -> dict[str, Any]:
        """The row of a variant."""
        return records(self[VARIANTS][self[VARIANTS]["variant"] == name])[0]

    def effects(self, kind: str) -> pd.DataFrame:
        """The rows of effects.csv that are a `kind` of contrast: factor, step or ingredient."""
        return self[EFFECTS][self[EFFECTS][kind].notna()]

    @property
    def compared(self) -> list[str]:
        """`before` and `after`, once if they are the same."""
        return list(dict.fromkeys((self.before, self.after)))


def gather(parameters: params.Params) -> Findings:
    """Read the tables of the evaluations and studies, and derive those of the page.

    The best variant is the one with the highest mean validation accuracy. Raises UserError if a table is missing or
    damaged.
    """
    before = parameters.ablation.base
    on_demand = {name: v for name, v in parameters.on_demand.items() if _is_evaluated(parameters, name)}
    known = {**params.variants(parameters), **on_demand}
    names = [name for name, variant in known.items() if variant.data == parameters.ablation.data]
    variants = pd.DataFrame([_variant(name) for name in names])
    others = variants[variants["variant"] != before]
    after = str(others["variant"].iloc[others["validation_accuracy"].argmax()]) if len(others) else before
    classes = len(read_card(parameters.ablation.data)["classes"])
    bins = {name: first_seed(Evaluation(name).table("calibration")) for name in (before, after)}
    derived = {
        VARIANTS: variants,
        CLASSES: _classes(before, after),
        CALIBRATION: pd.concat(bins, names=["variant"]).reset_index("variant"),
        ERRORS: first_seed(Evaluation(after).table("errors")).head(SHOWN),
        PAIRS: (pairs := _pairs(after)),
        PAIR_IMAGES: _images_of(pairs, after),
        PAIRED: _paired(variants, after),
        LONG_VARIANTS: long_variants(),
        LONG_FACTORS: long_effects("ablation", classes),
        LONG_INGREDIENTS: long_effects("leave-one-out", classes),
    }
    commands = {file: f"rm -r {(REPORTS / file).parent} && make repro" for file in STUDIES}
    studies = {file: pd.read_csv(verified(REPORTS / file, command)) for file, command in commands.items()}
    nothing = studies[TRANSFERS].head(0), studies[TRANSFER_EFFECTS].head(0)
    derived[LONG_TRANSFERS], derived[LONG_TRANSFER_EFFECTS] = long_transfers() or nothing
    tables = derived | studies
    for file in (TRANSFERS, TRANSFER_EFFECTS, LONG_TRANSFERS, LONG_TRANSFER_EFFECTS):
        tables[file] = tables[file].fillna({"change": ""})
    searched = parameters.sweep.base if parameters.sweep.data == parameters.ablation.data else None
    ablation, changes = parameters.ablation, parameters.scale.ablation.changes
    return Findings(before, after, searched, parameters.budget, ablation.data, changes, tables)


def _is_evaluated(parameters: params.Params, name: str) -> bool:
    """Whether this checkout has an evaluation of the variant's current recipe."""
    evaluation = Evaluation(name)
    if not evaluation.folder.exists():
        return False
    recipe = json.loads(params.runs(parameters, name)[0].model_dump_json())
    return bool(recipe.items() <= evaluation.recipe().items())


def _variant(name: str) -> dict[str, Any]:
    """A row of variants.csv: means over runs, errors of all runs; gap and calibration errors in percentage points."""
    evaluation = Evaluation(name)
    runs, means = evaluation.table("runs"), evaluation.metrics()
    try:
        return {
            "variant": name,
            "n": means.pop("seeds"),
            **{key: value for key, value in means.items() if key != "interval"},
            "gap": 100 * (means["train_accuracy"] - means["validation_accuracy"]),
            **{key: 100 * means[key] for key in ("calibration_error", "scaled_calibration_error")},
            "label_smoothing": evaluation.recipe()["label_smoothing"],
            "best_epoch": _best_epoch(evaluation),
            **{column: runs[column].sum() for column in ("errors", "confident_errors")},
            "run_ids": " ".join(runs["run_id"]),
        }
    except KeyError as error:
        raise UserError(
            f"Outdated {evaluation.folder}. Expected {error} in runs.csv and metrics.json. Received: no such column. "
            f"To fix this, run: {evaluation.command}"
        ) from error


def _best_epoch(evaluation: Evaluation) -> int:
    """The epoch of the first seed after which the validation loss was least, from 1."""
    curves = evaluation.table("curves")
    return 1 + int(np.argmin(curves.loc[curves["split"] == "validation", "loss"]))


def _pairs(variant: str) -> pd.DataFrame:
    """The pairs of classes that the variant's first seed confuses most, with its test `errors` in each direction.

    `share` is that of all errors; `one` is the class that is taken for the `other` more often than the other way.
    """
    images = Evaluation(variant).table("confusion")
    wrong = images[images["actual"] != images["predicted"]]
    counts = wrong.groupby(["actual", "predicted"]).size().rename("there").reset_index()
    back = counts.set_axis(["predicted", "actual", "back"], axis=1)
    both = counts.merge(back, how="left").fillna({"back": 0}).astype({"back": int})
    once = both[
        (both["there"] > both["back"]) | ((both["there"] == both["back"]) & (both["actual"] < both["predicted"]))
    ]
    once = once.assign(errors=once["there"] + once["back"]).assign(share=lambda rows: rows["errors"] / len(wrong))
    once = once.rename(columns={"actual": "one", "predicted": "other"}).assign(
        run_id=Evaluation(variant).recipe()["run_id"]
    )
    return once.sort_values("errors", ascending=False, kind="stable").head(MOST_CONFUSED)


def _images_of(pairs: pd.DataFrame, variant: str) -> pd.DataFrame:
    """The test images of each pair that the variant's first seed confuses with the highest confidence."""
    images = Evaluation(variant).table("confusion").rename_axis("image").reset_index()
    wrong = images[images["actual"] != images["predicted"]].sort_values("confidence", ascending=False, kind="stable")
    each = [
        wrong[wrong["actual"].isin([row["one"], row["other"]]) & wrong["predicted"].isin([row["one"], row["other"]])]
        for row in records(pairs)
    ]
    return pd.concat([rows.head(EACH) for rows in each] or [wrong])


def _classes(before: str, after: str) -> pd.DataFrame:
    """One row per class: recall before and after, in [0, 1], and the gain in points, in descending order of gain."""
    old, new = (first_seed(Evaluation(name).table("classes")) for name in (before, after))
    table = old.merge(new, on="class", suffixes=("_before", "_after"), how="left")
    table = table.rename(columns={"recall_before": "before", "recall_after": "after"})
    table["gain"] = 100 * (table["after"] - table["before"])
    columns = ["class", "before", "after", "gain", "run_id_before", "run_id_after"]
    return table[columns].sort_values("gain", ascending=False)


def _paired(variants: pd.DataFrame, after: str) -> pd.DataFrame:
    """One row per other variant: `after` against it on the test images, first seeds, and the ratio of their times."""
    rows = []
    own = variants.set_index("variant").loc[after]
    for other in records(variants[variants["variant"] != after]):
        old, new = (Evaluation(name).table("confusion") for name in (other["variant"], after))
        correct = [(table["actual"] == table["predicted"]).to_numpy() for table in (new, old)]
        ids = " ".join(Evaluation(name).recipe()["run_id"] for name in (after, other["variant"]))
        ratio = own["train_seconds"] / other["train_seconds"]
        rows.append({"variant": other["variant"], **compare_on_images(*correct), "seconds": ratio, "run_ids": ids})
    columns = ["variant", "images", "gained", "lost", "difference", "low", "high", "p", "seconds", "run_ids"]
    return pd.DataFrame(rows, columns=columns)
