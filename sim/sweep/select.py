"""Which runs of a sweep a figure or a comparison is about: names, selections, final values."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from sim.config import InputError, unknown_name
from sim.world.arrays import Array

NOT_SETTINGS = ("run", "step", "id", "job", "status", "error", "seed")
SAME_DIGITS = 12  # 0.15 from one grid and 0.15000000000000002 from another are one value


def finished(data: xr.Dataset, metric: str) -> tuple[xr.Dataset, int]:
    """Return the completed runs that measured the metric, and how many were left out because they failed.

    Raises:
        InputError: for an unknown metric, or if no completed run measured it.
    """
    if metric not in data.data_vars or not {"run", "step"} <= set(data[metric].dims):
        known = [str(name) for name, values in data.data_vars.items() if "step" in values.dims]
        raise InputError(f"metric: {unknown_name('metric', metric, known)}")
    done = data["status"].values == "COMPLETED" if "status" in data.coords else np.ones(data.sizes["run"], bool)
    measured = data[metric].notnull().any("step").values  # runs of another world may lack the metric
    if not (done & measured).any():
        raise InputError(f"metric = {metric}: no completed run has a value of it")
    return data.isel(run=np.flatnonzero(done & measured)), int((~done).sum())


def settings_keys(data: xr.Dataset) -> list[str]:
    """Return the settings that the data set holds for each run, the seed left out."""
    return [str(key) for key in data.coords if data[key].dims == ("run",) and key not in NOT_SETTINGS]


def varying(data: xr.Dataset) -> list[str]:
    """Return the settings, the seed left out, that differ between runs."""
    return [key for key in settings_keys(data) if len(levels_of(data, key)) > 1]


def find_key(data: xr.Dataset, name: str) -> str:
    """Return the setting that a full or shortened name means: `thumbs_up` for `mixture.weights.thumbs_up`."""
    keys = [*settings_keys(data), *(["seed"] if "seed" in data.coords else [])]
    if name in keys:
        return name
    found = [key for key in keys if key.endswith(f".{name}")]
    if len(found) > 1:
        raise InputError(f"'{name}' may be {' or '.join(found)}; write more of the name")
    if not found:
        swept = varying(data)
        near = unknown_name("setting", name, sorted({*keys, *(key.rpartition(".")[2] for key in keys)}))
        hint = near if "did you mean" in near else near.partition(";")[0]
        raise InputError(f"{hint}; what varies in this sweep: {', '.join(swept) or 'nothing but the seed'}")
    return found[0]


def select(data: xr.Dataset, wanted: Mapping[str, Any]) -> xr.Dataset:
    """Return the runs with these values of settings: one value, or a list of them, by full or shortened name."""
    for name, value in wanted.items():
        key = find_key(data, name)
        held = rounded(data[key].values)
        values = rounded(np.array(value if isinstance(value, list) else [value]))
        if held.dtype.kind == "U":
            values = values.astype(str)
        kept = np.isin(held, values)
        if not kept.any():
            shown = ", ".join(map(value_text, np.unique(held)[:20]))
            raise InputError(f"select: no run has {key} = {value}; there are {shown}")
        data = data.isel(run=np.flatnonzero(kept))
    return data


def levels_of(data: xr.Dataset, key: str) -> npt.NDArray[Any]:
    """Return the distinct values of a setting, in order."""
    return np.unique(rounded(data[key].values))


def final_values(data: xr.Dataset, metric: str) -> Array:
    """Return the metric at the last step that each run recorded, [R]; NaN where it has none."""
    values = data[metric].transpose("run", "step").values
    finite = np.isfinite(values)
    last = values.shape[1] - 1 - finite[:, ::-1].argmax(axis=1)
    return np.asarray(values[np.arange(len(values)), last], dtype=float)


def excess_grid(data: xr.Dataset, x: str, y: str, metric: str) -> Array:
    """Return final metric minus its value at the reference policy, averaged over seeds, [y, x]; NaN where no run is."""
    excess = final_values(data, metric) - data[metric].sel(step=0).values
    grid = np.full((len(levels_of(data, y)), len(levels_of(data, x))), np.nan)
    across = [level.runs for level in levels(data, x)]
    for row, up in enumerate(levels(data, y)):
        for column, right in enumerate(across):
            cell = excess[up.runs & right]
            if np.isfinite(cell).any():
                grid[row, column] = np.nanmean(cell)
    return grid


def metric_name(data: xr.Dataset, metric: str) -> str:
    """Return a metric's name in words; a line of the ledger says which cause it is of."""
    name = str(data[metric].attrs.get("long_name", metric))
    return f"{name}: {metric.removeprefix('ledger/')}" if metric.startswith("ledger/") else name


def complain_of_others(data: xr.Dataset, shown: Sequence[str]) -> str:
    """Refuse to average over settings that no axis shows; return in words those that go along with a shown one."""
    keys = [key for key in shown if key]
    for key in keys:
        if key not in data.coords or data[key].dims != ("run",):
            raise InputError(unknown_name("setting", key, settings_keys(data)))
    others = [key for key in varying(data) if key not in keys]
    # A zipped sweep moves one setting along with another: nothing is averaged over it then.
    along = [key for key in others if any(follows(data, key, lead) for lead in keys)]
    mixed = [key for key in others if key not in along]
    if mixed:
        some = next(iter(levels_of(data, mixed[0])))
        example = f"select='{{{mixed[0]}: {value_text(some)}}}'"
        raise InputError(f"the runs also vary in {', '.join(mixed)}: select one value of each, as in {example}")
    return f"{', '.join(along)} goes along" if along else ""


def follows(data: xr.Dataset, key: str, lead: str) -> bool:
    """Say whether the value of `lead` determines that of `key`."""
    pairs = set(zip(rounded(data[lead].values).tolist(), rounded(data[key].values).tolist(), strict=True))
    return len(pairs) == len(levels_of(data, lead))


def rounded(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return floats to 12 digits, so that equal values compare equal, whole numbers as they are, the rest as text."""
    if values.dtype.kind in "iu":
        return values
    if values.dtype.kind != "f":
        return values.astype(str)
    distinct, place = np.unique(values, return_inverse=True)
    return np.array([float(f"{value:.{SAME_DIGITS}g}") for value in distinct])[place]


class Level(NamedTuple):
    """The runs of one line: its name, and which they are [R]."""

    name: str
    runs: npt.NDArray[np.bool_]


def levels(data: xr.Dataset, hue: str) -> list[Level]:
    """Return the lines that a setting tells apart, in the order of its values; one line if `hue` is empty."""
    if not hue:
        return [Level("", np.ones(data.sizes["run"], bool))]
    column = rounded(data[hue].values)
    return [Level(value_text(value), column == value) for value in np.unique(column)]


def value_text(value: Any) -> str:
    """Return a setting as it is written in a label: numbers without trailing zeros."""
    return str(value) if isinstance(value, str) else f"{value:g}"
