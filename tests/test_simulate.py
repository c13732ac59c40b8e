"""From settings to the data set: labels, both policy classes, bad settings."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import random_world
from test_mixture import SMALL

import sim
from sim import rng, workers
from sim.analysis.critical_weight import crossing, interval, local_pushes, refine
from sim.checks import problems
from sim.config import with_value
from sim.problem import make_problem, prepare
from sim.rewards.mixture import schedule
from sim.training.policies import make_policy
from sim.training.train import train
from sim.training.weights import Changes


def test_runs_come_back_in_the_order_given():
    weights, seeds = [0.3, 0.0, 0.3], [1, 0, 0]
    data = sim.simulate(SMALL, {"mixture.weights.thumbs_up": weights, "seed": seeds})
    assert data["seed"].values.tolist() == seeds
    assert data["mixture.weights.thumbs_up"].values.tolist() == weights


def test_each_world_is_prepared_once_and_torch_keeps_to_one_thread_meanwhile(monkeypatch):
    """From Python nobody has set its threads: a chunk would fight with the next one for cores."""
    seeds, threads, real = [], [], workers.run_batch
    monkeypatch.setattr(workers, "make_problem", lambda its, seed: [seeds.append(seed), make_problem(its, seed)][1])
    monkeypatch.setattr(workers, "run_batch", lambda *given: [threads.append(torch.get_num_threads()), real(*given)][1])
    torch.set_num_threads(2)
    try:
        sim.simulate(SMALL, {"seed": [0, 1, 1, 0]})
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert sorted(seeds) == [0, 1]
    assert set(threads) == {1}


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


NEVER_SETTLES = [
    {},
    {"policy.kind": "tabular"},
    {"mixture.scale_rewards": "group"},
    {"mixture.ramp_steps": 20},
    {"mixture.constraints": {"safety": 0.9}},
]


@pytest.mark.parametrize("changes", NEVER_SETTLES, ids=str)
def test_natural_training_settles_below_two_and_is_refused_from_there_on(changes):
    """kl_coef x learning_rate: at 1.5 the last steps agree; at 2 the penalty leaps over the reference, see below."""
    settings = with_value(with_value(SMALL, "training.steps", 100), "training.record_every", 1)
    for key, value in changes.items():
        settings = with_value(settings, key, value)
    kl = sim.simulate(settings, {"kl_coef": [1.5]})["kl"].values[0]
    assert abs(kl[-1] - kl[-2]) < 1e-6
    for columns in ({"kl_coef": [0.05, 2.0]}, {"kl_coef": [0.05, 0.1], "training.learning_rate": [20.0, 20.0]}):
        with pytest.raises(sim.InputError, match=r"^kl_coef x training.learning_rate = 2: must be < 2"):
            sim.simulate(settings, columns)


def test_only_what_a_run_multiplies_to_counts():
    """Not what one column makes with the settings that another one replaces."""
    settings = with_value(with_value(SMALL, "training.learning_rate", 100.0), "training.steps", 2)
    sim.simulate(settings, {"kl_coef": [0.01, 0.3], "training.learning_rate": [100.0, 1.0]})


@pytest.mark.parametrize("policy", ["tabular", "loglinear"])
def test_from_two_on_natural_steps_never_settle(policy):
    """The core itself: moved by a reward for one step, the log-ratio then shrinks by |1 - kl_coef rate| a step."""
    world, share = random_world(), np.array([1.9, 2.0, 2.1])
    signals = rng.stream(0, "tests", "signal").standard_normal((1, *world.log_ref.shape))
    path = train(
        make_policy(policy, world), signals, np.ones((1, 3)), share, np.ones(3), steps=41, estimator="natural",
        changes=Changes(np.zeros((1, 3)), schedule(41, 0, 0, until_step=1)),
    )  # fmt: skip
    shape = (*world.log_ref.shape, 3)
    ratio = [(world.features @ at if policy == "loglinear" else at.reshape(shape)) for at in path.theta]
    left = [np.linalg.norm(each - each.mean(axis=1, keepdims=True), axis=(0, 1)) for each in ratio]
    np.testing.assert_allclose(left[-1] / left[1], np.abs(1 - share) ** 40, rtol=1e-4)


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


def test_refine_keeps_the_bracket_where_rounding_puts_the_crossing_on_its_edge():
    """A step from -1 to 1e-20 at one half: the straight line between the two meets 0 at 0.5 to the last bit."""
    assert refine(lambda w: np.where(w < 0.5, -1.0, 1e-20), 0, 1) == pytest.approx(0.5, abs=1e-4)


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
