"""Effects of changes: against SciPy, against tables computed by hand, on committed and on simulated runs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t, ttest_rel

from cnnlab.evaluation.effects import effects, simultaneous, verdict

COMMITTED = Path(__file__).parents[2] / "docs/results/2026-11-23-ablation"


def trainings(accuracies: dict[str, dict[int, float]], seconds: float = 1.0) -> pd.DataFrame:
    """One row per training run, as in the ablation, from accuracies by setting and seed."""
    rows = [
        {
            "setting": setting,
            "seed": seed,
            "accuracy": accuracy,
            "chance": 0.1,
            "seconds": seconds * (1 + place),
            "training_flop": 10 * (1 + place),
            "parameters": 100,
            "run_id": f"{setting}-{seed}",
        }
        for place, (setting, seeds) in enumerate(accuracies.items())
        for seed, accuracy in seeds.items()
    ]
    return pd.DataFrame(rows)


shares = st.floats(0.31, 1.0)  # above 3 × chance


@given(st.lists(st.tuples(shares, shares), min_size=2, max_size=8))
def test_a_single_contrast_is_scipys_paired_test(pairs: list[tuple[float, float]]) -> None:
    base, own = (np.array(side) for side in zip(*pairs, strict=True))
    row = effects(trainings({"base": dict(enumerate(base)), "wide": dict(enumerate(own))}), [("wide", "base")]).iloc[0]
    points = 100 * (own - base)
    assert row["n"] == len(pairs)
    assert row["difference"] == pytest.approx(points.mean())
    if np.ptp(points) > 1e-6:
        expected = ttest_rel(100 * own, 100 * base)
        half = t.ppf(0.975, len(pairs) - 1) * points.std(ddof=1) / len(pairs) ** 0.5
        assert row["p"] == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
        assert (row["low"], row["high"]) == pytest.approx(
            (points.mean() - half, points.mean() + half), rel=1e-6, abs=1e-9
        )


def test_two_contrasts_by_hand() -> None:
    """The residuals of each setting are 1, −1 and 0 in some order: s² = 2 / (4/3), pooled; 4 degrees of freedom."""
    noise = {"base": (1, -1, 0), "two": (0, 1, -1), "ten": (-1, 0, 1)}
    means, seeds = {"base": 50, "two": 52, "ten": 60}, (7, -3, 5)
    runs = trainings({
        name: {seed: (means[name] + seeds[seed] + each) / 100 for seed, each in enumerate(noise[name])}
        for name in noise
    })  # fmt: skip
    found = effects(runs, [("two", "base"), ("ten", "base")])
    half = 3.4806  # the t quantile at (1 + √0.95)/2 from a table; the standard error is √((1.5 + 1.5)/3) = 1
    assert found["low"].tolist() == pytest.approx([2 - half, 10 - half], abs=0.001)
    assert found["high"].tolist() == pytest.approx([2 + half, 10 + half], abs=0.001)
    # Two-sided tail of t = 2 with 4 degrees of freedom: 0.1161; 1 − (1 − 0.1161)² = 0.2188.
    assert found["p"][0] == pytest.approx(0.2188, abs=0.0003)


several = st.lists(st.lists(shares, min_size=4, max_size=4), min_size=2, max_size=5)


@given(several)
def test_p_and_verdict_agree_with_the_interval(accuracies: list[list[float]]) -> None:
    runs = trainings({str(place): dict(enumerate(seeds)) for place, seeds in enumerate(accuracies)})
    found = effects(runs, [(str(place), "0") for place in range(1, len(accuracies))])
    for row in found.dropna(subset=["p"]).itertuples():
        distance = max(row.low, -row.high)
        if abs(distance) > 1e-9 * (row.high - row.low):
            assert (row.p < 0.05) == (distance > 0)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.2, 4.0, "improves"),
        (-4.0, -0.2, "worsens"),
        (-0.9, 1.0, "no relevant effect"),
        (0.2, 0.9, "no relevant effect"),
        (-0.2, 1.1, "inconclusive"),
        (np.nan, np.nan, "not tested"),
    ],
)
def test_verdicts(low: float, high: float, expected: str) -> None:
    assert verdict(low, high) == expected


def test_the_seeds_that_would_decide_do() -> None:
    """A single contrast with differences 2 and −1, continued with the same mean and spread."""
    row = effects(trainings({"base": {0: 0.5, 1: 0.5}, "wide": {0: 0.52, 1: 0.49}}), [("wide", "base")]).iloc[0]
    needed, spread = int(row["seeds_needed"]), 3 / 2**0.5
    half = {n: t.ppf(0.975, n - 1) * spread / n**0.5 for n in (needed - 1, needed)}
    assert half[needed] < 0.5 < half[needed - 1]
    assert row["verdict"] == "inconclusive"


def test_a_decided_contrast_needs_no_more_seeds() -> None:
    runs = trainings({"base": {0: 0.5, 1: 0.5, 2: 0.5}, "wide": {0: 0.59, 1: 0.6, 2: 0.61}})
    assert effects(runs, [("wide", "base")])[["verdict", "seeds_needed"]].iloc[0].tolist() == [
        "improves",
        pytest.approx(np.nan, nan_ok=True),
    ]


def test_the_committed_ablation_has_18_verdicts_or_more() -> None:
    """Five seeds of 35 factors; a paired t test with Holm's correction decides 11."""
    runs = pd.read_csv(COMMITTED / "runs.csv").assign(chance=0.1)
    factors = pd.read_csv(COMMITTED / "effects.csv")["setting"]
    found = effects(runs[runs["state"] == "COMPLETE"], [(factor, "lesson") for factor in factors])
    assert len(found) == 35
    assert (found["verdict"] != "inconclusive").sum() >= 18
    assert not (found["verdict"] == "not tested").any()


def test_only_seeds_of_both_are_paired_and_named() -> None:
    table = effects(
        trainings({"base": {0: 0.5, 1: 0.6, 2: 0.7}, "wide": {1: 0.61, 2: 0.72, 3: 0.9}}), [("wide", "base")]
    )
    row = table.iloc[0]
    assert (row["n"], row["run_ids"], row["base_run_ids"]) == (2, "wide-1 wide-2", "base-1 base-2")
    assert row["difference"] == pytest.approx(1.5)


def test_each_setting_has_a_base_of_its_own() -> None:
    """As on a ladder, where each step is compared with the one below."""
    runs = trainings({"one": {0: 0.5, 1: 0.6}, "two": {0: 0.6, 1: 0.7}, "three": {0: 0.65, 1: 0.75}})
    table = effects(runs, [("two", "one"), ("three", "two")])
    assert table["base"].tolist() == ["one", "two"]
    assert table["difference"].tolist() == pytest.approx([10, 5])
    assert table["seconds"].tolist() == pytest.approx([2, 1.5])


def test_costs_are_ratios_to_the_base() -> None:
    row = effects(trainings({"base": {0: 0.5, 1: 0.6}, "wide": {0: 0.5, 1: 0.6}}), [("wide", "base")]).iloc[0]
    assert (row["seconds"], row["training_flop"], row["parameters"]) == (2, 2, 1)


def test_one_pair_is_not_tested() -> None:
    row = effects(trainings({"base": {0: 0.1}, "wide": {0: 0.9}}), [("wide", "base")]).iloc[0]
    assert (row["n"], row["verdict"]) == (1, "not tested")
    assert np.isnan([row["low"], row["high"], row["p"], row["detectable"]]).all()


def test_differences_without_spread_are_not_tested_alone() -> None:
    """A few accuracies are counts, and may tie by chance: 0.1 + 0.2 points twice, but for rounding."""
    runs = trainings({"base": {0: 0.25, 1: 0.5}, "same": {0: 0.25, 1: 0.5}, "gain": {0: 0.25 + 0.003, 1: 0.503}})
    found = effects(runs, [("same", "base"), ("gain", "base")])
    assert found["verdict"].tolist() == ["not tested", "not tested"]
    assert found["difference"].tolist() == pytest.approx([0, 0.3])
    assert found[["low", "high", "p"]].isna().all(axis=None)


def test_a_setting_without_spread_is_not_taken_for_exact() -> None:
    """It borrows the spread of the others."""
    runs = trainings({
        "base": {0: 0.5, 1: 0.5, 2: 0.5}, "same": {0: 0.51, 1: 0.51, 2: 0.51}, "wide": {0: 0.5, 1: 0.54, 2: 0.46}
    })  # fmt: skip
    found = effects(runs, [("same", "base"), ("wide", "base")])
    assert found["high"][0] - found["low"][0] > 0.1


def test_contrasts_with_different_bases_share_no_effects_of_seeds() -> None:
    """Two data sets whose seeds differ in opposite directions: each pair is exact up to its own noise."""
    runs = trainings({
        "a": {0: 0.50, 1: 0.60, 2: 0.70}, "a frozen": {0: 0.551, 1: 0.65, 2: 0.749},
        "b": {0: 0.70, 1: 0.60, 2: 0.50}, "b frozen": {0: 0.751, 1: 0.65, 2: 0.549},
    })  # fmt: skip
    found = effects(runs, [("a frozen", "a"), ("b frozen", "b")])
    assert found["verdict"].tolist() == ["improves", "improves"]
    assert (found["high"] - found["low"]).max() < 2


def test_a_base_below_3_times_chance_gets_no_verdict_and_corrects_nothing() -> None:
    runs = trainings({
        "weak": {0: 0.29, 1: 0.30, 2: 0.28}, "strong": {0: 0.5, 1: 0.51, 2: 0.52}, "good": {0: 0.54, 1: 0.56, 2: 0.57}
    })  # fmt: skip
    found = effects(runs, [("strong", "weak"), ("good", "strong")])
    assert found["verdict"].tolist() == ["not tested", "improves"]
    assert found["base_accuracy"].tolist() == pytest.approx([0.29, 0.51])
    assert found["p"][1] == pytest.approx(effects(runs, [("good", "strong")])["p"][0])


def test_a_seed_trained_twice_is_refused() -> None:
    runs = trainings({"base": {0: 0.5}, "wide": {0: 0.5}})
    with pytest.raises(ValueError, match="two of"):
        effects(pd.concat([runs, runs]), [("wide", "base")])


def test_a_setting_without_a_common_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seeds of wide that its base base has, received none"):
        effects(trainings({"base": {0: 0.5}, "wide": {1: 0.5}}), [("wide", "base")])


def simulated(random: np.random.Generator, gains: dict[str, float], n: int) -> pd.DataFrame:
    """Runs whose seeds affect all settings alike: 70 % plus the gain, in points, plus noise of each setting's own."""
    seeds = random.normal(0, 0.02, n)
    spread = {name: 0.01 * np.sqrt(4 / random.chisquare(4)) for name in ("base", *gains)}
    return trainings({
        name: dict(enumerate(0.7 + gain / 100 + seeds + random.normal(0, spread[name], n)))
        for name, gain in {"base": 0.0, **gains}.items()
    })  # fmt: skip


def against_base(runs: pd.DataFrame) -> pd.DataFrame:
    """All settings of a simulated study against its base, as `simultaneous` expects contrasts."""
    table = 100 * runs.pivot(index="setting", columns="seed", values="accuracy")
    differences = (table - table.loc["base"]).drop("base")
    rows = {"base": "base", "n": table.shape[1], "difference": differences.mean(axis=1)}
    return pd.DataFrame(rows).reset_index(names="setting")


def found_by_paired_t_with_holm(runs: pd.DataFrame) -> pd.Series:
    """Whether settings differ from the base by a paired t test with Holm's correction."""
    table = runs.pivot(index="setting", columns="seed", values="accuracy")
    p = pd.Series(ttest_rel(table.drop("base"), table.loc[["base"]], axis=1).pvalue, table.index.drop("base"))
    ordered = p.sort_values()
    return (ordered * np.arange(len(p), 0, -1)).cummax() < 0.05


@pytest.mark.parametrize("n", [3, 5])
def test_at_most_5_of_100_studies_of_35_changes_without_effect_have_a_wrong_verdict(n: int) -> None:
    random, nothing = np.random.default_rng(n), dict.fromkeys(map(str, range(35)), 0.0)
    studies = [simulated(random, nothing, n) for _ in range(200)]
    wrong = [(simultaneous(runs, against_base(runs))["p"] < 0.05).any() for runs in studies]
    assert np.mean(wrong) <= 0.05


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("effect", [3.0, 5.0, 8.0])
def test_more_effects_are_found_than_by_a_paired_t_test(n: int, effect: float) -> None:
    random = np.random.default_rng(0)
    gains = {str(place): effect if place % 3 == 0 else 0.0 for place in range(35)}
    real = [name for name, gain in gains.items() if gain]
    moderated, plain = 0, 0
    for _ in range(60):
        runs = simulated(random, gains, n)
        tested = against_base(runs)
        found = tested["setting"][simultaneous(runs, tested)["p"] < 0.05]
        moderated += found.isin(real).sum()
        plain += found_by_paired_t_with_holm(runs)[real].sum()
    assert moderated > plain


def test_one_noisy_setting_does_not_hide_the_effects_of_others() -> None:
    """Of effects of 3 points beside a setting with 20 times their noise, a third is found; with equal weights, 4 %."""
    random, found = np.random.default_rng(0), []
    gains = {str(place): 3.0 if place < 5 else 0.0 for place in range(10)}
    for _ in range(60):
        runs = simulated(random, gains, 5)
        noise = np.where(runs["setting"] == "9", random.normal(0, 0.2, 5)[runs["seed"]], 0.0)
        noisy = runs.assign(accuracy=runs["accuracy"] + noise)
        found += [simultaneous(noisy, against_base(noisy))["p"][:5] < 0.05]
    assert np.mean(found) > 0.25


def test_effects_larger_than_the_noise_are_found_with_their_sign() -> None:
    gains = {"good": 8.0, "bad": -8.0, "none": 0.0}
    table = effects(simulated(np.random.default_rng(2), gains, 5), [(name, "base") for name in gains])
    assert table["verdict"].tolist() == ["improves", "worsens", "inconclusive"]
