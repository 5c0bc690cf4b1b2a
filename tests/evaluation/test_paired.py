"""Two networks on the same images: McNemar's test by hand, and the bootstrap against its normal approximation."""

import numpy as np
import pytest

from cnnlab.evaluation.paired import compare_on_images


def test_mcnemars_test_by_hand() -> None:
    """Six discordant images, one against five: 2 (1 + 6) / 2⁶."""
    own = np.array([True] * 5 + [False] + [True] * 3 + [False])
    against = np.array([False] * 5 + [True] + [True] * 3 + [False])
    found = compare_on_images(own, against)
    assert (found["images"], found["gained"], found["lost"]) == (10, 5, 1)
    assert found["difference"] == pytest.approx(40)
    assert found["p"] == pytest.approx(14 / 64)


def test_the_bootstrap_interval_is_about_the_normal_one() -> None:
    images, gained, lost = 10_000, 900, 600
    own, against = np.zeros(images, bool), np.zeros(images, bool)
    own[:gained] = True
    against[gained : gained + lost] = True
    found = compare_on_images(own, against)
    error = 100 * (gained + lost - (gained - lost) ** 2 / images) ** 0.5 / images
    assert (found["low"], found["high"]) == pytest.approx((3 - 1.96 * error, 3 + 1.96 * error), abs=0.03)
    assert compare_on_images(own, against) == found


def test_networks_that_agree_do_not_differ() -> None:
    same = np.array([True, False, True])
    found = compare_on_images(same, same)
    assert (found["difference"], found["low"], found["high"], found["p"]) == (0, 0, 0, 1)
