"""One run of a sweep on disk, as settings to run it again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sim.checks import check
from sim.config import Chat, InputError, Scores, Settings, unknown_name, walk, with_value
from sim.sweep.parts import part_meta, read_part
from sim.sweep.results import COMPLETED, RESULTS_VERSION, Store

NOT_SETTINGS = ("id", "job", "status", "error")
TOLERANCE = {"float64": 1e-9, "float32": 1e-4}  # of a number near 1: batches of another size add in another order


class Stored(NamedTuple):
    """What a sweep holds of one run: settings, the headline metric's name and its final value."""

    settings: Settings
    headline: str
    final: float


def settings_at(path: str | Path, job: int) -> Settings:
    """Return the settings of one run of a sweep (arguments and errors as for `stored_run`)."""
    return stored_run(path, job).settings


def stored_run(path: str | Path, job: int) -> Stored:
    """Return what a sweep holds of one run; where it was tried again, of its newest result.

    Args:
        path: the sweep's folder.
        job: its job number.

    Raises:
        InputError: if there is no such run, it failed, or its settings are not those of this version.
    """
    store = Store(path)
    store.manifest()
    jobs: set[int] = set()
    for part in reversed(store.parts()):
        table = read_part(part)
        numbers = table["job"].to_pylist()
        jobs.update(numbers)
        if job in numbers:
            row = table.slice(numbers.index(job), 1).to_pylist()[0]
            meta = part_meta(table, part)
            try:
                return _stored(row, meta, job)
            except (KeyError, TypeError, ValueError, IndexError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(f"{part}: job {job} is no run of this version") from None
    held = f"it holds {len(jobs)} runs, {min(jobs)} to {max(jobs)}" if jobs else "it holds no finished runs yet"
    raise InputError(f"job = {job}: no such run in {path}; {held}")


def _stored(row: Mapping[str, Any], meta: Mapping[str, Any], job: int) -> Stored:
    if row["status"] != COMPLETED:
        raise InputError(f"job = {job}: this run failed ({row['error']}); there is no result to write")
    own = {key: value for key, value in row.items() if key not in NOT_SETTINGS and not key.startswith("metric:")}
    settings = check(unflatten(meta["settings"] | own))
    return Stored(settings, meta["headline"], float(row[f"metric:{meta['headline']}"][-1]))


def unflatten(flat: Mapping[str, Any]) -> Settings:
    """Return settings from every leaf value by dotted key (the inverse of `sim.sweep.plan.flatten`).

    Raises:
        InputError: naming a key that this version does not have; one that is missing takes its default. A key without a
            group that no run has is an option of the command that made the sweep, and is left out.
    """
    settings = Settings(world={"chat": Chat, "scores": Scores}[flat["world.kind"]]())
    known = set()
    for name, _, default in list(walk(settings)):
        if isinstance(default, dict):
            keys = [key for key in flat if key.startswith(f"{name}.")]
            settings = with_value(settings, name, {key.removeprefix(f"{name}."): flat[key] for key in keys})
            known.update(keys)
        else:
            settings = with_value(settings, name, flat.get(name, default))
            known.add(name)
    unknown = [key for key in flat if key not in known and "." in key]
    if unknown:
        text = unknown_name("key", unknown[0], sorted(known)).partition("; known")[0]
        raise InputError(f"stored settings: {text} (another version wrote them)")
    return settings


def agrees(again: float, stored: Stored, manifest: Mapping[str, Any]) -> None:
    """Raise `InputError` unless a run's final headline metric equals the stored one, to the precision of training."""
    tolerance = TOLERANCE[stored.settings.training.dtype] * max(1.0, abs(stored.final))
    if abs(again - stored.final) <= tolerance:
        return
    origin = f"commit {manifest.get('commit', 'unknown')}, results version {manifest.get('results_version', 'unknown')}"
    raise InputError(
        f"{stored.headline}: run again it ends at {again!r}, stored is {stored.final!r} (tolerance {tolerance:g}); "
        f"it was stored at {origin}, this is results version {RESULTS_VERSION}"
    )
