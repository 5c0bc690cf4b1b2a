"""Moderated variances: those of settings with few seeds, shrunk towards what all settings of a study have in common.

Smyth 2004 (Stat. Appl. Genet. Mol. Biol. 3:3). With three seeds, a paired t test has two degrees of freedom and finds
almost nothing; the other settings of the study say how much trainings usually differ. No maintained Python package
offers the statistic without the tools of genomics around it; the tests compare with a port of limma.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, polygamma
from scipy.stats import nct

# Not in Smyth's paper, which has thousands of variances. A prior fitted to a few dozen is uncertain, and seems infinite
# although the variances differ. Without the limit, 7 % instead of 0.6 % of simulated studies with three seeds had a
# false verdict: docs/LOG.md, 2026-11-27.
MOST_PRIOR = 2.0


@dataclass(frozen=True)
class Prior:
    """A scaled inverse chi-square prior of variances: its degrees of freedom `df` (may be infinite) and `variance`."""

    df: float
    variance: float

    @classmethod
    def fitted(cls, variances: np.ndarray, df: np.ndarray) -> "Prior":
        """The prior that fits positive sample `variances` (m,) with `df` (m,) degrees of freedom (Smyth, section 6.2).

        `df` is infinite if the variances differ no more than samples of one variance do.
        """
        logs = np.log(variances) - digamma(df / 2) + np.log(df / 2)
        excess = float(logs.var(ddof=1) - polygamma(1, df / 2).mean())
        if excess <= 0:
            return cls(math.inf, float(np.average(variances, weights=df)))
        prior = 2 * trigamma_inverse(excess)
        return cls(prior, float(np.exp(logs.mean() + digamma(prior / 2) - math.log(prior / 2))))

    def moderate(self, variances: np.ndarray, df: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Posterior variances (m,) of sample `variances` (m,) with `df` (m,), and their degrees of freedom (m,).

        The prior counts at most MOST_PRIOR times as much as a sample does.
        """
        prior = np.minimum(self.df, MOST_PRIOR * df)
        total = np.minimum(prior + df, df.sum())
        return np.asarray((prior * self.variance + df * variances) / (prior + df)), total


def trigamma_inverse(value: float) -> float:
    """The x > 0 whose trigamma function is `value` > 0."""
    # 1/x < trigamma(x) < 1/x + 1/x² for all x > 0.
    return float(brentq(lambda x: polygamma(1, x) - value, 1 / value, (1 + math.sqrt(1 + 4 * value)) / (2 * value)))


@lru_cache
def detectable(critical: float, df: float, power: float) -> float:
    """The true effect, in standard errors, that a one-sided t test with this `critical` value finds with `power`."""
    return float(brentq(lambda effect: nct.sf(critical, df, effect) - power, 0, 2 * critical + 10))
