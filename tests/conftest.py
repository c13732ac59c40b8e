"""Shared problems for the tests: small enough to be quick, real enough to fail."""

import os

import numpy as np
import pytest
from hypothesis import settings

from sim import rng
from sim.training.threads import use_one_thread
from sim.world.arrays import World, normalize_log

use_one_thread()
# CI judges a change, so it tries the same examples every time; elsewhere each run looks for new ones.
# Nor is time asserted: a busy machine fails no example.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def random_world(prompts=5, responses=4, size=3, seed=0):
    random = rng.stream(seed, "tests", "world")
    weight = random.random(prompts) + 0.2
    return World(
        prompt_prob=weight / weight.sum(),
        features=random.standard_normal((prompts, responses, size)),
        log_ref=normalize_log(random.standard_normal((prompts, responses))),
        attributes={},
    )


def one_prompt(ref_probs, features=None):
    """A single prompt with the given reference probabilities."""
    log_ref = np.log(np.array([ref_probs], dtype=float))
    shape = (*log_ref.shape, 1)
    return World(np.ones(1), np.zeros(shape) if features is None else np.reshape(features, shape), log_ref, {})


@pytest.fixture
def world():
    return random_world()
