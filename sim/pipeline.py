"""From settings to one labelled data set: the one path through all floors."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sim.analysis.ledger import check_strength
from sim.batch import engine_of, recorded_steps
from sim.checks import WHOLE, kind_problems, plain, table_problems
from sim.config import SAMPLED, InputError, Settings, shown, unknown_name
from sim.derived import batched_values
from sim.problem import Problem
from sim.workers import run_table
from sim.world.arrays import Array

if TYPE_CHECKING:
    import xarray as xr  # half a second to load: functions that make data sets do it


def causes(settings: Settings) -> list[str]:
    """Return the names of the ledger's lines: signals, KL penalty, noise where responses are drawn, remainder."""
    noise = ["sampling noise"] if settings.training.estimator in SAMPLED else []
    return [*settings.mixture.weights, "kl penalty", *noise, "remainder"]


def simulate(
    settings: Settings,
    columns: Mapping[str, npt.ArrayLike] | None = None,
    progress: Callable[[int], object] | None = None,
    workers: int | None = None,
) -> "xr.Dataset":
    """Return the data set of R runs, dimensions (run, step).

    Args:
        settings: what all runs share.
        columns: dotted key -> [R] values; keys are those of `sim.derived.batched_values`: seed, kl_coef,
            training.learning_rate, training.sampling_seed, mixture.weights.NAME and mixture.constraints.NAME.
        progress: called with the number of runs done.
        workers: threads; the number of cores where None. The numbers do not depend on it.

    Raises:
        InputError: naming every setting that is out of range, a key that cannot vary, a bad score table, or the first
            run that diverged.
    """
    return simulate_problem(settings, columns, progress, workers)[0]


def simulate_problem(
    settings: Settings,
    columns: Mapping[str, npt.ArrayLike] | None = None,
    progress: Callable[[int], object] | None = None,
    workers: int | None = None,
) -> tuple["xr.Dataset", Problem]:
    """Return the data set of R runs and the problem of the first; arguments and errors are those of `simulate`."""
    settings, workers = plain(settings), plain(workers)
    if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 1):
        raise InputError(f"workers = {shown(workers)}: must be a whole number >= 1")
    table = batch_table(settings, {} if columns is None else columns)
    found, problem = run_table(settings, table, workers=workers, progress=progress)
    return to_dataset(settings, problem, table, found), problem


def describe(settings: Settings, problem: Problem) -> dict[str, dict[str, str]]:
    """Return label, unit and better direction of everything that `run_batch` measures, by name."""
    known = {
        "kl": ("KL(policy || reference)", "nats per prompt", ""),
        "entropy": ("entropy of the policy", "nats per prompt", ""),
        "proxy_reward": ("proxy reward", "reward", "higher"),
        "objective": ("proxy reward minus KL penalty", "reward", "higher"),
    }
    for name, metric in problem.metrics.items():
        known[name] = (metric.label, metric.unit, metric.better)
    for name in settings.mixture.weights:
        known[f"rewards/{name}/raw"] = (f"{name}, mean score", "score", "higher")
        known[f"rewards/{name}/weighted"] = (f"{name}, weighted", "reward", "higher")
        known[f"rewards/{name}/weight"] = (f"weight of {name}", "reward per unit of score", "")
    headline = problem.metrics[problem.headline]
    known["ledger"] = (f"change of {headline.label} by cause", headline.unit, "")
    return {name: dict(zip(("long_name", "units", "better"), text, strict=True)) for name, text in known.items()}


def to_dataset(
    settings: Settings, problem: Problem, table: Mapping[str, Array], found: Mapping[str, Array]
) -> "xr.Dataset":
    """Return what `run_batch` measured as a labelled data set, with the check strength of each run."""
    import xarray as xr

    labels = describe(settings, problem)
    steps = recorded_steps(settings.training)
    variables: dict[str, Any] = {
        name: (("run", "step"), values, labels[name]) for name, values in found.items() if name != "ledger"
    }
    coordinates: dict[str, Any] = {key: ("run", np.asarray(values)) for key, values in table.items()}
    coordinates |= {"run": np.arange(len(table["seed"])), "step": steps}
    if "ledger" in found:
        names = list(settings.mixture.weights)
        lines = found["ledger"][:, 1:]
        variables["ledger"] = (("run", "interval", "cause"), lines, labels["ledger"])
        primary = np.flatnonzero([name != settings.mixture.added for name in names])
        strength = check_strength(lines.sum(axis=1).T, primary)
        variables["check_strength"] = (("run",), strength, {"long_name": "check strength", "units": "ratio"})
        coordinates |= {"interval": steps[1:], "cause": causes(settings)}
    engine = engine_of(settings, problem).name
    attributes = {"headline": problem.headline, "added": settings.mixture.added, "engine": engine}
    return xr.Dataset(variables, coordinates, attributes)


def batch_table(settings: Settings, columns: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
    """Return a value per run for every batched key, key -> [R], settings and columns checked.

    Args:
        settings: what the runs share; they give the columns that are not named.
        columns: as for `simulate`.

    Raises:
        InputError: as `simulate`.
    """
    if wrong := kind_problems(settings):
        raise InputError(*wrong)
    if not isinstance(columns, Mapping):
        raise InputError(f"columns: expected a mapping of keys to values, got {type(columns).__name__}")
    given = {key: _column(key, values) for key, values in columns.items()}
    defaults = batched_values(settings)
    for key in given:
        if key not in defaults:
            raise InputError(f"columns: {unknown_name('key', key, list(defaults))}")
    lengths = {len(values) for values in given.values()} or {1}
    if len(lengths) > 1:
        raise InputError(f"columns: lengths differ ({', '.join(f'{key}: {len(v)}' for key, v in given.items())})")
    runs = lengths.pop()
    table = {key: given.get(key, np.full(runs, value)) for key, value in defaults.items()}
    if wrong := list(table_problems(settings, table)):
        raise InputError(*wrong)
    return table


def _column(key: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return a column as 64-bit numbers, which every number that a setting may take is equal to."""
    try:
        column = np.atleast_1d(np.asarray(values))
    except (ValueError, TypeError):  # lists of different lengths, for one
        column = np.empty(0)
    if column.ndim != 1 or not len(column) or column.dtype.kind not in "iuf":
        raise InputError(f"columns: {shown(key)} must be a list of numbers, one per run")
    if np.ma.is_masked(values):
        raise InputError(f"columns: {shown(key)} has masked values; every run needs its own")
    if column.dtype.kind == "f":
        return column.astype(np.float64)
    return column if column.dtype == np.uint64 and column.max() > WHOLE else column.astype(np.int64)
