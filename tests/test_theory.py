"""Closed forms and published numbers (V1, V3, V4, V7, V8, V9 of the validation list), against the trained core."""

import numpy as np
import pytest
from conftest import one_prompt, random_world
from scipy.optimize import minimize
from scipy.special import expit, logit

from sim import rng
from sim.rewards.mixture import effective_weights
from sim.training import theory
from sim.training.policies import make_policy
from sim.training.train import policy_log_probs, train
from sim.world.arrays import normalize_log

V1A = {"ref": 0.2, "gaps": [-1.0, 2.0], "base": [1.0, 0.0], "kl_coef": 0.5}
V1A_POINTS = {0: 0.032727, 0.1: 0.058069, 0.2: 0.100988, 1 / 3: 0.2, 0.4: 0.271645, 0.5: 0.404610, 0.6: 0.553224}
V1B = {"ref": 0.15, "gaps": [-1, -0.2, -0.8, -0.5, 0.3, 1.5], "base": [0.3, 0.2, 0.2, 0.15, 0.15, 0.0], "kl_coef": 0.25}
V1B_POINTS = {0: 0.020743, 0.05: 0.030811, 0.1: 0.045538, 0.2: 0.097036, 0.3: 0.194881, 0.4: 0.352835, 0.5: 0.551170}


def mixture_at(case, added_weights, renormalize=True):
    nominal = np.repeat(np.array(case["base"], dtype=float)[:, None], len(added_weights), axis=1)
    nominal[-1] = added_weights
    return effective_weights(nominal, len(nominal) - 1, renormalize)


def trained_class_probability(case, weights, policy="tabular", estimator="natural", **options):
    """Train two responses, the first in the class, and return its final probability per run."""
    world = one_prompt([case["ref"], 1 - case["ref"]], features=[[1.0], [0.0]])
    gaps = np.array(case["gaps"], dtype=float)
    signals = np.stack([gaps, np.zeros_like(gaps)], axis=1)[:, None, :]
    runs = weights.shape[1]
    settings = {"learning_rate": np.full(runs, 0.5 / case["kl_coef"]), "steps": 60} | options
    path = train(
        make_policy(policy, world), signals, weights, np.full(runs, case["kl_coef"]), estimator=estimator, **settings
    )
    return np.exp(policy_log_probs(make_policy(policy, world), path.theta[-1]))[0, 0]


@pytest.mark.parametrize(("case", "points"), [(V1A, V1A_POINTS), (V1B, V1B_POINTS)], ids=["V1a", "V1b"])
class TestMixingLaw:
    def test_closed_form_gives_the_published_points(self, case, points):
        weights = mixture_at(case, list(points))
        found = theory.mixing_law(case["ref"], np.array(case["gaps"]), weights, case["kl_coef"])
        np.testing.assert_allclose(found, list(points.values()), atol=1e-6)

    @pytest.mark.parametrize("policy", ["tabular", "loglinear"])
    def test_natural_gradient_ends_there(self, case, points, policy):
        found = trained_class_probability(case, mixture_at(case, list(points)), policy)
        np.testing.assert_allclose(found, list(points.values()), atol=1e-6)

    @pytest.mark.parametrize(("optimizer", "rate", "steps"), [("sgd", 1.0, 8000), ("adam", 0.03, 4000)])
    def test_exact_gradient_ends_there(self, case, points, optimizer, rate, steps):
        weights = mixture_at(case, list(points))
        options = {"optimizer": optimizer, "learning_rate": np.full(len(points), rate), "steps": steps}
        found = trained_class_probability(case, weights, estimator="exact", record_every=steps, **options)
        np.testing.assert_allclose(found, list(points.values()), atol=1e-6)


def test_v1_critical_weights():
    assert theory.critical_weight(np.array(V1A["gaps"]), V1A["base"], 1) == pytest.approx(1 / 3, abs=1e-12)
    assert theory.critical_weight(np.array(V1A["gaps"]), V1A["base"], 1, renormalize=False) == pytest.approx(0.5)
    assert theory.critical_weight(np.array(V1B["gaps"]), V1B["base"], 5) == pytest.approx(0.261084, abs=1e-6)


def test_v1_added_without_renormalising():
    found = trained_class_probability(V1A, mixture_at(V1A, [0.2], renormalize=False))
    np.testing.assert_allclose(found, [0.070026], atol=1e-6)


def test_v1c_equal_pushes_in_logit_are_super_additive_in_rate():
    rises = [theory.mixing_law(0.05, np.ones(n), np.ones(n), 1.0) - 0.05 for n in (1, 2, 3)]
    np.testing.assert_allclose(rises, [0.075161, 0.230005, 0.463887], atol=1e-6)


def test_no_critical_weight_where_both_push_the_same_way():
    assert np.isnan(theory.critical_weight(np.array([1.0, 2.0]), [1.0, 0.0], 1))


V3 = {"log_ref": np.log([[0.15, 0.05, 0.5, 0.3]]), "reward": np.array([[1.5, 3, 0.5, -0.2]]), "kl_coef": 1 / 1.3}
V3_AGREES = np.array([[1.0, 1.0, 0.0, 0.0]])


def test_v3_minimal_penalty():
    trained = np.exp(theory.tilt(**V3))
    assert (trained * V3_AGREES).sum() == pytest.approx(0.747728, abs=1e-6)
    penalty = theory.minimal_penalty(agreement=V3_AGREES, **V3)
    assert penalty[0] == pytest.approx(1.902175, abs=1e-6)
    corrected = theory.tilt(V3["log_ref"], V3["reward"] - penalty[:, None] * V3_AGREES, V3["kl_coef"])
    assert (np.exp(corrected) * V3_AGREES).sum() == pytest.approx(0.2, abs=1e-12)
    given = theory.minimal_penalty(agreement=V3_AGREES, target=0.2, **V3)
    np.testing.assert_allclose(given, penalty, atol=1e-12)


def test_v3_training_on_the_corrected_reward_holds_the_target():
    penalty = theory.minimal_penalty(agreement=V3_AGREES, **V3)
    policy = make_policy("tabular", one_prompt(np.exp(V3["log_ref"][0])))
    reward, coefficient = (V3["reward"] - penalty * V3_AGREES)[None], np.full(1, V3["kl_coef"])
    path = train(policy, reward, np.ones((1, 1)), coefficient, 0.5 / coefficient, steps=60)
    found = np.exp(policy_log_probs(policy, path.theta[-1]))[0, :, 0]
    assert found @ V3_AGREES[0] == pytest.approx(0.2, abs=1e-9)


def test_v3_no_feasible_policy_is_closer():
    """100 random problems: an independent convex solver finds nothing closer to the trained policy (1e-6)."""
    random = rng.stream(3, "tests", "V3")
    for _ in range(100):
        log_ref = normalize_log(random.standard_normal((1, 5)))
        reward, agrees = 2 * random.standard_normal((1, 5)), np.array([[1.0, 1.0, 0.0, 0.0, 0.0]])
        trained = theory.tilt(log_ref, reward, 0.8)
        penalty = theory.minimal_penalty(log_ref, reward, agrees, 0.8)
        corrected = theory.tilt(log_ref, reward - penalty[:, None] * agrees, 0.8)
        limit = float((np.exp(log_ref) * agrees).sum())
        assert (np.exp(corrected) * agrees).sum() < limit + 1e-12

        def distance(probs, trained=trained):
            return float(probs @ (np.log(probs) - trained[0]))

        solved = minimize(
            distance, np.exp(log_ref[0]), method="SLSQP", bounds=[(1e-12, 1)] * 5,
            constraints=[
                {"type": "eq", "fun": lambda probs: probs.sum() - 1},
                {"type": "ineq", "fun": lambda probs, limit=limit: limit - probs[:2].sum()},
            ],
            options={"ftol": 1e-12, "maxiter": 500},
        )  # fmt: skip
        assert solved.success
        assert distance(np.exp(corrected[0])) < solved.fun + 1e-6
        assert solved.fun < distance(np.exp(corrected[0])) + 1e-4  # the solver got there as well


def test_no_penalty_where_agreement_does_not_rise_or_cannot_change():
    log_ref = np.log(np.full((3, 2), 0.5))
    agrees = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    reward = np.array([[-1.0, 0.0], [1.0, 2.0], [1.0, 2.0]])
    np.testing.assert_array_equal(theory.minimal_penalty(log_ref, reward, agrees, 0.5), 0)
    with pytest.raises(ValueError, match="agreement must be 0 or 1"):
        theory.minimal_penalty(log_ref, reward, agrees / 2, 0.5)


def test_v4_shift_is_a_covariance_under_the_reference():
    random = rng.stream(4, "tests", "V4")
    log_ref = normalize_log(random.standard_normal((1000, 6)))
    reward, values = random.standard_normal((2, 1000, 6))
    tilted = np.exp(theory.tilt(log_ref, reward, 0.7))
    moved = ((tilted - np.exp(log_ref)) * values).sum(axis=1)
    np.testing.assert_allclose(theory.tilt_shift(log_ref, reward, values, 0.7), moved, atol=1e-10)


def test_v4_slope_at_small_pressure_is_the_covariance():
    random = rng.stream(5, "tests", "V4")
    log_ref = normalize_log(random.standard_normal((50, 6)))
    reward, values = random.standard_normal((2, 50, 6))
    ref = np.exp(log_ref)
    covariance = (ref * reward * values).sum(1) - (ref * reward).sum(1) * (ref * values).sum(1)
    slope = theory.tilt_shift(log_ref, reward, values, 1e6) * 1e6
    np.testing.assert_allclose(slope, covariance, atol=1e-5)


def test_v4_sign_flips_with_pressure_in_trained_policies():
    """r = 1 on A; off A r = 5 with probability 0.1, else 0: the mean gap favours A, strong pressure does not."""
    world = one_prompt([0.3, 0.07, 0.63])
    inverse = np.array([0.1, 0.2, 0.30188, 0.5, 1.0])
    path = train(
        make_policy("tabular", world),
        np.array([[[1.0, 5.0, 0.0]]]),
        np.ones((1, 5)),
        1 / inverse,
        inverse * 0.5,
        steps=80,
    )
    found = np.exp(policy_log_probs(make_policy("tabular", world), path.theta[-1]))[0, 0]
    np.testing.assert_allclose(found, [0.307858, 0.308773, 0.3, 0.250136, 0.068908], atol=1e-5)


def test_v7_vanilla_flow_matches_its_closed_form():
    world, times = one_prompt([0.2, 0.8]), np.array([1, 5, 20, 100])
    expected = [0.26239, 0.69457, 0.96419, 0.99457]
    np.testing.assert_allclose(theory.two_action_flow(0.2, 1.0, times), expected, atol=1e-5)
    policy = make_policy("tabular", world)
    path = train(
        policy, np.array([[[1.0, 0.0]]]), np.ones((1, 1)), np.zeros(1), np.full(1, 0.01),
        steps=10_000, record_every=100, estimator="exact",
    )  # fmt: skip
    found = [np.exp(policy_log_probs(policy, path.theta[path.steps == t * 100][0]))[0, 0, 0] for t in times]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_v7_natural_path_is_the_kl_tilt():
    world, reward = random_world(), rng.stream(7, "tests").standard_normal((1, 5, 4))
    policy = make_policy("tabular", world)
    path = train(policy, reward, np.ones((1, 1)), np.zeros(1), np.full(1, 0.25), steps=8)
    for step, theta in zip(path.steps[1:], path.theta[1:], strict=True):
        expected = theory.tilt(world.log_ref, reward[0], 1 / (0.25 * step))
        np.testing.assert_allclose(policy_log_probs(policy, theta)[..., 0], expected, atol=1e-10)


def test_v7_regularised_natural_steps_contract_the_log_ratio():
    world, rate, kl_coef = one_prompt([0.2, 0.8]), 0.3, 0.4
    policy = make_policy("tabular", world)
    path = train(policy, np.array([[[1.0, 0.0]]]), np.ones((1, 1)), np.full(1, kl_coef), np.full(1, rate), steps=10)
    ratios = [logit(np.exp(policy_log_probs(policy, theta))[0, 0, 0]) - logit(0.2) for theta in path.theta]
    distance = np.array(ratios) - 1 / kl_coef
    np.testing.assert_allclose(distance[1:] / distance[:-1], 1 - rate * kl_coef, atol=1e-8)


def test_v8_optimum_of_a_mixture_is_the_geometric_mean_of_optima():
    gaps, weights = np.array(V1B["gaps"]), mixture_at(V1B, [0.4])
    singles = trained_class_probability(V1B, np.eye(6))
    geometric = expit(weights[:, 0] @ logit(singles))
    np.testing.assert_allclose(geometric, trained_class_probability(V1B, weights)[0], atol=1e-6)
    np.testing.assert_allclose(geometric, theory.mixing_law(0.15, gaps, weights, 0.25)[0], atol=1e-6)
    blended = weights[:, 0] @ singles
    pair = np.log(np.array([[geometric, 1 - geometric]]))
    assert theory.kl_divergence(pair, np.log(np.array([[blended, 1 - blended]])))[0] > 0.01


def test_v9_best_of_n_with_ties():
    log_ref = np.log(np.array([[0.3, 0.25, 0.05, 0.15, 0.25]]))
    reward, in_class = np.array([[0.3, -0.2, 1.1, 0.7, -1.0]]), np.array([0, 0, 1, 1, 0])
    ns = [2, 4, 8, 16]
    policies = [theory.best_of_n(log_ref, reward, n) for n in ns]
    np.testing.assert_allclose(
        [np.exp(p[0]) @ in_class for p in policies], [0.36, 0.5904, 0.832228, 0.971853], atol=1e-6
    )
    kls = [theory.kl_divergence(p, log_ref)[0] for p in policies]
    np.testing.assert_allclose(kls, [0.173751, 0.594624, 1.118767, 1.701984], atol=1e-6)
    assert all(kl < np.log(n) - (n - 1) / n for kl, n in zip(kls, ns, strict=True))


def test_best_of_n_agrees_with_drawing():
    random = rng.stream(9, "tests")
    ref, reward = np.array([0.4, 0.3, 0.2, 0.1]), np.array([1.0, 0.5, 1.0, 0.0])
    draws = random.choice(4, size=(200_000, 3), p=ref)
    best = draws[np.arange(len(draws)), np.argmax(reward[draws], axis=1)]
    expected = np.exp(theory.best_of_n(np.log(ref)[None], reward[None], 3))[0]
    observed = np.bincount(best, minlength=4) / len(draws)
    np.testing.assert_allclose(observed, expected, atol=4 * np.sqrt(0.25 / len(draws)))  # 4 standard errors


def test_best_of_one_is_the_reference():
    log_ref = random_world().log_ref
    np.testing.assert_allclose(theory.best_of_n(log_ref, log_ref * 2, 1), log_ref, atol=1e-12)
