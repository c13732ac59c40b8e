"""Five updates in a row."""

import dataclasses

import numpy as np
import pytest

from sim.config import Chat, Settings, Training, with_value
from sim.launch.mainline import collected_votes, creeping, mainline
from sim.launch.process import named_gates
from sim.launch.settings import Evals, Lived, april_2025
from sim.problem import prepare

SMALL = Settings(world=Chat(prompts=60, responses=8), training=Training(ledger=False, steps=40))
UPDATES = creeping(0.3, 5)


def review(*blocking):
    """A quick process whose only blocking gates are those named."""
    found = april_2025()
    found.checks.evals = Evals(offline=500, safety=200, sycophancy=4000)
    for name, gate in named_gates(found).items():
        gate.role = "blocking" if name in blocking else "muted"
    found.second_look = 0.0
    return found


@pytest.fixture(scope="module")
def open_door():
    lenient = review("red_team")
    many = with_value(SMALL, "feedback.answers", 400_000)  # so that no update's votes are a lucky draw
    return mainline(many, UPDATES, lenient, Lived(), 0)


def test_updates_creep_up_to_the_last_weight():
    weights = [update["mixture.weights.thumbs_up"] for update in UPDATES]
    np.testing.assert_allclose(weights, [0.06, 0.12, 0.18, 0.24, 0.3])
    assert [key for update in UPDATES for key in update if key != "mixture.weights.thumbs_up"] == [
        "memory.share",
        "world.freshness",
    ]


def test_drift_compounds_over_updates_that_all_launch(open_door):
    start, steps = open_door
    assert [bool(step.decision.launched[0]) for step in steps] == [True] * 5
    rates = [start["sycophancy/rate"][0], *(step.deployed["sycophancy/rate"][0] for step in steps)]
    assert (np.diff(rates) > 0).all()
    assert rates[-1] - rates[0] > 0.1


def test_a_blocked_update_leaves_what_was_deployed(open_door):
    """A sycophancy gate without margin: nothing launches, and the model of the start stays."""
    strict = review("sycophancy")
    strict.gates.sycophancy.margin = 0.0
    start, steps = mainline(SMALL, UPDATES, strict, Lived(), 0)
    assert not any(step.decision.launched[0] for step in steps)
    for step, free in zip(steps, open_door[1], strict=True):
        assert step.deployed["sycophancy/rate"] == start["sycophancy/rate"] == open_door[0]["sycophancy/rate"]
        assert step.truth["sycophancy/rate"][0] > start["sycophancy/rate"][0]
        assert free.settings.mixture.weights["thumbs_up"] == step.settings.mixture.weights["thumbs_up"]


def test_votes_are_asked_of_the_model_that_is_deployed_then():
    """The source is called once an update with the deployed policy on traffic, which changes after a launch only."""
    seen = []

    def source(settings, problem, log_policy, seed):
        seen.append((np.exp(log_policy).sum(axis=1), log_policy.copy(), seed))
        return collected_votes(settings, problem, log_policy, seed)

    mainline(SMALL, UPDATES[:3], review("red_team"), Lived(), 0, source)
    assert [seed for *_, seed in seen] == [0, 1, 2]
    for total, *_ in seen:
        np.testing.assert_allclose(total, 1, atol=1e-9)
    assert (seen[0][1] != seen[1][1]).any()
    assert (seen[1][1] != seen[2][1]).any()


def test_votes_that_like_nothing_change_the_outcome():
    """The signal that training sees is the source's: constant votes dilute the primary rewards and do nothing else."""
    _, steps_flat = mainline(
        SMALL, UPDATES, review("red_team"), Lived(), 0, lambda s, p, *_: np.full_like(collected_votes(s, p, *_), 0.5)
    )
    _, steps = mainline(SMALL, UPDATES, review("red_team"), Lived(), 0)
    assert steps_flat[-1].truth["sycophancy/rate"][0] < steps[-1].truth["sycophancy/rate"][0] - 0.03


def test_a_mainline_without_updates_is_the_start():
    start, steps = mainline(dataclasses.replace(SMALL), [], review("red_team"), Lived(), 0)
    assert steps == []
    assert 0 < start["sycophancy/rate"][0] < 1


def test_votes_come_from_the_model_that_is_deployed():
    settings = with_value(SMALL, "mixture.weights", SMALL.mixture.weights | {"thumbs_up": 0.2})
    problem = prepare(settings, 0)
    reference = problem.splits["traffic"].log_ref
    other = np.log(np.full(reference.shape, 1 / reference.shape[1]))
    first, again, elsewhere = (collected_votes(settings, problem, log, 3) for log in (reference, reference, other))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - elsewhere).max() > 1e-3
    oracle = with_value(settings, "signals.source", {"thumbs_up": "oracle"})
    np.testing.assert_array_equal(collected_votes(oracle, problem, other, 3), problem.signals["train"]["thumbs_up"])
