"""V2 and V11: what a fitted reward can say, and what an ensemble of them is worth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from sim import rng
from sim.rewards.reward_models import combine, fit_bradley_terry
from sim.validation import inputs
from sim.validation.check import Check, check, mean_and_error
from sim.validation.small import REPLICAS
from sim.world.arrays import Array

Indices = npt.NDArray[np.int64]


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
    agrees, (first, second, often) = np.array(problem.agrees, dtype=bool), _pairs(problem)
    prefer = np.array(problem.prefer, dtype=float)
    one = agrees[first] != agrees[second]
    favour = np.where(agrees[first], 1.0, -1.0) * logit(prefer)
    bias = float((often * favour)[one].sum() / often[one].sum())
    # A ridge of 0: how many comparisons there are does not matter, their shares do.
    reward = _fit(problem, (1e6 * often * prefer)[None], 1e6 * often[None])
    return bias, float(_mean_gap(problem, reward)[0]), reward[0]


def drawn_rewards(problem: Preferences, comparisons: int, seed: int = 0) -> tuple[Array, Array]:
    """Return the mean gap [N] and the reward [N, K] fitted to N samples of so many comparisons."""
    _, _, often = _pairs(problem)
    prefer = np.array(problem.prefer, dtype=float)
    share = np.concatenate([often * prefer, often * (1 - prefer)]) / often.sum()
    random = rng.stream(seed, "validation", "comparisons")
    wins, losses = np.split(random.multinomial(comparisons, share, size=REPLICAS).astype(float), 2, axis=1)
    reward = _fit(problem, wins, wins + losses)
    return _mean_gap(problem, reward), reward


def _pairs(problem: Preferences) -> tuple[Indices, Indices, Array]:
    """Return the two responses of each pair, and how often it is drawn."""
    policy = np.array(problem.policy, dtype=float)
    first, second = np.triu_indices(len(policy), 1)
    return first, second, policy[first] * policy[second]


def _fit(problem: Preferences, wins: Array, count: Array) -> Array:
    """Return the fitted rewards [N, K], of mean 0 under the policy, for wins of the first out of `count` each."""
    first, second, _ = _pairs(problem)
    found = fit_bradley_terry(np.eye(len(problem.policy)), first, second, wins, count, ridge=0.0)
    return found - (found @ np.array(problem.policy, dtype=float))[:, None]


def _mean_gap(problem: Preferences, reward: Array) -> Array:
    """Return [N]: the mean reward [N, K] of what agrees minus that of what does not, under the policy."""
    policy, agrees = np.array(problem.policy, dtype=float), np.array(problem.agrees, dtype=bool)
    means = [reward[:, who] @ policy[who] / policy[who].sum() for who in (agrees, ~agrees)]
    return np.asarray(means[0] - means[1])


def opposite_signs(
    case: str,
    problem: Preferences,
    bias: float,
    gap: float,
    reward: Sequence[float],
    printed: float = 0.0005,
    comparisons: int = 100_000,
) -> list[Check]:
    """Return checks of a problem in which raters favour agreement and the reward fitted to them does not.

    Args:
        case: what to call it.
        problem: the preferences.
        bias: expected mean log-odds of the raters.
        gap: expected mean gap of the fitted reward.
        reward: [K] expected, mean 0 under the policy.
        printed: rounding of the expected numbers; three times that for the rewards.
        comparisons: in each of the samples that are drawn.
    """
    inputs.numbers("reward", reward, len(problem.policy))
    inputs.whole("comparisons", comparisons)
    found, drawn = fitted_reward(problem), drawn_rewards(problem, comparisons)
    how = f"sampled ({REPLICAS} x {comparisons:,} comparisons)"
    (middle, error), (rewards, errors) = (mean_and_error(values) for values in drawn)
    return [
        check(case, "raters' mean log-odds for agreement", "Bradley-Terry fit", bias, found[0], printed),
        check(case, "mean gap of the fitted reward", "Bradley-Terry fit", gap, found[1], printed),
        check(case, "fitted reward", "Bradley-Terry fit", reward, found[2], 3 * printed),
        check(case, "sign of one times sign of the other", "Bradley-Terry fit", -1, np.sign(found[0] * found[1]), 0.0),
        check(case, "mean gap of the fitted reward", how, gap, middle, np.inf, error=error, slack=printed),
        check(case, "fitted reward", how, reward, rewards, np.inf, error=errors, slack=3 * printed),
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
