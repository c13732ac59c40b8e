"""Rows of a table become prompts with responses: repeats, missing scores, weights and reference probabilities."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.config import InputError
from sim.world.arrays import Array
from sim.world.tables.reading import Columns
from sim.world.tables.wanted import Wanted

Ints = npt.NDArray[np.int64]


class Prompts(NamedTuple):
    """P prompts and their N responses, in the order of the table.

    ids: [P] in order of first appearance.
    rows: [N] row of the table of each response.
    codes: [N] prompt of each response.
    first: [P] first response of each prompt.
    size: [P] how many responses each has.
    log_ref: [N] log-probability of each response under the reference, given its prompt.
    prob: [P] probability of each prompt, sums to 1.
    """

    ids: npt.NDArray[np.object_]
    rows: Ints
    codes: Ints
    first: Ints
    size: Ints
    log_ref: Array
    prob: Array


def group_prompts(columns: Columns, wanted: Wanted, keep: npt.NDArray[np.bool_] | None = None) -> Prompts:
    """Return the prompts of the rows that are kept, [N] of the table (all of them where None).

    Raises:
        InputError: naming the row, for a repeated response, and a probability or weight that is not one; for prompts
            with one response only.
    """
    _refuse_repeats(columns, wanted)
    first: Ints
    codes: Any
    if keep is None or keep.all():
        rows, codes = np.arange(len(columns.prompt.codes)), columns.prompt.codes
        # Codes count up from 0 in order of first appearance, so a new prompt is where their maximum rises.
        first = np.flatnonzero(np.diff(np.maximum.accumulate(codes), prepend=-1))
        ids = columns.prompt.values
    else:
        rows = np.flatnonzero(keep)
        held, first, codes = np.unique(columns.prompt.codes[keep], return_index=True, return_inverse=True)
        ids = columns.prompt.values[held]
    size = np.bincount(codes)
    if size.max() < 2:
        raise InputError(f"column '{wanted.prompt}': every prompt has one response; a choice needs at least two")
    prob = _prompt_prob(columns, wanted, rows, codes, first)
    return Prompts(ids, rows, codes, first, size, _log_reference(columns, wanted, rows, codes, size), prob)


def _refuse_repeats(columns: Columns, wanted: Wanted) -> None:
    """Raise `InputError` where a prompt has a response twice. Equal keys are verified before anyone is accused."""
    codes, hashes = columns.prompt.codes, columns.response
    if hashes is None:
        return
    key = hashes ^ (codes.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    ordered = np.sort(key)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(twice):
        return
    seen: dict[tuple[int, int], int] = {}
    for row in np.flatnonzero(np.isin(key, twice)):
        pair = (int(codes[row]), int(hashes[row]))
        if pair in seen:
            raise InputError(
                f"row {row + 1}: prompt '{columns.prompt.values[pair[0]]}' has the same response as in row "
                f"{seen[pair] + 1}; if that is meant, name a column that tells them apart, or none "
                f"({wanted.prefix}response='')"
            )
        seen[pair] = int(row)


def missing_rows(values: Array, column: str) -> tuple[npt.NDArray[np.bool_], str]:
    """Return where a column is missing, [N], and that in words; raise `InputError` if it is so everywhere."""
    gone = np.isnan(values)
    if gone.all():
        raise InputError(f"column '{column}' has no number in it")
    return gone, f"column '{column}', row {int(np.argmax(gone)) + 1}: missing ({int(gone.sum())} of {len(gone)} rows)"


def _log_reference(columns: Columns, wanted: Wanted, rows: Ints, codes: Ints, size: Ints) -> Array:
    if not wanted.reference_prob:
        return np.asarray(-np.log(size))[codes]
    prob = columns.numbers[wanted.reference_prob][rows]
    if (prob <= 0).any():
        bad = int(np.argmax(prob <= 0))
        raise InputError(f"{wanted.prefix}reference_prob: row {rows[bad] + 1}: {prob[bad]} must be > 0")
    return np.log(prob) - np.log(np.bincount(codes, weights=prob))[codes]


def _prompt_prob(columns: Columns, wanted: Wanted, rows: Ints, codes: Ints, first: Ints) -> Array:
    if not wanted.prompt_weight:
        return np.full(len(first), 1 / len(first))
    name, weight = f"{wanted.prefix}prompt_weight", columns.numbers[wanted.prompt_weight][rows]
    own = weight[first]
    if (weight < 0).any() or not 0 < own.sum() < np.inf:
        raise InputError(f"{name}: column '{wanted.prompt_weight}' must be >= 0 with a positive, finite sum")
    if (weight != own[codes]).any():
        row = int(rows[np.argmax(weight != own[codes])])
        raise InputError(f"{name}: row {row + 1}: differs from the weight of the same prompt above")
    return np.asarray(own / own.sum())
