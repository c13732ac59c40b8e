"""Frontiers of mitigations: true quality against sycophancy, and what is left of the benefit that votes bring.

A mitigation has a knob. Turned through its range it traces a path in the plane (sycophancy rate, true quality); between
two settings that were trained the path is taken as straight, so that no measure depends on how finely a knob was swept.
"""

import moocore
import numpy as np
import numpy.typing as npt

from sim.analysis.critical_weight import interval, resample_rows
from sim.world.arrays import Array

MINIMISE_MAXIMISE = [False, True]  # moocore's `maximise` for (rate, quality)
PARTS = 20  # points to a segment


def refined(values: Array, parts: int = PARTS) -> Array:
    """Return values [N, (T - 1) parts + 1], with points on straight lines between those of [N, T]."""
    count = values.shape[1]
    place = np.linspace(0, count - 1, (count - 1) * parts + 1)
    left = np.minimum(place.astype(int), max(count - 2, 0))
    right = np.minimum(left + 1, count - 1)
    return values[:, left] + (place - left) * (values[:, right] - values[:, left])


def pareto(rate: Array, quality: Array) -> npt.NDArray[np.bool_]:
    """Return which of T points no other beats: a lower rate at no less quality, or more quality at no higher rate."""
    return np.asarray(moocore.is_nondominated(np.column_stack([rate, quality]), maximise=MINIMISE_MAXIMISE))


def hypervolumes(rate: Array, quality: Array, worst_rate: Array, worst_quality: Array) -> Array:
    """Return the area of each path [N] that is better than the reference point in both ways.

    The union of the rectangles between the points of a path and the reference point, in rate x quality (Zitzler &
    Thiele 1998). Points that are no better than it in both ways add nothing.

    Args:
        rate: [N, T], the less the better.
        quality: [N, T], the more the better.
        worst_rate: [N] of the reference point.
        worst_quality: [N] of the reference point.
    """
    points = np.stack([rate, quality], axis=2)
    worst = np.column_stack([worst_rate, worst_quality])
    pairs = zip(points, worst, strict=True)
    return np.array([moocore.hypervolume(each, ref=ref, maximise=MINIMISE_MAXIMISE) for each, ref in pairs])


def best_within(rate: Array, quality: Array, limit: float) -> int | None:
    """Return the point of highest mean quality among those whose mean rate is at most `limit`; None if there is none.

    One setting for all worlds, as somebody who turns a knob has to choose it.

    Args:
        rate: [N, T].
        quality: [N, T].
        limit: highest mean rate that is allowed.
    """
    allowed = rate.mean(axis=0) <= limit
    return int(np.where(allowed, quality.mean(axis=0), -np.inf).argmax()) if allowed.any() else None


def benefit_kept(benefit: Array, whole: Array, resamples: int = 1000) -> tuple[float, float, float]:
    """Return the share of the votes' benefit that is kept, E benefit / E whole, and its 90 % interval.

    The benefit under a mitigation is the true quality with votes minus that under the same mitigation without votes, so
    that what a mitigation does by itself is not counted as the votes'. The whole is what *unbiased* votes bring: those
    of users who do not care for agreement tell of help, fit and warmth, and not of being agreed with. The interval
    resamples worlds, keeping the two together.

    Args:
        benefit: [N] quality points, under the mitigation.
        whole: [N] of unbiased votes.
        resamples: bootstrap draws.
    """
    draws = resample_rows(np.column_stack([benefit, whole]), resamples)
    return (float(benefit.mean() / whole.mean()), *interval(draws[:, 0] / draws[:, 1]))
