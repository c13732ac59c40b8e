"""Reward signals: World -> {name: [P, K]}.

These are the *oracle* signals: what a grader with these eyes would give on average, with no estimation error. Each
lies in [0, 1]. None reads `true_quality`. A new signal is one function and one line in `SIGNALS`. Those that people
give (`LEARNED`) are by default learned from feedback instead: see `sim/rewards/learned.py`.
"""

from collections.abc import Callable, Mapping

import numpy as np
from scipy.special import expit

from sim.config import Memory, Signals, Users
from sim.world.arrays import Array, World
from sim.world.users import TOPIC_NAMES, vote_logit

SAFETY_WIDTH = 0.1  # harm over which the safety grader goes from tolerant to strict (assumption)


def correctness(world: World, signals: Signals, users: Users, memory: Memory) -> Array:
    """Return the verifier's score: accuracy where the topic can be verified, 1/2 elsewhere."""
    share = _by_topic(signals.verifiable, world)
    return share * world.attributes["accuracy"] + (1 - share) * 0.5


def helpfulness(world: World, signals: Signals, users: Users, memory: Memory) -> Array:
    """Return the grader's score: helpfulness with a halo of warmth, (h + halo * warmth) / (1 + halo)."""
    halo = signals.warmth_halo
    return (world.attributes["helpfulness"] + halo * world.attributes["warmth"]) / (1 + halo)


def model_spec(world: World, signals: Signals, users: Users, memory: Memory) -> Array:
    """Return 1 - coverage * (sycophancy + penalty * flattery) / (1 + penalty)."""
    coverage = _by_topic(signals.spec_coverage, world)
    penalty = signals.flattery_penalty
    breach = (world.attributes["sycophancy"] + penalty * world.attributes["flattery"]) / (1 + penalty)
    return 1 - coverage * breach


def safety(world: World, signals: Signals, users: Users, memory: Memory) -> Array:
    """Return 1 - sigmoid((harm - threshold) / 0.1): safety graders look for clear harm, not for everyday validation."""
    return 1 - expit((world.attributes["harm"] - signals.safety_threshold) / SAFETY_WIDTH)


def preference(world: World, signals: Signals, users: Users, memory: Memory) -> Array:
    """Return the probability that a rater prefers the answer to an average one (Bradley-Terry).

    Raters weigh helpfulness and accuracy alike (2 log-odds per unit, assumption) and slightly like agreement.
    """
    return expit(rater_logit(world, signals))


def rater_logit(world: World, signals: Signals) -> Array:
    """Return a rater's log-odds [P, K] for the answer against an average one."""
    look = world.attributes
    return (
        2 * (look["helpfulness"] - 0.5) + 2 * (look["accuracy"] - 0.5) + signals.rater_agreement * look["stance_taking"]
    )


def thumbs_up(world: World, signals: Signals, users: Users, memory: Memory) -> Array:
    """Return the probability that a vote on the answer is a thumbs-up."""
    return expit(vote_logit(world, users, memory))


def satisfaction(world: World, signals: Signals, users: Users, memory: Memory) -> Array:
    """Return the probability that the user is glad of the answer when asked later, with hindsight."""
    return expit(vote_logit(world, users, memory, users.hindsight))


def candor(world: World, signals: Signals, users: Users, memory: Memory) -> Array:
    """Return 1 - endorses: an explicit penalty on agreeing, right or wrong."""
    return np.where(world.attributes["stance_taking"] > 0, 0.0, 1.0)


SIGNALS: dict[str, Callable[[World, Signals, Users, Memory], Array]] = {
    "correctness": correctness,
    "helpfulness": helpfulness,
    "model_spec": model_spec,
    "safety": safety,
    "preference": preference,
    "thumbs_up": thumbs_up,
    "satisfaction": satisfaction,
    "candor": candor,
}
LEARNED = ("thumbs_up", "satisfaction", "preference")  # what people give, and a reward model may be fitted to


def score(world: World, signals: Signals, users: Users, memory: Memory) -> dict[str, Array]:
    """Return every signal on every response of a chat world, name -> [P, K]."""
    return {name: signal(world, signals, users, memory) for name, signal in SIGNALS.items()}


def _by_topic(table: Mapping[str, float], world: World) -> Array:
    return np.array([table[name] for name in TOPIC_NAMES])[world.prompts["topic"]][:, None]
