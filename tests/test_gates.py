"""Gates: verdicts, missing data, corrections, and V13."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from sim.config import InputError
from sim.launch.gates import FAIL, INVESTIGATE, PASS, corrected, gate_problems, judge
from sim.launch.readings import Reading
from sim.launch.settings import Gate


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
@example([0.01, 0.011], "holm")  # the second step, 0.011 x 1, must not fall below the first, 0.01 x 2
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
