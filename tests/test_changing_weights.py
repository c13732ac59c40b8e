"""Weights that change while a policy learns: schedules and constraints."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sim
from sim.config import with_value
from sim.pipeline import simulate
from sim.rewards.mixture import schedule
from sim.training.theory import mixing_law

SMALL = sim.Settings(world=sim.Chat(prompts=24, responses=6))
VOTES = "mixture.weights.thumbs_up"


def changed(base=SMALL, **keys):
    for key, value in keys.items():
        base = with_value(base, key.replace("__", "."), value)
    return base


def test_a_schedule_by_hand():
    np.testing.assert_allclose(schedule(6, 0, 0, 0), np.ones(6))
    np.testing.assert_allclose(schedule(6, 2, 0, 0), [0, 0, 1, 1, 1, 1])
    np.testing.assert_allclose(schedule(6, 1, 3, 0), [0, 0.25, 0.5, 0.75, 1, 1])
    np.testing.assert_allclose(schedule(6, 1, 3, 4), [0, 0.25, 0.5, 0.75, 0, 0])


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_a_schedule_stays_between_nothing_and_all(steps, start, ramp, until):
    share = schedule(steps, start, ramp, until)
    assert share.shape == (steps,)
    assert ((share >= 0) & (share <= 1)).all()
    assert not share[:start].any()


@pytest.mark.parametrize("renormalize", [True, False])
def test_before_its_first_step_the_added_signal_changes_nothing(renormalize):
    base = changed(mixture__renormalize=renormalize)
    late = simulate(changed(base, mixture__from_step=40), {VOTES: [0.3]})
    without = simulate(base, {VOTES: [0.0]})
    always = simulate(changed(base, training__steps=300), {VOTES: [0.3]})
    rate = "sycophancy/rate"
    np.testing.assert_allclose(late[rate].sel(step=40), without[rate].sel(step=40), atol=1e-12)
    assert float(late["rewards/thumbs_up/weight"].sel(step=100)[0]) == pytest.approx(0.3)
    # Long enough after it came, the policy is where it would have been anyway.
    longer = changed(base, mixture__from_step=40, training__steps=300)
    assert float(simulate(longer, {VOTES: [0.3]})[rate][0, -1]) == pytest.approx(float(always[rate][0, -1]), abs=1e-3)


def test_after_its_last_step_its_effect_fades():
    base = changed(training__steps=300)
    stopped = simulate(changed(base, mixture__until_step=50), {VOTES: [0.5]})["sycophancy/rate"][0]
    without = simulate(base, {VOTES: [0.0]})["sycophancy/rate"][0]
    assert float(stopped.sel(step=50)) > float(without.sel(step=50)) + 0.02
    assert float(stopped[-1]) == pytest.approx(float(without[-1]), abs=1e-3)


def test_before_its_first_step_a_signal_changes_nothing_where_signals_are_scaled():
    base = changed(mixture__scale="std")
    late = simulate(changed(base, mixture__from_step=40), {VOTES: [0.3]})
    without = simulate(base, {VOTES: [0.0]})
    for name in ("sycophancy/rate", "kl", "objective"):
        np.testing.assert_allclose(late[name].sel(step=40), without[name].sel(step=40), atol=1e-12)


def test_the_ledger_of_a_schedule_sums_to_the_change():
    data = simulate(changed(mixture__from_step=10, mixture__ramp_steps=20), {VOTES: [0.3]})
    change = data["sycophancy/rate"].diff("step").values
    np.testing.assert_allclose(data["ledger"].sum("cause").values, change, atol=1e-9)
    assert not data["ledger"].sel(cause="thumbs_up", interval=10).values.any()


HELD = {
    "mixture__constraints": {"model_spec": 0.0},
    "mixture__constraint_metrics": {"model_spec": "sycophancy/rate"},
}


def test_a_binding_constraint_is_met_and_a_slack_one_costs_nothing():
    base = changed(world=sim.Chat(prompts=60, responses=8), training__steps=600)
    free = simulate(base, {VOTES: [0.4]})
    reached = float(free["sycophancy/rate"][0, -1])
    thresholds = [reached - 0.06, 1.0]
    held = changed(base, mixture__multiplier_rate=1.0, **HELD)
    data = simulate(held, {VOTES: [0.4, 0.4], "mixture.constraints.model_spec": thresholds})
    assert float(data["sycophancy/rate"][0, -1]) == pytest.approx(thresholds[0], abs=2e-3)
    np.testing.assert_allclose(data["sycophancy/rate"][1], free["sycophancy/rate"][0], atol=1e-9)
    assert float(data["rewards/model_spec/weight"][0, -1]) > float(data["rewards/model_spec/weight"][1, -1]) + 0.1


def test_a_sampled_policy_circles_around_its_threshold():
    # One sample path (seed 0): dual ascent against a noisy learner swings around its threshold.
    base = changed(
        training__estimator="rloo", training__optimizer="adam", training__learning_rate=0.05, training__steps=1500,
    )  # fmt: skip
    name = "rewards/helpfulness/raw"
    free = float(simulate(base, {VOTES: [0.4]})[name][0, -1])
    held = changed(base, mixture__multiplier_rate=0.05, mixture__constraints={"helpfulness": free + 0.03})
    later = simulate(held, {VOTES: [0.4]})[name][0].sel(step=slice(750, None))
    assert float(later.mean()) == pytest.approx(free + 0.03, abs=0.01)


def test_an_equality_constraint_pulls_from_both_sides():
    start = simulate(changed(training__steps=1))["rewards/helpfulness/raw"][0, 0]
    base = changed(training__steps=400)
    for wanted in (float(start) + 0.01, float(start) + 0.05):
        held = {"mixture__constraints": {"helpfulness": wanted}, "mixture__multiplier_rate": 1.0}
        data = simulate(changed(base, mixture__constraint_kind="equality", **held))
        assert float(data["rewards/helpfulness/raw"][0, -1]) == pytest.approx(wanted, abs=2e-3)


def test_the_multiplier_is_the_weight_that_theory_asks_for(tmp_path):
    # Two responses; one signal prefers the first, the constrained one the second: at the threshold q the mixing law
    # gives the multiplier, logit q = logit p0 + (gap_a + multiplier gap_b) / kl_coef.
    table = tmp_path / "two.csv"
    table.write_text("p,r,a,b\n1,1,1,0\n1,2,0,1\n")
    world = sim.Scores(path=str(table), prompt="p", response="r", signals={"a": "a", "b": "b"}, attributes={"a": "a"})
    settings = sim.Settings(
        world=world,
        kl_coef=0.5,
        policy=sim.Policy(kind="tabular"),
        training=sim.Training(steps=2000, learning_rate=0.5),
        mixture=sim.Mixture(
            weights={"a": 1.0, "b": 0.0}, added="b", renormalize=False, constraints={"b": 0.4}, multiplier_rate=0.1
        ),
    )
    data = simulate(settings)
    multiplier = float(data["rewards/b/weight"][0, -1])
    assert mixing_law(0.5, np.array([1.0, -1.0]), np.array([1.0, multiplier]), 0.5) == pytest.approx(0.6, abs=1e-4)
    assert float(data["rewards/b/raw"][0, -1]) == pytest.approx(0.4, abs=1e-4)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"mixture__constraints": {"nobody": 1.0}}, "mixture.constraints.nobody: unknown signal"),
        ({"mixture__constraint_metrics": {"safety": "kl"}}, "mixture.constraint_metrics.safety: there is no such"),
        ({"mixture__from_step": 100}, "mixture.from_step = 100: must be < training.steps"),
        ({"mixture__from_step": 9, "mixture__until_step": 5}, "mixture.until_step = 5: must be > mixture.from_step"),
        ({"mixture__multiplier_rate": 0.5}, "mixture.multiplier_rate: has no effect without mixture.constraints"),
        ({"training__clip": 0.5}, "training.clip = 0.5: has no effect unless training.estimator is grpo or ppo"),
        ({"policy__hidden": 5}, "policy.hidden = 5: has no effect unless policy.kind is mlp"),
        ({"training__estimator": "rloo", "training__samples": 1}, "training.samples = 1: rloo compares at least 2"),
        ({"policy__kind": "mlp"}, "training.estimator = natural: not for policy.kind = mlp"),
        (
            {"mixture__constraints": {"safety": 0.9}, "mixture__constraint_metrics": {"safety": "sycophancy/rat"}},
            "mixture.constraint_metrics.safety: unknown metric 'sycophancy/rat'; did you mean 'sycophancy/rate'",
        ),
        (
            {
                "users__vulnerable_share": 0.0,
                "mixture__constraints": {"safety": 0.9},
                "mixture__constraint_metrics": {"safety": "sycophancy/vulnerable"},
            },
            "mixture.constraint_metrics.safety: 'sycophancy/vulnerable' is a mean over prompts of which this world has",
        ),
    ],
)
def test_what_cannot_hold_is_refused_by_name(keys, message):
    with pytest.raises(sim.InputError, match=message.replace(".", r"\.")):
        simulate(changed(**keys))
