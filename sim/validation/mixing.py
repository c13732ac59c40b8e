"""V1 and V8: two classes of responses under a mixture of signals.

    logit P = logit p0 + (1 / kl_coef) sum_k w_k gap_k

so a mixture's optimum is the geometric mean of the optima of its signals, and equal pushes in log-odds are more than
additive in probability.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from sim.config import InputError
from sim.rewards.mixture import effective_weights
from sim.training import theory
from sim.validation import inputs
from sim.validation.check import Check, check, mean_and_error
from sim.validation.small import (
    ADAM,
    ADAM_BAND,
    DRAWN,
    EVERY_DRAWN,
    EXPECTED,
    LEFT,
    SAMPLED_BAND,
    Way,
    ends,
    sampled_ends,
    small_world,
)
from sim.world.arrays import Array, World


@dataclass(frozen=True)
class TwoClasses:
    """One prompt and two classes of responses.

    ref_prob: of the class, under the reference policy.
    gaps: [S] mean signal in the class minus outside.
    base: [S] weights before the last signal is added; its own is 0.
    kl_coef: of the penalty.
    """

    ref_prob: float
    gaps: Sequence[float]
    base: Sequence[float]
    kl_coef: float

    def __post_init__(self) -> None:
        """Raise `InputError` for a problem that cannot be."""
        inputs.chance("ref_prob", self.ref_prob, 1)
        inputs.numbers("base", self.base, len(inputs.numbers("gaps", self.gaps)), low=0)
        inputs.numbers("kl_coef", self.kl_coef, 1, above=0)

    def weights(self, at: Sequence[float], renormalize: bool = True) -> Array:
        """Return the effective weights [S, R] where the last signal has the weights `at` [R]."""
        inputs.numbers("at", at, low=0, high=1 if renormalize else np.inf)
        nominal = np.repeat(np.array(self.base, dtype=float)[:, None], len(at), axis=1)
        nominal[-1] = at
        return effective_weights(nominal, len(nominal) - 1, renormalize)

    def arrays(self) -> tuple[World, Array]:
        """Return the world and the signals [S, 1, 2], the class first."""
        gaps = np.array(self.gaps, dtype=float)
        signals = np.stack([gaps, np.zeros_like(gaps)], axis=1)[:, None, :]
        return small_world([self.ref_prob, 1 - self.ref_prob]), signals


def class_probability(problem: TwoClasses, weights: Array, way: Way) -> Array:
    """Return P(class) [R] after training on expected gradients under effective weights [S, R]."""
    coefficient = np.full(weights.shape[1], problem.kl_coef)
    return ends(*problem.arrays(), weights, coefficient, way)[0, 0]


def sampled_probability(problem: TwoClasses, weights: Array, way: Way) -> Array:
    """Return P(class) [N, R] of N sampled trainings under effective weights [S, R]."""
    coefficient = np.full(weights.shape[1], problem.kl_coef)
    return sampled_ends(*problem.arrays(), weights, coefficient, way)[:, 0, 0]


def mixing_law(
    case: str,
    problem: TwoClasses,
    at: Sequence[float],
    published: Sequence[float] | None = None,
    renormalize: bool = True,
    drawn: Sequence[Way] = EVERY_DRAWN,
) -> list[Check]:
    """Return checks of P(class) at the weights `at` of the added signal: closed form, and every way of training.

    Args:
        case: what to call it.
        problem: the signals, and how strong they are.
        at: weights of the last signal.
        published: P at each; None: the closed form is what is expected.
        renormalize: whether the others make room for it.
        drawn: sampled ways of training.

    Raises:
        InputError: for a weight below 0 or, where the others make room, above 1.
    """
    weights, gaps = problem.weights(at, renormalize), np.array(problem.gaps, dtype=float)
    law = theory.mixing_law(problem.ref_prob, gaps, weights, problem.kl_coef)
    expected = inputs.expected(published, law)
    what = "P(class)" if renormalize else "P(class), added on top"
    names = tuple(f"w = {weight:.3g}" for weight in at)
    found = [check(case, what, "closed form", expected, law, 1e-6, at=names)]
    for way in (*EXPECTED, *ADAM):
        band = ADAM_BAND if way in ADAM else 1e-6
        found.append(check(case, what, way.name, expected, class_probability(problem, weights, way), band, at=names))
    for way in drawn:
        mean, error = mean_and_error(sampled_probability(problem, weights, way))
        found.append(check(case, what, way.name, expected, mean, SAMPLED_BAND, error=error, slack=LEFT, at=names))
    return found


def critical_weight(
    case: str, problem: TwoClasses, published: float | None = None, renormalize: bool = True
) -> list[Check]:
    """Return checks of the critical weight: its formula, and that training there ends where it began.

    Raises:
        InputError: where the primary signals and the added one do not oppose each other.
    """
    what = "critical weight" if renormalize else "critical weight, added on top"
    gaps = np.array(problem.gaps, dtype=float)
    formula = float(theory.critical_weight(gaps, np.array(problem.base), len(gaps) - 1, renormalize))
    if np.isnan(formula):
        raise InputError("gaps: the added signal does not oppose the others, so that no weight is critical")
    weights = problem.weights([formula], renormalize)
    found = [] if published is None else [check(case, what, "closed form", published, formula, 1e-6)]
    return found + [
        check(
            case, f"P(class) at the {what}", way.name, problem.ref_prob, class_probability(problem, weights, way), 1e-6
        )
        for way in EXPECTED
    ]


def super_additivity(
    case: str, ref_prob: float, change: float, counts: Sequence[int], published: Sequence[float] | None = None
) -> list[Check]:
    """Return checks of the rise of P(class) under several equal changes in log-odds, on top of each other.

        rise(n) = sigmoid(logit p0 + n change) - p0 >= n rise(1)    as long as P stays below about one half

    Args:
        case: what to call it.
        ref_prob: p0.
        change: of each, in log-odds.
        counts: n, 1 among them.
        published: the rise for each, or None.
    """
    inputs.whole("counts", counts)
    if 1 not in counts:
        raise InputError(f"counts = {counts}: must hold 1, the change alone")
    longest = max(counts)
    problem = TwoClasses(ref_prob, (change,) * longest, (0.0,) * longest, 1.0)
    weights = (np.arange(longest)[:, None] < np.array(counts)).astype(float)
    law = expit(logit(ref_prob) + change * np.array(counts)) - ref_prob
    expected = inputs.expected(published, law)
    names = tuple(f"{count} changes" for count in counts)
    what = "rise of P(class)"
    closed = theory.mixing_law(ref_prob, np.full(longest, change), weights, 1.0) - ref_prob
    found = [check(case, what, "closed form", expected, closed, 1e-6, at=names)]
    for way in EXPECTED:
        rise = class_probability(problem, weights, way) - ref_prob
        found.append(check(case, what, way.name, expected, rise, 1e-6, at=names))
    for way in DRAWN:
        mean, error = mean_and_error(sampled_probability(problem, weights, way) - ref_prob)
        found.append(check(case, what, way.name, expected, mean, SAMPLED_BAND, error=error, slack=LEFT, at=names))
    alone = expected[counts.index(1)] * np.array(counts)
    more = np.array([index for index, count in enumerate(counts) if count > 1])
    beyond = check(
        case, "rise, against the sum of single rises", "closed form", alone[more], closed[more], 0.0, bound="at least"
    )
    return [*found, beyond]


def geometric_mean(case: str, problem: TwoClasses, at: float, apart: float) -> list[Check]:
    """Return checks that the mixture's optimum is the geometric mean of the single-signal optima, and not their mean.

    Args:
        case: what to call it.
        problem: the signals.
        at: weight of the last one.
        apart: least KL between the mixture's optimum and the mean of probabilities, nats.
    """
    weights = problem.weights([at])
    law = theory.mixing_law(problem.ref_prob, np.array(problem.gaps, dtype=float), weights, problem.kl_coef)
    found = []
    for way in EXPECTED:
        singles = class_probability(problem, np.eye(len(problem.gaps)), way)
        geometric = expit(weights[:, 0] @ logit(singles))
        mixture = class_probability(problem, weights, way)
        found.append(check(case, "geometric mean v trained mixture", way.name, mixture, geometric, 1e-6))
        found.append(check(case, "geometric mean v mixing law", way.name, law, geometric, 1e-6))
        mean = weights[:, 0] @ singles
        pair, other = (np.log([[p, 1 - p]]) for p in (float(geometric), float(mean)))
        distance = theory.kl_divergence(pair, other)
        found.append(check(case, "KL to the mean of probabilities", way.name, apart, distance, 0.0, bound="at least"))
    return found
