"""Learned signals: feedback on a deployed policy, a reward model fitted to it, its scores on every split.

    signal = sigmoid(score),    score = features . phi + b,

over what the model can see (`world.features`): no learned signal knows more of a user than the policy does. Where only
differences of scores mean something (pairs; one kind of vote against everything else shown, whose level says how many
vote and not how good answers are), the score is centred on what the deployed policy gets on average.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from sim import rng
from sim.config import Feedback, Memory, Signals, Users
from sim.rewards.feedback import compare_pairs, counted, leave_votes
from sim.rewards.reward_models import bootstrap, combine, fit_bradley_terry, fit_logistic, report
from sim.rewards.signals import LEARNED, rater_logit
from sim.world.arrays import Array, World
from sim.world.chat import AGREEMENT_FEATURES
from sim.world.users import vote_logit

Reports = Mapping[str, dict[str, float]]


class RewardModel(NamedTuple):
    """B members: coefficients [B, D], intercepts [B]; and how the model did on held-out prompts."""

    coefficients: Array
    intercept: Array
    report: dict[str, float]


def learn_signals(
    splits: Mapping[str, World],
    names: Iterable[str],
    signals: Signals,
    users: Users,
    memory: Memory,
    feedback: Feedback,
    seed: int,
) -> tuple[dict[str, dict[str, Array]], Reports]:
    """Return the learned signals, split -> name -> [P, K], and the report of each reward model.

    Users vote on `traffic` and raters compare on `train`; the deployed policy is the reference.

    Args:
        splits: with the reference policy in place.
        names: the signals of the mixture; those that are not learned are passed over.
        signals: which are learned, and the raters' taste.
        users: the voters' taste.
        memory: what it adds to that.
        feedback: the knobs.
        seed: of the run.
    """
    found: dict[str, dict[str, Array]] = {split: {} for split in splits}
    reports: dict[str, dict[str, float]] = {}
    for name in names:
        if name not in LEARNED or signals.source.get(name, "learned") != "learned":
            continue
        if name == "preference":
            world = splits["train"]
            model = learn_preference(world, world.log_ref, rater_logit(world, signals), feedback, seed)
        else:
            world = splits["traffic"]
            logit = vote_logit(world, users, memory, users.hindsight if name == "satisfaction" else 0.0)
            model = learn_votes(world, world.log_ref, logit, feedback, seed, name)
        reports[name] = model.report
        for split, other in splits.items():
            found[split][name] = expit(score(other, model, feedback))
    return found, reports


def score(world: World, model: RewardModel, feedback: Feedback) -> Array:
    """Return the combined score [P, K] of the members, in log-odds."""
    members = np.moveaxis(world.features @ model.coefficients.T + model.intercept, -1, 0)
    return combine(members, feedback.combine, feedback.variance_penalty)


def learn_votes(
    world: World, log_policy: Array, logit: Array, feedback: Feedback, seed: int, name: str = "thumbs_up"
) -> RewardModel:
    """Return the logistic reward model fitted to votes on the policy's answers (arguments as in `leave_votes`).

    `remove_agreement` fits with the visible agreement features and scores without them. Leaving them out of the fit
    would not do: warmth and flattery go with agreement and would take over its credit.
    """
    votes = leave_votes(world, log_policy, logit, feedback, seed, name)
    positive, total = (counts.ravel() for counts in counted(votes, feedback.counted))
    kept = _kept(world, feedback, seed, name).repeat(logit.shape[1])
    streams = functools.partial(rng.stream, seed, "reward_models", name)
    resampled = bootstrap(np.stack([positive, total - positive]) * ~kept, feedback.members, streams)
    features = world.features.reshape(len(kept), -1)
    coefficients, intercept = fit_logistic(features, resampled[:, 0], resampled.sum(axis=1), feedback.ridge)
    if feedback.remove_agreement:
        coefficients[:, AGREEMENT_FEATURES] = 0.0
    model = RewardModel(coefficients, intercept, {})
    found = report(score(world, model, feedback).ravel(), positive * kept, total * kept)
    if feedback.counted != "both":
        model = _centred(world, log_policy, model)
    return model._replace(report={"fitted_on": float((total * ~kept).sum())} | found)


def learn_preference(world: World, log_policy: Array, logit: Array, feedback: Feedback, seed: int) -> RewardModel:
    """Return the Bradley-Terry reward model fitted to raters' comparisons (arguments as in `compare_pairs`)."""
    pairs = compare_pairs(world, log_policy, logit, feedback, seed)
    width = logit.shape[1]
    first, second = pairs.prompt * width + pairs.first, pairs.prompt * width + pairs.second
    kept = _kept(world, feedback, seed, "preference")[pairs.prompt]
    streams = functools.partial(rng.stream, seed, "reward_models", "preference")
    total = bootstrap((~kept).astype(float), feedback.members, streams)
    features = world.features.reshape(logit.size, -1)
    coefficients = fit_bradley_terry(features, first, second, total * pairs.first_won, total, feedback.ridge)
    model = _centred(world, log_policy, RewardModel(coefficients, np.zeros(len(coefficients)), {}))
    scores = score(world, model, feedback).ravel()
    found = report(scores[first] - scores[second], (pairs.first_won & kept).astype(float), kept.astype(float))
    return model._replace(report={"fitted_on": float((~kept).sum())} | found)


def _kept(world: World, feedback: Feedback, seed: int, name: str) -> npt.NDArray[np.bool_]:
    """Return which prompts are kept for the report, [P]; whole prompts, since answers to one share a user."""
    return rng.stream(seed, "feedback", name, "held_out").random(len(world.prompt_prob)) < feedback.held_out


def _centred(world: World, log_policy: Array, model: RewardModel) -> RewardModel:
    """Return the model with the intercept at which the policy's mean score is 0, member by member."""
    mean = np.einsum("p,pk,pkd->d", world.prompt_prob, np.exp(log_policy), world.features)
    return model._replace(intercept=-(model.coefficients @ mean))
