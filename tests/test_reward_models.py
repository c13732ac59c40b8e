"""Reward models: against published numbers, against statsmodels, and what they report."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from sim import rng
from sim.rewards.reward_models import bootstrap, combine, fit_bradley_terry, fit_logistic, report


def counts(fits=3, rows=60, size=4, seed=0, scale=1.0):
    """Features [N, D] of unequal scale, and counts [B, N] from a logistic model."""
    random = rng.stream(seed, "tests", "reward_models")
    features = random.standard_normal((rows, size)) * scale + 0.3
    total = random.poisson(3.0, (fits, rows)).astype(float)
    positive = random.binomial(total.astype(int), expit(features / scale @ np.linspace(-1, 1, size) - 0.4))
    return features, positive.astype(float), total


def test_logistic_fit_equals_statsmodels():
    features, positive, total = counts()
    coefficients, intercept = fit_logistic(features, positive, total, ridge=0.0)
    for b in range(len(total)):
        seen = total[b] > 0
        outcome = np.stack([positive[b], total[b] - positive[b]], axis=1)[seen]
        peer = sm.GLM(outcome, sm.add_constant(features[seen]), family=sm.families.Binomial()).fit(tol=1e-12)
        np.testing.assert_allclose([intercept[b], *coefficients[b]], peer.params, rtol=1e-4, atol=1e-5)


def test_bradley_terry_is_logistic_regression_on_differences_without_intercept():
    features, _, _ = counts(rows=30)
    random = rng.stream(1, "tests", "pairs")
    first, second = random.integers(0, 30, (2, 400))
    won = (random.random(400) < 0.6).astype(float)
    found = fit_bradley_terry(features, first, second, won[None], np.ones((1, 400)), ridge=0.0)[0]
    peer = sm.GLM(won, features[first] - features[second], family=sm.families.Binomial()).fit(tol=1e-12)
    np.testing.assert_allclose(found, peer.params, rtol=1e-4, atol=1e-5)


def test_ridge_is_that_of_standardised_columns():
    """The gradient at the minimum is ridge s^2 phi, so the optimum obeys it in whatever units."""
    features, positive, total = counts(fits=1)
    coefficients, intercept = fit_logistic(features, positive, total, ridge=5.0)
    pull = (positive - total * expit(features @ coefficients[0] + intercept[0])) @ features
    mean = total[0] @ features / total.sum()
    variance = total[0] @ (features - mean) ** 2 / total.sum()
    np.testing.assert_allclose(pull[0], 5.0 * variance * coefficients[0], atol=1e-3)
    rescaled, _ = fit_logistic(features * [1, 10, 0.01, 3], positive, total, ridge=5.0)
    np.testing.assert_allclose(rescaled[0] * [1, 10, 0.01, 3], coefficients[0], rtol=1e-3)


def test_more_ridge_shrinks():
    features, positive, total = counts()
    size = [np.abs(fit_logistic(features, positive, total, ridge)[0]).sum() for ridge in (0.0, 1.0, 10.0, 1e6)]
    assert size == sorted(size, reverse=True)
    assert size[-1] < 1e-3


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 40), st.integers(0, 1000))
def test_a_batch_is_its_fits_one_by_one(fits, seed):
    features, positive, total = counts(fits, seed=seed)
    together = fit_logistic(features, positive, total, ridge=1.0)
    for b in range(fits):
        alone = fit_logistic(features, positive[b : b + 1], total[b : b + 1], ridge=1.0)
        np.testing.assert_allclose(together[0][b], alone[0][0], rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(together[1][b], alone[1][0], rtol=1e-7, atol=1e-9)


def test_slices_of_a_large_batch_give_the_same(monkeypatch):
    features, positive, total = counts(fits=30)
    whole = fit_logistic(features, positive, total, ridge=1.0)
    monkeypatch.setattr("sim.rewards.reward_models.CELLS", 200)
    for one, other in zip(whole, fit_logistic(features, positive, total, ridge=1.0), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 1.0])
def test_separable_data_stay_finite(ridge):
    features = np.linspace(-1, 1, 20)[:, None]
    coefficients, intercept = fit_logistic(features, (features.T > 0.1).astype(float), np.ones((1, 20)), ridge)
    assert np.isfinite(coefficients).all()
    assert np.isfinite(intercept).all()
    assert coefficients[0, 0] > 0


@pytest.mark.parametrize(("positive", "total"), [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_no_data_and_all_alike_data_stay_finite(positive, total):
    features = counts()[0]
    rows = np.ones((1, len(features)))
    coefficients, intercept = fit_logistic(features, positive * rows, total * rows, ridge=1.0)
    assert np.abs(coefficients).max() < 0.01  # the features say nothing
    assert np.isfinite(intercept).all()


def test_estimates_close_in_on_the_truth_as_one_over_n():
    """Mean squared error times n stays the same: 40 fits each, n = 2,000 and 32,000; ratio 1 within 3 SE (0.35)."""
    truth, size = np.array([1.0, -0.5, 0.0]), 40
    scaled = []
    for rows in (2_000, 32_000):
        random = rng.stream(rows, "tests", "rate")
        features = random.standard_normal((rows, 3))
        positive = (random.random((size, rows)) < expit(features @ truth)).astype(float)
        found, _ = fit_logistic(features, positive, np.ones((size, rows)), ridge=0.0)
        scaled.append(rows * ((found - truth) ** 2).mean())
    assert scaled[1] / scaled[0] == pytest.approx(1, abs=0.35)


def test_combinations_of_members():
    scores = np.array([[0.0, 3.0], [4.0, 3.0]])  # variance 4, standard deviation 2
    np.testing.assert_array_equal(combine(scores, "mean", 0.5), [2.0, 3.0])
    np.testing.assert_array_equal(combine(scores, "worst", 0.5), [0.0, 3.0])
    np.testing.assert_array_equal(combine(scores, "mean_minus_variance", 0.5), [0.0, 3.0])
    np.testing.assert_array_equal(combine(scores, "mean_minus_variance", 0.0), [2.0, 3.0])


def test_bootstrap_of_one_member_is_the_data_and_of_many_is_unbiased():
    """Mean of 2,000 draws within 4 SE of the counts; the first members do not depend on how many follow."""
    data = np.array([0.0, 1.0, 7.0])

    def stream(member):
        return rng.stream(0, "tests", "bootstrap", member)

    np.testing.assert_array_equal(bootstrap(data, 1, stream)[0], data)
    drawn = bootstrap(data, 2000, stream)
    assert (np.abs(drawn.mean(axis=0) - data) <= 4 * np.sqrt(data / 2000)).all()
    np.testing.assert_allclose(drawn.var(axis=0), data, rtol=0.15)
    np.testing.assert_array_equal(bootstrap(data, 3, stream), drawn[:3])


def sample(rows=200_000, seed=0):
    random = rng.stream(seed, "tests", "report")
    score = random.standard_normal(rows)
    return score, (random.random(rows) < expit(score)).astype(float), np.ones(rows)


def test_report_of_a_calibrated_model():
    """200,000 outcomes: slope 1 and no calibration error within 4 SE."""
    found = report(*sample())
    assert found["held_out"] == 200_000
    assert found["calibration_slope"] == pytest.approx(1, abs=0.025)
    assert found["calibration_error"] < 0.01


@pytest.mark.parametrize(("stretch", "slope"), [(2.0, 0.5), (0.5, 2.0)])
def test_report_of_scores_that_are_too_extreme_or_too_timid(stretch, slope):
    score, positive, total = sample()
    found, right = report(stretch * score, positive, total), report(score, positive, total)
    assert found["calibration_slope"] == pytest.approx(slope, rel=0.03)
    assert found["calibration_error"] > 0.05
    assert found["brier"] > right["brier"]
    assert found["auc"] == right["auc"]
    assert found["accuracy"] == right["accuracy"]


def test_report_by_hand():
    """Two scores, four outcomes: one of each right, one positive scored low."""
    found = report(np.array([logit(0.8), logit(0.3)]), np.array([2.0, 1.0]), np.array([2.0, 2.0]))
    assert found["accuracy"] == 0.75
    assert found["auc"] == pytest.approx((2 * 1 + 1 * 0.5) / 3)
    assert found["brier"] == pytest.approx((2 * 0.2**2 + 0.7**2 + 0.3**2) / 4)
    assert found["calibration_error"] == pytest.approx((2 * 0.2 + 2 * 0.2) / 4)


def test_report_without_outcomes_or_with_one_kind():
    score = np.array([0.1, -0.2])
    nothing = report(score, np.zeros(2), np.zeros(2))
    assert nothing["held_out"] == 0
    assert all(np.isnan(value) for name, value in nothing.items() if name != "held_out")
    assert np.isnan(report(score, np.ones(2), np.ones(2))["auc"])
