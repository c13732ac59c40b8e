"""The sample that is audited: scored responses grouped by prompt, kept flat (no padding) and read-only.

Rows of one prompt may stand anywhere in the table. Work is done a chunk of prompts at a time; a chunk pads its prompts
to groups of like size, so that ragged tables cost at most about twice their rows.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.auditing.options import Audit
from sim.config import InputError
from sim.world.arrays import ABSENT, Array
from sim.world.tables.prompts import Ints, Prompts, group_prompts, missing_rows
from sim.world.tables.reading import Coded, Columns
from sim.world.tables.wanted import Wanted

CHUNK = 2048  # prompts; also the unit of the bootstrap's random streams
CELLS = 1 << 17  # responses that are worked on at once; more would leave the cache
LEVELS = 200  # most values that a slice column may have


class Sample(NamedTuple):
    """Scored responses of P prompts, N in all.

    values: [V + D, N] signals (primary, then added), attributes, features of each response, prompt by prompt.
    start: [P + 1] where each prompt's responses begin.
    log_ref: [N] log-probability of each response under the reference, given its prompt.
    prompt_prob: [P], sums to 1.
    ids: [P] names of the prompts.
    slices: column -> the group of each prompt: codes [P], and the value of each code.
    counts: what was read and what was left out, for the report.
    """

    values: Array
    start: Ints
    log_ref: Array
    prompt_prob: Array
    ids: npt.NDArray[np.object_]
    slices: dict[str, Coded]
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
    return Wanted(
        options.prompt,
        options.response,
        numbers,
        options.slice_columns,
        options.reference_prob,
        options.prompt_weight,
        separator=options.separator,
        decimal=options.decimal,
    )


def make_sample(columns: Columns, options: Audit) -> Sample:
    """Return the sample in a table's columns.

    Raises:
        InputError: for a missing score where that is refused, a slice that differs within a prompt, and as
            `sim.world.tables.prompts.group_prompts`; naming the row.
    """
    keep, counts = _complete_rows(columns, options)
    prompts = group_prompts(columns, wanted_columns(options), keep)
    codes, size = prompts.codes, prompts.size
    order = None if (np.diff(codes) >= 0).all() else np.argsort(codes, kind="stable")
    whole = len(codes) == len(keep)
    slices = {name: _slice(columns, name, prompts) for name in options.slice_columns}
    names = [*options.signal_columns, *options.attributes, *options.feature_columns]
    values = np.empty((len(names), len(codes)))
    for row, name in enumerate(names):
        column = columns.numbers[name.removeprefix("-")]
        column = column if whole else column[prompts.rows]
        values[row] = column if order is None else column[order]
        if name.startswith("-"):
            np.negative(values[row], out=values[row])
    counts |= {"prompts": len(size), "responses": len(codes), "single_response_prompts": int((size == 1).sum())}
    start = np.concatenate([[0], np.cumsum(size)])
    log_ref = prompts.log_ref if order is None else prompts.log_ref[order]
    for array in (values, start, log_ref, prompts.prob):
        array.flags.writeable = False
    return Sample(values, start, log_ref, prompts.prob, prompts.ids, slices, counts)


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


def _complete_rows(columns: Columns, options: Audit) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
    """Return which rows stay, [N], and how many were left out; refuse where the user did not choose."""
    first = next(iter(columns.numbers.values()))
    missing = np.zeros(len(first), dtype=bool)
    for name, values in columns.numbers.items():
        gone, what = missing_rows(values, name)
        if gone.any() and options.missing == "refuse":
            raise InputError(f"{what}; missing=drop_response or missing=drop_prompt leaves them out and says how many")
        missing |= gone
    codes = columns.prompt.codes
    drop = missing
    if options.missing == "drop_prompt" and missing.any():
        drop = np.bincount(codes, weights=missing)[codes] > 0
    if drop.all():
        raise InputError(f"missing = {options.missing}: nothing is left, every row or prompt lacks a score")
    dropped = len(np.unique(codes)) - len(np.unique(codes[~drop])) if drop.any() else 0
    counts = {"rows": len(drop), "rows_with_missing": int(missing.sum())}
    return ~drop, counts | {"dropped_responses": int(drop.sum()), "dropped_prompts": int(dropped)}


def _slice(columns: Columns, name: str, prompts: Prompts) -> Coded:
    column = columns.slices[name]
    own = column.codes[prompts.rows]
    differs = own != own[prompts.first][prompts.codes]
    if differs.any():
        row = int(prompts.rows[np.argmax(differs)])
        raise InputError(f"slices: column '{name}', row {row + 1}: differs within the prompt; slices group prompts")
    if len(column.values) > LEVELS:
        raise InputError(f"slices: column '{name}' has {len(column.values)} values; group them, at most {LEVELS}")
    return Coded(own[prompts.first], column.values)
