"""The critical weight as a number that always exists, so that its interval is honest.

`theory.critical_weight` is a ratio: it has no value where the two pushes do not oppose each other, and an interval made
of the draws that happen to have one is too narrow just where the data are weak. Here it is the least weight above which
the net push is upward, on [0, infinity]:

    0           the primary group does not hold the attribute even without the added signal
    A / (A - B) the primary group holds it up to there (A its push, B that of the added signal; on top: -A / B)
    infinity    no weight turns the push around

These are ordered, so percentiles of bootstrap draws need no draw left out, and an interval may well reach infinity.
The set of weights in it are those at which the sign of the net push is in doubt: it is Fieller's set, by bootstrap.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.rewards.mixture import effective_weights
from sim.training.theory import critical_weight
from sim.world.arrays import Array


class Estimate(NamedTuple):
    """A number with its interval; NaN where there is none."""

    value: float
    low: float
    high: float


def mixture_lines(base: Array, weights: npt.ArrayLike, renormalize: bool) -> Array:
    """Return the effective weights [W, S] of mixtures with the added (last) signal at each of the weights [W]."""
    at = np.atleast_1d(np.asarray(weights, dtype=float))
    nominal = np.repeat(np.append(base, 0.0)[:, None], len(at), axis=1)
    nominal[-1] = at
    return effective_weights(nominal, len(base), renormalize).T


def turning_weight(pushes: Array, base: Array, renormalize: bool) -> Array:
    """Return the critical weight in [0, infinity], [...].

    Args:
        pushes: [..., S] push of one unit of each signal on the attribute, the added signal last.
        base: [S - 1] weights of the primary signals.
        renormalize: whether the others make room for the added signal.
    """
    by_signal = np.moveaxis(np.asarray(pushes), -1, 0)
    line = mixture_lines(base, 0.0, renormalize)[0]
    primary, extra = np.tensordot(line, by_signal, axes=1), by_signal[-1]
    found = critical_weight(by_signal, np.append(base, 0.0), len(base), renormalize)
    found = np.where(primary > 0, 0.0, np.where(extra > 0, found, np.inf))
    return np.where((primary == 0) & (extra > 0), 0.0, found)


def turning_point(weights: Array, excess: Array) -> Array:
    """Return the same from a curve: the first weight at which `excess` [..., W] rises above 0, interpolated."""
    above = excess > 0
    first = np.argmax(above, axis=-1)
    before = np.maximum(first - 1, 0)
    low, high = (np.take_along_axis(excess, i[..., None], -1)[..., 0] for i in (before, first))
    with np.errstate(invalid="ignore", divide="ignore"):
        between = weights[before] - low * (weights[first] - weights[before]) / (high - low)
    return np.where(above.any(axis=-1), np.where(first > 0, between, 0.0), np.inf)


def percentiles(point: Array, draws: Array, level: float, prompts: int) -> list[Estimate]:
    """Return each number with its percentile interval, for draws [B, M]; infinite draws count as what they are.

    One prompt cannot say how prompts differ: there is no interval then.
    """
    flat = np.atleast_1d(point)
    columns = np.asarray(draws).reshape(len(draws), -1)
    if prompts < 2 or not len(columns):
        return [Estimate(float(value), np.nan, np.nan) for value in flat]
    ends = np.quantile(columns, [(1 - level) / 2, (1 + level) / 2], axis=0, method="inverted_cdf")
    gone = np.isnan(columns).any(axis=0)
    low, high = np.where(gone, np.nan, ends)
    return [Estimate(float(v), float(a), float(b)) for v, a, b in zip(flat, low, high, strict=True)]


def status(value: float) -> str:
    """Return in a word what a critical weight says."""
    if np.isnan(value):
        return "unknown"
    return "never held" if value <= 0 else "always held" if np.isinf(value) else "held up to it"
