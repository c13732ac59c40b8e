"""Feedback: votes that users leave on a deployed policy's answers, and pairs of its answers that raters compare.

Every draw has its own stream, so the first n answers do not depend on how many follow, and changing one knob moves no
other draw: with less noise the same users vote, on the same answers.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.special import logit as log_odds

from sim import rng
from sim.config import Feedback
from sim.world.arrays import Array, World

Indices = npt.NDArray[np.int64]
SECOND_MASS = 1e-9  # a policy that leaves less than this to all other answers shows no second one


class Votes(NamedTuple):
    """Counts [P, K] of answers shown, thumbs-up and thumbs-down."""

    shown: Array
    up: Array
    down: Array


class Comparisons(NamedTuple):
    """N pairs: of which prompt, which two responses, and whether the first was preferred; each [N]."""

    prompt: Indices
    first: Indices
    second: Indices
    first_won: npt.NDArray[np.bool_]


def vote_probabilities(logit: Array, feedback: Feedback) -> tuple[Array, Array]:
    """Return P(leaves a vote) and P(thumbs-up | votes), both [P, K].

        P(vote)      = sigmoid(log_odds(participation) + intensity |logit|)
        P(up | vote) = (1 - noise) sigmoid(logit) + noise sigmoid(-logit)

    Those who feel strongly vote more often, whichever way they feel (the form is an assumption).

    Args:
        logit: [P, K] log-odds of a thumbs-up (`sim.world.users.vote_logit`).
        feedback: the knobs.
    """
    votes = expit(log_odds(feedback.participation) + feedback.intensity * np.abs(logit))
    return votes, flipped(expit(logit), feedback.vote_noise)


def leave_votes(
    world: World, log_policy: Array, logit: Array, feedback: Feedback, seed: int, asked: str = "thumbs_up"
) -> Votes:
    """Return the votes on `feedback.answers` answers, drawn from prompt_prob x policy.

    Args:
        world: the prompts that users send.
        log_policy: [P, K] of the deployed policy.
        logit: [P, K] log-odds of a thumbs-up.
        feedback: the knobs.
        seed: of the run.
        asked: what users are asked for; each question has its own draws.
    """

    def uniform(what: str) -> Array:
        return rng.stream(seed, "feedback", asked, what).random(feedback.answers)

    prompt = _draw_prompts(world.prompt_prob, uniform("prompt"))
    cell = prompt * log_policy.shape[1] + _draw_responses(_cumulative(log_policy), prompt, uniform("response"))
    votes, _ = vote_probabilities(logit, feedback)
    voted = np.flatnonzero(uniform("participation") < votes.ravel()[cell])
    # The vote and its noise are drawn apart, so that a knob of one moves no draw of the other.
    up = uniform("vote")[voted] < expit(logit).ravel()[cell[voted]]
    up ^= uniform("noise")[voted] < feedback.vote_noise

    def count(cells: Indices) -> Array:
        return np.bincount(cells, minlength=logit.size).reshape(logit.shape).astype(float)

    return Votes(count(cell), count(cell[voted[up]]), count(cell[voted[~up]]))


def counted(votes: Votes, which: str) -> tuple[Array, Array]:
    """Return (positive, total), both [P, K]: what a reward model is fitted to.

    both: thumbs-up among votes. up: thumbs-up among all shown. down: no thumbs-down among all shown.
    """
    if which == "both":
        return votes.up, votes.up + votes.down
    return (votes.up if which == "up" else votes.shown - votes.down), votes.shown


def compare_pairs(world: World, log_policy: Array, logit: Array, feedback: Feedback, seed: int) -> Comparisons:
    """Return what raters prefer of `feedback.comparisons` pairs of distinct responses drawn from the policy.

        P(first preferred) = sigmoid(logit[first] - logit[second]),    Bradley-Terry

    and a share `rater_noise` is recorded the wrong way round. The second response is drawn from the policy without the
    first. Where the policy gives only one answer there is no pair.

    Args:
        world: the prompts that are sampled.
        log_policy: [P, K] of the deployed policy.
        logit: [P, K] a rater's liking, in log-odds.
        feedback: the knobs.
        seed: of the run.
    """

    def uniform(what: str) -> Array:
        return rng.stream(seed, "feedback", "comparisons", what).random(feedback.comparisons)

    cumulative = _cumulative(log_policy)
    prompt = _draw_prompts(world.prompt_prob, uniform("prompt"))
    first = _draw_responses(cumulative, prompt, uniform("first"))
    below = np.where(first > 0, cumulative[prompt, first - 1], 0.0)
    mass = cumulative[prompt, first] - below
    place = uniform("second") * (1 - mass)
    second = _draw_responses(cumulative, prompt, np.where(place < below, place, place + mass))
    # rounding may put the place on the edge of the first response
    second = np.where(second == first, np.where(first > 0, first - 1, 1), second)
    first_won = uniform("preference") < expit(logit[prompt, first] - logit[prompt, second])
    first_won ^= uniform("noise") < feedback.rater_noise
    paired = mass < 1 - SECOND_MASS
    return Comparisons(prompt[paired], first[paired], second[paired], first_won[paired])


def flipped(probability: Array, noise: float) -> Array:
    """Return the probability of an outcome that is recorded as its opposite with probability `noise`."""
    return (1 - noise) * probability + noise * (1 - probability)


def _cumulative(log_policy: Array) -> Array:
    """Return sum_{j <= k} pi(j | p), [P, K], ending at exactly 1."""
    total = np.exp(log_policy).cumsum(axis=1)
    return total / total[:, -1:]


def _draw_prompts(prompt_prob: Array, uniform: Array) -> Indices:
    edges = prompt_prob.cumsum()
    return np.searchsorted(edges / edges[-1], uniform, side="right")


def _draw_responses(cumulative: Array, prompt: Indices, uniform: Array) -> Indices:
    """Return a response for each prompt by inverse CDF: one search in all rows laid end to end, row p in [p, p + 1]."""
    rows, width = cumulative.shape
    ends = (cumulative + np.arange(rows)[:, None]).ravel()
    found = np.searchsorted(ends, prompt + uniform, side="right")
    # rounding of prompt + uniform may step into a neighbouring row
    return np.clip(found - prompt * width, 0, width - 1)
