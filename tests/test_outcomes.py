"""What must come out with the defaults, on the training side; each test states its margin in standard errors (SE).

The curve over weights uses seeds 0 to 23, the fall of true quality seeds 0 to 95, and the smaller effects of single
changes seeds 0 to 191: reward models learned from some 1,000 votes make worlds differ more than oracles would.
"""

import dataclasses

import numpy as np
import pytest

import sim

pytestmark = pytest.mark.slow
SEEDS = np.arange(24)
WEIGHTS = np.array([0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.45, 0.5, 0.6, 0.8, 1.0])
# The thumbs-up weight of configs/experiment/april.yaml. It was chosen to lie between the critical weight of all changes
# together (0.113) and of votes alone (0.155); that such a weight exists is what is tested.
BUNDLE = 0.13
MANY_SEEDS = np.arange(192)
MANY_WEIGHTS = np.array([0.0, BUNDLE, 0.15])
CHANGES = {
    "votes": {},
    "with memory": {"memory": sim.Memory(share=1.0)},
    "with fresher data": {"world": sim.Chat(freshness=1.0)},
    "with both": {"memory": sim.Memory(share=1.0), "world": sim.Chat(freshness=1.0)},
    "no appetite": {"users": sim.Users(appetite=0.0)},
}


def results(names, seeds, weights):
    """Change -> metric -> (reference [seed], trained [seed, weight])."""
    training = sim.Training(record_every=100, ledger=False)
    columns = {"mixture.weights.thumbs_up": np.tile(weights, len(seeds)), "seed": np.repeat(seeds, len(weights))}
    found = {}
    for name in names:
        data = sim.simulate(dataclasses.replace(sim.Settings(training=training), **CHANGES[name]), columns)
        found[name] = {
            metric: (
                data[metric].isel(step=0).values.reshape(len(seeds), -1)[:, 0],
                data[metric].isel(step=-1).values.reshape(len(seeds), -1),
            )
            for metric in ("sycophancy/rate", "true/quality", "benchmark/accuracy")
        }
    return found


@pytest.fixture(scope="module")
def outcome():
    """The curve over weights."""
    return results(["votes", "with memory", "no appetite"], SEEDS, WEIGHTS)


@pytest.fixture(scope="module")
def many():
    """The changes, alone and together, over many worlds."""
    return results(["votes", "with memory", "with fresher data", "with both"], MANY_SEEDS, MANY_WEIGHTS)


def excess(outcome, change):
    """Sycophancy rate after training minus that of the reference, [seed, weight]."""
    reference, trained = outcome[change]["sycophancy/rate"]
    return trained - reference[:, None]


def at(weight):
    return int(np.flatnonzero(weight == WEIGHTS)[0])


def sure(difference, standard_errors=3):
    """Paired differences over seeds are above 0 by that many standard errors."""
    return difference.mean() > standard_errors * difference.std(ddof=1) / np.sqrt(len(difference))


def test_without_votes_training_lowers_the_rate(outcome):
    """By 3 SE and by more than 0.05."""
    assert sure(-excess(outcome, "votes")[:, 0])
    assert excess(outcome, "votes")[:, 0].mean() < -0.05


def test_rate_rises_with_the_weight_in_every_world(outcome):
    """No margin: in each of the 24 worlds, from each weight to the next."""
    assert (np.diff(excess(outcome, "votes"), axis=1) > 0).all()


def test_critical_weight_lies_strictly_inside(outcome):
    """Below the reference at 0.05 and above it at 0.3, by 3 SE each."""
    assert sure(-excess(outcome, "votes")[:, at(0.05)])
    assert sure(excess(outcome, "votes")[:, at(0.3)])


@pytest.mark.parametrize("change", ["with memory", "with fresher data"])
def test_each_change_lowers_the_critical_weight(many, change):
    """Around the critical weight (0.15) the rate is higher by 3 SE in the same worlds, so it crosses earlier."""
    assert sure((excess(many, change) - excess(many, "votes"))[:, 2])


def test_both_changes_lower_it_further(many):
    """Higher than with either change alone, by 3 SE."""
    for change in ("with memory", "with fresher data"):
        assert sure((excess(many, "with both") - excess(many, change))[:, 2])


def test_true_quality_first_rises_with_the_weight_then_falls():
    """96 worlds: rises by 3 SE up to 0.4 and falls by 3 SE from there to 1 (up to 0.6 the fall is within its error)."""
    _, trained = results(["votes"], MANY_SEEDS[:96], WEIGHTS)["votes"]["true/quality"]
    assert sure(trained[:, at(0.4)] - trained[:, 0])
    assert sure(trained[:, at(0.4)] - trained[:, at(1.0)])
    assert 0.3 <= WEIGHTS[trained.mean(axis=0).argmax()] <= 0.6


def test_with_memory_true_quality_falls_much_sooner(outcome):
    """From 0.2 to 0.6, by 3 SE."""
    _, trained = outcome["with memory"]["true/quality"]
    assert sure(trained[:, at(0.2)] - trained[:, at(0.6)])


@pytest.mark.parametrize(("change", "weight"), [("votes", 1), ("with memory", 0), ("with fresher data", 0)])
def test_each_change_alone_is_good_and_held_in_check(many, change, weight):
    """Against the reference policy: true quality up and the sycophancy rate down, by 3 SE each."""
    reference, trained = many[change]["true/quality"]
    assert sure(trained[:, weight] - reference)
    assert sure(-excess(many, change)[:, weight])


def test_all_together_are_not_held_in_check(many):
    """Above the reference, by 3 SE."""
    assert sure(excess(many, "with both")[:, 1])


def test_changes_are_super_additive_in_rate(many):
    """The rise of all together exceeds the sum of the single rises, by 3 SE."""
    start = excess(many, "votes")[:, 0]
    alone = [excess(many, c)[:, w] for c, w in (("votes", 1), ("with memory", 0), ("with fresher data", 0))]
    assert sure((excess(many, "with both")[:, 1] - start) - sum(rise - start for rise in alone))


def test_benchmark_hardly_notices_the_bundle(many):
    """Accuracy moves by less than 0.02 against plain training, by 3 SE; at weight 0.6 it falls by 0.03."""
    _, base = many["votes"]["benchmark/accuracy"]
    _, bundle = many["with both"]["benchmark/accuracy"]
    assert sure(0.02 - np.abs(bundle[:, 1] - base[:, 0]))


def trained_rate(weight_of, weight, **changes):
    """Sycophancy rate after training minus that of the reference, [seed], with one signal added."""
    mixture = sim.Mixture(weights=sim.Mixture().weights | {weight_of: 0.0}, added=weight_of)
    settings = sim.Settings(training=sim.Training(record_every=100, ledger=False), mixture=mixture, **changes)
    data = sim.simulate(settings, {"seed": SEEDS, f"mixture.weights.{weight_of}": np.full(len(SEEDS), weight)})
    return (data["sycophancy/rate"].isel(step=-1) - data["sycophancy/rate"].isel(step=0)).values


def test_satisfaction_in_place_of_votes_raises_the_rate_less():
    """At weight 0.3, by 3 SE in the same worlds: asked later, those who were wrong no longer reward agreement."""
    assert sure(trained_rate("thumbs_up", 0.3) - trained_rate("satisfaction", 0.3))


def test_candor_lowers_the_rate():
    """A weight of 0.05 lowers it by more than 0.05 against plain training, by 3 SE."""
    assert sure(trained_rate("candor", 0.0) - trained_rate("candor", 0.05) - 0.05)


def test_null_learned_votes_without_appetite_do_what_oracle_votes_do():
    """At weight 0.3 the learned signal moves the rate no other way than the oracle, within 3 SE of the difference."""
    users = sim.Users(appetite=0.0)
    oracle = sim.Signals(source={"thumbs_up": "oracle"})
    moved = trained_rate("thumbs_up", 0.3, users=users) - trained_rate("thumbs_up", 0.3, users=users, signals=oracle)
    assert not sure(moved)
    assert not sure(-moved)


def test_null_votes_that_are_all_noise_do_not_raise_the_rate_above_the_reference():
    """Half of all votes flipped: nothing to learn, so at weight 0.3 only dilution is left; below, by 3 SE."""
    noise = trained_rate("thumbs_up", 0.3, feedback=sim.Feedback(vote_noise=0.5))
    assert sure(-noise)
    assert sure(trained_rate("thumbs_up", 0.3) - noise)


def test_removing_agreement_from_the_votes_keeps_the_check():
    """At weight 0.3 the rate stays below the reference, and below that of plain votes, by 3 SE each."""
    removed = trained_rate("thumbs_up", 0.3, feedback=sim.Feedback(remove_agreement=True))
    assert sure(-removed)
    assert sure(trained_rate("thumbs_up", 0.3) - removed)


def test_null_users_without_appetite_give_no_rise_above_the_reference(outcome):
    """Mean rise below 0.01 at every weight up to 0.6; with the default appetite it is above 0.2."""
    rise = excess(outcome, "no appetite")[:, : at(0.6) + 1]
    assert rise.mean(axis=0).max() < 0.01
    assert excess(outcome, "votes")[:, at(0.6)].mean() > 0.2


def test_null_votes_without_appetite_only_help(outcome):
    """True quality rises from each weight to the next, up to 0.6, and by 3 SE in all."""
    _, trained = outcome["no appetite"]["true/quality"]
    assert (np.diff(trained.mean(axis=0)[: at(0.6) + 1]) > 0).all()
    assert sure(trained[:, at(0.6)] - trained[:, 0])
