"""Over-optimisation: the true reward against how far a policy has gone from its reference.

With d = sqrt(KL(policy || reference)), Gao, Schulman & Hilton (arXiv 2210.10760) found that the true reward gained
follows

    best-of-n:  R(d) = d (a - b d)          RL:  R(d) = d (a - b log d),

each with two coefficients that enter linearly, so least squares fits both and their errors compare directly. Which one
fits depends on the problem and not on the method alone: for a Gaussian proxy with a quadratic true reward, the exact
KL-penalised optimum follows the *first* form.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.world.arrays import Array

FORMS: dict[str, Callable[[Array], Array]] = {
    "best-of-n": lambda distance: -distance,
    "RL": lambda distance: -np.log(distance),
}


class Fit(NamedTuple):
    """Least-squares fits of one form to N curves.

    a, b: [N] coefficients.
    explained: [N] R^2, the share of the variance over the points that the curve explains.
    """

    a: Array
    b: Array
    explained: Array


def curve(form: str, a: Array, b: Array, distance: Array) -> Array:
    """Return R(d) [N, T] of a form ("best-of-n" or "RL") with coefficients [N] at distances [N, T] above 0."""
    return distance * (np.asarray(a)[..., None] + np.asarray(b)[..., None] * FORMS[form](distance))


def fit(form: str, distance: Array, reward: Array) -> Fit:
    """Return the least-squares fit of a form to each curve.

    Args:
        form: "best-of-n" or "RL".
        distance: [N, T] sqrt(KL), above 0.
        reward: [N, T] gained against the reference, so that R(0) = 0.
    """
    design = np.stack([distance, distance * FORMS[form](distance)], axis=-1)
    coefficients = (np.linalg.pinv(design) @ reward[..., None])[..., 0]
    error = reward - (design @ coefficients[..., None])[..., 0]
    spread = reward - reward.mean(axis=1, keepdims=True)
    explained = 1 - (error**2).sum(axis=1) / (spread**2).sum(axis=1)
    return Fit(coefficients[:, 0], coefficients[:, 1], explained)


def peak(form: str, a: Array, b: Array) -> tuple[Array, Array]:
    """Return where R(d) turns and its height there; infinite where it never turns.

        best-of-n:  d = a / (2 b),  R = a^2 / (4 b)          RL:  d = exp(a / b - 1),  R = b d

    Args:
        form: "best-of-n" or "RL".
        a: [N].
        b: [N]; at or below 0 nothing bends the curve down.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    turns = (b > 0) & ((a > 0) if form == "best-of-n" else True)
    safe = np.where(turns, b, 1.0)
    with np.errstate(over="ignore"):
        at = a / (2 * safe) if form == "best-of-n" else np.exp(a / safe - 1)
    height = a * at / 2 if form == "best-of-n" else safe * at
    return np.where(turns, at, np.inf), np.where(turns, height, np.inf)


def fall(reward: Array) -> tuple[int, Array]:
    """Return the point at which the mean curve is highest, and how far each curve has fallen from it at its end [N].

    Turnover as it is measured, with no form assumed. The point is chosen on the mean, so a rise that never turns
    gives exactly 0.

    Args:
        reward: [N, T] gained, in the order of growing distance.
    """
    top = int(np.argmax(reward.mean(axis=0)))
    return top, reward[:, top] - reward[:, -1]


def spaced(distance: Array, points: int) -> npt.NDArray[np.intp]:
    """Return which of T points to keep so that their distances are spread out evenly, at most `points` of them.

    Training moves fast at first and slowly at its end; without this the last steps would decide every fit.

    Args:
        distance: [T].
        points: at least 1.
    """
    wanted = np.linspace(0, distance.max(), points + 1)[1:]
    kept = np.unique(np.abs(distance - wanted[:, None]).argmin(axis=1))
    return kept[np.argsort(distance[kept], kind="stable")]
