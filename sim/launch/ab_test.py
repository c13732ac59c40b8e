"""A/B test: a few users get the candidate; their votes, side-by-side preferences and returns are counted.

It measures what users like. Where users like agreement, a more sycophantic model wins: more data makes that verdict
surer, not better. Only a test longer than `finds_out_days` sees what it costs.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.special import expit

from sim.launch.lived import expected_return, mean_on_traffic
from sim.launch.models import Model
from sim.launch.readings import Draws, Reading, draw_answers, draw_prompts, no_data
from sim.launch.sequential import always_valid_radius, boundaries
from sim.launch.settings import ABTest, Lived
from sim.world.arrays import Array


class ABResult(NamedTuple):
    """What the test says; `days` [R] is how long it ran before it stopped."""

    votes: Reading
    preference: Reading
    usage: Reading
    days: Array


def ab_test(
    candidate: Model, deployed: Model, settings: ABTest, lived: Lived, draws: Draws, level: float = 0.05
) -> ABResult:
    """Return the readings of an A/B test of each candidate.

    Args:
        candidate: R policies.
        deployed: one policy, or R.
        settings: of the test.
        lived: how answers change returns.
        draws: of the review.
        level: one-sided error of the verdicts to come; sequential designs spend it over their looks.
    """
    if not settings.users:
        nothing = no_data(candidate.runs)
        return ABResult(nothing, nothing, nothing, np.zeros(candidate.runs))
    per_look = settings.users * settings.days * settings.chats_per_day * settings.vote_share / settings.looks
    rates = [mean_on_traffic(model, model.approval) for model in (candidate, deployed)]
    votes, share = votes_reading(rates[0], rates[1], int(per_look), settings, draws, level)
    days = settings.days * share
    preference = _preference(candidate, deployed, settings, draws)
    return ABResult(votes, preference, _usage(candidate, deployed, settings, lived, days, draws), days)


def votes_reading(
    rate: Array, other: Array, per_look: int, settings: ABTest, draws: Draws, level: float
) -> tuple[Reading, Array]:
    """Return the difference of thumbs-up rates when the test stops, and the share of its length that it took.

    It stops at the first look whose interval (two-sided, error 2 x level in all) excludes no difference.

    Args:
        rate: [R] the candidate's probability of a thumbs-up.
        other: [R] or [1] the deployed model's.
        per_look: votes per arm and look.
        settings: design, looks, mixing.
        draws: of the review.
        level: one-sided error.
    """
    runs, looks = len(rate), settings.looks
    if per_look < 1:
        return no_data(runs), np.ones(runs)
    counted = []
    for chance, who in ((rate, "candidate"), (np.broadcast_to(other, rate.shape), "deployed")):
        uniform = draws.uniform("ab_test", f"{who} votes", looks)
        counted.append(stats.binom.ppf(uniform, per_look, chance[:, None]).cumsum(axis=1))
    total = per_look * np.arange(1, looks + 1)
    up, down = counted[0] / total, counted[1] / total
    effect = up - down
    variance = np.maximum((up * (1 - up) + down * (1 - down)) / total, 1 / total**2)
    radius = interval_radius(variance, settings, level)
    stopped = np.abs(effect) > radius
    stopped[:, -1] = True
    at = stopped.argmax(axis=1)
    rows = np.arange(runs)
    error = radius[rows, at] / stats.norm.isf(level)
    return Reading(effect[rows, at], error, total[at].astype(float)), (at + 1) / looks


def interval_radius(variance: Array, settings: ABTest, level: float) -> Array:
    """Return the half-width [R, looks] of the interval that the design allows at each look."""
    if settings.design == "always_valid":
        return always_valid_radius(variance, settings.mixing, 2 * level)
    return np.asarray(boundaries(settings.design, variance.shape[1], 2 * level)) * np.sqrt(variance)


def _preference(candidate: Model, deployed: Model, settings: ABTest, draws: Draws) -> Reading:
    """Return the share of users who prefer the candidate's answer beside the other's, minus one half.

    P(prefers a to b) = sigmoid(feeling_a - feeling_b), the user being one who has the candidate's memory.
    """
    if not settings.pairs:
        return no_data(candidate.runs)
    pairs = settings.pairs
    prob = candidate.views["traffic"].prompt_prob
    prompts = draw_prompts(prob, draws.uniform("ab_test", "pairs", pairs))
    mine, theirs = (
        draw_answers(model.probs["traffic"], prompts, draws.uniform("ab_test", f"{who} answers", pairs))
        for model, who in ((candidate, "candidate"), (deployed, "deployed"))
    )
    chance = expit(candidate.feeling[prompts, mine] - candidate.feeling[prompts, theirs])
    share = (draws.uniform("ab_test", "prefers", pairs) < chance).mean(axis=1)
    error = np.sqrt(np.maximum(share * (1 - share), 1 / pairs) / pairs)
    return Reading(share - 0.5, error, np.full(candidate.runs, float(pairs)))


def _usage(candidate: Model, deployed: Model, settings: ABTest, lived: Lived, days: Array, draws: Draws) -> Reading:
    """Return the difference in the share of users who come back on the last day."""
    count = settings.users
    rates = []
    for model, who in ((candidate, "candidate"), (deployed, "deployed")):
        chance = expected_return(model, lived, settings.chats_per_day, days[:, None])[:, 0]
        rates.append(stats.binom.ppf(draws.uniform("ab_test", f"{who} returns"), count, chance) / count)
    variance = np.maximum(sum(rate * (1 - rate) for rate in rates) / count, 1 / count**2)
    return Reading(rates[0] - rates[1], np.sqrt(variance), np.full(len(days), float(count)))
