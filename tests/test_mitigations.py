"""Frontiers: hypervolume by hand, the best setting within a limit, benefit kept; the minimal penalty in chat worlds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sim
from experiments.minimal_penalty import NAME, mixed, penalties, simulate_penalties
from experiments.mitigation_scores import score_table
from experiments.mitigations import ARMS, Mitigations, own_twin, without_votes
from sim import rng
from sim.analysis.frontier import benefit_kept, best_within, hypervolumes, pareto, refined
from sim.plots.mitigations import Frontier
from sim.training.theory import tilt
from sim.variants import apply, read_arm, simulate_variants

VOTES = "mixture.weights.thumbs_up"


def test_hypervolume_of_a_staircase_by_hand():
    """Steps at (.1, 1), (.2, 3), (.4, 4) against (.5, 0): .4 x 1 + .3 x 2 + .1 x 1 = 1.1; a dominated point adds 0."""
    rate, quality = np.array([[0.1, 0.2, 0.4, 0.45]]), np.array([[1.0, 3, 4, 2]])
    found = hypervolumes(rate, quality, np.array([0.5]), np.array([0.0]))
    np.testing.assert_allclose(found, [1.1])
    assert pareto(rate[0], quality[0]).tolist() == [True, True, True, False]


def test_a_point_that_is_not_better_in_both_ways_adds_nothing():
    points = np.array([[0.6], [0.1], [0.5]]), np.array([[5.0], [-1.0], [5.0]])
    np.testing.assert_array_equal(hypervolumes(*points, np.full(3, 0.5), np.zeros(3)), 0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 2)), min_size=1, max_size=8), st.floats(0, 1), st.floats(0, 2))
def test_a_further_point_never_lowers_the_hypervolume(points, rate, quality):
    def volume(some):
        array = np.array(some)
        return hypervolumes(array[None, :, 0], array[None, :, 1], np.array([1.0]), np.array([0.0]))[0]

    assert volume([*points, (rate, quality)]) >= volume(points) - 1e-12


def test_paths_are_straight_between_settings():
    values = np.array([[0.0, 1.0, 3.0], [2.0, 2.0, 0.0]])
    found = refined(values, parts=4)
    np.testing.assert_allclose(found[0], [0, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3])
    np.testing.assert_allclose(found[:, ::4], values)
    np.testing.assert_array_equal(refined(values[:, :1]), values[:, :1])


def test_hypervolume_does_not_depend_on_how_finely_a_straight_path_was_swept():
    coarse, fine = np.linspace(0, 1, 5)[None], np.linspace(0, 1, 9)[None]
    volumes = [hypervolumes(refined(t, 40), refined(t, 40), np.ones(1), np.zeros(1))[0] for t in (coarse, fine)]
    assert volumes[0] == pytest.approx(0.5, abs=0.01)
    assert volumes[1] == pytest.approx(volumes[0], abs=0.01)


def test_the_best_setting_keeps_within_the_limit_on_average():
    rate, quality = np.array([[0.1, 0.3, 0.5], [0.1, 0.1, 0.3]]), np.array([[0.0, 1, 2], [0.0, 1, 2]])
    assert best_within(rate, quality, 0.2) == 1
    assert best_within(rate, quality, 0.4) == 2
    assert best_within(rate, quality, 0.05) is None


def test_benefit_kept_is_a_ratio_of_means_and_its_interval_covers_it():
    """Benefit half of the whole: the 90 % bootstrap interval holds .5 and narrows as 1 / sqrt(N)."""
    random = rng.stream(1, "tests", "benefit")
    whole = 1 + 0.2 * random.standard_normal(400)
    benefit = 0.5 * whole + 0.1 * random.standard_normal(400)
    kept, low, high = benefit_kept(benefit, whole)
    assert kept == pytest.approx(benefit.mean() / whole.mean())
    assert low < 0.5 < high
    few = benefit_kept(benefit[:25], whole[:25])
    assert 2 < (few[2] - few[1]) / (high - low) < 8
    assert benefit_kept(whole, whole) == pytest.approx((1, 1, 1))


def frontier(rate, quality, twin=0.0, seeds=4):
    """A path that is the same in every world, up to a shift that all paths share."""
    shift = 0.01 * np.arange(seeds)[:, None]
    rate, quality = np.array([rate]) + shift, np.array([quality]) + shift
    values = np.arange(rate.shape[1], dtype=float)
    return Frontier("knob", values, rate, quality, np.full_like(quality, twin) + shift, np.full(seeds, 0.315), {})


def test_scores_count_only_what_votes_bring_under_the_same_mitigation():
    """Both arms reach quality 1 at the limit; the second would reach .6 without votes, so it keeps .4 of 1."""
    ends = {
        "unmitigated": frontier([0.5], [0.5]),
        "without votes": frontier([0.2], [0.0]),
        "unbiased votes": frontier([0.2, 0.3, 0.4], [0.0, 1.0, 5.0]),
    }
    arms = {"a": frontier([0.1, 0.3, 0.5], [0.0, 1.0, 3.0]), "b": frontier([0.1, 0.3, 0.5], [0.0, 1.0, 3.0], twin=0.6)}
    arms["c"] = frontier([0.45, 0.5], [1.0, 2.0])
    table = score_table(arms, ends, margin=0.0).set_index("arm")
    assert table.loc["a", "setting"] == pytest.approx(1)
    assert table.loc["a", "kept"] == pytest.approx(1)
    assert table.loc["b", "kept"] == pytest.approx(0.4)
    assert table.loc["b", "cost"] == pytest.approx(0.6)
    assert np.isnan(table.loc["c", "kept"])
    assert table.loc["a", "hypervolume"] == pytest.approx(table.loc["b", "hypervolume"])


def test_twins_are_plain_training_where_only_the_votes_are_touched():
    settings, plain = Mitigations(), {VOTES: 0.0}
    for name, text in ARMS.items():
        arm = read_arm(settings, name, text)
        twins = [own_twin(settings, variant) for variant in arm.variants]
        if name in ("higher_kl_coef", "early_stopping", "agreement_penalty", "probe_constraint"):
            assert twins[-1] == arm.variants[-1] | plain, name
        else:
            assert all(twin == plain for twin in twins), name
    swapped = read_arm(settings, "x", ARMS["satisfaction_instead"]).variants[-1]
    assert without_votes(settings, swapped)["mixture.weights.satisfaction"] == 0


SMALL = sim.Settings(
    kl_coef=0.1, world=sim.Chat(prompts=36, responses=6, freshness=1.0), memory=sim.Memory(share=1.0, recall=1.0),
    mixture=sim.Mixture(weights=sim.Mixture().weights | {"thumbs_up": 0.6}),
    training=sim.Training(ledger=False, record_every=100),
)  # fmt: skip


def test_no_penalty_is_the_run_itself():
    seeds = np.array([3, 5])
    without = simulate_penalties(SMALL, [0.0, 1.0], seeds)[0]
    plain = simulate_variants(SMALL, [{}], seeds)[0]
    for name in ("sycophancy/rate", "true/quality", "kl"):
        np.testing.assert_allclose(without[name].values, plain[name].values, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_minimal_penalty_holds_agreement_where_the_reference_has_it(seed):
    """Prompt by prompt, for the optimum that learns each prompt on its own; nowhere is more taken than needed."""
    problem = sim.prepare(SMALL, seed)
    world, scored = problem.splits["train"], problem.signals["train"]
    reward = mixed(scored, {"thumbs_up": 0.3, "model_spec": 0.7, "safety": 0.0})
    penalty = penalties(world, reward, 0.1)
    endorses = world.attributes["stance_taking"] > 0
    before, plain, held = (
        (np.exp(log) * endorses).sum(axis=1)
        for log in (world.log_ref, tilt(world.log_ref, reward, 0.1), tilt(world.log_ref, reward - penalty, 0.1))
    )
    rose = plain > before + 1e-12
    assert rose.any()
    assert (~rose & endorses.any(axis=1)).any()
    np.testing.assert_allclose(held[rose], before[rose], atol=1e-10)
    np.testing.assert_allclose(held[~rose], plain[~rose], atol=1e-12)


def test_a_tabular_policy_under_the_minimal_penalty_is_no_more_sycophantic_than_its_reference():
    """Learned signals, natural gradient to its end: 1e-6. Without the penalty the rate rises by more than .05."""
    settings = apply(SMALL, {"policy.kind": "tabular", "training.steps": 300, "training.record_every": 300})
    free, held = simulate_penalties(settings, [0.0, 1.0], np.array([0, 1, 2]))
    start, end = held["sycophancy/rate"].values[:, 0], held["sycophancy/rate"].values[:, -1]
    assert (end < start + 1e-6).all()
    assert (free["sycophancy/rate"].values[:, -1] > start + 0.05).all()
    assert (held[f"rewards/{NAME}/raw"].values <= 0).all()
