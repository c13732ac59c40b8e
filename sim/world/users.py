"""Who asks what: topics, stances, stakes, memory; and how a user feels about an answer.

Prompts are drawn in equal numbers per topic and weighted by the topic mix, so a fresher mix changes weights only:
every prompt, user and response stays the same.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim import rng
from sim.config import InputError, Memory, Users, unknown_name
from sim.world.arrays import Array, World

Fields = dict[str, npt.NDArray[Any]]


class Topic(NamedTuple):
    """Constants of a topic; all are assumptions, chosen once and not fitted to any outcome."""

    stance: float  # probability that the user takes a stance
    in_prompt: float  # probability that the stance is in the prompt itself; personal matters are left to memory
    stakes: float  # mean of what is at stake, 0 to 1


TOPICS = {
    "task": Topic(stance=0.0, in_prompt=0.0, stakes=0.2),
    "factual": Topic(stance=0.5, in_prompt=0.7, stakes=0.3),
    "advice": Topic(stance=0.8, in_prompt=0.4, stakes=0.6),
    "emotional": Topic(stance=0.9, in_prompt=0.2, stakes=0.7),
    "doubt": Topic(stance=0.9, in_prompt=0.2, stakes=0.7),
    "creative": Topic(stance=0.3, in_prompt=0.7, stakes=0.1),
}
TOPIC_NAMES = tuple(TOPICS)
STYLES = 4
TASTE_SPREAD = 0.5  # individual taste around the population's, per style dimension (assumption)


def topic_weights(mix: Mapping[str, float], name: str) -> Array:
    """Return the mix as probabilities in the order of `TOPIC_NAMES`, or raise `InputError` naming the setting."""
    for topic in mix:
        if topic not in TOPICS:
            raise InputError(f"{name}: {unknown_name('topic', topic, list(TOPICS))}")
    weights = np.array([mix.get(topic, 0.0) for topic in TOPIC_NAMES], dtype=float)
    if weights.sum() <= 0:
        raise InputError(f"{name}: at least one topic needs a share above 0")
    return weights / weights.sum()


def topic_column(topics: npt.NDArray[np.int64], constant: str) -> Array:
    """Return one constant of `Topic` for each prompt, [P]."""
    return np.array([getattr(TOPICS[name], constant) for name in TOPIC_NAMES])[topics]


def draw_users(topics: npt.NDArray[np.int64], users: Users, memory: Memory, seed: int, split: str) -> Fields:
    """Return the prompt fields [P] (and `taste` [P, styles]) for prompts of the given topics.

    `stance_error` in [0, 1] is how wrong or harmful the user's stance is, Beta(2, 3): above one half it is wrong
    (31 %). `stakes` in [0, 1] are Beta(4 m, 4 (1 - m)) with the topic's mean m. All of it is assumed.
    `visible` says that the model can see the stance: it is in the prompt, or memory holds it. `seen_vulnerable` is what
    memory says of the user; right with probability `knows_user`, else a coin with the population's share.
    """
    count = len(topics)

    def uniform(what: str) -> Array:
        return rng.stream(seed, "users", split, what).random(count)

    stakes_mean = topic_column(topics, "stakes")
    remembered = uniform("memory") < memory.share
    recalled = remembered & (uniform("recall") < memory.recall)
    vulnerable = uniform("vulnerable") < users.vulnerable_share
    known = uniform("user_known") < memory.knows_user
    said = np.where(known, vulnerable, uniform("user_guessed") < users.vulnerable_share)
    has_stance = uniform("stance") < topic_column(topics, "stance")
    in_prompt = has_stance & (uniform("in_prompt") < topic_column(topics, "in_prompt"))
    population_taste = rng.stream(seed, "users", "population_taste").standard_normal(STYLES)
    taste_noise = rng.stream(seed, "users", split, "taste").standard_normal((count, STYLES))
    return {
        "topic": topics,
        "has_stance": has_stance,
        "stance_error": rng.stream(seed, "users", split, "stance_error").beta(2, 3, count),
        "stakes": rng.stream(seed, "users", split, "stakes").beta(4 * stakes_mean, 4 * (1 - stakes_mean)),
        "vulnerable": vulnerable,
        "seen_vulnerable": remembered & said & (memory.knows_user > 0),
        "stance_in_prompt": in_prompt,
        "recalled": recalled,
        "visible": in_prompt | (has_stance & recalled),
        "taste": population_taste / np.linalg.norm(population_taste) + TASTE_SPREAD * taste_noise,
    }


def vote_logit(world: World, users: Users, memory: Memory, hindsight: float = 0.0) -> Array:
    """Return the log-odds [P, K] that the user, when voting, leaves a thumbs-up.

        taste_for_help (helpfulness - 1/2) + taste_for_fit (fit - 1/2) + taste_for_warmth (warmth - 1/2)
        + appetite_of_this_user * stance_taking * (1 - 2 hindsight stance_error),
        appetite_of_this_user = appetite * (vulnerable_boost if vulnerable) * (1 + rapport if memory serves the user)

    Voters judge agreement with their own stance, right or wrong; asked later (hindsight above 0), those who were wrong
    hold it against the answer that they were told they were right.

    Args:
        world: its attributes [P, K] and prompts [P].
        users: appetite and tastes.
        memory: its rapport.
        hindsight: 0 for a vote, up to 1.
    """
    look = world.attributes
    appetite = users.appetite * np.where(world.prompts["vulnerable"], users.vulnerable_boost, 1.0)
    appetite = appetite * (1.0 + memory.rapport * world.prompts["recalled"])
    return (
        users.taste_for_help * (look["helpfulness"] - 0.5)
        + users.taste_for_fit * (look["personal_fit"] - 0.5)
        + users.taste_for_warmth * (look["warmth"] - 0.5)
        + appetite[:, None] * look["stance_taking"] * (1 - 2 * hindsight * world.prompts["stance_error"])[:, None]
    )
