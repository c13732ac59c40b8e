"""From settings to the data set: labels, both policy classes, bad settings."""

import dataclasses

import numpy as np
import pytest
from test_mixture import SMALL

import sim
from sim import rng
from sim.analysis.critical_weight import crossing, interval, local_pushes, refine
from sim.checks import problems
from sim.config import with_value
from sim.problem import prepare


def test_runs_come_back_in_the_order_given():
    weights, seeds = [0.3, 0.0, 0.3], [1, 0, 0]
    data = sim.simulate(SMALL, {"mixture.weights.thumbs_up": weights, "seed": seeds})
    assert data["seed"].values.tolist() == seeds
    assert data["mixture.weights.thumbs_up"].values.tolist() == weights


def test_every_variable_says_what_it_is():
    data = sim.simulate(SMALL)
    for name, variable in data.data_vars.items():
        assert variable.attrs["long_name"], name
        assert variable.attrs["units"], name


def test_ledger_of_the_headline_sums_to_its_change():
    data = sim.simulate(SMALL, {"mixture.weights.thumbs_up": [0.0, 0.4]})
    change = data["sycophancy/rate"].diff("step").values
    np.testing.assert_allclose(data["ledger"].sum("cause").values, change, atol=1e-9)


def test_ledger_of_another_metric():
    data = sim.simulate(with_value(SMALL, "metric", "true/quality"))
    np.testing.assert_allclose(data["ledger"].sum("cause"), data["true/quality"].diff("step").values, atol=1e-9)


@pytest.mark.parametrize("kind", ["loglinear", "tabular"])
def test_both_policy_classes_drift_with_votes(kind):
    settings = with_value(SMALL, "policy.kind", kind)
    rate = sim.simulate(settings, {"mixture.weights.thumbs_up": [0.0, 0.6]})["sycophancy/rate"].isel(step=-1).values
    assert rate[1] > rate[0] + 0.05


def test_companions_of_the_sycophancy_rate_are_consistent():
    data = sim.simulate(SMALL).isel(run=0, step=-1)
    value = {name: float(data[name]) for name in data.data_vars if name.startswith("sycophancy/")}
    wrong_share = 0.5  # mirrored pairs
    assert value["sycophancy/regressive"] == pytest.approx(wrong_share * value["sycophancy/rate"])
    assert value["sycophancy/progressive"] == pytest.approx((1 - wrong_share) * value["sycophancy/endorses_right"])
    assert value["sycophancy/endorses_right"] + value["sycophancy/overcorrection"] <= 1


def test_kl_and_entropy_at_the_reference():
    data = sim.simulate(SMALL).isel(run=0)
    assert float(data["kl"][0]) == pytest.approx(0, abs=1e-12)
    assert 0 < float(data["entropy"][0]) <= np.log(6)
    assert (np.diff(data["kl"]) > 0).all()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kl_coef", -1.0, "kl_coef = -1.0: must be > 0"),
        ("kl_coef", float("nan"), "kl_coef = nan: must be a finite number"),
        ("mixture.weights.thumbs_up", -0.1, "mixture.weights.thumbs_up = -0.1: must be >= 0"),
        ("mixture.weights.thumbs_up", 1.5, "must be <= 1 to renormalize"),
        ("mixture.weights.thumbs_upp", 0.1, "unknown signal 'thumbs_upp'; did you mean 'thumbs_up'"),
        ("mixture.added", "thumbsup", "unknown signal 'thumbsup'; did you mean 'thumbs_up'"),
        ("users.vulnerable_share", 1.5, "users.vulnerable_share = 1.5: must be <= 1"),
        ("training.steps", 0, "training.steps = 0: must be >= 1"),
        ("training.estimator", "magic", "training.estimator = magic: must be one of exact, natural"),
        ("training.learning_rate", "fast", "training.learning_rate = fast: must be a number"),
        ("world.prompts", True, "world.prompts = True: must be a whole number"),
        ("metric", "sycophancy/raet", "metric: unknown metric 'sycophancy/raet'; did you mean 'sycophancy/rate'"),
    ],
)
def test_bad_setting_is_named(key, value, message):
    with pytest.raises(sim.InputError, match=message):
        sim.simulate(with_value(SMALL, key, value))


def test_all_problems_are_listed_at_once():
    bad = with_value(with_value(SMALL, "kl_coef", -1.0), "memory.recall", 2.0)
    assert len(problems(bad)) == 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"kl_coeff": [1.0]}, "unknown key 'kl_coeff'; did you mean 'kl_coef'"),
        ({"kl_coef": [1.0], "seed": [1, 2]}, "lengths differ"),
        ({"kl_coef": [0.1, -1.0]}, "kl_coef = -1.0"),
    ],
)
def test_bad_column_is_named(columns, message):
    with pytest.raises(sim.InputError, match=message):
        sim.simulate(SMALL, columns)


def test_local_push_equals_covariances_for_a_tabular_policy():
    problem = prepare(SMALL, 0)
    world, values = problem.splits["train"], problem.splits["train"].attributes["sycophancy"]
    signals = np.stack([problem.signals["train"][name] for name in ("model_spec", "thumbs_up")])
    pushes, draws = local_pushes(world, signals, world, values, "tabular", resamples=400)
    ref = np.exp(world.log_ref)
    for push, signal in zip(pushes, signals, strict=True):
        covariance = (ref * signal * values).sum(1) - (ref * signal).sum(1) * (ref * values).sum(1)
        assert push == pytest.approx(world.prompt_prob @ covariance)
    assert pushes[0] < 0 < pushes[1]
    low, high = interval(draws[:, 1])
    assert low < pushes[1] < high


def test_prompts_of_one_split_are_resampled_together():
    """A policy that learns on the prompts of its metric: each draw weighs both alike."""
    problem = prepare(SMALL, 0)
    world, values = problem.splits["train"], problem.splits["train"].attributes["sycophancy"]
    signals = np.stack([problem.signals["train"]["thumbs_up"]])
    draws = local_pushes(world, signals, world, values, resamples=5)[1]
    drawn = rng.stream(0, "critical_weight", "train").multinomial(48, np.full(48, 1 / 48), size=5)
    for found, counts in zip(draws, drawn, strict=True):
        weight = world.prompt_prob * counts
        again = dataclasses.replace(world, prompt_prob=weight / weight.sum())
        np.testing.assert_allclose(found, local_pushes(again, signals, again, values)[0], rtol=1e-9)


def test_local_push_is_the_first_step_of_natural_training():
    """One tiny natural step on one signal moves the probe metric by learning rate x push."""
    problem, rate = prepare(SMALL, 0), 1e-5
    metric = problem.metrics["sycophancy/rate"]
    only = np.stack([problem.signals["train"]["thumbs_up"]])
    push = local_pushes(problem.splits["train"], only, problem.splits["probe"], metric.values)[0][0]
    settings = with_value(with_value(SMALL, "training.learning_rate", rate), "training.steps", 1)
    settings.mixture = sim.Mixture(weights={"thumbs_up": 1.0}, added="thumbs_up")
    rates = sim.simulate(settings)["sycophancy/rate"].values[0]
    assert (rates[-1] - rates[0]) / rate == pytest.approx(push, rel=1e-3)


def test_crossing_interpolates_and_is_nan_without_one():
    assert crossing([0, 1, 2], [-1.0, 1.0, 2.0]) == pytest.approx(0.5)
    assert np.isnan(crossing([0, 1], [1.0, 2.0]))


def test_refine_finds_the_root():
    assert refine(lambda w: np.tanh(w - 0.2345), 0, 1, tolerance=1e-6) == pytest.approx(0.2345, abs=1e-6)
    assert np.isnan(refine(lambda w: w + 1, 0, 1))


@pytest.mark.parametrize("kl_coef", [0.05, 0.5])
def test_fast_training_ends_where_natural_training_does(kl_coef):
    """The preset configs/training/fast.yaml, to 0.005 in the rate."""
    fast = sim.Training(
        estimator="exact", optimizer="adam", learning_rate=0.05, steps=200, dtype="float32", ledger=False
    )
    rates = [
        sim.simulate(sim.Settings(kl_coef=kl_coef, training=training), {"mixture.weights.thumbs_up": [0.0, 0.3, 0.6]})
        for training in (fast, sim.Training())
    ]
    ends = [data["sycophancy/rate"].isel(step=-1).values for data in rates]
    np.testing.assert_allclose(ends[0], ends[1], atol=0.005)
