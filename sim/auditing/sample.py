"""The sample that is audited: scored responses grouped by prompt, kept flat (no padding) and read-only.

Rows of one prompt may stand anywhere in the table. Work is done a chunk of prompts at a time; a chunk pads its prompts
to groups of like size, so that ragged tables cost at most about twice their rows.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.auditing.options import Audit
from sim.config import InputError
from sim.world.arrays import ABSENT, Array
from sim.world.formats import Wanted
from sim.world.table import Columns

CHUNK = 2048  # prompts; also the unit of the bootstrap's random streams
CELLS = 1 << 17  # responses that are worked on at once; more would leave the cache
LEVELS = 200  # most values that a slice column may have
Ints = npt.NDArray[np.int64]


class Slice(NamedTuple):
    """A column that groups prompts: the code of each prompt [P], and the value of each code."""

    codes: npt.NDArray[np.int32]
    values: npt.NDArray[np.str_]


class Sample(NamedTuple):
    """Scored responses of P prompts, N in all.

    values: [V + D, N] signals (primary, then added), attributes, features of each response, prompt by prompt.
    start: [P + 1] where each prompt's responses begin.
    log_ref: [N] log-probability of each response under the reference, given its prompt.
    prompt_prob: [P], sums to 1.
    ids: [P] names of the prompts.
    slices: column -> Slice.
    counts: what was read and what was left out, for the report.
    """

    values: Array
    start: Ints
    log_ref: Array
    prompt_prob: Array
    ids: npt.NDArray[np.str_]
    slices: dict[str, Slice]
    counts: dict[str, int]


class Block(NamedTuple):
    """Prompts of like size, padded: where they stand in their chunk [p], values [V, p, K], log_ref [p, K]."""

    place: Ints
    values: Array
    log_ref: Array


def wanted_columns(options: Audit) -> Wanted:
    """Return the columns that the options name, with the option that names each."""
    numbers = {column.removeprefix("-"): "signals" for column in options.signals}
    numbers |= {options.add.removeprefix("-"): "add"}
    for column in options.attributes:
        numbers.setdefault(column.removeprefix("-"), "attribute")
    for column in options.feature_columns:
        numbers.setdefault(column, "features")
    numbers |= {getattr(options, name): name for name in ("reference_prob", "prompt_weight") if getattr(options, name)}
    text = {options.prompt: "prompt"} | dict.fromkeys(options.slice_columns, "slices")
    return Wanted(text, {options.response: "response"} if options.response else {}, numbers)


def make_sample(columns: Columns, options: Audit) -> Sample:
    """Return the sample in a table's columns.

    Raises:
        InputError: for a repeated response, a missing score where that is refused, a probability or weight that is not
            one, prompts with one response only; naming the row.
    """
    prompt = columns.text[options.prompt]
    if options.response:
        _complain_of_repeats(prompt.codes, columns.hashed[options.response], prompt.values)
    keep, counts = _complete_rows(columns, options)
    whole = keep.all()
    held, first, codes = _prompts(prompt.codes, keep)
    size = np.bincount(codes)
    if size.max() < 2:
        raise InputError(f"column '{options.prompt}': every prompt has one response; a choice needs at least two")
    order = None if (np.diff(codes) >= 0).all() else np.argsort(codes, kind="stable")

    def arrange(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        values = values if whole else values[keep]
        return values if order is None else values[order]

    rows = np.flatnonzero(keep) if not whole else np.arange(len(codes))
    weight = _prompt_prob(columns, options, rows, codes, first)
    slices = {name: _slice(columns, name, rows, codes, first) for name in options.slice_columns}
    start = np.concatenate([[0], np.cumsum(size)])
    log_ref = _log_reference(columns, options, rows, codes, size)
    names = [*options.signal_columns, *options.attributes, *options.feature_columns]
    values = np.empty((len(names), len(codes)))
    for row, name in enumerate(names):
        values[row] = arrange(columns.numbers[name.removeprefix("-")])
        if name.startswith("-"):
            np.negative(values[row], out=values[row])
    counts |= {"prompts": len(held), "responses": len(codes), "single_response_prompts": int((size == 1).sum())}
    sorted_ref = log_ref if order is None else log_ref[order]
    for array in (values, start, sorted_ref, weight):
        array.flags.writeable = False
    return Sample(values, start, sorted_ref, weight, prompt.values[held], slices, counts)


def _prompts(codes: npt.NDArray[np.int32], keep: npt.NDArray[np.bool_]) -> tuple[Ints, Ints, Any]:
    """Return the codes that are left, the first row of each, and the rows' prompts numbered 0, 1, 2, ..."""
    if not keep.all():
        return np.unique(codes[keep], return_index=True, return_inverse=True)
    # Codes count up from 0 in order of first appearance, so a new prompt is where their maximum rises.
    first = np.flatnonzero(np.diff(np.maximum.accumulate(codes), prepend=-1))
    return np.arange(len(first)), first, codes


def blocks(sample: Sample, chunk: int) -> Iterator[Block]:
    """Yield the prompts of a chunk, padded to groups whose sizes differ by less than a factor of two."""
    low = chunk * CHUNK
    start = sample.start[low : low + CHUNK + 1]
    size = np.diff(start)
    octave = np.floor(np.log2(size)).astype(int)
    for group in np.unique(octave):
        alike = np.flatnonzero(octave == group)
        width = int(size[alike].max())
        step = max(1, CELLS // width)
        for first in range(0, len(alike), step):
            yield _padded(sample, alike[first : first + step], start, size, width)


def _padded(sample: Sample, place: Ints, start: Ints, size: Ints, width: int) -> Block:
    if (size == width).all():  # one rectangle, no copy
        span = slice(int(start[place[0]]), int(start[place[-1] + 1]))
        shape = (len(place), width)
        return Block(place, sample.values[:, span].reshape(-1, *shape), sample.log_ref[span].reshape(shape))
    offset = np.arange(width)
    there = offset < size[place][:, None]
    at = np.where(there, start[place][:, None] + offset, 0)
    return Block(place, np.where(there, sample.values[:, at], 0.0), np.where(there, sample.log_ref[at], ABSENT))


def chunk_count(sample: Sample) -> int:
    """Return how many chunks the prompts make."""
    return -(-len(sample.prompt_prob) // CHUNK)


def _complain_of_repeats(
    codes: npt.NDArray[np.int32], hashes: npt.NDArray[np.uint64], names: npt.NDArray[np.str_]
) -> None:
    """Raise `InputError` where a prompt has a response twice. Equal keys are verified before anyone is accused."""
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
                f"row {row + 1}: prompt '{names[pair[0]]}' has the same response as in row {seen[pair] + 1}; "
                "if that is meant, name a column that tells them apart, or none (response='')"
            )
        seen[pair] = int(row)


def _complete_rows(columns: Columns, options: Audit) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
    """Return which rows stay, [N], and how many were left out; refuse where the user did not choose."""
    first = next(iter(columns.numbers.values()))
    missing = np.zeros(len(first), dtype=bool)
    for name, values in columns.numbers.items():
        gone = np.isnan(values)
        if gone.all():
            raise InputError(f"column '{name}' has no number in it")
        if gone.any() and options.missing == "refuse":
            raise InputError(
                f"column '{name}', row {int(np.argmax(gone)) + 1}: missing ({int(gone.sum())} of {len(gone)} rows); "
                "missing=drop_response or missing=drop_prompt leaves them out and says how many"
            )
        missing |= gone
    codes = columns.text[options.prompt].codes
    drop = missing
    if options.missing == "drop_prompt" and missing.any():
        drop = np.bincount(codes, weights=missing)[codes] > 0
    if drop.all():
        raise InputError(f"missing = {options.missing}: nothing is left, every row or prompt lacks a score")
    dropped = len(np.unique(codes)) - len(np.unique(codes[~drop])) if drop.any() else 0
    counts = {"rows": len(drop), "rows_with_missing": int(missing.sum())}
    return ~drop, counts | {"dropped_responses": int(drop.sum()), "dropped_prompts": int(dropped)}


def _log_reference(columns: Columns, options: Audit, rows: Ints, codes: Ints, size: Ints) -> Array:
    if not options.reference_prob:
        return np.asarray(-np.log(size))[codes]
    prob = columns.numbers[options.reference_prob][rows]
    if (prob <= 0).any():
        bad = int(np.argmax(prob <= 0))
        raise InputError(f"reference_prob: row {rows[bad] + 1}: {prob[bad]} must be > 0")
    return np.log(prob) - np.log(np.bincount(codes, weights=prob))[codes]


def _prompt_prob(columns: Columns, options: Audit, rows: Ints, codes: Ints, first: Ints) -> Array:
    if not options.prompt_weight:
        return np.full(len(first), 1 / len(first))
    weight = columns.numbers[options.prompt_weight][rows]
    own = weight[first]
    if (weight < 0).any() or not 0 < own.sum() < np.inf:
        raise InputError(f"prompt_weight: column '{options.prompt_weight}' must be >= 0 with a positive, finite sum")
    if (weight != own[codes]).any():
        row = int(rows[np.argmax(weight != own[codes])])
        raise InputError(f"prompt_weight: row {row + 1}: differs from the weight of the same prompt above")
    return np.asarray(own / own.sum())


def _slice(columns: Columns, name: str, rows: Ints, codes: Ints, first: Ints) -> Slice:
    column = columns.text[name]
    own = column.codes[rows]
    if (own != own[first][codes]).any():
        row = int(rows[np.argmax(own != own[first][codes])])
        raise InputError(f"slices: column '{name}', row {row + 1}: differs within the prompt; slices group prompts")
    if len(column.values) > LEVELS:
        raise InputError(f"slices: column '{name}' has {len(column.values)} values; group them, at most {LEVELS}")
    return Slice(own[first], column.values)
