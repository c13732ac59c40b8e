"""What must come out with the defaults, on the training side. Seeds 0 to 23; each test states its margin."""

import dataclasses

import numpy as np
import pytest

import sim

pytestmark = pytest.mark.slow
SEEDS = np.arange(24)
WEIGHTS = np.array([0.0, 0.05, 0.1, 0.13, 0.15, 0.2, 0.3, 0.4, 0.45, 0.5, 0.6])
BUNDLE = 0.13  # the thumbs-up weight of configs/experiment/april.yaml
CHANGES = {
    "votes": {},
    "with memory": {"memory": sim.Memory(share=1.0)},
    "with fresher data": {"world": sim.Chat(freshness=1.0)},
    "with both": {"memory": sim.Memory(share=1.0), "world": sim.Chat(freshness=1.0)},
    "no appetite": {"users": sim.Users(appetite=0.0)},
}


@pytest.fixture(scope="module")
def outcome():
    """Change -> metric -> (reference [seed], trained [seed, weight])."""
    training = sim.Training(record_every=100, ledger=False)
    columns = {"mixture.weights.thumbs_up": np.tile(WEIGHTS, len(SEEDS)), "seed": np.repeat(SEEDS, len(WEIGHTS))}
    found = {}
    for name, change in CHANGES.items():
        data = sim.simulate(dataclasses.replace(sim.Settings(training=training), **change), columns)
        found[name] = {
            metric: (
                data[metric].isel(step=0).values.reshape(len(SEEDS), -1)[:, 0],
                data[metric].isel(step=-1).values.reshape(len(SEEDS), -1),
            )
            for metric in ("sycophancy/rate", "true/quality", "benchmark/accuracy")
        }
    return found


def excess(outcome, change):
    """Sycophancy rate after training minus that of the reference, [seed, weight]."""
    reference, trained = outcome[change]["sycophancy/rate"]
    return trained - reference[:, None]


def at(weight):
    return int(np.flatnonzero(weight == WEIGHTS)[0])


def sure(difference, standard_errors=3):
    """Paired differences over seeds are above 0 by that many standard errors."""
    return difference.mean() > standard_errors * difference.std(ddof=1) / np.sqrt(len(difference))


def critical(outcome, change):
    from sim.analysis.critical_weight import crossing

    return crossing(WEIGHTS, excess(outcome, change).mean(axis=0))


def test_without_votes_training_lowers_the_rate(outcome):
    assert sure(-excess(outcome, "votes")[:, 0])
    assert excess(outcome, "votes")[:, 0].mean() < -0.05


def test_rate_rises_with_the_weight_in_every_world(outcome):
    assert (np.diff(excess(outcome, "votes"), axis=1) > 0).all()


def test_critical_weight_lies_strictly_inside(outcome):
    assert sure(-excess(outcome, "votes")[:, at(0.05)])
    assert sure(excess(outcome, "votes")[:, at(0.3)])
    assert 0.05 < critical(outcome, "votes") < 0.3


@pytest.mark.parametrize("change", ["with memory", "with fresher data"])
def test_each_change_lowers_the_critical_weight(outcome, change):
    """The critical weight is lower on average; near it, the rate is higher (memory: by 3 standard errors)."""
    assert critical(outcome, change) < critical(outcome, "votes")


def test_memory_raises_the_rate_at_the_same_weight(outcome):
    difference = excess(outcome, "with memory") - excess(outcome, "votes")
    assert sure(difference[:, at(0.2)])
    assert difference[:, at(0.2)].mean() > 0.02


def test_both_changes_lower_it_further(outcome):
    assert critical(outcome, "with both") < min(critical(outcome, c) for c in ("with memory", "with fresher data"))


@pytest.mark.parametrize("change", ["votes", "with memory"])
def test_true_quality_first_rises_with_the_weight_then_falls(outcome, change):
    _, trained = outcome[change]["true/quality"]
    mean = trained.mean(axis=0)
    peak = int(mean.argmax())
    assert 0 < peak < len(WEIGHTS) - 1
    assert sure(trained[:, peak] - trained[:, 0], 2)
    if change == "with memory":  # without memory the fall up to 0.6 is small: 0.002
        assert sure(trained[:, peak] - trained[:, -1])


def test_each_change_alone_is_good_and_held_in_check(outcome):
    """Against the reference policy: true quality up by 3 standard errors, sycophancy below by 2."""
    alone = {"votes": at(BUNDLE), "with memory": 0, "with fresher data": 0}
    for change, weight in alone.items():
        reference, trained = outcome[change]["true/quality"]
        assert sure(trained[:, weight] - reference), change
        assert excess(outcome, change)[:, weight].mean() < 0, change
    assert excess(outcome, "votes")[:, at(BUNDLE)].mean() < -0.005


def test_all_together_are_not_held_in_check_and_super_additive(outcome):
    together = excess(outcome, "with both")[:, at(BUNDLE)]
    assert together.mean() > 0.005
    start = excess(outcome, "votes")[:, 0]
    rises = [
        excess(outcome, "votes")[:, at(BUNDLE)] - start,
        excess(outcome, "with memory")[:, 0] - start,
        excess(outcome, "with fresher data")[:, 0] - start,
    ]
    assert sure((together - start) - sum(rises))


def test_benchmark_hardly_notices(outcome):
    """The bundle against the same training without votes, memory and fresher data: below 0.02 by 3 standard errors."""
    _, base = outcome["votes"]["benchmark/accuracy"]
    _, bundle = outcome["with both"]["benchmark/accuracy"]
    assert sure(0.02 - np.abs(bundle[:, at(BUNDLE)] - base[:, 0]))


def test_null_users_without_appetite_give_no_rise_above_the_reference(outcome):
    """Margin 0.01, 2 standard errors, at every weight up to 0.6; with the default appetite the rise is above 0.2."""
    rise = excess(outcome, "no appetite")
    error = rise.std(axis=0, ddof=1) / np.sqrt(len(SEEDS))
    assert (rise.mean(axis=0) < 0.01 + 2 * error).all()
    assert rise.mean(axis=0).max() < 0.01
    assert excess(outcome, "votes")[:, -1].mean() > 0.2


def test_null_votes_without_appetite_only_help(outcome):
    _, trained = outcome["no appetite"]["true/quality"]
    assert sure(trained[:, at(0.4)] - trained[:, 0])
