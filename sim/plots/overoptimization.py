"""The figure of the over-optimisation study: proxy and true quality against the distance from the reference."""

from collections.abc import Mapping
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sim.analysis.intervals import mean_interval
from sim.analysis.overoptimization import curve
from sim.plots.style import ADDED, COLOURS, NEUTRAL, PENALTY, styled
from sim.world.arrays import Array

PALETTE = (PENALTY, ADDED, *COLOURS, NEUTRAL)


class Path(NamedTuple):
    """What one arm did, at T distances in growing order.

    swept: the setting along which it goes, or "step".
    values: [T] of the swept setting, or the steps.
    distance: [N, T] sqrt(KL), a row per seed.
    proxy: [N, T] proxy reward gained.
    true: [N, T] true quality gained.
    """

    swept: str
    values: Array
    distance: Array
    proxy: Array
    true: Array


@styled
def frontier_figure(
    paths: Mapping[str, Path], better: Mapping[str, tuple[str, float, float]], labels: tuple[str, str]
) -> Figure:
    """Left: proxy gained against sqrt(KL). Right: true quality gained, with the better form of each arm dotted.

    Args:
        paths: arm -> what it did.
        better: arm -> (form, a, b) of the mean curve's better fit.
        labels: of the proxy and of the true reward, with units.
    """
    figure, panels = plt.subplots(1, 2, figsize=(13, 4.8), layout="constrained")
    for index, (name, path) in enumerate(paths.items()):
        colour, line = PALETTE[index % len(PALETTE)], "--" if index >= len(PALETTE) else "-"
        for axes, values in zip(panels, (path.proxy, path.true), strict=True):
            _draw_path(axes, name, path, values, colour, line)
        form, a, b = better[name]
        reach = np.linspace(0.02, path.distance.mean(axis=0).max(), 100)
        panels[1].plot(reach, curve(form, np.array(a), np.array(b), reach), color=colour, lw=1, ls=":")
    for axes, label in zip(panels, labels, strict=True):
        axes.axhline(0, color=PENALTY, lw=0.8)
        axes.set(xlabel="distance from the reference, sqrt(KL) in sqrt(nats)", ylabel=label, xlim=(0, None))
    panels[0].set_title("What is optimised")
    panels[1].set_title("What is wanted (band: 90 %, dotted: the form that fits better)")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", fontsize=8.5)
    return figure


def _draw_path(axes: Axes, name: str, path: Path, values: Array, colour: str, line: str) -> None:
    """Draw the mean over seeds with its band: a line along training, marks where another setting is swept."""
    across = path.distance.mean(axis=0)
    mean, half = mean_interval(values)
    axes.fill_between(across, mean - half, mean + half, color=colour, alpha=0.09, lw=0)
    style = {"ls": line, "marker": ""} if path.swept == "step" else {"ls": "", "marker": "o"}
    axes.plot(across, mean, color=colour, ms=4.5, lw=1.6, label=name, **style)  # type: ignore[arg-type]
