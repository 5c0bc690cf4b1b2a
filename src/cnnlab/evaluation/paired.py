"""Paired tests of two single networks on the same test images; they do not cover the variation between seeds."""

import numpy as np
from scipy.stats import binomtest

RESAMPLES = 10_000


def compare_on_images(own: np.ndarray, against: np.ndarray) -> dict[str, float]:
    """Compare two networks by which images each classifies correctly: bool (images,), in the same order.

    Keys: the numbers of `images`, of those that only the first classifies correctly (`gained`) and only the second
    (`lost`); `difference` of the accuracies in percentage points, with its 95 % bootstrap interval over images (`low`,
    `high`; percentiles of 10,000 resamples, the same on every call); `p` of McNemar's exact test (1947, Psychometrika
    12, 153–157).
    """
    images, gained, lost = len(own), int((own & ~against).sum()), int((against & ~own).sum())
    shares = np.array([gained, lost, images - gained - lost]) / images
    # A resample of the images is a multinomial sample of the three kinds.
    kinds = np.random.default_rng(0).multinomial(images, shares, RESAMPLES)
    low, high = np.percentile(100 * (kinds[:, 0] - kinds[:, 1]) / images, [2.5, 97.5])
    return {
        "images": images,
        "gained": gained,
        "lost": lost,
        "difference": 100 * (gained - lost) / images,
        "low": float(low),
        "high": float(high),
        "p": float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0,
    }
