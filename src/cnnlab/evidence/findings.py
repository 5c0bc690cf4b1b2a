"""What the pipeline measured for the homework, in tables: variants, classes, mistakes, confidence, transfers."""

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from cnnlab import params
from cnnlab.data.store import read_card
from cnnlab.errors import UserError
from cnnlab.evidence.evaluation import EVALUATION, run_folder, summary
from cnnlab.files import REPORTS
from cnnlab.train.evaluate import calibration, classification

SHOWN = 18  # mistakes in the picture
SURE = 0.9  # a confidence above which a mistake counts as a sure one

TRANSFER = {
    "adaptations": "changes",
    "layers": "layers",
    "transfers": "runs",
    "transfer_effects": "effects",
    "lacking": "lacking",
}


@dataclass(frozen=True)
class Findings:
    """All that the page tells, each table as it lies in the folder that its comment names."""

    before: str  # the variant that the homework asks to improve
    after: str  # of the others, the one with the best validation accuracy; `before` where there is no other
    searched: str | None  # the variant that the sweep began with; None where it searched on another data set
    budget: str
    variants: pd.DataFrame  # homework/variants.csv, by name
    classes: pd.DataFrame  # homework/classes.csv
    calibration: pd.DataFrame  # homework/calibration.csv
    mistakes: pd.DataFrame  # homework/mistakes.csv
    changes: pd.DataFrame  # homework/changes.csv
    effects: pd.DataFrame  # ablation/effects.csv
    ladder: pd.DataFrame  # ablation/ladder.csv
    runs: pd.DataFrame  # ablation/runs.csv
    trials: pd.DataFrame  # sweep/trials.csv
    importances: pd.DataFrame  # sweep/importances.csv
    adaptations: pd.DataFrame  # transfer/changes.csv
    layers: pd.DataFrame  # transfer/layers.csv
    transfers: pd.DataFrame  # transfer/runs.csv
    transfer_effects: pd.DataFrame  # transfer/effects.csv
    lacking: pd.DataFrame  # transfer/lacking.csv


def gather(parameters: params.Params) -> Findings:
    """Read and compute all findings; the best variant is chosen by the mean validation accuracy of its runs.

    Raises UserError where a run is missing.
    """
    before = parameters.ablation.base
    on_demand = {name: v for name, v in parameters.on_demand.items() if _is_at_hand(parameters, name)}
    known = {**params.variants(parameters), **on_demand}
    names = [name for name, variant in known.items() if variant.data == parameters.ablation.data]
    variants = pd.DataFrame([_variant(parameters, name) for name in names])
    others = variants[variants["variant"] != before]
    after = str(others["variant"].iloc[others["validation_accuracy"].argmax()]) if len(others) else before
    first = {name: params.runs(parameters, name)[0] for name in (before, after)}
    return Findings(
        before=before,
        after=after,
        searched=parameters.sweep.base if parameters.sweep.data == parameters.ablation.data else None,
        budget=parameters.budget,
        variants=variants,
        classes=_classes(first[before], first[after]),
        calibration=pd.concat([_bins(run) for run in first.values()]),
        mistakes=_mistakes(first[after]),
        changes=_changes(parameters),
        **{name: pd.read_csv(REPORTS / "ablation" / f"{name}.csv") for name in ("effects", "ladder", "runs")},
        **{name: pd.read_csv(REPORTS / "sweep" / f"{name}.csv") for name in ("trials", "importances")},
        **{name: pd.read_csv(REPORTS / "transfer" / f"{file}.csv") for name, file in TRANSFER.items()},
    )


def _is_at_hand(parameters: params.Params, name: str) -> bool:
    """Whether a variant was trained by its present recipe, and evaluated, in this checkout."""
    first = params.runs(parameters, name)[0]
    record = run_folder(first) / "run.json"
    if not ((EVALUATION / name / "runs.csv").exists() and record.exists()):
        return False
    recipe = json.loads(first.model_dump_json())
    return bool(recipe.items() <= json.loads(record.read_text()).items())


def predictions(run: params.Run) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of the test images. Raises UserError where they are missing."""
    try:
        with np.load(run_folder(run) / "predictions.npz", allow_pickle=False) as file:
            return file["test_logits"], file["test_labels"]
    except FileNotFoundError as error:
        raise UserError(
            f"Run {run.variant} seed {run.seed} is missing. Expected {error.filename}. "
            f"Run: make train VARIANT={run.variant} SEEDS={run.seed + 1}"
        ) from error


def run_id(run: params.Run) -> str:
    """The run's id in MLflow."""
    return str(json.loads((run_folder(run) / "run.json").read_text())["run_id"])


def _variant(parameters: params.Params, name: str) -> dict[str, Any]:
    """A row of variants.csv: means over the variant's runs, mistakes of all; gap and calibration error in points."""
    table = pd.read_csv(EVALUATION / name / "runs.csv")
    means = summary(table)
    trust = pd.DataFrame([_trust(run) for run in params.runs(parameters, name, len(table))])
    return {
        "variant": name,
        "n": means.pop("seeds"),
        **{key: value for key, value in means.items() if key != "interval"},
        "gap": 100 * (means["train_accuracy"] - means["validation_accuracy"]),
        **{column: trust[column].mean() for column in ("confidence", "calibration_error")},
        **{column: trust[column].sum() for column in ("mistakes", "sure_mistakes")},
        "run_ids": " ".join(table["run_id"]),
    }


def _trust(run: params.Run) -> dict[str, float]:
    """Mean confidence, a share of 1, calibration error in points, and counts of mistakes and of sure ones."""
    logits, labels = predictions(run)
    confidence = softmax(logits.astype(np.float64), axis=1).max(axis=1)
    wrong = logits.argmax(axis=1) != labels
    return {
        "confidence": confidence.mean(),
        "calibration_error": 100 * calibration(logits, labels)[1],
        "mistakes": wrong.sum(),
        "sure_mistakes": (wrong & (confidence >= SURE)).sum(),
    }


def _classes(before: params.Run, after: params.Run) -> pd.DataFrame:
    """A row a class: recall, a share of 1, of the runs before and after, and the gain in points, the greatest first."""
    classes = list(read_card(before.data)["classes"])
    recall = {run.variant: classification(*predictions(run), classes)["recall"] for run in (before, after)}
    sides = {"before": recall[before.variant], "after": recall[after.variant]}
    table = pd.DataFrame({"class": classes, **{side: [values[c] for c in classes] for side, values in sides.items()}})
    table["gain"] = 100 * (table["after"] - table["before"])
    table["run_id_before"], table["run_id_after"] = run_id(before), run_id(after)
    return table.sort_values("gain", ascending=False)


def _bins(run: params.Run) -> pd.DataFrame:
    """The run's bins of confidence."""
    table = calibration(*predictions(run))[0]
    table.insert(0, "variant", run.variant)
    return table.assign(run_id=run_id(run))


def _mistakes(run: params.Run) -> pd.DataFrame:
    """The run's mistakes, the surest first: number of the test image, classes, confidence, a share of 1."""
    logits, labels = predictions(run)
    classes = np.array(read_card(run.data)["classes"])
    guesses, confidence = logits.argmax(axis=1), softmax(logits.astype(np.float64), axis=1).max(axis=1)
    rows = pd.DataFrame({
        "image": np.arange(len(labels)), "actual": classes[labels], "predicted": classes[guesses],
        "confidence": confidence, "run_id": run_id(run),
    })  # fmt: skip
    wrong: pd.DataFrame = rows[guesses != labels]
    return wrong.sort_values("confidence", ascending=False, kind="stable").head(SHOWN)


def _changes(parameters: params.Params) -> pd.DataFrame:
    """A row a knob that a rung of the ladder changes: the rung, the one below, the knob, both values."""
    rungs = parameters.ablation.ladder
    flat = {name: _flat(params.variant(parameters, name)) for name in rungs}
    rows = [
        {"rung": rung, "below": below, "knob": knob, "from": flat[below].get(knob), "to": flat[rung].get(knob)}
        for below, rung in pairwise(rungs)
        for knob in dict.fromkeys([*flat[rung], *flat[below]])
        if knob not in ("epochs", "validation") and flat[below].get(knob) != flat[rung].get(knob)
    ]
    return pd.DataFrame(rows, columns=["rung", "below", "knob", "from", "to"], dtype=object)


def _flat(variant: params.Variant) -> dict[str, Any]:
    """A variant's values by dotted keys."""
    return {str(key): value for key, value in pd.json_normalize(variant.model_dump()).iloc[0].items()}


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """A mapping a row, with keys that are words."""
    return [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")]
