"""V10: what normalising does to several rewards (GDPO, arXiv 2601.05242)."""

from collections.abc import Mapping, Sequence

import numpy as np

from sim import rng
from sim.config import InputError, unknown_name
from sim.training.advantages import Normalization, group_advantages
from sim.training.policies import make_policy
from sim.training.train import policy_log_probs, train
from sim.validation import inputs
from sim.validation.check import Check, check
from sim.validation.small import Way, sampled_ends, small_world
from sim.world.arrays import Array

TOGETHER = Normalization("sum_then_normalize", "group")
APART = Normalization("normalize_then_sum", "none")


def two_rollouts(
    case: str, rewards: Mapping[str, Sequence[Sequence[float]]], published: Mapping[str, float] | None = None
) -> list[Check]:
    """Return checks of the advantages of groups of two rollouts under either aggregation.

    Args:
        case: what to call it.
        rewards: name -> [S, 2], the second rollout the better one.
        published: name -> advantage of the better rollout where each reward is normalised first; None: the number of
            rewards that differ, over sqrt(2).

    Raises:
        InputError: for a name that is not known, or where the second rollout does not earn more.
    """
    for name, given in rewards.items():
        each = [inputs.numbers(f"rewards.{name}", pair, 2) for pair in given]
        if not sum(pair[1] - pair[0] for pair in each) > 0:
            raise InputError(f"rewards.{name}: the second rollout must earn more than the first")
    for name in published or ():
        if name not in rewards:
            raise InputError(f"published: {unknown_name('name', name, list(rewards))}")
    half = 1 / np.sqrt(2)  # two numbers that differ, over their own standard deviation
    names = tuple(rewards)
    expected = [[-half, half]] * len(names)
    got = [group_advantages(np.array(rewards[name], dtype=float), TOGETHER) for name in names]
    both = tuple(f"sums {name}, {which}" for name in names for which in ("worse", "better"))
    found = [check(case, "advantage, sum then normalise", "as trainers do it", expected, got, 1e-3, at=both)]
    apart = published or {name: half * sum(np.sign(b - a) for a, b in rewards[name]) for name in names}
    got = [group_advantages(np.array(rewards[name], dtype=float), APART)[1] for name in apart]
    at = tuple(f"sums {name}" for name in apart)
    return [
        *found,
        check(case, "advantage, normalise then sum", "as trainers do it", list(apart.values()), got, 1e-3, at=at),
    ]


def dilution(case: str, weights: Sequence[float], samples: int = 100_000, seed: int = 0) -> list[Check]:
    """Return checks that an unbiased signal of equal spread scales the primary's say by 1 / sqrt(1 + w^2).

    Exactly on four responses, and on random ones.
    """
    inputs.numbers("weights", weights, low=0)
    inputs.whole("samples", samples, low=2)
    expected = [1 / np.sqrt(1 + weight**2) for weight in weights]
    at = tuple(f"w = {weight:g}" for weight in weights)
    four = np.array([[1.0, 1, -1, -1], [1.0, -1, 1, -1]])
    many = rng.stream(seed, "validation", case).standard_normal((2, samples))
    found = []
    for rewards, how in ((four, "exact"), (many, f"sampled ({samples:,} responses)")):
        say = [_say(rewards, weight, rewards is many) for weight in weights]
        found.append(check(case, "say of the primary", how, expected, say, 0.01, at=at))
    return found


def _say(rewards: Array, weight: float, sampled: bool) -> float:
    """Return the mean advantage per unit of the primary reward, the first row."""
    found = group_advantages(rewards, TOGETHER, np.array([1.0, weight]), sampled)
    return float((found * rewards[0]).mean() / (rewards[0] ** 2).mean())


def never_above(case: str, weights: Sequence[float], kl_coef: float = 0.3) -> list[Check]:
    """Return checks that diluting a primary that pushes a class down never lifts it above the reference."""
    inputs.numbers("weights", weights, low=0)
    inputs.numbers("kl_coef", kl_coef, 1, above=0)
    world, primary = small_world([0.25] * 4), np.array([-1.0, -1, 1, 1])
    signals = np.stack([primary, np.array([1.0, -1, 1, -1])])[:, None]
    at, runs = tuple(f"w = {weight:g}" for weight in weights), len(weights)
    both = np.stack([np.ones(runs), np.array(weights, dtype=float)])
    found = []
    for policy in ("tabular", "loglinear"):
        made = make_policy(policy, world)
        path = train(
            made, signals, both, np.full(runs, kl_coef), np.full(runs, 0.2),
            steps=400, record_every=400, estimator="exact", normalization=TOGETHER,
        )  # fmt: skip
        rate = np.exp(policy_log_probs(made, path.theta[-1]))[0, :2].sum(axis=0)
        how = f"exact gradient, {policy}"
        found.append(check(case, "P(class) under dilution", how, 0.5, rate, 1e-9, bound="at most", at=at))
    for way in (Way("tabular", "grpo"), Way("loglinear", "grpo")):
        drawn = sampled_ends(world, signals, both, np.full(runs, kl_coef), way, normalization=TOGETHER)
        rate = drawn[:, 0, :2].sum(axis=1).mean(axis=0)
        found.append(check(case, "P(class) under dilution", way.name, 0.5, rate, 0.0, bound="at most", at=at))
    return found
