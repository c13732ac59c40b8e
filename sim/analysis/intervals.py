"""Intervals of a mean over random worlds: seeds are independent, so each world counts as one observation."""

import numpy as np
from scipy.stats import t

from sim.world.arrays import Array

LEVEL = 0.9


def mean_interval(values: Array, level: float = LEVEL) -> tuple[Array, Array]:
    """Return the mean over the first axis and the half-width of its interval: t quantile times standard error.

    Differences of paired runs (the same seeds) go in as differences, so that what seeds share cancels.

    Args:
        values: [N, ...] a row per seed.
        level: of the interval, 0 to 1.

    Returns:
        mean [...] and half-width [...]; the half-width is NaN for a single seed.
    """
    count = len(values)
    mean = np.asarray(values.mean(axis=0))
    if count < 2:
        return mean, np.full(mean.shape, np.nan)
    error = values.std(axis=0, ddof=1) / np.sqrt(count)
    return mean, np.asarray(t.ppf((1 + level) / 2, count - 1) * error)
