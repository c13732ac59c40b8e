"""Axes of the figures of a sweep: labels, scales, the reference, the boundary, and lines with their names."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes

from sim.config import Settings, walk
from sim.plots.style import NEUTRAL, PENALTY, label_ends
from sim.sweep.select import metric_name, value_text
from sim.world.arrays import Array

LABELS = 8  # lines that carry their name; of more, evenly picked ones do
UNITS = {name: item.metadata["unit"] for name, item, value in walk(Settings()) if isinstance(value, float)}


def metric_label(data: xr.Dataset, metric: str) -> str:
    """Return a metric's name with its unit, for an axis."""
    return with_unit(metric_name(data, metric), data[metric].attrs.get("units", ""))


def with_unit(name: str, unit: str) -> str:
    """Return NAME (UNIT), on two lines where one would be longer than the axis."""
    between = "\n" if len(name) + len(unit) > 45 else " "
    return f"{name}{between}({unit})" if unit else name


def setting_label(key: str) -> str:
    """Return a setting's name for an axis, with its unit where that is a word or two."""
    if key.startswith("mixture.weights."):
        return f"weight of {key.removeprefix('mixture.weights.')}"
    unit = UNITS.get(key, "")
    return f"{key} ({unit})" if 0 < len(unit) <= 45 else key


def places_of(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Array]:
    """Return the values and where they stand on an axis: words one beside the other."""
    return values, np.arange(len(values), dtype=float) if values.dtype.kind == "U" else values.astype(float)


def is_log(values: npt.NDArray[Any]) -> bool:
    """Say whether positive numbers are spaced more evenly in their logarithms."""
    if values.dtype.kind == "U" or len(values) < 3 or values[0] <= 0:
        return False
    linear, log = np.diff(values.astype(float)), np.diff(np.log(values.astype(float)))
    return bool(log.std() / log.mean() < linear.std() / linear.mean() - 1e-9)


def set_scale(axes: Axes, name: str, values: npt.NDArray[Any], places: Array) -> None:
    """Make the axis "x" or "y" logarithmic where its values are; few values, or words, are the ticks themselves."""
    log, axis = is_log(values), getattr(axes, f"{name}axis")
    if log:
        axes.set(**{f"{name}scale": "log"})
    if values.dtype.kind == "U" or (log and len(values) <= 10):
        axis.set_ticks(places, [value_text(value) for value in values])
        axis.set_ticks([], minor=True)


def edges_of(places: Array, log: bool) -> Array:
    """Return the borders of cells around these places, [N + 1]."""
    at = np.log(places) if log else places
    middle = (at[1:] + at[:-1]) / 2
    borders = np.concatenate([[2 * at[0] - middle[0]], middle, [2 * at[-1] - middle[-1]]])
    return np.asarray(np.exp(borders) if log else borders)


def draw_boundary(axes: Axes, right: Array, top: Array, excess: Array, text: str) -> None:
    """Draw and name the line where the metric is what it was before training."""
    if not np.nanmin(excess) < 0 < np.nanmax(excess):
        return
    contour = axes.contour(right, top, np.ma.masked_invalid(excess), levels=[0.0], colors="black", linewidths=1.8)
    pieces = [path for path in _pieces(contour) if len(path)]
    if pieces:
        longest = max(pieces, key=len)
        axes.annotate(
            text, longest[len(longest) // 2], ha="center", va="center", fontsize=9,
            bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none", "alpha": 0.85},
        )  # fmt: skip


def _pieces(contour: Any) -> Iterator[Array]:
    for path in contour.get_paths():
        yield from path.to_polygons(closed_only=False)


def draw_reference(axes: Axes, data: xr.Dataset, metric: str) -> str:
    """Draw the metric of the reference policy, where it lies within reach; return what the title says of it."""
    if metric.startswith("ledger/"):
        axes.axhline(0, color=PENALTY, lw=0.8)
        return ""
    level = float(data[metric].sel(step=0).mean())
    if not np.isfinite(level):
        return ""
    axes.axhline(level, color=NEUTRAL, lw=1, ls="--", zorder=1)
    return "dashed: reference"


def name_lines(axes: Axes, ends: Sequence[tuple[float, float]], names: Sequence[str], colours: Sequence[Any]) -> None:
    """Write the lines' names at their ends; of many, those of evenly picked ones."""
    if names == [""]:
        return
    picked = np.unique(np.linspace(0, len(names) - 1, min(LABELS, len(names))).round().astype(int))
    low, high = axes.get_ylim()
    heights = _moved_apart(np.array([ends[i][1] for i in picked]), 0.05 * (high - low), low, high)
    last = max(end for end, _ in ends)
    for height, i in zip(heights, picked, strict=True):
        if ends[i][0] == last:
            label_ends(axes, last, [height], [names[i]], [colours[i]])
        else:  # other lines go on from here: above them
            axes.annotate(names[i], ends[i], xytext=(0, 6), textcoords="offset points", ha="right", fontsize=8.5,
                          color=colours[i], bbox={"pad": 0.5, "fc": "white", "ec": "none", "alpha": 0.7})  # fmt: skip
            axes.plot(*ends[i], "o", ms=3.5, color=colours[i])


def _moved_apart(heights: Array, gap: float, low: float, high: float) -> Array:
    """Return heights at least `gap` apart, in the same order, about as high on average and inside the axes."""
    order = np.argsort(heights, kind="stable")
    placed = heights[order].copy()
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    placed -= (placed - heights[order]).mean()
    placed += max(low - placed[0], 0.0)
    placed -= max(placed[-1] - high, 0.0)
    return np.asarray(placed[np.argsort(order)])
