"""What a change does: paired differences to a base over seeds, with interval, corrected test and verdict."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import ttest_rel

CONFIDENCE = 0.95
ALIKE = 1e-9  # points; differences within it are one difference, but for rounding
COSTS = ("seconds", "training_flop", "parameters")


def effects(runs: pd.DataFrame, against: Mapping[str, str]) -> pd.DataFrame:
    """A row a setting of `against`, which maps it to its base: its effect on `accuracy`, and what it costs.

    `runs` has a row a training: `setting`, `seed`, `accuracy` (share), `seconds`, `training_flop`, `parameters`,
    `run_id`. Only seeds that both setting and base have are compared, `n` pairs. `difference`, `low` and `high` are the
    mean of the paired differences and its 95 % Student t interval, in percentage points; `p` is the paired t test's,
    `p_holm` corrected for all settings tested (Holm 1979, Scand. J. Statist. 6, 65–70). `verdict` is improves or
    worsens where `p_holm` is below 0.05, else no evidence. Costs are ratios of means to the base's. `run_ids` and
    `base_run_ids` are the pairs behind it, in the order of seeds. One pair, or pairs that all differ alike, have no
    spread to judge by: no interval, no test.

    Raises ValueError where a setting has two trainings with the same seed, or shares no seed with its base.
    """
    if (twice := runs[runs.duplicated(["setting", "seed"])]).size:
        raise ValueError(
            f"one training a setting and seed, received two of {twice.iloc[0][['setting', 'seed']].tolist()}"
        )
    trained = {str(name): rows.set_index("seed") for name, rows in runs.groupby("setting")}
    table = pd.DataFrame(
        [_effect(trained[setting], trained[base], setting, base) for setting, base in against.items()],
        columns=["setting", "base", "n", "difference", "low", "high", "p", *COSTS, "run_ids", "base_run_ids"],
    )
    table.insert(7, "p_holm", holm(table["p"].to_numpy(float)))
    table["verdict"] = [_verdict(p, d) for p, d in zip(table["p_holm"], table["difference"], strict=True)]
    return table


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's corrected p values of the tests `p` (m,), of which NaN were not made: (m,), NaN for those."""
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return corrected


def _effect(rows: pd.DataFrame, reference: pd.DataFrame, setting: str, base: str) -> dict[str, object]:
    seeds = sorted(set(rows.index) & set(reference.index))
    if not seeds:
        raise ValueError(f"seeds that {setting} shares with its base {base}, received none")
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
    """The mean's interval and the p value of no difference; a few accuracies, which are counts, may tie by chance."""
    if len(differences) < 2 or np.ptp(differences) < ALIKE:
        return np.nan, np.nan, np.nan
    test = ttest_rel(differences, np.zeros_like(differences))
    interval = test.confidence_interval(CONFIDENCE)
    return float(interval.low), float(interval.high), float(test.pvalue)


def _verdict(p: float, difference: float) -> str:
    if not p < 1 - CONFIDENCE:  # NaN too
        return "no evidence"
    return "improves" if difference > 0 else "worsens"
