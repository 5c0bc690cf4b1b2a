"""Results of long trainings in docs/results, which the report quotes: each folder has its date, recipes and commit."""

import json
from pathlib import Path

import pandas as pd

from cnnlab.evaluation.effects import effects
from cnnlab.evaluation.metrics import mean_interval

RESULTS = Path("docs/results")
_HOW_TO_SHIFT = ("whole_pixels", "fill")
VARIANT_COLUMNS = [
    "variant", "data", "n", "epochs", "recipe", "train_seconds", "test_accuracy", "low", "high", "test_top5_accuracy",
    "folder",
]  # fmt: skip
EFFECT_COLUMNS = [
    "change", "setting", "base", "n", "images", "difference", "low", "high", "detectable", "seeds_needed", "verdict",
    "training_flop", "parameters", "folder",
]  # fmt: skip


def long_variants() -> pd.DataFrame:
    """One row per variant, of the latest folder that has it: means over `n` seeds and the interval of the accuracy.

    The 95 % interval is Student's over seeds, or Wilson's over test images for a single one. `recipe` lists filters,
    batch size, learning rate and augmentation, where the folder has them. Empty without the folder.
    """
    rows = {}
    for path in sorted(RESULTS.rglob("*.csv"), key=lambda path: path.parts):
        runs = pd.read_csv(path)
        if not {"variant", "test_accuracy", "test_accuracy_low"} <= {*runs}:
            continue
        accuracies = runs["test_accuracy"].tolist()
        single = (accuracies[0], runs["test_accuracy_low"][0], runs["test_accuracy_high"][0])
        mean, low, high = mean_interval(accuracies) if len(runs) > 1 else single
        means = {name: runs[name].mean() for name in ("epochs", "train_seconds")}
        first = runs.iloc[0]
        facts = {"variant": first["variant"], "data": first["data"], "n": len(runs), **means, "recipe": _recipe(path)}
        interval = {"test_accuracy": mean, "low": low, "high": high}
        if "test_top5_accuracy" in runs:
            interval["test_top5_accuracy"] = runs["test_top5_accuracy"].mean()
        folder = RESULTS / path.relative_to(RESULTS).parts[0]
        rows[first["variant"]] = {**facts, **interval, "folder": str(folder)}
    return pd.DataFrame(rows.values(), columns=VARIANT_COLUMNS)


def _recipe(runs: Path) -> str | None:
    """What distinguishes variants of the same network, from the recipe of the first seed beside runs.csv."""
    if not (record := runs.with_name("run-seed-0.json")).exists():
        return None
    recipe = json.loads(record.read_text())
    augment = {name: value for name, value in recipe["augment"].items() if value and name not in _HOW_TO_SHIFT}
    facts = {
        "filters": "–".join(map(str, recipe["network"].get("filters", []))),
        "batch": recipe["batch_size"],
        "learning rate": recipe["optimizer"]["learning_rate"],
        **augment,
    }
    return ", ".join(f"{name}: {value}" for name, value in facts.items() if value)


def long_effects(study: str, classes: int) -> pd.DataFrame:
    """The contrasts of the latest study in docs/results whose folder ends in `study`, computed again from its runs.

    One row per contrast in its effects.csv, the largest difference first; `change` is the name of the factor or
    ingredient, `images` counts those of a training of the setting once per epoch, if runs.csv has them. Empty if there
    is no such folder.
    """
    if not (folder := _latest(study)):
        return pd.DataFrame(columns=EFFECT_COLUMNS)
    runs = pd.read_csv(folder / "runs.csv").assign(chance=1 / classes)
    contrasts = pd.read_csv(folder / "effects.csv")
    changes = contrasts["ingredient" if "ingredient" in contrasts else "setting"]
    table = _effects(runs, contrasts).assign(change=changes, images=None, folder=str(folder))
    if "images" in runs:
        table["images"] = table["setting"].map(runs.groupby("setting")["images"].first())
    return table[EFFECT_COLUMNS].sort_values("difference", ascending=False)


def long_transfers() -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """The trainings of the latest transfer study in docs/results, and the effects computed again from them.

    Columns as in reports/transfer, and `folder`. None if there is no such folder.
    """
    if not (folder := _latest("transfer")):
        return None
    runs, contrasts = (pd.read_csv(folder / f"{name}.csv") for name in ("runs", "effects"))
    found = contrasts[["setting", "target", "network", "mode", "source", "change", "share"]].merge(
        _effects(runs, contrasts), on="setting"
    )
    return runs.assign(folder=str(folder)), found.assign(folder=str(folder))


def _latest(study: str) -> Path | None:
    found = sorted(RESULTS.glob(f"*-{study}/runs.csv"))
    return found[-1].parent if found else None


def _effects(runs: pd.DataFrame, contrasts: pd.DataFrame) -> pd.DataFrame:
    return effects(runs[runs["state"] == "COMPLETE"], list(zip(contrasts["setting"], contrasts["base"], strict=True)))
