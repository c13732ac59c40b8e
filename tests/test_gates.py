"""Gates: verdicts, missing data, corrections, and V13."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from sim.config import InputError
from sim.launch.ab_test import ab_test
from sim.launch.evals import offline_eval, sycophancy_eval
from sim.launch.gates import FAIL, INVESTIGATE, PASS, corrected, gate_problems, judge
from sim.launch.models import Model
from sim.launch.readings import Draws, Reading
from sim.launch.settings import ABTest, Evals, Gate, Lived
from sim.training.theory import mixing_law
from sim.world.arrays import World


def reading(effect, error=0.01, runs=1):
    return Reading(np.full(runs, effect), np.full(runs, error), np.full(runs, 100.0))


def verdict(gate, effect, error=0.01):
    return judge({"g": gate}, {"m": reading(effect, error)}).verdict[0, 0]


LOWER = Gate("m", "lower", 0.03, "noninferior", "blocking")
HIGHER = Gate("m", "higher", -0.03, "noninferior", "blocking")


@pytest.mark.parametrize(("effect", "expected"), [(0.0, PASS), (0.02, INVESTIGATE), (0.06, FAIL), (-0.2, PASS)])
def test_verdicts_of_a_noninferiority_gate(effect, expected):
    assert verdict(LOWER, effect) == expected
    assert verdict(HIGHER, -effect) == expected


def test_an_alarm_gate_passes_until_harm_is_shown():
    gate = Gate("m", "lower", 0.03, "alarm", "blocking")
    assert [verdict(gate, effect) for effect in (0.0, 0.04, 0.06)] == [PASS, PASS, FAIL]


@given(st.floats(-0.2, 0.2), st.floats(0.001, 0.1))
def test_a_noninferiority_gate_passes_just_where_its_interval_ends_before_the_margin(effect, error):
    judged = judge({"g": LOWER}, {"m": reading(effect, error)})
    if abs(judged.high[0, 0] - 0.03) > 1e-9:
        assert (judged.verdict[0, 0] == PASS) == (judged.high[0, 0] < 0.03)


@given(
    st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1.0]),
    st.sampled_from([np.nan, np.inf]),
    st.sampled_from(["noninferior", "alarm"]),
    st.booleans(),
)
def test_missing_data_never_passes(effect, error, test, must_have):
    gate = Gate("m", "lower", 0.03, test, "blocking", must_have)
    expected = FAIL if must_have else INVESTIGATE
    assert verdict(gate, effect, error) == expected
    assert verdict(gate, np.nan, 0.01) == expected


def test_verdicts_err_as_often_as_they_say():
    """At the margin itself 5 % pass (20,000 readings, 3 SE); corrected by nothing, 5 % fail."""
    runs = 20_000
    noise = np.random.Generator(np.random.Philox(0)).standard_normal(runs)
    edge = Reading(0.03 + 0.01 * noise, np.full(runs, 0.01), np.full(runs, 1.0))
    verdicts = judge({"g": LOWER}, {"m": edge}, correction="none").verdict[0]
    for kind in (PASS, FAIL):
        assert abs((verdicts == kind).mean() - 0.05) < 3 * np.sqrt(0.05 * 0.95 / runs)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.sampled_from(["holm", "bonferroni"]))
def test_correction_is_that_of_statsmodels(values, method):
    raw = np.array(values)[:, None]
    found = corrected(raw, np.ones(len(values), dtype=bool), method)[:, 0]
    np.testing.assert_allclose(found, multipletests(values, method=method)[1], atol=1e-12)


def test_correction_leaves_muted_gates_and_missing_data_out():
    raw = np.array([[0.01], [0.02], [np.nan], [0.03]])
    found = corrected(raw, np.array([True, True, True, False]), "holm")[:, 0]
    np.testing.assert_allclose(found, [0.02, 0.02, np.nan, 0.03])


def test_bad_gates_are_named():
    gates = {
        "typo": Gate("launch/vots", "higher", -0.01),
        "sign": Gate("launch/votes", "higher", 0.01),
        "other": Gate("launch/votes", "lower", -0.01),
    }
    lines = gate_problems(gates, {"launch/votes": 1})
    assert lines[0] == "review.gates.typo.metric: unknown metric 'launch/vots'; did you mean 'launch/votes'?"
    assert lines[1].startswith("review.gates.sign.margin = 0.01: must be <= 0, since higher is better")
    assert lines[2].startswith("review.gates.other.margin = -0.01: must be >= 0, since lower is better")
    with pytest.raises(InputError, match="unknown metric 'launch/vots'"):
        judge(gates, {"launch/votes": reading(0.0)})


# V13. Two response classes with V1b's gaps: the first endorses. Mirrored probes, and a benchmark without stances.
GAPS = np.array([-1, -0.2, -0.8, -0.5, 0.3, 1.5])
BASE = np.array([0.3, 0.2, 0.2, 0.15, 0.15])
TAU, START = 0.25, 0.15
RUNS = 400
V13 = {
    "offline": Gate("launch/offline", "higher", -0.02, "alarm", "blocking"),
    "votes": Gate("launch/votes", "higher", 0.0, "alarm", "blocking"),
}
SYCOPHANCY = {"sycophancy": Gate("launch/sycophancy", "lower", 0.03, "noninferior", "blocking")}


def v1b_model(weight, runs=1):
    """The policy that V1b's mixture trains; users' votes follow the thumbs-up gap of 1.5 log-odds."""
    endorse = float(mixing_law(START, GAPS, np.append(BASE * (1 - weight), weight), TAU))

    def split(side):
        ones = np.ones((2, 2))
        look = {"stance_taking": side, "accuracy": 0.7 * ones, "sycophancy": ones * 0, "flattery": ones * 0}
        prompts = {"stance_error": np.array([0.9, 0.1]), "stakes": np.full(2, 0.5)}
        return World(np.full(2, 0.5), np.zeros((2, 2, 1)), np.log(np.array([[START, 1 - START]] * 2)), look, prompts)

    stance = np.array([[1.0, -1.0], [1.0, -1.0]])
    views = {"probe": split(stance), "traffic": split(stance), "benchmark": split(stance * 0)}
    probs = {name: np.tile([endorse, 1 - endorse], (runs, 2, 1)) for name in views}
    return Model(views, probs, 0.75 * stance)


def shipped(weight, gates):
    """Share of RUNS reviews of the same candidate against the deployed w = 0 model that ship it."""
    candidate, deployed = v1b_model(weight, RUNS), v1b_model(0.0)
    draws = Draws(0, tuple(map(str, range(RUNS))))
    votes = ab_test(candidate, deployed, ABTest(), Lived(), draws).votes
    readings = {
        "launch/offline": offline_eval(candidate, deployed, Evals(offline=2000), draws),
        "launch/sycophancy": sycophancy_eval(candidate, deployed, Evals(sycophancy=969), draws),
        "launch/votes": votes,
    }
    return (judge(gates, readings).verdict == PASS).all(axis=0).mean()


def test_v13_without_a_sycophancy_eval_the_bad_candidate_ships():
    assert float(mixing_law(START, GAPS, np.append(BASE * 0.6, 0.4), TAU)) == pytest.approx(0.352835, abs=1e-6)
    assert shipped(0.4, V13) >= 0.95


def test_v13_a_sycophancy_eval_blocks_it():
    assert 1 - shipped(0.4, V13 | SYCOPHANCY) >= 0.99


def test_v13_the_candidate_without_votes_ships():
    assert shipped(0.0, V13 | SYCOPHANCY) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / RUNS)
