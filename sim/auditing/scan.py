"""One pass over the sample: a mean over prompts of anything measured prompt by prompt, and its cluster bootstrap.

Everything the audit says is a mean over prompts, or a function of such means. So one pass suffices: each chunk of
prompts is measured, [p, M], and only two things leave it, its sum and its sums under B bootstrap draws. The draws
resample whole prompts (the clusters), and depend on the seed and the prompt's place alone: two numbers of one audit, or
of two audits of the same prompts, share them, so the interval of a difference is that of the difference of draws.
"""

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from sim import rng
from sim.auditing.sample import CHUNK, Block, Sample, blocks, chunk_count
from sim.world.arrays import Array
from sim.world.tables.prompts import Ints
from sim.world.tables.reading import Coded

Measure = Callable[[Block], Array]
Progress = Callable[[str, int, int], object]
Found = TypeVar("Found")


def tell(progress: Progress | None, stage: str, total: int) -> Callable[[int], object] | None:
    """Return what tells `progress` of a stage how much more of its total (0: unknown) is done."""
    return None if progress is None else functools.partial(progress, stage, total)


class Scan(NamedTuple):
    """Means over prompts.

    point: [M] of the sample.
    draws: [B, M] of the bootstrap draws.
    kept: [P, M'] the first columns of what was measured, per prompt.
    """

    point: Array
    draws: Array
    kept: Array


def scan(
    sample: Sample,
    measure: Measure,
    columns: int,
    resamples: int = 0,
    seed: int = 0,
    keep: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Scan:
    """Return the means of what `measure` finds in each block, [p, columns].

    Args:
        sample: the prompts.
        measure: block -> [p, columns].
        columns: how many.
        resamples: B.
        seed: of the bootstrap.
        keep: how many leading columns to return per prompt.
        progress: called with the number of prompts done.
    """
    prompts = len(sample.prompt_prob)
    totals = chunk_totals(prompts, resamples, seed)
    kept = np.empty((prompts, keep))

    def run(chunk: int) -> tuple[Array, Array]:
        prob = sample.prompt_prob[chunk * CHUNK : (chunk + 1) * CHUNK]
        found = np.empty((len(prob), columns + 1))
        found[:, -1] = 1.0
        for block in blocks(sample, chunk):
            found[block.place, :-1] = measure(block)
        kept[chunk * CHUNK : chunk * CHUNK + len(prob)] = found[:, :keep]
        found *= prob[:, None]
        if progress is not None:
            progress(len(prob))
        if not resamples:
            return found.sum(axis=0), np.zeros((0, columns + 1))
        unit = np.abs(found).max(axis=0)  # single precision is enough for intervals, but not for any unit
        unit[unit == 0] = 1.0
        drawn = _counts(totals[:, chunk], len(prob), seed, chunk) @ (found / unit).astype(np.float32)
        return found.sum(axis=0), drawn * unit

    point, draws = np.zeros(columns + 1), np.zeros((resamples, columns + 1))
    for own, drawn in _each(run, chunk_count(sample)):
        point += own
        draws += drawn
    draws = draws[draws[:, -1] > 0]  # a draw may miss every prompt that has a weight
    return Scan(point[:-1] / point[-1], draws[:, :-1] / draws[:, -1:], kept)


def group_means(sample: Sample, values: Array, groups: Coded, resamples: int, seed: int) -> tuple[Array, Array, Array]:
    """Return the share of prompt weight [G], the means [G, M] and their draws [G, B, M] within groups of prompts.

    The draws are those of `scan`; a draw that has no prompt of a group holds NaN there.

    Args:
        sample: the prompts.
        values: [P, M] measured per prompt.
        groups: the group of each prompt.
        resamples: B.
        seed: of the bootstrap.
    """
    prompts, count = len(sample.prompt_prob), len(groups.values)
    totals = chunk_totals(prompts, resamples, seed)
    weighted = np.concatenate([values, np.ones((prompts, 1))], axis=1) * sample.prompt_prob[:, None]

    def run(chunk: int) -> Array:
        rows = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
        here, codes = weighted[rows], groups.codes[rows]
        counts = np.concatenate([np.ones((1, len(here))), _counts(totals[:, chunk], len(here), seed, chunk)])
        return np.stack([counts[:, codes == group] @ here[codes == group] for group in range(count)])

    total = np.zeros((count, resamples + 1, weighted.shape[1]))
    for found in _each(run, chunk_count(sample)):
        total += found
    with np.errstate(invalid="ignore", divide="ignore"):
        means = total[..., :-1] / total[..., -1:]
    return total[:, 0, -1], means[:, 0], means[:, 1:]


def chunk_totals(prompts: int, resamples: int, seed: int) -> Ints:
    """Return how many of the P draws with replacement fall into each chunk, [B, chunks]: a multinomial, by parts."""
    sizes = np.diff(np.append(np.arange(0, prompts, CHUNK), prompts))
    return rng.stream(seed, "audit", "totals").multinomial(prompts, sizes / prompts, size=resamples)


def _counts(totals: Ints, prompts: int, seed: int, chunk: int) -> Array:
    """Return how often each prompt of a chunk is drawn, [B, p]."""
    resamples = len(totals)
    drawn = rng.stream(seed, "audit", "prompts", chunk).integers(0, prompts, int(totals.sum()), dtype=np.int32)
    place = np.repeat(np.arange(resamples, dtype=np.int64) * prompts, totals) + drawn
    return np.bincount(place, minlength=resamples * prompts).reshape(resamples, prompts).astype(np.float32)


def _each(run: Callable[[int], Found], chunks: int) -> Iterator[Found]:
    """Yield run(0), run(1), ... in order, worked out on as many threads as there are cores."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield from pool.map(run, range(chunks))
