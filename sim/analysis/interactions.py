"""Which changes look good alone, and what they do together: interactions of n changes over all 2^n combinations.

A combination is a row number in binary: change i is made in row m where bit i of m is set, so row 0 is the start and
row 2^n - 1 has them all. With v(T) a metric under the changes T, the *dividend* of T is what all of T add together and
no smaller part of T explains (Moebius transform; Harsanyi, International Economic Review 1963):

    v(T) = sum over U within T of dividend(U),    dividend(T) = sum over U within T of (-1)^(|T| - |U|) v(U).

The *interaction index* of T averages over all backgrounds (Grabisch & Roubens, Int. J. Game Theory 1999); for a single
change it is the *Shapley value* (1953), and the Shapley values sum to v(all) - v(none):

    index(T) = sum over U that contain T of dividend(U) / (|U| - |T| + 1).
"""

import numpy as np
import numpy.typing as npt

from sim.world.arrays import Array


def combinations(changes: int) -> npt.NDArray[np.bool_]:
    """Return [2^n, n]: which changes are made in each row."""
    return (np.arange(2**changes)[:, None] >> np.arange(changes) & 1).astype(bool)


def dividends(values: Array) -> Array:
    """Return the dividend of every combination, [2^n, ...]; that of row 0 is the value without any change.

    Args:
        values: [2^n, ...] a metric in every combination, rows in the order of `combinations`.
    """
    found = np.array(values, dtype=float)
    for i in range(_changes(values)):
        pairs = found.reshape(-1, 2, 2**i, *found.shape[1:])  # [higher bits, bit i, lower bits, ...]
        pairs[:, 1] -= pairs[:, 0]
    return found


def interaction_index(values: Array) -> Array:
    """Return the Shapley interaction index of every combination, [2^n, ...].

    Row 0 is the mean of the values over all combinations in Shapley's order of arrival, and of no use here.

    Args:
        values: as for `dividends`.
    """
    rows = combinations(_changes(values))
    size = rows.sum(axis=1)
    contains = (rows[None] >= rows[:, None]).all(axis=2)  # [T, U]
    weight = np.where(contains, 1.0 / (np.abs(size[None] - size[:, None]) + 1), 0.0)
    return np.tensordot(weight, dividends(values), axes=1)


def shapley(values: Array) -> Array:
    """Return the Shapley value of each change, [n, ...]: its effect averaged over all orders of making the changes.

    Args:
        values: as for `dividends`.
    """
    return interaction_index(values)[2 ** np.arange(_changes(values))]


def additive(values: Array) -> Array:
    """Return what each combination would come to if the effects of single changes just added up, [2^n, ...].

    Args:
        values: as for `dividends`.
    """
    rows = combinations(_changes(values))
    alone = values[2 ** np.arange(rows.shape[1])] - values[0]
    return values[0] + np.tensordot(rows.astype(float), alone, axes=1)


def _changes(values: Array) -> int:
    changes = len(values).bit_length() - 1
    if len(values) != 2**changes:
        raise ValueError(f"values of all combinations are needed: {len(values)} rows is not a power of 2")
    return changes
