"""What is measured of each prompt: covariances at the reference, and what a tilt or a best-of-n would pick.

All of it follows from the candidates' own probabilities, so it is exact for the sample as it stands; what the sample
says of the model is for the bootstrap and the effective sample size to tell.
"""

import numpy as np
import numpy.typing as npt

from sim.auditing.sample import Block
from sim.training.theory import kl_divergence, tilt
from sim.world.arrays import Array

MIN_ESS = 3.0  # answers; assumption: below it one or two candidates stand for all that training might find
TINY = 1e-24  # a variance below this is rounding


def moments(values: Array, log_policy: Array) -> tuple[Array, Array]:
    """Return means [p, V] and covariances [p, V, V] of the values within each prompt, under a policy.

    Args:
        values: [V, p, K].
        log_policy: [p, K].
    """
    probs = np.exp(log_policy)
    mean = np.einsum("pk,vpk->pv", probs, values)
    centred = (values - mean.T[:, :, None]) * np.sqrt(probs)
    rows = centred.swapaxes(0, 1)
    return mean, rows @ rows.swapaxes(1, 2)


def reference_shapes(size: int, signals: int, mixtures: int) -> list[tuple[int, ...]]:
    """Return the shapes of what `at_reference` finds of each prompt, in order."""
    return [(signals,), (size,), (size, size), (signals,), (signals,), (mixtures,), (signals,)]


def at_reference(block: Block, signals: int, lines: Array, planned: int) -> Array:
    """Return [p, S + V + V V + 2 S + W + S]: what the candidates are like under the reference.

    In order: each signal's covariance with the first attribute; means; all covariances; that first covariance in units
    of the signal's own spread within the prompt (normalize_then_sum); whether the signal varies at all; each mixture's
    covariance with the first attribute in units of the mixture's spread (sum_then_normalize); and each signal's spread
    in units of that of the planned mixture.

    Args:
        block: prompts.
        signals: S, the first rows of the values.
        lines: [W, S] weights of mixtures.
        planned: row of the planned mixture.
    """
    mean, cov = moments(block.values, block.log_ref)
    own = cov[:, :signals, :signals]
    spread = np.sqrt(np.maximum(np.einsum("pss->ps", own), 0))
    varies = spread > np.sqrt(TINY)
    push = cov[:, :signals, signals]
    apart = np.where(varies, push / np.where(varies, spread, 1), 0)
    mixed = np.sqrt(np.maximum(np.einsum("ws,pst,wt->pw", lines, own, lines, optimize=True), 0))
    moves = mixed > np.sqrt(TINY)
    inverse = np.where(moves, 1 / np.where(moves, mixed, 1), 0)
    together, shares = (push @ lines.T) * inverse, spread * inverse[:, planned : planned + 1]
    return np.concatenate([push, mean, cov.reshape(len(mean), -1), apart, varies, together, shares], axis=1)


def under_tilts(block: Block, lines: Array, kl_coefs: npt.ArrayLike) -> Array:
    """Return [p, W, L, V + 3]: the change of each value's mean, KL, effective sample size, and whether that suffices.

    The policy is the KL-regularised optimum for mixture w at kl_coef l, on the candidates (`theory.tilt`).

    Args:
        block: prompts.
        lines: [W, S].
        kl_coefs: [L].
    """
    coefs = np.atleast_1d(np.asarray(kl_coefs, dtype=float))
    reference = np.einsum("pk,vpk->pv", np.exp(block.log_ref), block.values)
    found = np.empty((len(reference), len(lines), len(coefs), len(block.values) + 3))
    for w, line in enumerate(lines):
        reward = np.tensordot(line, block.values[: len(line)], axes=1)
        for at, coef in enumerate(coefs):
            found[:, w, at] = describe(block, tilt(block.log_ref, reward, float(coef)), reference)
    return found


def describe(block: Block, log_policy: Array, reference: Array) -> Array:
    """Return [p, V + 3] of one policy: see `under_tilts`. Reference holds the means [p, V] under the reference."""
    probs = np.exp(log_policy)
    shift = np.einsum("pk,vpk->pv", probs, block.values) - reference
    size = 1 / (probs**2).sum(axis=1)
    return np.column_stack([shift, kl_divergence(log_policy, block.log_ref), size, size >= MIN_ESS])


def best_of_many(log_ref: Array, reward: Array, draws: npt.ArrayLike) -> Array:
    """Return the log-probabilities of the best of n draws for several n at once, [N, p, K].

    The same as `theory.best_of_n` (ties included), by one sort in place of all pairs: a prompt with K candidates costs
    K log K, whatever the number of n.

    Args:
        log_ref: [p, K].
        reward: [p, K].
        draws: [N] values of n.
    """
    order = np.argsort(reward, axis=1, kind="stable")
    sorted_reward, ref = np.take_along_axis(reward, order, 1), np.exp(np.take_along_axis(log_ref, order, 1))
    total = np.cumsum(ref, axis=1)
    rises = sorted_reward[:, 1:] > sorted_reward[:, :-1]
    edge = np.ones((len(reward), 1), dtype=bool)
    first, last = np.concatenate([edge, rises], axis=1), np.concatenate([rises, edge], axis=1)
    not_above = np.where(last, total, np.inf)[:, ::-1]
    at_most = np.minimum(np.minimum.accumulate(not_above, axis=1)[:, ::-1], 1.0)
    before = np.concatenate([np.zeros_like(edge, dtype=float), total[:, :-1]], axis=1)
    below = np.maximum.accumulate(np.where(first, before, 0.0), axis=1)
    level = at_most - below
    found = np.full((len(np.atleast_1d(draws)), *reward.shape), -np.inf)
    there = (ref > 0) & (level > 0)
    base = np.log(np.where(there, ref / np.where(there, level, 1), 1))
    for row, n in enumerate(np.atleast_1d(draws)):
        with np.errstate(divide="ignore"):
            log_best = np.where(there, base + np.log(np.maximum(at_most**n - below**n, 0)), -np.inf)
        np.put_along_axis(found[row], order, log_best, axis=1)
    return found


def under_best_of(block: Block, lines: Array, draws: npt.ArrayLike) -> Array:
    """Return [p, W, N, V + 3] for the best of n by each mixture: see `under_tilts`."""
    reference = np.einsum("pk,vpk->pv", np.exp(block.log_ref), block.values)
    found = np.empty((len(reference), len(lines), len(np.atleast_1d(draws)), len(block.values) + 3))
    for w, line in enumerate(lines):
        reward = np.tensordot(line, block.values[: len(line)], axes=1)
        for at, log_policy in enumerate(best_of_many(block.log_ref, reward, draws)):
            found[:, w, at] = describe(block, log_policy, reference)
    return found


def decisions_changed(block: Block, line: Array, draws: int) -> Array:
    """Return [p, S]: the probability that the best of n is another answer once signal i is taken out of the mixture.

    The total variation distance between the two policies: no coupling of their draws changes less often.

    Args:
        block: prompts.
        line: [S] weights of the mixture.
        draws: n.
    """
    parts = line[:, None, None] * block.values[: len(line)]
    whole = parts.sum(axis=0)
    chosen = np.exp(best_of_many(block.log_ref, whole, [draws])[0])
    without = [np.exp(best_of_many(block.log_ref, whole - part, [draws])[0]) for part in parts]
    return np.stack([0.5 * np.abs(chosen - other).sum(axis=1) for other in without], axis=1)
