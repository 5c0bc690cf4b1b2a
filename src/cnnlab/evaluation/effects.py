"""Effects of changes: paired differences over seeds, with simultaneous intervals and verdicts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import t

from cnnlab.evaluation.moderated import Prior, detectable

CONFIDENCE = 0.95  # of all intervals of a study together
POWER = 0.8  # with which an effect counts as detectable
RELEVANT = 1.0  # points; a smaller effect is not relevant
LEARNT = 3.0  # multiples of chance that a base must reach
MOST_SEEDS = 100  # that are tried to find how many would decide
FLOOR = 1e-5  # of the median variance; accuracies on few images may be equal by chance (as in limma)
REWEIGHTED = 3  # times that effects of seeds are estimated again; with 10, simulations give the same
EQUAL = 1e-18  # squared points; variances below this are rounding errors
COSTS = ("seconds", "training_flop", "parameters")
IMPROVES, WORSENS, IRRELEVANT = "improves", "worsens", "no relevant effect"
INCONCLUSIVE, NOT_TESTED = "inconclusive", "not tested"
COLUMNS = ("setting", "base", "n", "difference", "low", "high", "p", "detectable", "seeds_needed", "verdict")


def effects(runs: pd.DataFrame, contrasts: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Effects on `accuracy`, one row for each contrast (setting, base), all tested together.

    `runs` has one row per training run: `setting`, `seed`, `accuracy` and `chance` (shares), `seconds`,
    `training_flop`, `parameters`, `run_id`. The `n` seeds that setting and base have in common are paired.

    `difference` is the mean of the paired differences in percentage points, `low` and `high` its interval. All
    intervals together cover the true effects with a probability of 95 %, and `p` is below 0.05 exactly if the interval
    excludes 0. `detectable` is the smallest true effect that this n shows with a probability of 80 %. `verdict`:

    - no relevant effect: the interval is inside ± 1 point;
    - improves, worsens: it is not, and excludes 0;
    - inconclusive: none of these; `seeds_needed` is about the number of seeds that would decide if mean and spread
      stayed as they are, NaN if more than 100;
    - not tested: one pair, or a base below 3 × chance (`base_accuracy` is its mean); interval and p are NaN.

    The statistic is a moderated t (Smyth 2004) with seeds as blocks: accuracies are setting + seed + noise, each
    setting has its own variance, and a contrast has the smaller of the two degrees of freedom. Variances of settings,
    not of differences, are moderated, because differences from one base all contain its noise and are not independent.
    Effects of seeds are means weighted by the settings' precision, so one noisy setting does not blur all others.
    Intervals and p have Šidák's correction. docs/LOG.md (2026-11-27, 2026-11-28) compares error rates.

    Costs are ratios of means, setting to base. `run_ids` and `base_run_ids` list the pairs in the order of seeds.

    Raises ValueError if a setting has two runs with the same seed, or no seed in common with its base.
    """
    if (twice := runs[runs.duplicated(["setting", "seed"])]).size:
        raise ValueError(f"one run per setting and seed, received two of {twice.iloc[0][['setting', 'seed']].tolist()}")
    trained = {str(name): rows.set_index("seed") for name, rows in runs.groupby("setting")}
    table = pd.DataFrame(
        [_effect(trained[setting], trained[base], setting, base) for setting, base in contrasts],
        columns=[*COLUMNS[:4], *COSTS, "base_accuracy", "chance", "run_ids", "base_run_ids"],
    )
    tested = table[(table["n"] > 1) & (table["base_accuracy"] >= LEARNT * table["chance"])]
    table = table.join(simultaneous(runs, tested))
    table["verdict"] = [verdict(*bounds) for bounds in table[["low", "high"]].to_numpy(float)]
    return table[[*COLUMNS, *COSTS, "base_accuracy", "run_ids", "base_run_ids"]]


def simultaneous(runs: pd.DataFrame, tested: pd.DataFrame) -> pd.DataFrame:
    """Test the contrasts in `tested` together: `low`, `high`, `p`, `detectable` and `seeds_needed`, as in `effects`.

    All values are NaN if the accuracies have no spread.
    """
    columns = ["low", "high", "p", "detectable", "seeds_needed"]
    spread = _moderated(runs, list(zip(tested["setting"], tested["base"], strict=True)))
    if not (spread["variance"] > EQUAL).any():
        return pd.DataFrame(np.nan, tested.index, columns)
    own, against = spread.loc[tested["setting"]], spread.loc[tested["base"]]
    variance = own["variance"].to_numpy() + against["variance"].to_numpy()
    nu = np.minimum(own["df"].to_numpy(), against["df"].to_numpy())
    mean, n, m = tested["difference"].to_numpy(float), tested["n"].to_numpy(), len(tested)
    level = (1 + CONFIDENCE ** (1 / m)) / 2
    error, critical = np.sqrt(variance / n), t.ppf(level, nu)
    alone = np.minimum(2 * t.sf(np.abs(mean) / error, nu), 1 - 1e-15)  # log1p(-1) is infinite
    rows = {
        "low": mean - critical * error,
        "high": mean + critical * error,
        "p": -np.expm1(m * np.log1p(-alone)),
        "detectable": error * [detectable(*each, POWER) for each in zip(critical, nu, strict=True)],
        "seeds_needed": [_seeds_needed(*each, level) for each in zip(mean, np.sqrt(variance), n, nu, strict=True)],
    }
    return pd.DataFrame(rows, tested.index)


def verdict(low: float, high: float) -> str:
    """The verdict of an interval in percentage points; NaN is not tested."""
    if np.isnan(low):
        return NOT_TESTED
    if max(-low, high) <= RELEVANT:
        return IRRELEVANT
    return IMPROVES if low > 0 else WORSENS if high < 0 else INCONCLUSIVE


def _moderated(runs: pd.DataFrame, contrasts: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Moderated variance (squared points) and degrees of freedom of each setting; variances of 0 if all are."""
    weights = pd.Series(1.0, runs["setting"].unique())
    for _ in range(1 + REWEIGHTED):
        spread = _spread(runs, contrasts, weights)
        variances, df = (spread[name].to_numpy(float) for name in ("variance", "df"))
        if not (variances > EQUAL).any():
            break
        variances = np.maximum(variances, FLOOR * np.median(variances[variances > EQUAL]))
        spread["variance"], spread["df"] = Prior.fitted(variances, df).moderate(variances, df)
        weights = spread["variance"].min() / spread["variance"]
    return spread


def _spread(runs: pd.DataFrame, contrasts: Sequence[tuple[str, str]], weights: pd.Series) -> pd.DataFrame:
    """Variance (squared points) and degrees of freedom of each setting, apart from the effects of seeds.

    Effects of seeds are shared by the settings that contrasts connect, and fitted with the `weights` of settings. Both
    are sums over the runs of a setting: of squared residuals, and of 1 − leverage, which its residuals would have as
    their variance if its own were 1 and weights were inverse to variances.
    """
    tables = [pd.DataFrame({"variance": [], "df": []})]
    for group in _connected(contrasts):
        rows = runs[runs["setting"].isin(group)]
        design = pd.get_dummies(rows[["setting", "seed"]].astype(str)).to_numpy(float)
        weighted = design.T * weights[rows["setting"]].to_numpy(float)
        hat = design @ np.linalg.pinv(weighted @ design, rcond=1e-10, hermitian=True) @ weighted
        points = 100 * rows["accuracy"].to_numpy(float)
        squares = pd.DataFrame({"variance": (points - hat @ points) ** 2, "df": 1 - np.diag(hat)})
        sums = squares.groupby(rows["setting"].to_numpy()).sum()
        tables.append(sums.assign(variance=sums["variance"] / sums["df"]))
    return pd.concat(tables)


def _connected(contrasts: Sequence[tuple[str, str]]) -> list[set[str]]:
    """The sets of settings that contrasts connect, directly or through others."""
    groups: list[set[str]] = []
    for pair in contrasts:
        touching = [group for group in groups if not group.isdisjoint(pair)]
        groups = [*(group for group in groups if group not in touching), set(pair).union(*touching)]
    return groups


def _seeds_needed(mean: float, spread: float, n: int, df: float, level: float) -> float:
    """Number of seeds above `n` at which this mean and spread have a verdict; NaN if n has one, or 100 have none."""
    counts = np.arange(n, MOST_SEEDS + 1)
    half = t.ppf(level, df + counts - n) * spread / np.sqrt(counts)
    decided = (half < abs(mean)) | (half + abs(mean) <= RELEVANT)
    return float(counts[decided][0]) if decided.any() and not decided[0] else np.nan


def _effect(rows: pd.DataFrame, base_rows: pd.DataFrame, setting: str, base: str) -> dict[str, object]:
    seeds = sorted(set(rows.index) & set(base_rows.index))
    if not seeds:
        raise ValueError(f"one or more seeds of {setting} that its base {base} has, received none")
    own, against = rows.loc[seeds], base_rows.loc[seeds]
    return {
        "setting": setting,
        "base": base,
        "n": len(seeds),
        "difference": 100 * (own["accuracy"] - against["accuracy"]).mean(),
        **{cost: own[cost].mean() / against[cost].mean() for cost in COSTS},
        "base_accuracy": against["accuracy"].mean(),
        "chance": against["chance"].mean(),
        "run_ids": " ".join(own["run_id"]),
        "base_run_ids": " ".join(against["run_id"]),
    }
