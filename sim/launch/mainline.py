"""The mainline: one update after another, each trained from the same base and judged against the one before.

The votes behind an update come from the model that is deployed when they are collected. And a gate compares with the
deployed model, whatever that has become: a step that stays within the margin passes, and so may five of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from sim.config import Settings, with_value
from sim.launch.models import Model, Truth, train_models
from sim.launch.process import Decision, decide
from sim.launch.readings import Draws
from sim.launch.settings import Lived, Review
from sim.problem import Problem
from sim.rewards.learned import learn_votes, score
from sim.world.arrays import Array
from sim.world.users import vote_logit

VOTED = ("thumbs_up", "satisfaction")

# (settings of the update, its world, log-policy [P, K] of the deployed model on traffic, seed of the votes)
# -> [P, K] the added signal on the training prompts
VoteSource = Callable[[Settings, Problem, Array, int], Array]


class Step(NamedTuple):
    """One update.

    settings: the update's.
    truth: exact metrics of the update.
    decision: of its review.
    deployed: exact metrics of what is deployed afterwards: the update, or what was there before.
    """

    settings: Settings
    truth: Truth
    decision: Decision
    deployed: Truth


def collected_votes(settings: Settings, problem: Problem, log_policy: Array, seed: int) -> Array:
    """Return what a reward model makes of the votes that users leave on the deployed model's answers.

    A signal that nobody votes on, or that is an oracle, is as the problem has it.
    """
    name, users = settings.mixture.added, settings.users
    if name not in VOTED or settings.signals.source.get(name, "learned") != "learned":
        return problem.signals["train"][name]
    world = problem.splits["traffic"]
    logit = vote_logit(world, users, settings.memory, users.hindsight if name == "satisfaction" else 0.0)
    model = learn_votes(world, log_policy, logit, settings.feedback, seed, name)
    return expit(score(problem.splits["train"], model, settings.feedback))


def mainline(
    settings: Settings,
    updates: Sequence[Mapping[str, float]],
    review: Review,
    lived: Lived,
    seed: int,
    votes: VoteSource = collected_votes,
) -> tuple[Truth, list[Step]]:
    """Return the truth about the model at the start, and one step per update.

    The changes of an update that launches stay; those of one that does not are dropped.

    Args:
        settings: of the model that is deployed at the start.
        updates: the changes of each update, dotted key -> value.
        review: the process.
        lived: how answers change returns.
        seed: of the world and of the reviews.
        votes: where the added signal comes from.
    """
    model, start = train_models(settings, {}, seed)
    now, known, steps = settings, start, []
    for number, changes in enumerate(updates):
        wanted = now
        for key, value in changes.items():
            wanted = with_value(wanted, key, value)
        update, truth = train_models(wanted, {}, seed, _with_votes(wanted, model, votes, seed + number))
        decision = decide(update, model, review, lived, Draws(seed, (f"mainline/{number}",)))
        if decision.launched[0]:
            model, now, known = update, wanted, truth
        steps.append(Step(wanted, truth, decision, known))
    return start, steps


def _with_votes(settings: Settings, deployed: Model, votes: VoteSource, seed: int) -> Callable[[Problem], Problem]:
    """Return a function that gives a problem the votes left on the deployed model's answers."""

    def amend(problem: Problem) -> Problem:
        with np.errstate(divide="ignore"):
            log_policy = np.log(deployed.probs["traffic"][0])
        signal = votes(settings, problem, log_policy, seed)
        train = problem.signals["train"] | {settings.mixture.added: signal}
        return problem._replace(signals=problem.signals | {"train": train})

    return amend


def creeping(last_weight: float, updates: int, added: str = "thumbs_up") -> list[dict[str, float]]:
    """Return updates that raise the votes' weight in equal steps, memory coming with the second, fresher data later."""
    found: list[dict[str, float]] = []
    for number in range(1, updates + 1):
        changes = {f"mixture.weights.{added}": last_weight * number / updates}
        if number == 2:
            changes["memory.share"] = 1.0
        if number == 4:
            changes["world.freshness"] = 1.0
        found.append(changes)
    return found
