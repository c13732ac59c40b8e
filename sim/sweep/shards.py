"""Shards: slices of a group's runs, each run by one call and written as one part by whoever ran it."""

import dataclasses
import functools
import json
import typing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.batch import engine_of, recorded_steps
from sim.checks import kind_problems, table_problems
from sim.config import Chat, InputError, Scores, Settings
from sim.derived import batched_values
from sim.pipeline import causes, describe
from sim.problem import Problem
from sim.sweep.plan import Group, flatten
from sim.sweep.results import COMPLETED, FAILED, Store, run_ids
from sim.workers import Outcome, Workers, start_table, worlds
from sim.world.arrays import Array

SHARDS_AHEAD = 2  # queued behind the one at work: enough that nobody waits, few enough to fit in memory


class Shard(NamedTuple):
    """Runs that share everything but the columns: settings, key -> [N], job numbers [N], run ids [N]."""

    settings: Settings
    columns: dict[str, npt.NDArray[Any]]
    jobs: npt.NDArray[np.int64]
    ids: list[str]


def group_ids(group: Group) -> list[str]:
    """Return the identity of every run of a group."""
    return run_ids(flatten(group.settings), group.columns)


def cut(group: Group, ids: Sequence[str], wanted: npt.NDArray[np.bool_], first_job: int, size: int) -> Iterator[Shard]:
    """Yield the wanted runs of a group in shards of at most `size`; runs of one world stay together."""
    rows = np.flatnonzero(wanted)
    rows = rows[np.argsort(group.columns["seed"][rows], kind="stable")]
    for at in range(0, len(rows), size):
        part = rows[at : at + size]
        columns = {key: values[part] for key, values in group.columns.items()}
        yield Shard(group.settings, columns, first_job + group.jobs[part], [ids[row] for row in part])


def run_shard(
    shard: Shard,
    store: Store,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> int:
    """Run a shard, write its part, and return how many of its runs failed."""
    return sum(run_shards([shard], store, workers, progress, cancelled))


def run_shards(
    shards: Iterable[Shard],
    store: Store,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[int]:
    """Run shards one after the other, and yield how many runs of each failed.

    Nobody waits between two shards: the next one's chunks are queued already, and the thread that does the last chunk
    of a shard writes its part while the others go on.
    """
    ahead: deque[list[Future[Any]]] = deque()
    settings, world = None, None
    with Workers(workers) as pool:
        for shard in shards:
            if world is None or shard.settings is not settings:
                settings, world = shard.settings, worlds(pool, shard.settings)
            outcome = Outcome({}, {})
            write = functools.partial(_write, shard, world(int(shard.columns["seed"].min())), outcome, store)
            options = {"progress": progress, "cancelled": cancelled, "keep_going": True, "finish": write}
            ahead.append(start_table(pool, settings, shard.columns, world, outcome, **options))  # type: ignore[arg-type]
            if len(ahead) > SHARDS_AHEAD:
                yield _failures(ahead.popleft())
        while ahead:
            yield _failures(ahead.popleft())


def _failures(tasks: "list[Future[Any]]") -> int:
    """Wait for the chunks of a shard; return what the one that wrote it says."""
    return next(failed for failed in [task.result() for task in tasks] if failed is not None)


def _write(shard: Shard, world: "Future[Problem]", outcome: Outcome, store: Store) -> int:
    """Write a shard's part and return how many of its runs failed."""
    settings = shard.settings
    status = [FAILED if row in outcome.errors else COMPLETED for row in range(len(shard.ids))]
    errors = [outcome.errors.get(row, "") for row in range(len(shard.ids))]
    steps = recorded_steps(settings.training)
    labels: dict[str, dict[str, str]] = {}
    headline, engine = settings.metric, ""
    if outcome.found:
        problem = world.result()
        labels, headline, engine = describe(settings, problem), problem.headline, engine_of(settings, problem).name
    metrics = _flat_metrics(settings, outcome.found)
    meta = {
        "settings": flatten(settings),
        "steps": steps.tolist(),
        "labels": labels | {name: labels["ledger"] for name in metrics if name.startswith("ledger/")},
        "headline": headline,
        "added": settings.mixture.added,
        "engine": engine,
    }
    rows: dict[str, Any] = {"id": shard.ids, "job": shard.jobs, "status": status, "error": errors, **shard.columns}
    store.write_part(rows, metrics, meta)
    return len(outcome.errors)


def _flat_metrics(settings: Settings, found: Mapping[str, Array]) -> dict[str, Array]:
    """Return name -> [N, T] in the precision of training; the ledger becomes a cumulative line per cause."""
    precision = np.dtype(settings.training.dtype)
    flat = {name: values.astype(precision) for name, values in found.items() if name != "ledger"}
    if "ledger" in found:
        total = found["ledger"].cumsum(axis=1)
        for place, cause in enumerate(causes(settings)):
            flat[f"ledger/{cause}"] = total[:, :, place].astype(precision)
    return flat


def save_shard(shard: Shard, path: Path) -> None:
    """Write a shard as JSON, for a worker on another machine to read."""
    content = {
        "settings": dataclasses.asdict(shard.settings),
        "columns": {key: values.tolist() for key, values in shard.columns.items()},
        "jobs": shard.jobs.tolist(),
        "ids": shard.ids,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def load_shard(path: Path) -> Shard:
    """Return a shard that `save_shard` wrote."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        columns = {key: np.array(values) for key, values in content["columns"].items()}
        shard = Shard(settings_from(content["settings"]), columns, np.array(content["jobs"]), content["ids"])
        if kind_problems(shard.settings) or columns.keys() != batched_values(shard.settings).keys():
            raise ValueError
        if any(values.shape != shard.jobs.shape or values.dtype.kind not in "iuf" for values in columns.values()):
            raise ValueError
        if len(shard.ids) != len(shard.jobs) or table_problems(shard.settings, columns):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a shard of a sweep ({type(error).__name__})") from None
    return shard


def settings_from(nested: Mapping[str, Any]) -> Settings:
    """Return settings from nested dictionaries, as `dataclasses.asdict` made them."""
    world = {"chat": Chat, "scores": Scores}[nested["world"]["kind"]](**nested["world"])
    parts: dict[str, Any] = {}
    for item in dataclasses.fields(Settings):
        kind: Any = typing.get_type_hints(Settings)[item.name]
        value = nested[item.name]
        parts[item.name] = kind(**value) if dataclasses.is_dataclass(kind) else value  # type: ignore[operator]
    return Settings(**{**parts, "world": world})
