"""Paired comparisons: the same random worlds under several variants of the settings.

A variant is a dictionary of changes, dotted key -> value; an arm is a list of variants, one thing at several strengths.
Every variant is run on the same seeds, and streams are named, so two variants differ by what was changed and by nothing
else (common random numbers). Variants that differ only in what may vary within a batch are trained together.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.checks import check, plain, problems
from sim.config import InputError, Settings, unknown_name, walk, with_value
from sim.derived import batched_values
from sim.pipeline import simulate
from sim.world.arrays import Array

if TYPE_CHECKING:
    import xarray as xr  # as in sim/pipeline.py

Variant = Mapping[str, Any]
ASSIGNMENT = re.compile(r"([^\s=]+)=(\S+)")
WORDS = {"true": True, "false": False}


def read_changes(settings: Settings, field: str, text: str) -> dict[str, list[Any]]:
    """Return key -> values of a text such as "memory.share=1 kl_coef=0.05,0.1".

    Args:
        settings: whose keys may be changed.
        field: what to call the text in a complaint.
        text: assignments, separated by spaces; values separated by commas.

    Raises:
        InputError: naming the field, and the key that is unknown or the part that is no assignment.
    """
    if not text.strip() or ASSIGNMENT.sub("", text).strip():
        raise InputError(f"{field} = '{text}': must be KEY=VALUE, several of them separated by spaces")
    found: dict[str, list[Any]] = {}
    for key, values in ASSIGNMENT.findall(text):
        complaint = _wrong_key(settings, key)
        if complaint or key in found:
            raise InputError(f"{field}: {complaint or f'{key} is given twice'}")
        found[key] = [_value(value) for value in values.split(",")]
    first = {key: values[0] for key, values in found.items()}
    for key, values in found.items():
        for value in values:
            if bad := problems(apply(settings, first | {key: value})):
                raise InputError(f"{field}: {bad[0]}")
    return found


class Arm(NamedTuple):
    """One way of doing things, at several strengths.

    variants: what to train.
    key: the setting that is swept, or "step": one variant, looked at along its recorded steps.
    values: of the swept setting; empty for "step".
    """

    variants: list[Variant]
    key: str
    values: list[Any]


def read_arm(settings: Settings, field: str, text: str) -> Arm:
    """Return the arm of a text such as "memory.share=1 kl_coef=0.05,0.1,0.2".

    The one key with several values is swept; where there is none, the arm runs along training.

    Raises:
        InputError: as `read_changes`, and where several keys have several values.
    """
    changes = read_changes(settings, field, text)
    swept = [key for key, values in changes.items() if len(values) > 1]
    if len(swept) > 1:
        raise InputError(f"{field}: one key can have several values, got {' and '.join(swept)}")
    fixed = {key: values[0] for key, values in changes.items() if key not in swept}
    if not swept:
        return Arm([fixed], "step", [])
    values = changes[swept[0]]
    return Arm([fixed | {swept[0]: value} for value in values], swept[0], values)


def _wrong_key(settings: Settings, key: str) -> str:
    """Return what is wrong with a key, or an empty text. The seed is not a key: every variant has the same seeds."""
    mine = {item.name for item in fields(Settings)}
    known = [(name, value) for name, _, value in walk(settings) if name.split(".")[0] in mine and name != "seed"]
    for name, value in known:
        # A dictionary takes new entries; whether the world knows them is asked when it is made.
        if key.startswith(f"{name}.") if isinstance(value, dict) else key == name:
            return ""
    entries = [f"{name}.{entry}" for name, value in known if isinstance(value, dict) for entry in value]
    return unknown_name("key", key, [name for name, value in known if not isinstance(value, dict)] + entries)


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return WORDS.get(text.lower(), text)


def apply(settings: Settings, variant: Variant) -> Settings:
    """Return a copy of the settings with the changes of the variant."""
    for key, value in variant.items():
        settings = with_value(settings, key, value)
    return settings


def simulate_variants(
    settings: Settings,
    variants: Sequence[Variant],
    seeds: npt.NDArray[np.int64],
    progress: Callable[[int], object] | None = None,
) -> list["xr.Dataset"]:
    """Return the data set of each variant, dimensions (run, step), where run n is that of the n-th seed.

    Args:
        settings: what all variants share.
        variants: the changes of each; a weight that only some of them name is 0 in the others.
        seeds: [N].
        progress: called with the number of runs done.

    Raises:
        InputError: for a setting that is out of range, or a run that diverged.
    """
    settings, variants = plain(settings), [plain(dict(variant)) for variant in variants]
    named = {key for variant in variants for key in variant if key.startswith("mixture.weights.")}
    base = apply(settings, dict.fromkeys(sorted(named - batched_values(settings).keys()), 0.0))
    groups: dict[str, tuple[Settings, list[int]]] = {}
    for index, variant in enumerate(variants):
        batched = batched_values(check(apply(base, variant))).keys()
        # A batched key that the base has not, such as a constraint, makes its variants a group of their own.
        own = sorted(key for key in variant if key in batched - batched_values(base).keys())
        shared = apply(base, {key: value for key, value in variant.items() if key not in batched})
        group = groups.setdefault(f"{own} {shared}", (apply(shared, {key: variant[key] for key in own}), []))
        group[1].append(index)
    found: dict[int, xr.Dataset] = {}
    for shared, members in groups.values():
        start = batched_values(shared)
        keys = sorted({key for index in members for key in variants[index] if key in start})
        columns: dict[str, npt.ArrayLike] = {
            key: np.repeat([variants[index].get(key, start[key]) for index in members], len(seeds)) for key in keys
        }
        data = simulate(shared, columns | {"seed": np.tile(seeds, len(members))}, progress)
        for place, index in enumerate(members):
            found[index] = data.isel(run=slice(place * len(seeds), (place + 1) * len(seeds)))
    return [found[index] for index in range(len(variants))]


def final(data: Sequence["xr.Dataset"], name: str) -> Array:
    """Return a metric of each variant after training, [N, V]."""
    return np.stack([each[name].values[:, -1] for each in data], axis=1)


def at_start(data: Sequence["xr.Dataset"], name: str) -> Array:
    """Return a metric of each variant's reference policy, [N, V]."""
    return np.stack([each[name].values[:, 0] for each in data], axis=1)
