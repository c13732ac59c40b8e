"""Review statistics beside V12 (tests/test_validation.py): boundaries, designs and their errors, within 3 SE."""

import numpy as np
import pytest

from sim import rng
from sim.config import InputError
from sim.launch.ab_test import interval_radius, votes_reading
from sim.launch.readings import Draws
from sim.launch.sequential import (
    boundaries,
    sample_size,
)
from sim.launch.settings import ABTest
from sim.validation.review_statistics import SIMULATIONS, null_paths


def near(share, expected):
    """Within 3 standard errors, and the rounding of the published figure."""
    return abs(share - expected) < 3 * np.sqrt(expected * (1 - expected) / SIMULATIONS) + 0.0005


def test_obrien_fleming_boundaries_by_lan_and_demets_spending():
    """Five looks, two-sided 5 %: the values that every group-sequential table prints."""
    bounds = boundaries("obrien_fleming", 5, 0.05)
    assert bounds == pytest.approx((4.877, 3.357, 2.680, 2.290, 2.031), abs=2e-3)
    assert near((np.abs(null_paths(5)) > np.array(bounds)).any(axis=1).mean(), 0.05)


def test_a_sample_size_is_that_of_a_two_sided_test():
    """(1.959964 + 0.841621)^2 / 0.1^2 = 784.9 observations see a tenth of a standard deviation at power 80 %."""
    assert sample_size(1.0, 0.1) == sample_size(1.0, -0.1) == 785


def test_no_sample_size_for_no_effect():
    with pytest.raises(InputError, match="effect = 0"):
        sample_size(1.0, 0.0)


@pytest.mark.parametrize("design", ["fixed", "pocock", "obrien_fleming", "always_valid"])
def test_ab_designs_keep_their_error(design):
    """No difference between the arms: the interval excludes 0 in at most 10 % of 20,000 tests (level 5 % a side)."""
    runs = 20_000
    settings = ABTest(design=design)
    draws = _Rows(0, tuple(map(str, range(runs))))
    reading, share = votes_reading(np.full(runs, 0.6), np.array([0.6]), 1000, settings, draws, 0.05)
    low, high = reading.interval(0.05)
    wrong = ((low > 0) | (high < 0)).mean()
    assert wrong < 0.1 + 3 * np.sqrt(0.09 / runs)
    if design in ("fixed", "pocock", "obrien_fleming"):
        assert wrong > 0.1 - 3 * np.sqrt(0.09 / runs) - 0.005  # votes are whole numbers
    if design == "fixed":
        assert (share == 1).all()


def test_a_clear_difference_stops_a_sequential_test_early():
    draws = Draws(0, ("a",))
    for design in ("pocock", "obrien_fleming", "always_valid"):
        _, share = votes_reading(np.array([0.7]), np.array([0.5]), 2000, ABTest(design=design), draws, 0.05)
        assert share[0] < 1


def test_sequential_intervals_are_wider_than_the_fixed_one():
    variance = np.array([[0.005, 0.0025, 0.001]]) ** 2
    fixed = interval_radius(variance, ABTest(design="fixed"), 0.05)[0, -1]
    for design in ("pocock", "obrien_fleming", "always_valid"):
        assert interval_radius(variance, ABTest(design=design), 0.05)[0, -1] > fixed


class _Rows(Draws):
    """The same numbers from one stream: 20,000 streams would take long and test nothing more."""

    def uniform(self, check, what, *shape):
        return rng.stream(self.seed, "tests", check, what).random((len(self.names), *shape))
