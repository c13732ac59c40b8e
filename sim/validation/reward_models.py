"""V2 and V11: what a fitted reward can say, and what an ensemble of them is worth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logit

from sim import rng
from sim.rewards.reward_models import combine, fit_bradley_terry
from sim.validation import inputs
from sim.validation.check import Check, check
from sim.world.arrays import Array


@dataclass(frozen=True)
class Preferences:
    """Pairwise preferences over K responses of one prompt.

    policy: [K] probabilities with which they are drawn.
    agrees: [K] which of them agree.
    prefer: [K (K - 1) / 2] P(first preferred), in the order (0, 1), (0, 2) ... (1, 2) ...
    """

    policy: Sequence[float]
    agrees: Sequence[bool]
    prefer: Sequence[float]

    def __post_init__(self) -> None:
        """Raise `InputError` for a problem that cannot be."""
        count = inputs.distribution("policy", self.policy)
        inputs.two_kinds("agrees", self.agrees, count)
        inputs.chance("prefer", self.prefer, count * (count - 1) // 2)


def fitted_reward(problem: Preferences) -> tuple[float, float, Array]:
    """Return the raters' mean log-odds for agreement, the fitted reward's mean gap, and the reward [K], mean 0.

    Pairs are drawn independently from the policy; the raters' mean is over pairs of which just one agrees.
    """
    policy, agrees = np.array(problem.policy, dtype=float), np.array(problem.agrees, dtype=bool)
    prefer = np.array(problem.prefer, dtype=float)
    first, second = np.triu_indices(len(policy), 1)
    often = policy[first] * policy[second] * 1e6
    found = fit_bradley_terry(np.eye(len(policy)), first, second, (often * prefer)[None], often[None], ridge=0.0)[0]
    found = found - policy @ found
    one = agrees[first] != agrees[second]
    favour = np.where(agrees[first], 1.0, -1.0) * logit(prefer)
    bias = float((often * favour)[one].sum() / often[one].sum())
    means = [found[who] @ policy[who] / policy[who].sum() for who in (agrees, ~agrees)]
    return bias, float(means[0] - means[1]), found


def opposite_signs(
    case: str, problem: Preferences, bias: float, gap: float, reward: Sequence[float], printed: float = 0.0005
) -> list[Check]:
    """Return checks of a problem in which raters favour agreement and the reward fitted to them does not.

    Args:
        case: what to call it.
        problem: the preferences.
        bias: expected mean log-odds of the raters.
        gap: expected mean gap of the fitted reward.
        reward: [K] expected, mean 0 under the policy.
        printed: rounding of the expected numbers; three times that for the rewards.
    """
    inputs.numbers("reward", reward, len(problem.policy))
    found = fitted_reward(problem)
    return [
        check(case, "raters' mean log-odds for agreement", "Bradley-Terry fit", bias, found[0], printed),
        check(case, "mean gap of the fitted reward", "Bradley-Terry fit", gap, found[1], printed),
        check(case, "fitted reward", "Bradley-Terry fit", reward, found[2], 3 * printed),
        check(case, "sign of one times sign of the other", "Bradley-Terry fit", -1, np.sign(found[0] * found[1]), 0.0),
    ]


@dataclass(frozen=True)
class Ensemble:
    """Reward models that err around the true reward.

    members: k.
    shared: rho, correlation of their errors.
    spread: s, standard deviation of the true reward.
    error: e, standard deviation of a member's error.
    """

    members: int
    shared: float
    spread: float = 1.0
    error: float = 1.0

    def __post_init__(self) -> None:
        """Raise `InputError` for a problem that cannot be."""
        inputs.whole("members", self.members)
        inputs.numbers("shared", self.shared, 1, low=0, high=1)
        inputs.numbers("spread", self.spread, 1, above=0)
        inputs.numbers("error", self.error, 1, low=0)

    def law(self) -> float:
        """Return the slope of true on mean score, s^2 / (s^2 + e^2 (rho + (1 - rho) / k))."""
        left = self.shared + (1 - self.shared) / self.members
        return self.spread**2 / (self.spread**2 + self.error**2 * left)


def slope(problem: Ensemble, samples: int, seed: int) -> float:
    """Return the least-squares slope of the true reward on the members' mean, over random responses."""
    random = rng.stream(seed, "validation", "ensemble")
    true, common = random.standard_normal((2, samples))
    own = random.standard_normal((problem.members, samples))
    errors = np.sqrt(problem.shared) * common + np.sqrt(1 - problem.shared) * own
    score = combine(problem.spread * true + problem.error * errors, "mean", 0.0)
    return float(problem.spread * np.cov(true, score)[0, 1] / score.var())


def ensemble_slopes(
    case: str,
    problems: Sequence[Ensemble],
    published: Sequence[float] | None = None,
    samples: int = 1_000_000,
    seed: int = 0,
) -> list[Check]:
    """Return checks of the slope of true on proxy for each ensemble."""
    law = [problem.law() for problem in problems]
    expected = inputs.expected(published, law)
    inputs.whole("samples", samples, low=2)
    at = tuple(f"k = {problem.members}, rho = {problem.shared:g}" for problem in problems)
    got = [slope(problem, samples, seed) for problem in problems]
    return [
        check(case, "slope of true on proxy", "closed form", expected, law, 5e-5, at=at),
        check(case, "slope of true on proxy", f"sampled ({samples:,})", expected, got, 0.01, at=at),
    ]
