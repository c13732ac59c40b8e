"""A world read from a table of scored responses: one row per prompt and response (`sim/world/tables`).

The candidates of a prompt are taken as samples from the reference policy, so the softmax over them is the standard
empirical estimate of a tilted policy. Prompts may have different numbers of responses.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from sim import rng
from sim.config import InputError, Scores
from sim.world.arrays import ABSENT, Array, World
from sim.world.tables.prompts import Prompts, group_prompts, missing_rows
from sim.world.tables.reading import Columns, naming, read_columns
from sim.world.tables.wanted import Wanted

Signals = dict[str, Array]


def make_scores(scores: Scores, source: Any = None) -> tuple[World, Signals]:
    """Return the world and its signals {name: [P, K]} from a table.

    Features [P, K, D] are the D columns that are named, standardised over the table, so that a log-linear policy can
    act on what is scored. Absent candidates (ragged K) get a log-probability of `ABSENT`, zero attributes and zero
    signals. A signal may lack scores (NaN): as a monitor, with weight 0, it reaches no sum.

    Args:
        scores: which columns are what.
        source: a path or frame, a row per prompt and response; `scores.path` where None.

    Raises:
        InputError: for an unknown, empty, non-numeric or duplicated column or row, naming it.
    """
    source = scores.path if source is None else source
    with naming(source, "world.path"):
        for name in ("signals", "attributes"):
            if not getattr(scores, name):
                raise InputError(
                    f"world.{name}: name at least one {name[:-1]} column (experiment=own_scores shows how)"
                )
    wanted = wanted_columns(scores)
    columns = read_columns(source, wanted, "world.path")
    with naming(source, "world.path"):
        return _build(scores, columns, wanted)


def wanted_columns(scores: Scores) -> Wanted:
    """Return the columns that the settings name, with the setting that names each."""
    numbers: dict[str, str] = {}
    for name, text in scores.signals.items():
        numbers.setdefault(text.removeprefix("-"), f"world.signals.{name}")
    for name, column in scores.attributes.items():
        numbers.setdefault(column, f"world.attributes.{name}")
    return Wanted(
        scores.prompt,
        scores.response,
        numbers,
        reference_prob=scores.reference_prob,
        prompt_weight=scores.prompt_weight,
        prefix="world.",
        separator=scores.separator,
        decimal=scores.decimal,
    )


def _build(scores: Scores, columns: Columns, wanted: Wanted) -> tuple[World, Signals]:
    may_lack = {text.removeprefix("-") for text in scores.signals.values()} - set(scores.attributes.values())
    for name, field in wanted.number_fields().items():
        gone, what = missing_rows(columns.numbers[name], name)
        if gone.any() and name not in may_lack:
            raise InputError(f"{field}: {what}")
    prompts = group_prompts(columns, wanted)
    fill = _filler(prompts)
    signals = {name: fill(_signed(columns, text)) for name, text in scores.signals.items()}
    attributes = {name: fill(columns.numbers[column]) for name, column in scores.attributes.items()}
    features = np.stack([fill(_standardized(columns.numbers[name])) for name in wanted.numbers], axis=-1)
    world = World(prompts.prob, features, fill(prompts.log_ref, ABSENT), attributes, prompts={"id": prompts.ids})
    return world, signals


def _filler(prompts: Prompts) -> Callable[..., Array]:
    """Return a function that lays values [N] out as [P, K], and what is absent as its second argument."""
    order = np.argsort(prompts.codes, kind="stable")
    start = np.cumsum(prompts.size) - prompts.size
    position = np.empty_like(order)
    position[order] = np.arange(len(order)) - start[prompts.codes[order]]

    def fill(values: Array, absent: float = 0.0) -> Array:
        full = np.full((len(prompts.size), int(prompts.size.max())), absent)
        full[prompts.codes, position] = values
        return full

    return fill


def _signed(columns: Columns, text: str) -> Array:
    values = columns.numbers[text.removeprefix("-")]
    return -values if text.startswith("-") else values


def _standardized(values: Array) -> Array:
    known = values[np.isfinite(values)]
    scale = known.std() or 1.0
    return np.where(np.isfinite(values), (values - known.mean()) / scale, 0.0)


def resample_prompts(world: World, seed: int) -> World:
    """Return the world with its prompts resampled with replacement (as weights): one bootstrap draw per seed."""
    count = len(world.prompt_prob)
    drawn = rng.stream(seed, "scores", "resample").multinomial(count, np.full(count, 1 / count))
    weight = world.prompt_prob * drawn
    return World(
        weight / weight.sum(), world.features, world.log_ref, world.attributes, world.prompts, world.true_quality
    )
