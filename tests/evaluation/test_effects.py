"""Effects of changes: against SciPy, against tables computed by hand, and on simulated runs with known effects."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t, ttest_rel

from cnnlab.evaluation.effects import effects, holm


def trainings(accuracies: dict[str, dict[int, float]], seconds: float = 1.0) -> pd.DataFrame:
    """One row per training run, as in the ablation, from accuracies by setting and seed."""
    rows = [
        {
            "setting": setting,
            "seed": seed,
            "accuracy": accuracy,
            "seconds": seconds * (1 + place),
            "training_flop": 10 * (1 + place),
            "parameters": 100,
            "run_id": f"{setting}-{seed}",
        }
        for place, (setting, seeds) in enumerate(accuracies.items())
        for seed, accuracy in seeds.items()
    ]
    return pd.DataFrame(rows)


shares = st.floats(0.0, 1.0, allow_nan=False)


@given(st.lists(st.tuples(shares, shares), min_size=2, max_size=8))
def test_difference_interval_and_p_are_scipys_paired_test(pairs: list[tuple[float, float]]) -> None:
    base, own = (np.array(side) for side in zip(*pairs, strict=True))
    row = effects(trainings({"base": dict(enumerate(base)), "wide": dict(enumerate(own))}), {"wide": "base"}).iloc[0]
    points = 100 * (own - base)
    assert row["n"] == len(pairs)
    assert row["difference"] == pytest.approx(points.mean())
    if np.ptp(points) > 1e-9:
        expected = ttest_rel(100 * own, 100 * base)
        half = t.ppf(0.975, len(pairs) - 1) * points.std(ddof=1) / len(pairs) ** 0.5
        assert row["p"] == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
        assert (row["low"], row["high"]) == pytest.approx(
            (points.mean() - half, points.mean() + half), rel=1e-6, abs=1e-9
        )


def test_holm_by_hand() -> None:
    # m = 4: 0.01·4, then the running maximum of 0.02·3, 0.03·2, 0.9·1
    assert holm(np.array([0.03, 0.01, 0.9, 0.02])) == pytest.approx([0.06, 0.04, 0.9, 0.06])


def test_holm_leaves_out_tests_that_were_not_made() -> None:
    corrected = holm(np.array([np.nan, 0.01, 0.04]))
    assert np.isnan(corrected[0])
    assert corrected[1:] == pytest.approx([0.02, 0.04])


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=10))
def test_holm_is_between_p_and_bonferroni_and_monotonic(values: list[float]) -> None:
    p = np.array(values)
    corrected = holm(p)
    assert (corrected >= p - 1e-15).all()
    assert (corrected <= np.minimum(len(p) * p, 1.0) + 1e-15).all()
    assert (np.diff(corrected[np.argsort(p)]) >= -1e-15).all()


def test_only_seeds_of_both_are_paired_and_named() -> None:
    table = effects(trainings({"base": {0: 0.5, 1: 0.6, 2: 0.7}, "wide": {1: 0.61, 2: 0.72, 3: 0.9}}), {"wide": "base"})
    row = table.iloc[0]
    assert (row["n"], row["run_ids"], row["base_run_ids"]) == (2, "wide-1 wide-2", "base-1 base-2")
    assert row["difference"] == pytest.approx(1.5)


def test_each_setting_has_a_base_of_its_own() -> None:
    """As on a ladder, where each step is compared with the one below."""
    runs = trainings({"one": {0: 0.5, 1: 0.6}, "two": {0: 0.6, 1: 0.7}, "three": {0: 0.65, 1: 0.75}})
    table = effects(runs, {"two": "one", "three": "two"})
    assert table["base"].tolist() == ["one", "two"]
    assert table["difference"].tolist() == pytest.approx([10, 5])
    assert table["seconds"].tolist() == pytest.approx([2, 1.5])


def test_costs_are_ratios_to_the_base() -> None:
    row = effects(trainings({"base": {0: 0.5, 1: 0.6}, "wide": {0: 0.5, 1: 0.6}}), {"wide": "base"}).iloc[0]
    assert (row["seconds"], row["training_flop"], row["parameters"]) == (2, 2, 1)


def test_one_pair_is_no_evidence() -> None:
    row = effects(trainings({"base": {0: 0.1}, "wide": {0: 0.9}}), {"wide": "base"}).iloc[0]
    assert (row["n"], row["verdict"]) == (1, "no evidence")
    assert np.isnan([row["low"], row["high"], row["p"], row["p_holm"]]).all()


def test_differences_without_spread_are_no_evidence() -> None:
    """A few accuracies are counts, and may tie by chance: 0.1 + 0.2 points twice, but for rounding."""
    runs = trainings({"base": {0: 0.25, 1: 0.5}, "same": {0: 0.25, 1: 0.5}, "gain": {0: 0.25 + 0.003, 1: 0.503}})
    found = effects(runs, {"same": "base", "gain": "base"})
    assert found["verdict"].tolist() == ["no evidence", "no evidence"]
    assert found["difference"].tolist() == pytest.approx([0, 0.3])
    assert found[["low", "high", "p", "p_holm"]].isna().all(axis=None)


def test_a_seed_trained_twice_is_refused() -> None:
    runs = trainings({"base": {0: 0.5}, "wide": {0: 0.5}})
    with pytest.raises(ValueError, match="two of"):
        effects(pd.concat([runs, runs]), {"wide": "base"})


def test_a_setting_without_a_common_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seeds of wide that its base base has, received none"):
        effects(trainings({"base": {0: 0.5}, "wide": {1: 0.5}}), {"wide": "base"})


def simulated(random: np.random.Generator, gains: dict[str, float], n: int) -> pd.DataFrame:
    """Runs whose seeds affect all settings equally: 70 % plus the gain, in points, plus noise."""
    seeds = random.normal(0, 0.02, n)
    return trainings({
        name: dict(enumerate(0.7 + gain / 100 + seeds + random.normal(0, 0.005, n)))
        for name, gain in {"base": 0.0, **gains}.items()
    })  # fmt: skip


def test_the_interval_covers_the_true_effect_in_95_of_100_studies() -> None:
    random = np.random.default_rng(0)
    covered = []
    for n in (3, 5):
        for _ in range(1000):
            row = effects(simulated(random, {"change": 0.8}, n), {"change": "base"}).iloc[0]
            covered.append(row["low"] <= 0.8 <= row["high"])
    assert 0.93 <= np.mean(covered) <= 0.97


def test_at_most_5_of_100_studies_of_nothing_have_a_verdict() -> None:
    random = np.random.default_rng(1)
    nothing = dict.fromkeys("abcdef", 0.0)
    # The settings of a study share their base, so their tests are not independent; Holm's correction allows for it.
    against = dict.fromkeys(nothing, "base")
    wrong = [(effects(simulated(random, nothing, 5), against)["verdict"] != "no evidence").any() for _ in range(400)]
    assert np.mean(wrong) <= 0.05


def test_effects_larger_than_the_noise_are_found_with_their_sign() -> None:
    gains = {"good": 5.0, "bad": -5.0, "none": 0.0}
    table = effects(simulated(np.random.default_rng(2), gains, 5), dict.fromkeys(gains, "base"))
    assert table.set_index("setting")["verdict"].to_dict() == {
        "good": "improves",
        "bad": "worsens",
        "none": "no evidence",
    }
