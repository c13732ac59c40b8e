"""The figures of any sweep: a metric against a setting, over two settings, over training, or against another sweep.

They take a data set of `sim.open_sweep` (or `sim.simulate`), dimensions run and step, and names in it. The runs that
share what a figure shows are averaged, and may differ in their seed only: every other setting that varies has to be on
an axis, tell the lines apart, or be fixed with `select`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sim.config import InputError, Settings, walk
from sim.plots.drift import BAND
from sim.plots.style import ADDED, NEUTRAL, PENALTY, label_ends, new_figure, shades, styled
from sim.sweep.select import (
    complain_of_others,
    excess_grid,
    final_values,
    finished,
    levels,
    levels_of,
    metric_name,
    rounded,
    value_text,
)
from sim.world.arrays import Array

LABELS = 8  # lines that carry their name; of more, evenly picked ones do
BAND_TEXT = "band: 90 % of the mean over seeds"
UNITS = {name: item.metadata["unit"] for name, item, value in walk(Settings()) if isinstance(value, float)}


@styled
def curve(data: xr.Dataset, x: str, metric: str, hue: str = "") -> Figure:
    """The metric after training against a setting, a line per value of `hue`."""
    runs, failed = finished(data, metric)
    along = complain_of_others(runs, [x, hue])
    final, (values, places) = final_values(runs, metric), _places(levels_of(runs, x))
    lines = levels(runs, hue)
    column = rounded(runs[x].values)
    figure, (axes,) = new_figure(1, width=6.8, height=4.3)
    colours, ends = shades(len(lines)), []
    for colour, line in zip(colours, lines, strict=True):
        cells = [final[line.runs & (column == value)] for value in values]
        held = np.array([np.isfinite(cell).any() for cell in cells])
        mean, band = mean_and_band([cell for cell, has in zip(cells, held, strict=True) if has])
        axes.plot(places[held], mean, color=colour, marker="o" if held.sum() < 20 else "", ms=3)
        axes.fill_between(places[held], mean - band, mean + band, color=colour, alpha=min(0.25, 0.6 / len(lines)), lw=0)
        ends.append((places[held][-1], mean[-1]))
    reference = _reference(axes, runs, metric)
    _scale(axes, "x", values, places)
    _name_lines(axes, ends, [line.name for line in lines], colours)
    axes.set(xlabel=setting_label(x), ylabel=metric_label(runs, metric))
    _title(axes, f"{metric_name(runs, metric)} after training", hue, [BAND_TEXT, reference, along], failed)
    return figure


@styled
def drift(data: xr.Dataset, metric: str, hue: str = "") -> Figure:
    """The metric over training, a line per value of `hue`."""
    runs, failed = finished(data, metric)
    along = complain_of_others(runs, [hue])
    lines, steps = levels(runs, hue), runs["step"].values
    over_training = runs[metric].transpose("run", "step").values
    figure, (axes,) = new_figure(1, width=6.8, height=4.3)
    colours, ends = shades(len(lines)), []
    for colour, line in zip(colours, lines, strict=True):
        own = over_training[line.runs]
        held = np.isfinite(own).any(axis=0)  # runs that record at other steps share the axis
        mean, band = mean_and_band(list(own[:, held].T))
        axes.plot(steps[held], mean, color=colour)
        axes.fill_between(steps[held], mean - band, mean + band, color=colour, alpha=min(0.25, 0.6 / len(lines)), lw=0)
        ends.append((steps[held][-1], mean[-1]))
    reference = _reference(axes, runs, metric)
    _name_lines(axes, ends, [line.name for line in lines], colours)
    axes.set(xlabel="training step", ylabel=metric_label(runs, metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    _title(axes, f"{metric_name(runs, metric)} over training", hue, [BAND_TEXT, reference, along], failed)
    return figure


@styled
def phase(data: xr.Dataset, x: str, y: str, metric: str) -> Figure:
    """How far training moved the metric, over two settings, and the boundary where it did not move it."""
    runs, failed = finished(data, metric)
    along = complain_of_others(runs, [x, y])
    (across, right), (up, top) = _places(levels_of(runs, x)), _places(levels_of(runs, y))
    for key, values in ((x, across), (y, up)):
        if len(values) < 2:
            raise InputError(f"{key}: a phase diagram needs two values or more, the sweep has {len(values)}")
    excess = excess_grid(runs, x, y, metric)
    figure, (axes,) = new_figure(1, width=6.8, height=4.6)
    attributes = runs[metric].attrs
    # red is the direction that nobody wants, and "more" where neither is better
    colours = "RdBu" if attributes.get("better") == "higher" else "RdBu_r"
    extent = float(np.nanmax(np.abs(excess))) or 1.0
    log_x, log_y = _is_log(across), _is_log(up)
    mesh = axes.pcolormesh(
        _edges(right, log_x), _edges(top, log_y), excess, cmap=colours, norm=CenteredNorm(0, extent), rasterized=True
    )
    _scale(axes, "x", across, right)
    _scale(axes, "y", up, top)
    weight = f"mixture.weights.{runs.attrs.get('added')}"
    _boundary(axes, right, top, excess, "critical weight" if weight in (x, y) else "unchanged")
    axes.grid(visible=False)
    label = metric_name(runs, metric)
    figure.colorbar(mesh, label=_with_unit(f"change of {label}", attributes.get("units", "")), pad=0.02)
    axes.set(xlabel=setting_label(x), ylabel=setting_label(y))
    boundary = "" if np.nanmin(excess) < 0 < np.nanmax(excess) else "no boundary in range"
    _title(axes, f"{label}: after training minus reference", "", ["mean over seeds", boundary, along], failed)
    return figure


@styled
def scatter(a: Array, b: Array, label: str, names: tuple[str, str], note: str) -> Figure:
    """One sweep's final metric against another's, a dot per matched run, and the diagonal of equality."""
    figure, (axes,) = new_figure(1, width=5.2, height=4.9)
    ends = [min(a.min(), b.min()), max(a.max(), b.max())]
    axes.plot(ends, ends, color=PENALTY, lw=1, ls="--", zorder=1)
    axes.annotate("equal", (ends[1], ends[1]), xytext=(-6, -2), textcoords="offset points", fontsize=8.5, ha="right",
                  color=PENALTY)  # fmt: skip
    axes.plot(a, b, "o", ms=4, color=ADDED, alpha=0.5, mec="none")
    axes.set_aspect("equal")
    axes.set(xlabel=f"{label}\na: {names[0]}", ylabel=f"{label}\nb: {names[1]}")
    _title(axes, "Matched runs of two sweeps", "", [note], 0)
    return figure


def mean_and_band(cells: Sequence[Array]) -> tuple[Array, Array]:
    """Return the mean of each cell and the half-width of a 90 % band of it, 1.645 standard errors (0 for one run)."""
    finite = [np.asarray(cell, dtype=float)[np.isfinite(cell)] for cell in cells]
    errors = [np.std(cell, ddof=1) / np.sqrt(len(cell)) if len(cell) > 1 else 0.0 for cell in finite]
    return np.array([cell.mean() for cell in finite]), BAND * np.array(errors)


def metric_label(data: xr.Dataset, metric: str) -> str:
    """Return a metric's name with its unit, for an axis."""
    return _with_unit(metric_name(data, metric), data[metric].attrs.get("units", ""))


def _with_unit(name: str, unit: str) -> str:
    """Return NAME (UNIT), on two lines where one would be longer than the axis."""
    between = "\n" if len(name) + len(unit) > 45 else " "
    return f"{name}{between}({unit})" if unit else name


def setting_label(key: str) -> str:
    """Return a setting's name for an axis, with its unit where that is a word or two."""
    if key.startswith("mixture.weights."):
        return f"weight of {key.removeprefix('mixture.weights.')}"
    unit = UNITS.get(key, "")
    return f"{key} ({unit})" if 0 < len(unit) <= 45 else key


def _places(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Array]:
    """Return the values and where they stand on an axis: words one beside the other."""
    return values, np.arange(len(values), dtype=float) if values.dtype.kind == "U" else values.astype(float)


def _is_log(values: npt.NDArray[Any]) -> bool:
    """Say whether positive numbers are spaced more evenly in their logarithms."""
    if values.dtype.kind == "U" or len(values) < 3 or values[0] <= 0:
        return False
    linear, log = np.diff(values.astype(float)), np.diff(np.log(values.astype(float)))
    return bool(log.std() / log.mean() < linear.std() / linear.mean() - 1e-9)


def _scale(axes: Axes, name: str, values: npt.NDArray[Any], places: Array) -> None:
    """Make the axis "x" or "y" logarithmic where its values are; few values, or words, are the ticks themselves."""
    log, axis = _is_log(values), getattr(axes, f"{name}axis")
    if log:
        axes.set(**{f"{name}scale": "log"})
    if values.dtype.kind == "U" or (log and len(values) <= 10):
        axis.set_ticks(places, [value_text(value) for value in values])
        axis.set_ticks([], minor=True)


def _edges(places: Array, log: bool) -> Array:
    """Return the borders of cells around these places, [N + 1]."""
    at = np.log(places) if log else places
    middle = (at[1:] + at[:-1]) / 2
    borders = np.concatenate([[2 * at[0] - middle[0]], middle, [2 * at[-1] - middle[-1]]])
    return np.asarray(np.exp(borders) if log else borders)


def _boundary(axes: Axes, right: Array, top: Array, excess: Array, text: str) -> None:
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


def _reference(axes: Axes, data: xr.Dataset, metric: str) -> str:
    """Draw the metric of the reference policy, where it lies within reach; return what the title says of it."""
    if metric.startswith("ledger/"):
        axes.axhline(0, color=PENALTY, lw=0.8)
        return ""
    level = float(data[metric].sel(step=0).mean())
    if not np.isfinite(level):
        return ""
    axes.axhline(level, color=NEUTRAL, lw=1, ls="--", zorder=1)
    return "dashed: reference"


def _name_lines(axes: Axes, ends: Sequence[tuple[float, float]], names: Sequence[str], colours: Sequence[Any]) -> None:
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


def _title(axes: Axes, text: str, hue: str, notes: Sequence[str], failed: int) -> None:
    """Write the title, and below it in small print what the reader should know of the lines."""
    told = [*([f"lines: {hue.removeprefix('mixture.weights.')}"] if hue else []), *(note for note in notes if note)]
    told += [f"{failed} failed run{'s'[: failed > 1]} left out"] if failed else []
    axes.set_title(text, pad=20)
    axes.annotate("; ".join(told), (0, 1), xycoords="axes fraction", xytext=(0, 6), textcoords="offset points",
                  fontsize=8.5, color="#555555")  # fmt: skip
