"""What a problem may hold: a number that it may not is named in one line, before anything is trained on it."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.config import InputError
from sim.world.arrays import Array

LIMITS = {
    "low": (operator.ge, ">="), "above": (operator.gt, ">"), "high": (operator.le, "<="), "below": (operator.lt, "<"),
}  # fmt: skip


def numbers(name: str, values: Any, count: int | None = None, **limits: float) -> Array:
    """Return one number or several as floats, [N].

    Args:
        name: what to call them in a complaint.
        values: one number, or a sequence.
        count: N that is needed; None: at least one.
        limits: "low", "above", "high", "below".

    Raises:
        InputError: naming the number that is not finite or beyond a limit, or how many are needed.
    """
    try:
        found = np.atleast_1d(np.asarray(values, dtype=float))
    except (TypeError, ValueError):
        raise InputError(f"{name} = {values}: must be numbers") from None
    if found.ndim != 1 or not found.size or len(found) != (len(found) if count is None else count):
        many = "one or several numbers" if count is None else f"{count} numbers" if count > 1 else "one number"
        raise InputError(f"{name} = {values}: must be {many}")
    for value in found:
        if not np.isfinite(value):
            raise InputError(f"{name} = {value}: must be a finite number")
        for limit, bound in limits.items():
            holds, sign = LIMITS[limit]
            if not holds(value, bound):
                raise InputError(f"{name} = {value:g}: must be {sign} {bound:g}")
    return found


def whole(name: str, values: Any, low: int = 1) -> None:
    """Raise `InputError` unless these are whole numbers, none below `low`."""
    for value in numbers(name, values, low=low):
        if value != round(value):
            raise InputError(f"{name} = {value:g}: must be a whole number")


def chance(name: str, values: Any, count: int | None = None) -> None:
    """Raise `InputError` unless these are probabilities that are neither 0 nor 1."""
    numbers(name, values, count, above=0, below=1)


def distribution(name: str, values: Any) -> int:
    """Return over how many things the probabilities are, none of them impossible; they must sum to 1."""
    found = numbers(name, values, above=0)
    if abs(found.sum() - 1) > 1e-8:
        raise InputError(f"{name}: must sum to 1, sums to {found.sum():g}")
    return len(found)


def two_kinds(name: str, values: Any, count: int) -> None:
    """Raise `InputError` unless these are 0 and 1, both of them."""
    found = numbers(name, values, count)
    if set(found.tolist()) != {0.0, 1.0}:
        raise InputError(f"{name} = {values}: must be 0 or 1, and both must occur")


def expected(published: Sequence[float] | None, law: npt.ArrayLike) -> Array:
    """Return what is expected: the published numbers, or the closed form [N] where there are none."""
    known = np.atleast_1d(np.asarray(law, dtype=float))
    return known if published is None else numbers("published", published, len(known))
