"""The drift ledger adds up, and each line means what it says."""

import itertools

import numpy as np
import pytest
from test_core import WAYS, random_problem
from test_determinism import WAYS as TRAINED

import sim
from sim.analysis.ledger import attribute_drift, check_strength
from sim.config import with_value
from sim.training.policies import make_policy
from sim.training.train import policy_means, train


def ledger_of(estimator, optimizer, steps=20, shrink=1, record_every=1, policy="loglinear"):
    """The ledger and its metric over a training of fixed length; `shrink` divides the step size."""
    world, signals, weights, kl_coef, rate = random_problem(runs=3)
    actor, values = make_policy(policy, world), signals[0] ** 2
    path = train(
        actor, signals, weights, kl_coef, rate / shrink, steps=steps * shrink, estimator=estimator, optimizer=optimizer,
        record_every=record_every, ledger=True,
    )  # fmt: skip
    observed = policy_means(actor, path.theta, (values * world.prompt_prob[:, None])[None])[:, 0]
    return attribute_drift(actor, path, values, observed), observed, (world, signals, weights, rate, values), path


@pytest.mark.parametrize("policy", ["loglinear", "tabular"])
@pytest.mark.parametrize("record_every", [1, 4])
@pytest.mark.parametrize(("estimator", "optimizer"), WAYS)
def test_lines_sum_to_the_observed_change(estimator, optimizer, record_every, policy):
    lines, observed, _, path = ledger_of(estimator, optimizer, record_every=record_every, policy=policy)
    np.testing.assert_allclose(lines.sum(axis=1), np.diff(observed, axis=0), atol=1e-9)
    # The remainder makes that sum true by definition; that the causes move the parameters by all they move is not.
    np.testing.assert_allclose(path.moved.sum(axis=1), np.diff(path.theta, axis=0), atol=1e-9)


@pytest.mark.parametrize(("estimator", "optimizer"), [("exact", "sgd"), ("natural", "sgd")])
def test_remainder_shrinks_linearly_with_the_step_size(estimator, optimizer):
    remainders = [
        np.abs(ledger_of(estimator, optimizer, shrink=shrink)[0][:, -1].sum(axis=0)) for shrink in (8, 16, 32)
    ]
    for coarse, fine in itertools.pairwise(remainders):
        np.testing.assert_allclose(coarse / fine, 2, rtol=0.1)


def test_remainder_is_small_beside_the_change():
    lines, observed, *_ = ledger_of("natural", "sgd", shrink=32)
    assert (np.abs(lines[:, -1].sum(axis=0)) < 0.05 * np.abs(observed[-1] - observed[0])).all()


def test_natural_line_is_the_weighted_covariance():
    """Tabular policy, first step: line_i = learning_rate * w_i * Cov_ref(r_i, metric)."""
    lines, _, (world, signals, weights, rate, values), _ = ledger_of("natural", "sgd", steps=1, policy="tabular")
    ref = np.exp(world.log_ref)
    for i, signal in enumerate(signals):
        covariance = (ref * signal * values).sum(1) - (ref * signal).sum(1) * (ref * values).sum(1)
        np.testing.assert_allclose(lines[0, i], rate * weights[i] * (world.prompt_prob @ covariance), atol=1e-10)


def test_kl_line_is_zero_at_the_reference():
    lines, *_ = ledger_of("natural", "sgd", steps=1)
    np.testing.assert_allclose(lines[0, -2], 0, atol=1e-12)


def test_check_strength_is_above_one_exactly_where_the_metric_fell():
    totals = np.array(
        [
            [-3.0, -1.0, -1.0, 2.0, 1.0],
            [1.0, 0.0, 0.0, 0.0, 0.0],
            [1.0, 3.0, -1.0, -1.0, -1.0],
            [0.5, 1.0, 0.0, 0.0, 0.0],
        ]
    )
    found = check_strength(totals, primary=np.array([0, 1]))
    np.testing.assert_allclose(found, [2.0 / 1.5, 0.25, np.inf, 0.0, 1.0])
    np.testing.assert_array_equal(found > 1, totals.sum(axis=0) < 0)


@pytest.mark.parametrize("name", [name for name, way in TRAINED.items() if way.training.ledger])
def test_a_ledger_changes_no_number(name):
    """Gradients are summed over causes in another order, and that is all."""
    settings = TRAINED[name]
    columns = {"mixture.weights.thumbs_up": [0.0, 0.4]}
    without = sim.simulate(with_value(settings, "training.ledger", False), columns)
    split = sim.simulate(settings, columns)
    for variable in without.data_vars:
        np.testing.assert_allclose(split[variable], without[variable], rtol=1e-9, atol=1e-11, err_msg=variable)
