"""Effects of changes: paired differences from a base over seeds, with intervals, corrected tests and verdicts."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import ttest_rel

CONFIDENCE = 0.95
EQUAL = 1e-9  # points; differences this close are equal up to rounding
COSTS = ("seconds", "training_flop", "parameters")


def effects(runs: pd.DataFrame, against: Mapping[str, str]) -> pd.DataFrame:
    """Effect of each setting on `accuracy`, and its cost: one row per key of `against`, which maps settings to bases.

    `runs` has one row per training run: `setting`, `seed`, `accuracy` (share), `seconds`, `training_flop`,
    `parameters`, `run_id`. The `n` seeds that setting and base have in common are paired. `difference`, `low` and
    `high` are the mean of the paired differences and its 95 % Student t interval, in percentage points; `p` is from the
    paired t test, `p_holm` is corrected for all settings tested (Holm 1979, Scand. J. Statist. 6, 65–70). `verdict` is
    improves or worsens if `p_holm` is below 0.05, else no evidence. Costs are ratios of means, setting to base.
    `run_ids` and `base_run_ids` list the pairs in the order of seeds. A single pair, or pairs with equal differences,
    give no estimate of the spread: interval and p values are NaN.

    Raises ValueError if a setting has two runs with the same seed, or no seed in common with its base.
    """
    if (twice := runs[runs.duplicated(["setting", "seed"])]).size:
        raise ValueError(f"one run per setting and seed, received two of {twice.iloc[0][['setting', 'seed']].tolist()}")
    trained = {str(name): rows.set_index("seed") for name, rows in runs.groupby("setting")}
    table = pd.DataFrame(
        [_effect(trained[setting], trained[base], setting, base) for setting, base in against.items()],
        columns=["setting", "base", "n", "difference", "low", "high", "p", *COSTS, "run_ids", "base_run_ids"],
    )
    table.insert(7, "p_holm", holm(table["p"].to_numpy(float)))
    verdicts = np.where(table["difference"] > 0, "improves", "worsens")
    table["verdict"] = np.where(table["p_holm"] < 1 - CONFIDENCE, verdicts, "no evidence")  # NaN included
    return table


def holm(p: np.ndarray) -> np.ndarray:
    """p values after Holm's correction, (m,) for `p` (m,); NaN marks tests that were not made, and stays NaN."""
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return corrected


def _effect(rows: pd.DataFrame, reference: pd.DataFrame, setting: str, base: str) -> dict[str, object]:
    seeds = sorted(set(rows.index) & set(reference.index))
    if not seeds:
        raise ValueError(f"one or more seeds of {setting} that its base {base} has, received none")
    own, against = rows.loc[seeds], reference.loc[seeds]
    points = 100 * (own["accuracy"] - against["accuracy"]).to_numpy(float)
    low, high, p = _interval(points)
    return {
        "setting": setting,
        "base": base,
        "n": len(seeds),
        "difference": points.mean(),
        "low": low,
        "high": high,
        "p": p,
        **{cost: own[cost].mean() / against[cost].mean() for cost in COSTS},
        "run_ids": " ".join(own["run_id"]),
        "base_run_ids": " ".join(against["run_id"]),
    }


def _interval(differences: np.ndarray) -> tuple[float, float, float]:
    """Interval of the mean, and p value; NaN for equal differences, which accuracies over few images have by chance."""
    if len(differences) < 2 or np.ptp(differences) < EQUAL:
        return np.nan, np.nan, np.nan
    test = ttest_rel(differences, np.zeros_like(differences))
    interval = test.confidence_interval(CONFIDENCE)
    return float(interval.low), float(interval.high), float(test.pvalue)
