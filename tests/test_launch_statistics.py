"""V12: review statistics against published numbers; sampled values over 1e5 simulations, within 3 standard errors."""

import numpy as np
import pytest

from sim import rng
from sim.config import InputError
from sim.launch.ab_test import interval_radius, votes_reading
from sim.launch.readings import Draws
from sim.launch.sequential import (
    ab_sample_size,
    always_valid_radius,
    boundaries,
    crossing_probability,
    sample_size,
)
from sim.launch.settings import ABTest

PEEKS = {1: 0.050, 2: 0.083, 5: 0.142, 10: 0.193, 20: 0.248}
SIMULATIONS = 100_000


def paths(looks):
    """Standardised sums at evenly spaced looks under no effect, [simulations, looks]."""
    steps = rng.stream(0, "tests", "paths", looks).standard_normal((SIMULATIONS, looks))
    return steps.cumsum(axis=1) / np.sqrt(np.arange(1, looks + 1))


def near(share, expected):
    """Within 3 standard errors, and the rounding of the published figure."""
    return abs(share - expected) < 3 * np.sqrt(expected * (1 - expected) / SIMULATIONS) + 0.0005


@pytest.mark.parametrize(("looks", "expected"), PEEKS.items())
def test_v12_peeking_raises_the_error_of_a_fixed_test(looks, expected):
    assert near((np.abs(paths(looks)) > 1.959964).any(axis=1).mean(), expected)
    assert crossing_probability(np.full(looks, 1.959964)) == pytest.approx(expected, abs=6e-4)


def test_v12_pocock_constant_for_five_looks():
    bounds = boundaries("pocock", 5, 0.05)
    assert bounds == pytest.approx((2.413,) * 5, abs=1e-3)
    assert near((np.abs(paths(5)) > np.array(bounds)).any(axis=1).mean(), 0.05)


def test_obrien_fleming_boundaries_by_lan_and_demets_spending():
    """Five looks, two-sided 5 %: the values that every group-sequential table prints."""
    bounds = boundaries("obrien_fleming", 5, 0.05)
    assert bounds == pytest.approx((4.877, 3.357, 2.680, 2.290, 2.031), abs=2e-3)
    assert near((np.abs(paths(5)) > np.array(bounds)).any(axis=1).mean(), 0.05)


def test_v12_msprt_ever_rejects_at_most_five_percent():
    """Looking after each of 1,000 observations of unit variance; 20,000 paths."""
    steps = rng.stream(0, "tests", "msprt").standard_normal((20_000, 1000)).cumsum(axis=1)
    count = np.arange(1, 1001)
    for mixing in (0.02, 0.3):
        ever = (np.abs(steps / count) > always_valid_radius(1 / count, mixing, 0.05)).any(axis=1).mean()
        assert ever <= 0.05


def test_v12_sample_sizes():
    assert ab_sample_size(0.030, 0.034) == 30_387
    assert ab_sample_size(0.50, 0.52) == 9_803
    assert sample_size(np.sqrt(1 / 9), 0.03) == 969


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
