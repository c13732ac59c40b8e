"""What must come out of a launch with the defaults; 24 random worlds, each test states its margin in standard errors.

The update is that of configs/experiment/april.yaml, the deployed model is trained without its changes.
"""

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from experiments.app import CONFIGS, to_settings
from experiments.incident import changes_of
from sim.config import with_value
from sim.launch.exposure import in_force, patch_shifts
from sim.launch.gates import FAIL, PASS
from sim.launch.models import train_models
from sim.launch.monitors import NAMES, area_under_roc
from sim.launch.process import CHECKS, decide
from sim.launch.readings import Draws
from sim.launch.replay import launch_shares, served_rates, variants
from sim.launch.rollout import rollout_clock
from sim.launch.settings import Lived, Monitors, Rollout, april_2025, improved
from tests.test_outcomes import sure

pytestmark = pytest.mark.slow
SEEDS = 24
REVIEWS = 8  # of each world's update, with fresh luck


@pytest.fixture(scope="module")
def worlds():
    """Per world: deployed model, update repeated REVIEWS times, the truth before and after."""
    with initialize_config_dir(CONFIGS, version_base="1.3"):
        settings = to_settings(compose("incident"))
    settings = with_value(settings, "world.prompts", 200)
    changes = changes_of(settings)
    found = []
    for seed in range(SEEDS):
        deployed, before = train_models(changes["nothing"], {}, seed)
        update, after = train_models(changes["all together"], {}, seed)
        found.append((deployed, update.rows(np.zeros(REVIEWS, dtype=int)), before, after))
    return found


def draws(seed):
    return Draws(seed, tuple(f"update/{number}" for number in range(REVIEWS)))


@pytest.fixture(scope="module")
def decided(worlds):
    """Process -> a decision per world."""
    return {
        review.name: [
            decide(update, deployed, review, Lived(), draws(seed)) for seed, (deployed, update, *_) in enumerate(worlds)
        ]
        for review in (april_2025(), improved())
    }


def by_world(decisions, what):
    return np.array([what(decision) for decision in decisions])


def gate(decision, name):
    return list(decision.first.gates).index(name)


def test_the_update_is_more_sycophantic_and_the_benchmark_hardly_notices(worlds):
    """By 3 SE: the rate rises by more than 0.05, benchmark accuracy falls by less than 0.02."""
    assert sure(
        np.array([after["sycophancy/rate"][0] - before["sycophancy/rate"][0] for *_, before, after in worlds]) - 0.05
    )
    moved = np.array([after["benchmark/accuracy"][0] - before["benchmark/accuracy"][0] for *_, before, after in worlds])
    assert sure(0.02 - np.abs(moved))


def test_the_ab_test_prefers_the_update(decided):
    """Votes and side-by-side preference are above 0 by 3 SE over worlds; 9 of 10 votes gates pass."""
    for name in ("votes", "preference"):
        assert sure(by_world(decided["april_2025"], lambda d, name=name: d.first.effect[gate(d, name)].mean()))
    passed = by_world(decided["april_2025"], lambda d: (d.first.verdict[gate(d, "votes")] == PASS).mean())
    assert sure(passed - 0.9)


def test_spot_checks_feel_it_at_low_power(decided):
    """The mean feel is worse by 3 SE; fewer than half of the panels can show it, by 3 SE; more than 5 % do."""
    feel = by_world(decided["april_2025"], lambda d: d.first.effect[gate(d, "spot_checks")].mean())
    shown = by_world(decided["april_2025"], lambda d: (d.first.verdict[gate(d, "spot_checks")] == FAIL).mean())
    assert sure(feel)
    assert sure(0.5 - shown)
    assert shown.mean() > 0


def test_april_launches_it_and_the_improved_process_blocks_it(decided):
    """More than 0.75 and fewer than 0.25 of the reviews launch it, by 3 SE over worlds."""
    launched = {name: by_world(decisions, lambda d: d.launched.mean()) for name, decisions in decided.items()}
    assert sure(launched["april_2025"] - 0.75)
    assert sure(0.25 - launched["improved"])


def test_sycophancy_evals_alone_block_it_and_more_of_the_same_does_not(worlds):
    """Sycophancy evals launch fewer than 0.25, a longer A/B test more than 0.75, by 3 SE over worlds."""
    reviews = variants(april_2025(), improved())
    wanted = {name: reviews[name] for name in ("sycophancy evals", "longer A/B")}
    shares = [
        launch_shares(wanted, update, deployed, Lived(), draws(seed))
        for seed, (deployed, update, *_) in enumerate(worlds)
    ]
    assert sure(0.25 - np.array([found["sycophancy evals"][0] for found in shares]))
    assert sure(np.array([found["longer A/B"][0] for found in shares]) - 0.75)


def test_the_patch_reduces_and_the_rollback_restores(worlds):
    """What is served on probes: up with the launch, down with the patch (by 3 SE each), and exactly back in the end."""
    clock = rollout_clock(Rollout(), 72)
    probes = NAMES.index("probes")
    at = next(int(np.flatnonzero(clock.hours == event.hour)[0]) for event in clock.log if event.kind == "patch")
    served = []
    for seed, (deployed, update, *_) in enumerate(worlds):
        models = in_force(deployed, update.rows(np.zeros(1, dtype=int)), patch_shifts(Rollout(), 1, seed))
        served.append(served_rates(models, clock, Monitors())[probes])
    served = np.array(served)
    assert sure(served[:, at - 1] - served[:, 0])
    assert sure(served[:, at - 1] - served[:, at + 1])
    np.testing.assert_allclose(served[:, -1], served[:, 0], atol=1e-12)


def test_votes_are_a_monitor_that_looks_the_wrong_way(worlds):
    """The update gets fewer thumbs-down than the deployed model, by 3 SE: alarms on votes rank launches backwards."""
    from sim.launch.monitors import watched_rates

    votes = NAMES.index("votes")
    rates = np.array([
        [watched_rates(model, Monitors())[votes, 0] for model in (deployed, update)] for deployed, update, *_ in worlds
    ])  # fmt: skip
    assert sure(rates[:, 0] - rates[:, 1])
    assert area_under_roc(np.concatenate([rates[:, 1], rates[:, 0]]), np.repeat([True, False], SEEDS)) < 0.5


def test_the_sycophancy_eval_does_not_accuse_the_deployed_model_of_itself(worlds):
    """The null: of 192 reviews of an unchanged model at most 5 % are called worse (3 SE)."""
    wrong = []
    for seed, (deployed, *_) in enumerate(worlds):
        same = deployed.rows(np.zeros(REVIEWS, dtype=int))
        reading = CHECKS["launch/sycophancy"](same, deployed, improved().checks, draws(seed))
        wrong.append(reading.tail(0.0) <= 0.05)
    share = np.mean(wrong)
    assert share < 0.05 + 3 * np.sqrt(0.05 * 0.95 / (SEEDS * REVIEWS))
