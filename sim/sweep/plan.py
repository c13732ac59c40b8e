"""Job overrides -> groups of runs that differ only in batchable numbers.

Hydra composes a config in tens of milliseconds; a sweep has thousands of jobs that differ in a few numbers. So each
distinct set of *structural* overrides (config groups, `+`, `++`, `~`, lists, dictionaries) is composed once, by
Hydra, and the *leaf* overrides of its jobs are applied as values. That equals Hydra's own order of application, because
a group choice cannot depend on a leaf value. The first and last job of several groups are composed Hydra's way as well
and must be equal (`verify`; the launcher does it while the first shard computes).

Where the composed config holds an interpolation, a value may depend on a swept leaf: its jobs are then resolved one by
one (about a millisecond each), which is slower and still right.
"""

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig, OmegaConf
from omegaconf.base import SCMode

from sim.checks import table_problems
from sim.config import InputError, Settings, walk, with_row
from sim.derived import batched_values
from sim.problem import name_problems
from sim.sweep.overrides import Complaints, Reader

Compose = Callable[[list[str]], DictConfig]
Convert = Callable[[DictConfig], Settings]
SAMPLED_GROUPS = 8  # whose first and last job is compared with Hydra's own composition


class Group(NamedTuple):
    """Jobs that share everything but the columns.

    settings: what they share.
    columns: batched key -> [N] value of each job.
    jobs: [N] positions in the list of jobs.
    """

    settings: Settings
    columns: dict[str, npt.NDArray[Any]]
    jobs: npt.NDArray[np.int64]


class _Base(NamedTuple):
    config: DictConfig  # as composed, without the hydra node
    settings: Settings
    interpolated: bool


def make_plan(
    jobs: Sequence[Sequence[str]], compose: Compose, convert: Convert, is_group: Callable[[str], bool], parser: Any
) -> list[Group]:
    """Return the groups of a sweep, everything checked.

    Args:
        jobs: the overrides of each job.
        compose: overrides -> composed config, as Hydra does it (the hydra node is dropped here).
        convert: config -> settings, their values unchecked; raises `InputError` for an unknown key.
        is_group: whether a key is a config group.
        parser: Hydra's `OverridesParser`.

    Raises:
        InputError: one line for each distinct problem of the whole sweep.
    """
    reader = Reader(parser, is_group)
    bases: dict[tuple[str, ...], _Base | None] = {}
    rows: dict[tuple[Any, ...], list[int]] = {}
    values: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    complaints = Complaints()
    for number, job in enumerate(jobs):
        structural, leaves = reader.split(job)
        if structural not in bases:
            bases[structural] = _compose_base(structural, compose, convert, complaints, number)
        base = bases[structural]
        if base is None:
            continue
        keys, given = tuple(leaves), tuple(leaves.values())
        fixed, swept = reader.partition(base.settings, base.interpolated, structural, keys, given)
        group = (structural, fixed, keys)
        rows.setdefault(group, []).append(number)
        values.setdefault(group, []).append(swept)
    complaints.raise_if_any()

    groups = []
    for key, numbers in rows.items():
        structural, fixed, keys = key
        base = bases[structural]
        assert base is not None
        groups += _make_groups(base, dict(fixed), keys, values[key], np.array(numbers), complaints)
    complaints.raise_if_any()
    groups = _merge(groups)
    for made in groups:
        _check(made, complaints)
    complaints.raise_if_any()
    return groups


def _compose_base(
    structural: tuple[str, ...], compose: Compose, convert: Convert, complaints: Complaints, number: int
) -> _Base | None:
    config = without_hydra(compose(list(structural)))
    interpolated = _has_interpolation(config)
    try:
        return _Base(config, convert(config), interpolated)
    except InputError as error:
        complaints.add(str(error), number)
        return None


def _make_groups(
    base: _Base,
    fixed: dict[str, Any],
    keys: tuple[str, ...],
    swept: list[tuple[Any, ...]],
    numbers: npt.NDArray[np.int64],
    complaints: Complaints,
) -> list[Group]:
    """Return the group of these jobs, or one per distinct resolved config where values depend on each other."""
    try:
        config = _with_leaves(base.config, fixed)
        settings = OmegaConf.to_container(config, resolve=True, structured_config_mode=SCMode.INSTANTIATE)
        assert isinstance(settings, Settings)
    except Exception as error:
        complaints.add(str(error).splitlines()[0], *map(int, numbers))
        return []
    columns: dict[str, Any] = {key: np.full(len(numbers), value) for key, value in batched_values(settings).items()}
    varied = [key for key in keys if key not in fixed]
    for position, key in enumerate(varied):
        raw = [row[position] for row in swept]
        try:
            columns[key] = _converted(base.config, key, raw)
        except Exception:
            for value in dict.fromkeys(raw):
                try:
                    _converted(base.config, key, [value])
                except Exception as error:
                    jobs = [job for job, own in zip(numbers.tolist(), raw, strict=True) if own == value]
                    complaints.add(f"{key}: {str(error).splitlines()[0]}", *jobs)
    return [Group(settings, columns, numbers)]


def _with_leaves(config: DictConfig, leaves: dict[str, Any]) -> DictConfig:
    """Return the config with leaf values set, as Hydra's own override does it."""
    if not leaves:
        return config
    changed = copy.deepcopy(config)
    OmegaConf.set_struct(changed, True)
    for key, value in leaves.items():
        OmegaConf.update(changed, key, value, merge=True)
    return changed


def _converted(config: DictConfig, key: str, raw: list[Any]) -> npt.NDArray[Any]:
    """Return the values as the schema types them; every distinct value is converted once."""
    kinds = set(map(type, raw))
    if isinstance(OmegaConf.select(config, key), float) and kinds <= {int, float}:
        return np.array(raw, dtype=np.float64)
    if kinds == {int}:
        return np.array(raw, dtype=np.int64)
    changed = copy.deepcopy(config)
    converted = []
    for value in raw:
        OmegaConf.update(changed, key, value, merge=True)  # raises what Hydra would
        converted.append(OmegaConf.select(changed, key))
    return np.array(converted)


def _merge(groups: Sequence[Group]) -> list[Group]:
    """Return the groups with those joined that share everything but the columns."""
    alike: dict[str, list[Group]] = {}
    for group in groups:
        alike.setdefault(shared_identity(group.settings), []).append(group)
    merged = []
    for same in alike.values():
        columns = {key: np.concatenate([group.columns[key] for group in same]) for key in same[0].columns}
        merged.append(Group(same[0].settings, columns, np.concatenate([group.jobs for group in same])))
    return merged


def shared_identity(settings: Settings) -> str:
    """Return a text that is equal for settings that may share a batch."""
    own = batched_values(settings)
    # Of what is batched the name counts: runs with other signals in their mixture have other columns.
    shared = {key: None if key in own else value for key, value in flatten(settings).items()}
    return json.dumps(shared, sort_keys=True)


def flatten(settings: Settings) -> dict[str, Any]:
    """Return every leaf value by dotted key, dictionaries included."""
    flat: dict[str, Any] = {}
    for name, _, value in walk(settings):
        flat |= {f"{name}.{key}": entry for key, entry in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _check(group: Group, complaints: Complaints) -> None:
    """Check what is shared and what differs, and the names that only the world knows."""
    for text in name_problems(group.settings):
        complaints.add(text, *map(int, group.jobs))
    for text, rows in table_problems(group.settings, group.columns).items():
        complaints.add(text, *map(int, group.jobs[rows]))


def verify(groups: Sequence[Group], jobs: Sequence[Sequence[str]], compose: Compose, convert: Convert) -> None:
    """Compare a few jobs of a few groups with Hydra's own composition; a difference is an error of this program."""
    for group in groups[:: max(1, len(groups) // SAMPLED_GROUPS)][:SAMPLED_GROUPS]:
        for row in {0, len(group.jobs) - 1}:
            expected = convert(without_hydra(compose(list(jobs[group.jobs[row]]))))
            if with_row(group.settings, group.columns, row) != expected:
                raise AssertionError(
                    f"planned settings of job {group.jobs[row]} differ from Hydra's own; please report this sweep"
                )


def without_hydra(config: DictConfig) -> DictConfig:
    """Return the app's own part of a composed config."""
    own = copy.copy(config)
    OmegaConf.set_struct(own, False)
    own.pop("hydra", None)
    OmegaConf.set_struct(own, True)
    return own


def _has_interpolation(config: Any) -> bool:
    if OmegaConf.is_dict(config):
        return any(
            OmegaConf.is_interpolation(config, key) or _has_interpolation(config._get_node(key)) for key in config
        )
    return False
