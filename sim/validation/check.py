"""A check: what was found beside what is known, and how close it has to be.

A check may hold many numbers of one kind, such as a curve at seven weights. It passes if all of them do; a table shows
the one that is farthest off.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.world.arrays import Array

STANDARD_ERRORS = 3.0  # how far a sampled mean may be from what is expected
HEADER = ["case", "what", "how", "source", "expected", "got", "tolerance", "pass"]


class Check(NamedTuple):
    """N numbers of one kind.

    case: such as "V1a".
    what: the numbers are.
    how: they were found: "closed form", "exact, tabular", "sampled rloo, tabular" ...
    expected, got: [N].
    tolerance: of |got - expected|; how far beyond the bound, for a bound. Infinite where only `error` counts.
    bound: "=" | "at most" | "at least".
    error: [N] standard error of a sampled mean, else 0.
    slack: added to three standard errors: rounding of the published number, or what training had still to go.
    at: [N] what tells the numbers apart, such as "w = 0.4".
    """

    case: str
    what: str
    how: str
    expected: Array
    got: Array
    tolerance: float
    bound: str = "="
    error: Array | None = None
    slack: float = 0.0
    at: tuple[str, ...] = ()

    @property
    def misses(self) -> Array:
        """[N] how far off, as a share of what is allowed: above 1 fails. A missing number is infinitely far off."""
        sign = {"=": 0, "at most": 1, "at least": -1}[self.bound]
        off = self.got - self.expected
        off = np.abs(off) if sign == 0 else np.maximum(sign * off, 0.0)
        found = _share(off, np.full(off.shape, self.tolerance))
        if self.error is not None:
            found = np.maximum(found, _share(off, STANDARD_ERRORS * self.error + self.slack))
        return np.where(np.isfinite(self.got), found, np.inf)

    @property
    def passed(self) -> bool:
        """Whether every number is as close as it has to be."""
        return bool((self.misses <= 1).all())

    @property
    def worst(self) -> int:
        """The number that is farthest off; of those within a bound, the one closest to it."""
        beyond = (self.got - self.expected) * (-1 if self.bound == "at least" else 1)
        return int(np.lexsort((np.nan_to_num(beyond), self.misses))[-1])


def check(
    case: str,
    what: str,
    how: str,
    expected: npt.ArrayLike,
    got: npt.ArrayLike,
    tolerance: float,
    *,
    bound: str = "=",
    error: npt.ArrayLike | None = None,
    slack: float = 0.0,
    at: tuple[str, ...] = (),
) -> Check:
    """Return a check of numbers or arrays; one expected number serves all that were found."""
    found = np.atleast_1d(np.asarray(got, dtype=float)).ravel()
    known = np.broadcast_to(np.asarray(expected, dtype=float).ravel(), found.shape)
    spread = None if error is None else np.broadcast_to(np.asarray(error, dtype=float).ravel(), found.shape)
    return Check(case, what, how, known, found, tolerance, bound, spread, slack, at)


def rows(one: Check, source: str, every: bool = False) -> list[list[str]]:
    """Return a check as rows under `HEADER`: one for the number that is farthest off, or one for each."""
    shown = range(len(one.got)) if every else [one.worst]
    found = []
    for index in shown:
        what = one.what + (f", {one.at[index]}" if one.at else "")
        if len(one.got) > 1 and not every:
            what += f" (farthest of {len(one.got)})"
        words = ["" if one.bound == "=" else f"{one.bound} ", number(one.expected[index])]
        passed = "yes" if one.misses[index] <= 1 else "NO"
        found.append(
            [one.case, what, one.how, source, "".join(words), number(one.got[index]), tolerance(one, index), passed]
        )
    return found


def tolerance(one: Check, index: int) -> str:
    """Return in words how close a number has to be."""
    parts = [f"{one.tolerance:g}"] if np.isfinite(one.tolerance) else []
    if one.error is not None:
        reach = STANDARD_ERRORS * one.error[index] + one.slack
        parts.append(f"3 SE{f' + {one.slack:g}' if one.slack else ''} ({reach:.2g})")
    return ", ".join(parts)


def number(value: float) -> str:
    """Return a number with six significant digits; what is below 1e-12 is rounding."""
    return f"{value:.6g}" if abs(value) > 1e-12 else "0"


def mean_and_error(samples: Array) -> tuple[Array, Array]:
    """Return mean and standard error over the first axis."""
    return samples.mean(axis=0), samples.std(axis=0, ddof=1) / np.sqrt(len(samples))


def _share(off: Array, allowed: Array) -> Array:
    """Return off / allowed; nothing off is fine even where nothing is allowed."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(off == 0, 0.0, off / allowed)
