"""Dividends, Shapley values and interaction indices: closed forms, axioms, a case by hand; parts of the study."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from experiments.interactions import Interactions, looks_good, read_factors
from sim import rng
from sim.analysis.interactions import additive, combinations, dividends, interaction_index, shapley
from sim.analysis.intervals import mean_interval
from sim.config import InputError
from sim.plots.interactions import Measure
from sim.training.theory import mixing_law
from sim.validation.published import V1C

GAMES = st.integers(1, 5).flatmap(lambda n: hnp.arrays(float, 2**n, elements=st.floats(-10, 10, width=32)))


def random_game(changes, seed=0):
    return rng.stream(seed, "tests", "game").standard_normal(2**changes)


def test_v1c_equal_pushes_in_logit_are_super_additive_in_rate():
    """p0 = .05, three changes of +1 logit each: what one, two and three add."""
    size = combinations(3).sum(axis=1)
    rate = np.array([mixing_law(0.05, np.ones(k), np.ones(k), 1.0) if k else 0.05 for k in size])
    one, two, three = V1C.values()
    np.testing.assert_allclose((rate - 0.05)[[1, 3, 7]], [one, two, three], atol=1e-6)
    found = dividends(rate)
    np.testing.assert_allclose(found[[1, 2, 4]], one, atol=1e-6)
    np.testing.assert_allclose(found[[3, 5, 6]], two - 2 * one, atol=2e-6)
    np.testing.assert_allclose(found[7], three - 3 * two + 3 * one, atol=4e-6)
    np.testing.assert_allclose(shapley(rate), three / 3, atol=1e-6)
    np.testing.assert_allclose((rate - additive(rate))[7], three - 3 * one, atol=3e-6)


def test_v1c_nothing_interacts_on_the_log_odds_scale():
    size = combinations(3).sum(axis=1)
    np.testing.assert_allclose(dividends(size * 1.0 - 2.94)[size > 1], 0, atol=1e-12)


def test_the_glove_game_by_hand():
    """A left glove and two right ones; a pair is worth 1. Shapley values 2/3, 1/6, 1/6 (a textbook case)."""
    value = np.array([0, 0, 0, 1, 0, 1, 0, 1.0])  # rows none, L, R1, LR1, R2, LR2, R1R2, all
    np.testing.assert_allclose(shapley(value), [2 / 3, 1 / 6, 1 / 6])
    np.testing.assert_allclose(dividends(value), [0, 0, 0, 1, 0, 1, 0, -1])
    # left with one right: 1 where the other is away, 0 where it is here; the rights stand in for each other
    np.testing.assert_allclose(interaction_index(value)[[3, 5, 6, 7]], [0.5, 0.5, -0.5, -1])


def test_combinations_are_the_binary_digits_of_the_row():
    assert combinations(2).tolist() == [[False, False], [True, False], [False, True], [True, True]]


@settings(deadline=None)
@given(GAMES)
def test_dividends_add_up_to_every_value(value):
    rows = combinations(len(value).bit_length() - 1)
    parts = dividends(value)
    within = (rows[None] <= rows[:, None]).all(axis=2)
    np.testing.assert_allclose(within @ parts, value, atol=1e-9)


@settings(deadline=None)
@given(GAMES)
def test_axiom_of_efficiency(value):
    assert shapley(value).sum() == pytest.approx(value[-1] - value[0], abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(GAMES, st.integers(0, 4), st.floats(-5, 5))
def test_axiom_of_the_dummy(value, place, worth):
    """A change that adds the same to every combination gets just that, and interacts with nothing."""
    changes = len(value).bit_length() - 1
    place = min(place, changes)
    rows = combinations(changes + 1)
    others = np.delete(rows, place, axis=1) @ (2 ** np.arange(changes))
    wider = value[others] + worth * rows[:, place]
    assert shapley(wider)[place] == pytest.approx(worth, abs=1e-9)
    np.testing.assert_allclose(np.delete(shapley(wider), place), shapley(value), atol=1e-9)
    with_dummy = rows[:, place] & (rows.sum(axis=1) > 1)
    np.testing.assert_allclose(interaction_index(wider)[with_dummy], 0, atol=1e-9)


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=5, max_size=5))
def test_axiom_of_symmetry(by_size):
    """Where only the number of changes matters, all get the same, and so do all pairs."""
    value = np.array(by_size)[combinations(4).sum(axis=1)]
    np.testing.assert_allclose(shapley(value), shapley(value)[0], atol=1e-9)
    pairs = interaction_index(value)[combinations(4).sum(axis=1) == 2]
    np.testing.assert_allclose(pairs, pairs[0], atol=1e-9)


def test_shapley_is_the_mean_over_orders():
    value, found = random_game(4), np.zeros(4)
    for order in itertools.permutations(range(4)):
        row = 0
        for change in order:
            found[change] += (value[row | 1 << change] - value[row]) / math.factorial(4)
            row |= 1 << change
    np.testing.assert_allclose(shapley(value), found, atol=1e-12)


def test_interaction_of_a_pair_is_its_mean_difference_over_backgrounds():
    """Grabisch & Roubens 1999: weights (n - |B| - 2)! |B|! / (n - 1)! over the backgrounds B without the pair."""
    value = random_game(4, seed=1)
    for i, j in itertools.combinations(range(4), 2):
        both, total = 1 << i | 1 << j, 0.0
        for background in (row for row in range(16) if not row & both):
            size = background.bit_count()
            weight = math.factorial(4 - size - 2) * math.factorial(size) / math.factorial(3)
            step = value[background | both] - value[background | 1 << i] - value[background | 1 << j]
            total += weight * (step + value[background])
        assert interaction_index(value)[both] == pytest.approx(total, abs=1e-12)


def test_values_of_many_seeds_are_taken_at_once():
    values = rng.stream(2, "tests", "game").standard_normal((8, 3, 2))
    for part in (dividends, interaction_index, shapley, additive):
        np.testing.assert_allclose(part(values)[:, 2, 1], part(values[:, 2, 1]), atol=1e-12)


def test_a_missing_combination_is_refused():
    with pytest.raises(ValueError, match="6 rows is not a power of 2"):
        dividends(np.zeros(6))


def test_intervals_cover_the_mean_as_often_as_they_say():
    """90 % of 4,000 intervals from 6 normal draws: within 3 standard errors (.0047 each)."""
    draws = rng.stream(3, "tests", "interval").standard_normal((6, 4000))
    mean, half = mean_interval(draws)
    assert abs((np.abs(mean) < half).mean() - 0.9) < 3 * np.sqrt(0.9 * 0.1 / 4000)
    assert np.isnan(mean_interval(draws[:1])[1]).all()


def test_looking_good_takes_every_metric_that_has_a_direction():
    noise = 0.01 * rng.stream(4, "tests").standard_normal((20, 3))
    lower = Measure("", "", "lower", np.array([-1, -1, 1.0]) + noise, np.zeros((20, 3)))
    higher = Measure("", "", "higher", np.array([1, 0, 1.0]) + noise - noise.mean(axis=0), np.zeros((20, 3)))
    assert looks_good([lower, higher]) == ["yes", "unclear", "no"]
    assert looks_good([lower._replace(better="")]) == ["no direction"] * 3


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"a": "memory.shar=1"}, "factors.a: unknown key 'memory.shar'; did you mean 'memory.share'?"),
        ({"a": "seed=3"}, "factors.a: unknown key 'seed'"),
        ({"a": "memory.share=2"}, "factors.a: memory.share = 2: must be <= 1"),
        ({"a": "memory.share=much"}, "factors.a: memory.share = much: must be a number"),
        ({"a": "memory.share=0,1"}, "factors.a: memory.share needs one value, got 2"),
        ({"a": "memory.share 1"}, "factors.a = 'memory.share 1': must be KEY=VALUE"),
        ({"a": "kl_coef=.1 kl_coef=.2"}, "factors.a: kl_coef is given twice"),
        ({"a": "kl_coef=.1", "b": "kl_coef=.2"}, "factors.b: kl_coef is already changed by factors.a"),
        ({}, "factors: 0 changes; between 1 and 8 can be combined"),
        ({str(i): f"mixture.weights.w{i}=1" for i in range(9)}, "factors: 9 changes"),
    ],
)
def test_bad_factors_are_refused_by_name(factors, message):
    with pytest.raises(InputError) as error:
        read_factors(Interactions(factors=factors))
    assert message in str(error.value)
