"""The batched core against the plain loop, and what a batch must not change."""

import numpy as np
import pytest
from conftest import random_world
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import rng
from sim.training.plain import train_plainly
from sim.training.policies import make_policy
from sim.training.train import mean_gradient, policy_log_probs, train

WAYS = [("exact", "sgd"), ("exact", "adam"), ("natural", "sgd")]


def random_problem(runs, seed=0, signals=3, **sizes):
    world = random_world(seed=seed, **sizes)
    random = rng.stream(seed, "tests", "problem")
    return (
        world,
        random.standard_normal((signals, *world.log_ref.shape)),
        random.random((signals, runs)),
        random.uniform(0.1, 0.5, runs),
        random.uniform(0.05, 0.3, runs),
    )


@pytest.mark.parametrize("policy", ["loglinear", "tabular"])
@pytest.mark.parametrize(("estimator", "optimizer"), WAYS)
@pytest.mark.parametrize("ledger", [False, True])
def test_core_equals_the_plain_loop(policy, estimator, optimizer, ledger):
    world, signals, weights, kl_coef, rate = random_problem(runs=4)
    if estimator == "natural":  # damping and least squares part ways only where a probability vanishes
        rate = rate * 0.5
    path = train(
        make_policy(policy, world), signals, weights, kl_coef, rate,
        steps=12, estimator=estimator, optimizer=optimizer, ledger=ledger, chunk=3,
    )  # fmt: skip
    for run in range(4):
        reward = np.tensordot(weights[:, run], signals, axes=1)
        theta = train_plainly(world, reward, kl_coef[run], rate[run], 12, estimator, optimizer, policy)
        mine = np.stack([policy_log_probs(make_policy(policy, world), step[:, [run]])[..., 0] for step in path.theta])
        plain = np.stack([policy_log_probs(make_policy(policy, world), step[:, None])[..., 0] for step in theta])
        np.testing.assert_allclose(mine, plain, atol=1e-10)


@pytest.mark.parametrize(("estimator", "optimizer"), WAYS)
def test_a_run_does_not_depend_on_its_batch(estimator, optimizer):
    world, signals, weights, kl_coef, rate = random_problem(runs=70, prompts=20, responses=8, size=6)
    options = {"steps": 30, "estimator": estimator, "optimizer": optimizer}
    policy = make_policy("loglinear", world)
    together = train(policy, signals, weights, kl_coef, rate, **options).theta[-1]
    for run in (0, 37, 69):
        part = slice(run, run + 1)
        alone = train(policy, signals, weights[:, part], kl_coef[part], rate[part], **options).theta[-1]
        np.testing.assert_allclose(together[:, part], alone, rtol=1e-12, atol=1e-13)


def test_float32_follows_float64():
    world, signals, weights, kl_coef, rate = random_problem(runs=8, prompts=20, responses=8, size=6)
    single, double = (
        train(
            make_policy("loglinear", world, dtype), signals, weights, kl_coef, rate, steps=50, estimator="exact"
        ).theta
        for dtype in ("float32", "float64")
    )
    np.testing.assert_allclose(single, double, atol=2e-4)


def test_recorded_steps_include_the_first_and_the_last(world):
    path = train(
        make_policy("loglinear", world),
        np.ones((1, 5, 4)),
        np.ones((1, 2)),
        np.ones(2),
        np.ones(2),
        steps=7,
        record_every=3,
    )
    assert path.steps.tolist() == [0, 3, 6, 7]
    assert path.theta.shape == (4, 3, 2)
    assert not path.theta[0].any()


def test_a_constant_reward_moves_nothing(world):
    path = train(
        make_policy("tabular", world), np.full((1, 5, 4), 3.0), np.ones((1, 1)), np.ones(1), np.ones(1), steps=5
    )
    np.testing.assert_allclose(path.theta, 0, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), offset=st.floats(-5, 5))
def test_an_offset_per_signal_changes_nothing(seed, offset):
    world, signals, weights, kl_coef, rate = random_problem(runs=2, seed=seed)
    first, second = (
        train(make_policy("loglinear", world), s, weights, kl_coef, rate, steps=5, estimator="exact").theta
        for s in (signals, signals + offset)
    )
    np.testing.assert_allclose(first, second, atol=1e-11)


def test_mean_gradient_is_the_derivative_of_the_mean(world):
    values = rng.stream(1, "tests").standard_normal((5, 4))
    theta = rng.stream(2, "tests").standard_normal((3, 1)) * 0.3
    policy, step = make_policy("loglinear", world), 1e-6

    def mean(at):
        return float((world.prompt_prob[:, None] * values * np.exp(policy_log_probs(policy, at))[..., 0]).sum())

    numeric = [(mean(theta + step * e[:, None]) - mean(theta - step * e[:, None])) / (2 * step) for e in np.eye(3)]
    np.testing.assert_allclose(mean_gradient(policy, theta, values)[:, 0], numeric, atol=1e-9)


def test_reaches_the_optimum_where_the_gradient_vanishes():
    world, signals, weights, kl_coef, _ = random_problem(runs=3)
    policy = make_policy("loglinear", world)
    theta = train(policy, signals, weights, kl_coef, np.ones(3), steps=300).theta[-1]
    again = train(policy, signals, weights, kl_coef, np.ones(3), steps=301).theta[-1]
    np.testing.assert_allclose(theta, again, atol=1e-9)
