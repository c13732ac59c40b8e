"""Looking at a running A/B test without fooling oneself.

Peeking at k evenly spaced looks of a fixed 5 % test raises its error far above 5 %. Three remedies, each a factor
on the usual interval at look j:

* group sequential: boundaries c_j with  P(|Z_j| > c_j for some j) = level,  all alike (Pocock 1977) or strict early
  (O'Brien & Fleming's shape through the spending function of Lan & DeMets, Biometrika 1983);
* always valid: the mixture sequential probability ratio test (Johari, Pekelis & Walsh, arXiv 1512.04922).

Z at information times t_1 < ... < t_k is normal with Cov(Z_i, Z_j) = sqrt(t_i / t_j). The probabilities are those of
`scipy.stats.multivariate_normal`; no maintained Python library has these boundaries.
"""

import functools
from collections.abc import Callable

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from statsmodels.stats.power import normal_sample_size_one_tail

from sim.config import InputError
from sim.world.arrays import Array

POINTS = 20_000  # of the integration; fixed, so that boundaries do not vary between calls


def sample_size(spread: float, effect: float, power: float = 0.8, level: float = 0.05) -> int:
    """Return observations for a two-sided test to see `effect` with the given power, rounded to the nearest.

        n = (z_{1 - level/2} + z_power)^2 spread^2 / effect^2

    Args:
        spread: standard deviation of one observation, of a difference of two for n per arm.
        effect: to be seen, not 0.
        power: probability of seeing it.
        level: error of the test, both sides together.
    """
    if not effect:
        raise InputError("effect = 0: no sample is large enough")
    return round(float(normal_sample_size_one_tail(abs(effect), power, level / 2, spread)))


def ab_sample_size(rate: float, other: float, power: float = 0.8, level: float = 0.05) -> int:
    """Return users per arm to tell two rates apart (unpooled variance)."""
    return sample_size(float(np.sqrt(rate * (1 - rate) + other * (1 - other))), other - rate, power, level)


def crossing_probability(bounds: Array) -> float:
    """Return P(|Z_j| > bounds[j] for some j) under no effect, at evenly spaced looks."""
    looks = len(bounds)
    times = np.arange(1, looks + 1)
    covariance = np.sqrt(np.minimum.outer(times, times) / np.maximum.outer(times, times))
    inside = stats.multivariate_normal(
        np.zeros(looks),
        covariance,
        maxpts=POINTS,
        abseps=1e-6,
        releps=1e-6,
        seed=np.random.Generator(np.random.Philox(1)),
    ).cdf(bounds, lower_limit=-np.asarray(bounds))
    return 1 - float(inside)


@functools.cache
def boundaries(design: str, looks: int, level: float) -> tuple[float, ...]:
    """Return c_1 ... c_k of a two-sided group-sequential test at evenly spaced looks.

    "fixed" looks once, at the end: its earlier boundaries are infinite.
    """
    usual = float(stats.norm.isf(level / 2))
    if design == "fixed" or looks == 1:
        return (float("inf"),) * (looks - 1) + (usual,)
    if design == "pocock":
        flat = brentq(lambda c: crossing_probability(np.full(looks, c)) - level, usual, 6.0, xtol=1e-4)
        return (float(flat),) * looks
    if design == "obrien_fleming":
        return _spend(lambda t: 4 * stats.norm.sf(stats.norm.isf(level / 4) / np.sqrt(t)), looks)
    raise InputError(f"design = {design}: no group-sequential boundaries of that name")


def _spend(spent: Callable[[float], float], looks: int) -> tuple[float, ...]:
    """Return boundaries that have spent the error `spent(t)` by information time t."""
    found: list[float] = []
    for look in range(1, looks + 1):
        target = float(spent(look / looks))

        def excess(bound: float, target: float = target, known: tuple[float, ...] = tuple(found)) -> float:
            return crossing_probability(np.array([*known, bound])) - target

        # Beyond 8 standard errors the error spent is below the precision of the integration.
        found.append(float(brentq(excess, 0.5, 8.0, xtol=1e-4)) if excess(8.0) < 0 else 8.0)
    return tuple(found)


def always_valid_radius(variance: Array, mixing: float, level: float) -> Array:
    """Return the half-width of the two-sided always-valid interval of an effect.

    The mixture likelihood ratio with effects ~ N(0, mixing^2), for an estimate d with variance V,

        L = sqrt(V / (V + mixing^2)) exp(mixing^2 d^2 / (2 V (V + mixing^2))),

    is a martingale under no effect, so P(L >= 1 / level at some time) <= level (Ville); solved for |d|.

    Args:
        variance: V, of the estimate at each look.
        mixing: above 0; the spread of effects expected. It moves power, never the error.
        level: in (0, 1).
    """
    total = variance + mixing**2
    return np.sqrt(2 * variance * total / mixing**2 * (np.log(1 / level) + 0.5 * np.log(total / variance)))
