"""The figures of any sweep: a metric against a setting, over two settings, over training, or against another sweep.

They take a data set of `sim.open_sweep` (or `sim.simulate`), dimensions run and step, and names in it. The runs that
share what a figure shows are averaged, and may differ in their seed only: every other setting that varies has to be on
an axis, tell the lines apart, or be fixed with `select`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sim.config import InputError
from sim.plots.axes import (
    draw_boundary,
    draw_reference,
    edges_of,
    is_log,
    metric_label,
    name_lines,
    places_of,
    set_scale,
    setting_label,
    with_unit,
)
from sim.plots.drift import BAND
from sim.plots.style import ADDED, PENALTY, new_figure, shades, styled
from sim.sweep.select import (
    complain_of_others,
    excess_grid,
    final_values,
    finished,
    levels,
    levels_of,
    metric_name,
    rounded,
)
from sim.world.arrays import Array

BAND_TEXT = "band: 90 % of the mean over seeds"


@styled
def curve(data: xr.Dataset, x: str, metric: str, hue: str = "") -> Figure:
    """The metric after training against a setting, a line per value of `hue`."""
    runs, failed = finished(data, metric)
    along = complain_of_others(runs, [x, hue])
    final, (values, places) = final_values(runs, metric), places_of(levels_of(runs, x))
    lines = levels(runs, hue)
    column = rounded(runs[x].values)
    figure, (axes,) = new_figure(1, width=6.8, height=4.3)
    colours, ends = shades(len(lines)), []
    for colour, line in zip(colours, lines, strict=True):
        cells = [final[line.runs & (column == value)] for value in values]
        held = np.array([np.isfinite(cell).any() for cell in cells])
        measured = [cell for cell, has in zip(cells, held, strict=True) if has]
        ends.append(_line(axes, places[held], measured, colour, len(lines), "o" if held.sum() < 20 else ""))
    reference = draw_reference(axes, runs, metric)
    set_scale(axes, "x", values, places)
    name_lines(axes, ends, [line.name for line in lines], colours)
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
        ends.append(_line(axes, steps[held], list(own[:, held].T), colour, len(lines)))
    reference = draw_reference(axes, runs, metric)
    name_lines(axes, ends, [line.name for line in lines], colours)
    axes.set(xlabel="training step", ylabel=metric_label(runs, metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    _title(axes, f"{metric_name(runs, metric)} over training", hue, [BAND_TEXT, reference, along], failed)
    return figure


@styled
def phase(data: xr.Dataset, x: str, y: str, metric: str) -> Figure:
    """How far training moved the metric, over two settings, and the boundary where it did not move it."""
    runs, failed = finished(data, metric)
    along = complain_of_others(runs, [x, y])
    (across, right), (up, top) = places_of(levels_of(runs, x)), places_of(levels_of(runs, y))
    for key, values in ((x, across), (y, up)):
        if len(values) < 2:
            raise InputError(f"{key}: a phase diagram needs two values or more, the sweep has {len(values)}")
    excess = excess_grid(runs, x, y, metric)
    figure, (axes,) = new_figure(1, width=6.8, height=4.6)
    attributes = runs[metric].attrs
    # red is the direction that nobody wants, and "more" where neither is better
    colours = "RdBu" if attributes.get("better") == "higher" else "RdBu_r"
    extent = float(np.nanmax(np.abs(excess))) or 1.0
    log_x, log_y = is_log(across), is_log(up)
    edges = (edges_of(right, log_x), edges_of(top, log_y))
    mesh = axes.pcolormesh(*edges, excess, cmap=colours, norm=CenteredNorm(0, extent), rasterized=True)
    set_scale(axes, "x", across, right)
    set_scale(axes, "y", up, top)
    weight = f"mixture.weights.{runs.attrs.get('added')}"
    draw_boundary(axes, right, top, excess, "critical weight" if weight in (x, y) else "unchanged")
    axes.grid(visible=False)
    label = metric_name(runs, metric)
    figure.colorbar(mesh, label=with_unit(f"change of {label}", attributes.get("units", "")), pad=0.02)
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


def _line(
    axes: Axes, across: Array, cells: Sequence[Array], colour: Any, lines: int, marker: str = ""
) -> tuple[float, float]:
    """Draw one of several lines, the mean of each cell, with its band; return where it ends."""
    mean, band = mean_and_band(cells)
    axes.plot(across, mean, color=colour, marker=marker, ms=3)
    axes.fill_between(across, mean - band, mean + band, color=colour, alpha=min(0.25, 0.6 / lines), lw=0)
    return across[-1], mean[-1]


def mean_and_band(cells: Sequence[Array]) -> tuple[Array, Array]:
    """Return the mean of each cell and the half-width of a 90 % band of it, 1.645 standard errors (0 for one run)."""
    finite = [np.asarray(cell, dtype=float)[np.isfinite(cell)] for cell in cells]
    errors = [np.std(cell, ddof=1) / np.sqrt(len(cell)) if len(cell) > 1 else 0.0 for cell in finite]
    return np.array([cell.mean() for cell in finite]), BAND * np.array(errors)


def _title(axes: Axes, text: str, hue: str, notes: Sequence[str], failed: int) -> None:
    """Write the title, and below it in small print what the reader should know of the lines."""
    told = [*([f"lines: {hue.removeprefix('mixture.weights.')}"] if hue else []), *(note for note in notes if note)]
    told += [f"{failed} failed run{'s'[: failed > 1]} left out"] if failed else []
    axes.set_title(text, pad=20)
    axes.annotate("; ".join(told), (0, 1), xycoords="axes fraction", xytext=(0, 6), textcoords="offset points",
                  fontsize=8.5, color="#555555")  # fmt: skip
