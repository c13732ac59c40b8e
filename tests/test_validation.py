"""Every case that is known independently of this code (V1 to V13), and the functions that anyone can hand a problem."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_commands import ROOT, run

import sim
from experiments.validate import read_names, shown
from sim.config import InputError
from sim.validation import (
    best_of_n,
    dynamics,
    gates,
    mixing,
    normalization,
    overoptimization,
    published,
    review_statistics,
    reward_models,
    targeting,
    tilts,
)
from sim.validation.check import HEADER, check, mean_and_error, rows
from sim.validation.run import CASES, table
from sim.validation.small import DRAWN, EXPECTED, ends, sampled_ends, small_world


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_case(name):
    checks = sim.validate([name])
    failed = [line for one in checks for line in rows(one, "", every=True) if line[-1] != "yes"]
    assert not failed, "\n" + shown(failed)
    assert {one.case for one in checks} == {name}


def test_every_case_of_the_list_is_there_with_its_source():
    assert {name.rstrip("abc") for name in CASES} == {f"V{number}" for number in range(1, 14)}
    assert list(published.SOURCES) == list(CASES)
    assert {case for case, *_ in published.NOT_REPRODUCED} <= set(CASES)


# Other numbers: each family takes the problem.


@pytest.mark.slow
def test_own_problems_pass_in_every_family():
    mine = mixing.TwoClasses(0.4, (0.6, -0.3, 0.8), (2.0, 1.0, 0.0), 0.8)
    candidates = tilts.Candidates((0.2, 0.3, 0.1, 0.4), (0.5, 0.5, -1.0, 2.0), (1, 0, 1, 0))
    checks = [
        *mixing.mixing_law("mine", mine, (0.0, 0.7), drawn=DRAWN),
        *mixing.super_additivity("mine", 0.1, 0.5, (1, 2)),
        *tilts.minimal_penalty("mine", replace(candidates, inside=(0, 0, 0, 1)), 1.5),
        *tilts.sign_flip("mine", candidates, (0.3, 1.2)),
        *best_of_n.best_of_n("mine", candidates, (3,), samples=50_000),
        *overoptimization.gaussian_frontier("mine", overoptimization.Gaussian(0.2, -8, 12, 1001)),
        *targeting.final_rates("mine", targeting.Users(0.3, 0.6, 1.0, -0.5), (0.3,), (0.3,)),
        *dynamics.vanilla_flow("mine", dynamics.TwoActions(0.3, 0.5), (2, 6)),
        *reward_models.ensemble_slopes("mine", [reward_models.Ensemble(4, 0.2, 2.0, 1.5)], samples=200_000),
        *normalization.two_rollouts("mine", {"three": ((0, 1), (0, 1), (0, 1))}),
        *review_statistics.questions("mine", 0.4, 0.05),
        *review_statistics.pocock("mine", 3, level=0.1),
        *review_statistics.arm_sizes("mine", ((0.2, 0.25),)),
        *gates.blocked_by_one_gate("mine", published.V1B, 0.5, 969, 0.03, reviews=60),
    ]
    failed = [line for one in checks for line in rows(one, "") if line[-1] != "yes"]
    assert not failed, "\n" + shown(failed)


def test_a_wrong_expectation_fails():
    """The same functions say no where the number is another: nothing passes by construction."""
    wrong = [value + 3e-6 for value in published.V1A_POINTS.values()]
    checks = mixing.mixing_law("mine", published.V1A, tuple(published.V1A_POINTS), wrong, drawn=())
    assert [one.passed for one in checks if one.tolerance == 1e-6] == [False] * (1 + len(EXPECTED))
    shifted = tilts.sign_flip("mine", published.V4, (0.5,), (0.26,))
    assert not any(one.passed for one in shifted)
    assert not reward_models.opposite_signs("mine", published.V2, 0.316, 0.066, published.V2_PRINTED[2])[1].passed
    assert not targeting.training_time("mine", published.V6, (0.5, 0.1), half=0.25)[0].misses[0]


def test_the_margin_of_a_gate_decides():
    """Where the rise is accepted, the same eval lets the candidate through."""
    lenient = gates.with_sycophancy_eval(0.5)
    assert gates.shipped(published.V1B, published.V13_WEIGHT, lenient, 969, 50) == 1
    assert gates.shipped(published.V1B, published.V13_WEIGHT, gates.with_sycophancy_eval(0.03), 969, 50) == 0


def test_raters_who_disagree_turn_the_sign_of_their_bias():
    mirrored = replace(published.V2, prefer=tuple(1 - share for share in published.V2.prefer))
    bias, gap, reward = reward_models.fitted_reward(published.V2)
    found = reward_models.fitted_reward(mirrored)
    np.testing.assert_allclose([found[0], found[1]], [-bias, -gap], atol=1e-9)
    np.testing.assert_allclose(found[2], -reward, atol=1e-9)


MIXING, TILTS = published.V1A, published.V3
PAIR = tilts.Candidates((0.4, 0.6), (1, 2), (1, 0))
BAD_PROBLEMS = {
    "ref_prob = 1.2: must be < 1": lambda: replace(MIXING, ref_prob=1.2),
    "ref_prob = 0: must be > 0": lambda: replace(MIXING, ref_prob=0),
    "kl_coef = 0: must be > 0": lambda: replace(MIXING, kl_coef=0),
    "base = (1.0, 0.0): must be 3 numbers": lambda: replace(MIXING, gaps=(-1, 2, 3)),
    "gaps = nan: must be a finite number": lambda: replace(MIXING, gaps=(-1, np.nan)),
    "gaps = ('up', 'down'): must be numbers": lambda: replace(MIXING, gaps=("up", "down")),
    "at = 1.5: must be <= 1": lambda: mixing.mixing_law("c", MIXING, (1.5,)),
    "published = (0.1, 0.2): must be one number": lambda: mixing.mixing_law("c", MIXING, (0.5,), (0.1, 0.2)),
    "no weight is critical": lambda: mixing.critical_weight("c", replace(MIXING, gaps=(1, 2))),
    "counts = (2, 3): must hold 1": lambda: mixing.super_additivity("c", 0.1, 1.0, (2, 3)),
    "ref_probs = -0.2: must be > 0": lambda: tilts.Candidates((-0.2, 0.6, 0.6), (1, 2, 3), (1, 0, 0)),
    "ref_probs: must sum to 1, sums to 1.4": lambda: tilts.Candidates((0.2, 0.6, 0.6), (1, 2, 3), (1, 0, 0)),
    "reward = (1, 2, 3): must be 2 numbers": lambda: tilts.Candidates((0.4, 0.6), (1, 2, 3), (1, 0)),
    "inside = (0.5, 0): must be 0 or 1": lambda: tilts.Candidates((0.4, 0.6), (1, 2), (0.5, 0)),
    "pressures = 0: must be > 0": lambda: tilts.sign_flip("c", PAIR, (0,)),
    "flip = 1: P(class) does not return": lambda: tilts.sign_flip("c", PAIR, (0.5,), flip=1),
    "kl_coef = -1: must be > 0": lambda: tilts.minimal_penalty("c", TILTS, -1),
    "draws = 2.5: must be a whole number": lambda: best_of_n.best_of_n("c", PAIR, (2.5,)),
    "high = 16: must be >= 110": lambda: overoptimization.Gaussian(0.01),
    "share = 1.5: must be < 1": lambda: targeting.final_rates("c", published.V6, (1.5,), ()),
    "half = 0.1: the gameable rate goes from 0.2": lambda: targeting.training_time("c", published.V6, (0.5,), 0.1),
    "gap = 0: there is no way to go": lambda: dynamics.contraction("c", dynamics.TwoActions(0.2, 0), 0.4, 0.3, 5),
    "rate = 3: must be < 2.5": lambda: dynamics.contraction("c", dynamics.TwoActions(0.2, 1), 0.4, 3, 5),
    "members = 0: must be >= 1": lambda: reward_models.Ensemble(0, 0.2),
    "prefer = (0.5,): must be 6 numbers": lambda: replace(published.V2, prefer=(0.5,)),
    "agrees = (True, True, True, True): must be 0 or 1": lambda: replace(published.V2, agrees=(True,) * 4),
    "the second rollout must earn more": lambda: normalization.two_rollouts("c", {"tie": ((1, 0), (0, 1))}),
    "published: unknown name 'more'": lambda: normalization.two_rollouts("c", {"one": ((0, 1),)}, {"more": 1.0}),
    "looks = 0: must be >= 1": lambda: review_statistics.peeking("c", (0,)),
    "rates = 1.5: must be < 1": lambda: review_statistics.arm_sizes("c", ((0.5, 1.5),)),
    "effect = 0: no sample is large enough": lambda: review_statistics.questions("c", 0.3, 0.0),
    "prompts = 0: must be >= 1": lambda: gates.blocked_by_one_gate("c", published.V1B, 0.4, 0, 0.03),
}


@pytest.mark.parametrize("message", BAD_PROBLEMS)
def test_a_problem_that_cannot_be_is_one_line_that_names_it(message):
    with pytest.raises(InputError) as complaint:
        BAD_PROBLEMS[message]()
    assert message in str(complaint.value)
    assert len(str(complaint.value).splitlines()) == 1


# The comparison itself.


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(1e-9, 2))
def test_a_check_passes_just_where_it_is_close_enough(expected, got, tolerance):
    close = abs(got - expected) / tolerance
    if abs(close - 1) > 1e-9:
        assert check("c", "w", "h", expected, got, tolerance).passed == (close < 1)
    for bound, sign in (("at most", 1), ("at least", -1)):
        beyond = sign * (got - expected) / tolerance
        if abs(beyond - 1) > 1e-9:
            assert check("c", "w", "h", expected, got, tolerance, bound=bound).passed == (beyond < 1)


def test_a_sampled_mean_must_be_within_both_its_band_and_its_error():
    def passes(got, error, slack=0.0):
        return check("c", "w", "h", 1.0, got, 0.02, error=error, slack=slack).passed

    assert passes(1.01, 0.01)
    assert not passes(1.01, 0.001)
    assert passes(1.01, 0.001, slack=0.008)
    assert not passes(1.03, 0.1)
    assert not check("c", "w", "h", 1.0, 1.1, 0.2, error=0.0).passed


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_missing_number_never_passes(bad):
    for bound in ("=", "at most", "at least"):
        assert not check("c", "w", "h", 0.0, [0.0, bad], np.inf, bound=bound).passed
    assert rows(check("c", "w", "h", 0.0, [0.0, bad], 1.0), "s")[0][-1] == "NO"


def test_the_row_shows_the_number_that_is_farthest_off():
    one = check("c", "w", "h", [1, 2, 3], [1, 2.5, 3.1], 1.0, at=("a", "b", "d"))
    assert rows(one, "s") == [["c", "w, b (farthest of 3)", "h", "s", "2", "2.5", "1", "yes"]]
    assert [line[5] for line in rows(one, "s", every=True)] == ["1", "2.5", "3.1"]
    assert check("c", "w", "h", 5, [1, 4, 2], 0.0, bound="at most").worst == 1
    assert check("c", "w", "h", 0, [3, 1, 2], 0.0, bound="at least").worst == 1


def test_mean_and_error_by_hand():
    mean, error = mean_and_error(np.array([[1.0], [3.0]]))
    assert (mean, error) == (pytest.approx(2), pytest.approx(1))


@pytest.mark.parametrize("way", DRAWN, ids=lambda way: way.name)
def test_replicas_are_independent(way):
    """Early in training, twenty replicas of one problem differ, and two prompts of a replica do."""
    world, reward = small_world([[0.3, 0.7]] * 2), np.array([[[1.0, 0.0]] * 2])
    found = sampled_ends(world, reward, np.ones((1, 1)), np.ones(1), way, steps=100)[:, 0, 0, 0]
    early = sampled_ends(world, reward, np.ones((1, 1)), np.full(1, 0.01), way, steps=100)
    assert found.shape == (20,)
    assert len(np.unique(early[:, 0, 0, 0])) == 20


def test_a_small_world_lets_a_log_linear_policy_do_anything():
    world, reward = small_world([0.2, 0.5, 0.3]), np.array([[[0.4, -1.0, 0.2]]])
    tabular, linear = (ends(world, reward, np.ones((1, 1)), np.full(1, 0.7), way) for way in EXPECTED[:2])
    np.testing.assert_allclose(tabular, linear, atol=1e-9)


# The command.


def test_what_is_not_reproduced_is_in_the_table():
    found = table([check("V6", "w", "h", 0.0, 0.0, 1.0)])
    assert [line[-1] for line in found] == ["yes", "not reproduced"]
    assert "language model" in found[1][2]
    assert "NOT REPRODUCED" in shown(found)
    assert {len(line) for line in found} == {len(HEADER)}


def test_the_command_prints_one_table_and_writes_every_number(tmp_path):
    result = run("validate", "cases=[V2,V10]", f"out={tmp_path}/checks.csv")
    assert result.returncode == 0, result.stderr
    assert "validating: 100%" in result.stderr
    assert "0 failed" in result.stdout
    with (tmp_path / "checks.csv").open() as file:
        lines = list(csv.reader(file))
    assert lines[0] == HEADER
    assert {line[0] for line in lines[1:]} == {"V2", "V10"}
    assert {line[-1] for line in lines[1:]} == {"yes"}


def test_a_failed_check_is_exit_code_3(tmp_path, monkeypatch, capsys):
    from experiments import validate as command

    monkeypatch.setattr(command, "validate", lambda *_: [check("V1a", "w", "h", 0.0, 1.0, 0.5)])
    monkeypatch.setattr("sys.argv", ["validate", "cases=V1a", f"out={tmp_path}/checks.csv"])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 3
    assert "NO" in capsys.readouterr().out
    assert (tmp_path / "checks.csv").read_text().splitlines()[1].endswith("NO")


def test_bad_input_is_one_clear_line(tmp_path):
    for override, message in (("cases=V99", "unknown case 'V99'"), (f"out={ROOT}/README.md/x", "out = ")):
        result = run("validate", "cases=V2", override, f"hydra.run.dir={tmp_path}")
        assert result.returncode == 1
        assert message in result.stderr
        assert "Traceback" not in result.stderr
    with pytest.raises(InputError, match="must be names"):
        read_names([1, 2])
    assert read_names(None) == list(CASES)
    assert read_names("V1a") == read_names(["V1a"]) == ["V1a"]
