"""Reward models: logistic regression on votes and Bradley-Terry on pairs, many fits in one batch.

B fits share their features and differ in their counts, so one matrix product makes all their Hessians. Each minimises

    sum_n total_n log(1 + e^{eta_n}) - positive_n eta_n  +  1/2 sum_d ridge s_d^2 phi_d^2,    eta = features phi + b

by Newton's method, with s_d the standard deviation of column d in that fit's own data: as if every column had been
scaled to 1, so a ridge means the same whatever the units. The intercept b is not penalised.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from sim.world.arrays import Array

Indices = npt.NDArray[np.int64]
CELLS = 2**22  # numbers in a [B, N] buffer
FLOOR = 1e-6  # penalty on everything, intercept included: a fit stays finite where the data say nothing
TOLERANCE = 1e-10  # Newton decrement at which a fit has converged, in nats
ITERATIONS = 100
BINS = 10  # equal bins of predicted probability behind the calibration error


def fit_logistic(features: Array, positive: Array, total: Array, ridge: float) -> tuple[Array, Array]:
    """Return the coefficients [B, D] and the intercepts [B] of B penalised logistic regressions.

    Args:
        features: [N, D], shared.
        positive: [B, N] counts (or expected counts) of positive outcomes.
        total: [B, N] counts of outcomes.
        ridge: penalty per squared log-odds that a standard deviation of a column moves.

    Raises:
        ArithmeticError: if a fit does not converge.
    """
    size = np.maximum(total.sum(axis=1, keepdims=True), 1.0)
    spread = np.maximum(total @ features**2 / size - (total @ features / size) ** 2, 0.0)
    penalty = np.concatenate([ridge * spread, np.zeros((len(total), 1))], axis=1)
    found = _newton(np.concatenate([features, np.ones((len(features), 1))], axis=1), positive, total, penalty)
    return found[:, :-1], found[:, -1]


def fit_bradley_terry(
    features: Array,
    first: npt.NDArray[np.integer],
    second: npt.NDArray[np.integer],
    wins: Array,
    total: Array,
    ridge: float,
) -> Array:
    """Return the coefficients [B, D] of B penalised Bradley-Terry models.

        P(first preferred) = sigmoid((features[first] - features[second]) . phi)

    The scale s_d of a column is the root mean square of its differences.

    Args:
        features: [M, D] of the items.
        first: [N] item of each pair.
        second: [N] the other item.
        wins: [B, N] how often the first was preferred.
        total: [B, N] how often the pair was compared.
        ridge: as in `fit_logistic`.
    """
    difference = features[first] - features[second]
    size = np.maximum(total.sum(axis=1, keepdims=True), 1.0)
    return _newton(difference, wins, total, ridge * (total @ difference**2) / size)


def _newton(features: Array, positive: Array, total: Array, penalty: Array) -> Array:
    """Return the minimisers [B, D], a slice of the batch at a time; rows without data are left out."""
    seen = total.any(axis=0)
    features = np.ascontiguousarray(features[seen])
    positive, total, penalty = positive[:, seen], total[:, seen], penalty + FLOOR
    pairs = _pairs(features) if len(total) > features.shape[1] else None
    width = max(1, CELLS // max(len(features), 1))
    slices = [slice(start, start + width) for start in range(0, len(total), width)]
    return np.concatenate([_newton_slice(features, pairs, positive[at], total[at], penalty[at]) for at in slices])


def _newton_slice(features: Array, pairs: Array | None, positive: Array, total: Array, penalty: Array) -> Array:
    found = np.zeros_like(penalty)
    loss, probability = _loss(features, positive, total, penalty, found)
    for _ in range(ITERATIONS):
        gradient = (total * probability - positive) @ features + penalty * found
        hessian = _hessian(features, pairs, total * probability * (1 - probability))
        np.einsum("bdd->bd", hessian)[:] += penalty
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0].astype(np.float64, copy=False)
        found, loss, probability = _descend(features, positive, total, penalty, found, step, loss)
        if (np.einsum("bd,bd->b", gradient, step) <= TOLERANCE).all():
            return found
    raise ArithmeticError(f"reward model: no convergence in {ITERATIONS} Newton steps; raise feedback.ridge")


def _pairs(features: Array) -> Array:
    """Return the products of all pairs of columns, [N, D (D + 1) / 2]."""
    rows, columns = np.triu_indices(features.shape[1])
    across = np.ascontiguousarray(features.T)
    return (across[rows] * across[columns]).T


def _hessian(features: Array, pairs: Array | None, weight: Array) -> Array:
    """Return features' diag(weight_b) features for each b, [B, D, D]; with many fits, as one product with `pairs`."""
    if pairs is None:
        return (features.T * weight[:, None]) @ features
    rows, columns = np.triu_indices(features.shape[1])
    hessian = np.empty((len(weight), features.shape[1], features.shape[1]))
    hessian[:, rows, columns] = weight @ pairs
    hessian[:, columns, rows] = hessian[:, rows, columns]
    return hessian


def _descend(
    features: Array, positive: Array, total: Array, penalty: Array, found: Array, step: Array, loss: Array
) -> tuple[Array, Array, Array]:
    """Return (found - step, its loss, its probabilities), the step halved in those fits whose loss would rise."""
    slack = 1e-12 * (1 + np.abs(loss))
    while True:
        moved = found - step
        after, probability = _loss(features, positive, total, penalty, moved)
        worse = after > loss + slack
        if not worse.any():
            return moved, after, probability
        step = np.where(worse[:, None], step / 2, step)


def _loss(features: Array, positive: Array, total: Array, penalty: Array, found: Array) -> tuple[Array, Array]:
    """Return the penalised negative log-likelihood [B] and the probabilities [B, N]."""
    eta = found @ features.T
    nats = np.einsum("bn,bn->b", total, np.logaddexp(0, eta)) - np.einsum("bn,bn->b", positive, eta)
    return nats + np.einsum("bd,bd->b", penalty, found**2) / 2, expit(eta)


def bootstrap(counts: Array, members: int, stream: Callable[[int], np.random.Generator]) -> Array:
    """Return counts [B, ...] of B bootstrap draws: each observation enters Poisson(1) times.

    A sum of n independent Poisson(1) draws is Poisson(n), so whole counts are drawn at once.

    Args:
        counts: of observations.
        members: B; 1 gives the counts themselves.
        stream: member -> its random generator, so that the first members do not depend on how many follow.
    """
    if members == 1:
        return counts[None]
    return np.stack([stream(member).poisson(counts) for member in range(members)]).astype(float)


def combine(scores: Array, how: str, variance_penalty: float) -> Array:
    """Return one score [...] from those of the members [B, ...], in log-odds.

    mean; worst (WCO: the smallest); mean_minus_variance (UWO: mean - variance_penalty * variance).
    Coste et al., "Reward Model Ensembles Help Mitigate Overoptimization", arXiv 2310.02743, section 3.
    """
    if how == "worst":
        return scores.min(axis=0)
    mean = scores.mean(axis=0)
    return mean - variance_penalty * scores.var(axis=0) if how == "mean_minus_variance" else mean


def report(score: Array, positive: Array, total: Array) -> dict[str, float]:
    """Return how well scores predict held-out outcomes, by name; NaN where there are none.

    accuracy: share predicted right at probability 1/2. auc: P(a positive outcome is scored above a negative one).
    brier: mean squared error of the probability. calibration_error: mean over 10 equal bins of predicted probability of
    |predicted - observed|, weighted by outcomes (ECE). calibration_slope: of a logistic regression of the outcome on
    the score; 1 is right, below 1 the scores are too extreme.

    Args:
        score: [N] log-odds.
        positive: [N] counts of positive outcomes.
        total: [N] counts of outcomes.
    """
    seen = total > 0
    score, positive, total = score[seen], positive[seen], total[seen]
    count, negative = total.sum(), total - positive
    if not count:
        return {"held_out": 0.0} | dict.fromkeys(MEASURES, float("nan"))
    probability = expit(score)
    right = np.where(score > 0, positive, np.where(score < 0, negative, total / 2))
    squared = positive * (1 - probability) ** 2 + negative * probability**2
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    gap = np.bincount(bins, weights=total * probability - positive, minlength=BINS)
    slope, _ = fit_logistic(score[:, None], positive[None], total[None], ridge=0.0)
    values = (right.sum() / count, _auc(score, positive, negative), squared.sum() / count, np.abs(gap).sum() / count)
    return {"held_out": float(count)} | dict(zip(MEASURES, map(float, (*values, slope[0, 0])), strict=True))


MEASURES = ("accuracy", "auc", "brier", "calibration_error", "calibration_slope")


def _auc(score: Array, positive: Array, negative: Array) -> float:
    """Return P(score of a positive > score of a negative) + 1/2 P(equal), from counts (Mann-Whitney)."""
    if not positive.sum() or not negative.sum():
        return float("nan")
    levels, level = np.unique(score, return_inverse=True)
    above, below = (np.bincount(level, weights=counts, minlength=len(levels)) for counts in (positive, negative))
    wins = above @ (below.cumsum() - below / 2)
    return float(wins / above.sum() / below.sum())
