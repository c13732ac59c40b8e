"""Weights by name, dilution or not, scale, monitors."""

import numpy as np
import pytest

import sim
from sim.batch import run_batch
from sim.config import with_value
from sim.derived import batched_values
from sim.problem import prepare
from sim.rewards.mixture import effective_weights, spread
from sim.validation.small import small_world
from sim.world.chat import make_chat

SMALL = sim.Settings(world=sim.Chat(prompts=48, responses=6), training=sim.Training(steps=20, record_every=5))


def final(settings, columns=None):
    return sim.simulate(settings, columns).isel(step=-1)


def test_renormalising_dilutes_the_others():
    weights = np.array([[0.6, 0.6], [0.2, 0.2], [0.0, 0.3]])
    found = effective_weights(weights, added=2, renormalize=True)
    np.testing.assert_allclose(found, [[0.75, 0.525], [0.25, 0.175], [0.0, 0.3]])
    np.testing.assert_array_equal(effective_weights(weights, 2, renormalize=False), weights)


def test_adding_on_top_differs_from_diluting():
    columns = {"mixture.weights.thumbs_up": [0.0, 0.4]}
    diluted = final(SMALL, columns)["sycophancy/rate"].values
    on_top = final(with_value(SMALL, "mixture.renormalize", False), columns)["sycophancy/rate"].values
    assert diluted[0] == pytest.approx(on_top[0], abs=1e-12)
    assert diluted[1] > on_top[1] + 1e-3


def without_votes(settings):
    """The same settings, whose mixture has never heard of votes."""
    weights = {name: weight for name, weight in settings.mixture.weights.items() if name != "thumbs_up"}
    mixture = sim.Mixture(
        weights={**weights, "helpfulness_again": 0.0}, added="helpfulness_again", scale=settings.mixture.scale
    )
    return sim.Settings(world=settings.world, mixture=mixture, training=settings.training)


@pytest.mark.parametrize("scale", ["none", "std"])
@pytest.mark.parametrize("broken", [np.nan, np.inf, 0.5])
def test_a_monitor_changes_nothing_whatever_it_holds(scale, broken):
    settings = with_value(SMALL, "mixture.scale", scale)
    problem = prepare(settings, 0)
    table = {key: np.array([value]) for key, value in batched_values(settings).items()}
    problem.signals["train"]["thumbs_up"] = np.full(problem.splits["train"].log_ref.shape, broken)
    monitored = run_batch(settings, problem, table)
    plain = without_votes(settings)
    absent_problem = prepare(settings, 0)
    for scored in absent_problem.signals.values():
        scored["helpfulness_again"] = scored["helpfulness"]
    table = {k: v for k, v in table.items() if "thumbs" not in k} | {"mixture.weights.helpfulness_again": np.zeros(1)}
    absent = run_batch(plain, absent_problem, table)
    for name in ("sycophancy/rate", "true/quality", "kl", "proxy_reward"):
        np.testing.assert_array_equal(monitored[name], absent[name])
    assert np.isnan(monitored["rewards/thumbs_up/raw"]).all() == (not np.isfinite(broken))
    assert not monitored["ledger"][..., list(settings.mixture.weights).index("thumbs_up")].any()


def test_a_signal_that_counts_must_be_finite():
    problem = prepare(SMALL, 0)
    problem.signals["train"]["safety"] = np.full(problem.splits["train"].log_ref.shape, np.nan)
    table = {key: np.array([value]) for key, value in batched_values(SMALL).items()}
    with pytest.raises(sim.InputError, match="signal 'safety' has a weight but is not finite on any response"):
        run_batch(SMALL, problem, table)


def test_std_scale_makes_units_irrelevant():
    world = make_chat(SMALL.world, sim.Users(), sim.Memory(), 0)["train"]
    signals = np.stack([world.attributes["accuracy"], 10 * world.attributes["accuracy"]])
    np.testing.assert_allclose(spread(world, signals)[1], 10 * spread(world, signals)[0])
    assert spread(world, np.ones_like(signals))[0] == 1


def test_spread_is_within_prompts_and_weighted_by_them():
    """Variances 1 and 9 in two prompts of probability 3/4 and 1/4: sqrt(3)."""
    world = small_world([[0.5, 0.5], [0.5, 0.5]], prompt_prob=[0.75, 0.25])
    signal = np.array([[[10.0, 12.0], [-3.0, 3.0]]])
    np.testing.assert_allclose(spread(world, signal), np.sqrt(3))


def test_std_scale_moves_the_result():
    columns = {"mixture.weights.thumbs_up": [0.3]}
    plain, scaled = (final(with_value(SMALL, "mixture.scale", s), columns) for s in ("none", "std"))
    assert abs(plain["sycophancy/rate"].item() - scaled["sycophancy/rate"].item()) > 1e-3


def test_weighted_parts_sum_to_the_proxy_reward():
    data = final(SMALL, {"mixture.weights.thumbs_up": [0.0, 0.3]})
    parts = sum(data[f"rewards/{name}/weighted"] for name in SMALL.mixture.weights)
    np.testing.assert_allclose(parts, data["proxy_reward"], atol=1e-12)
    np.testing.assert_allclose(data["objective"], data["proxy_reward"] - 0.05 * data["kl"], atol=1e-12)


def test_closed_form_is_where_tabular_training_ends():
    trained = with_value(with_value(SMALL, "policy.kind", "tabular"), "training.steps", 300)
    closed = with_value(with_value(trained, "training.estimator", "closed_form"), "training.ledger", False)
    columns = {"mixture.weights.thumbs_up": [0.0, 0.3]}
    for name in ("sycophancy/rate", "kl", "proxy_reward"):
        np.testing.assert_allclose(final(closed, columns)[name], final(trained, columns)[name], atol=1e-5)


def test_best_of_one_is_the_reference_and_more_is_further():
    settings = with_value(with_value(SMALL, "policy.kind", "tabular"), "training.ledger", False)
    settings = with_value(settings, "training.estimator", "best_of_n")
    kl = [final(with_value(settings, "training.candidates", n))["kl"].item() for n in (1, 2, 4)]
    assert kl[0] == pytest.approx(0, abs=1e-12)
    assert 0 < kl[1] < kl[2] < np.log(4) - 3 / 4


def test_a_diverging_run_is_an_error_and_not_a_number():
    settings = with_value(with_value(SMALL, "training.steps", 50), "training.estimator", "exact")
    with pytest.raises(sim.InputError, match=r"run 1 failed: diverged.*kl_coef = 50"):
        sim.simulate(settings, {"kl_coef": [0.05, 50.0]})
