"""Moderated variances: against limma, against simulations, and in the cases in which there is nothing to share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import polygamma
from scipy.stats import chi2, t

from cnnlab.evaluation.moderated import Prior, detectable, trigamma_inverse

VARIANCES = np.array([0.31, 1.2, 4.7, 0.09, 2.2, 0.8, 13.0, 0.55])


@pytest.mark.parametrize(
    ("df", "prior", "posterior"),
    [
        (2, (3.3625054024627974, 1.4002404295209385), [0.9936243619566123, 1.325558759483282, 2.630918749756702]),
        (4, (1.8779775891016743, 0.7682820398484895), [0.4564182854182666, 1.0620687742191386, 3.443840359391107]),
    ],
)
def test_prior_and_posterior_are_limmas(df: int, prior: tuple[float, float], posterior: list[float]) -> None:
    """Expected values from squeezeVar in inmoose 0.9.1, a port of limma."""
    degrees = np.full(len(VARIANCES), float(df))
    fitted = Prior.fitted(VARIANCES, degrees)
    assert (fitted.df, fitted.variance) == pytest.approx(prior, rel=1e-6)
    variances, total = fitted.moderate(VARIANCES, degrees)
    assert variances[:3] == pytest.approx(posterior, rel=1e-6)
    assert total == pytest.approx([prior[0] + df] * len(VARIANCES))


@pytest.mark.parametrize("df", [2.0, 4.0])
def test_the_prior_of_simulated_variances_is_found(df: float) -> None:
    random = np.random.default_rng(0)
    true = 5 * 2.5 / chi2.rvs(5, size=100_000, random_state=random)
    degrees = np.full(len(true), df)
    fitted = Prior.fitted(true * chi2.rvs(df, size=len(true), random_state=random) / df, degrees)
    assert (fitted.df, fitted.variance) == pytest.approx((5, 2.5), rel=0.05)


def test_variances_that_hardly_differ_are_pooled() -> None:
    variances, df = np.array([1.0, 1.1, 0.9]), np.array([2.0, 2.0, 4.0])
    fitted = Prior.fitted(variances, df)
    assert fitted == Prior(np.inf, pytest.approx((2 * 1.0 + 2 * 1.1 + 4 * 0.9) / 8))


def test_a_prior_counts_at_most_twice_as_much_as_the_sample() -> None:
    variances, total = Prior(np.inf, 4.0).moderate(np.array([1.0, 4.0, 7.0]), np.array([2.0, 2.0, 2.0]))
    assert variances == pytest.approx([3.0, 4.0, 5.0])
    assert total == pytest.approx([6.0, 6.0, 6.0])
    assert Prior(np.inf, 4.0).moderate(np.array([4.0]), np.array([2.0]))[1] == pytest.approx([2.0])  # all there are


@given(st.floats(1e-3, 1e3))
def test_the_inverse_of_trigamma(value: float) -> None:
    assert polygamma(1, trigamma_inverse(value)) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("df", [4, 12])
def test_the_detectable_effect_is_found_in_80_of_100_simulated_tests(df: int) -> None:
    random, critical = np.random.default_rng(1), t.ppf(0.975, df)
    effect = detectable(critical, df, 0.8)
    statistics = (random.normal(effect, 1, 100_000)) / np.sqrt(chi2.rvs(df, size=100_000, random_state=random) / df)
    assert np.mean(statistics > critical) == pytest.approx(0.8, abs=0.01)
