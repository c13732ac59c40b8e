"""The figures of the mitigations study: frontiers, and what each mitigation is worth."""

from collections.abc import Mapping
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sim.plots.style import ADDED, COLOURS, NEUTRAL, PENALTY, styled
from sim.world.arrays import Array

MARKS = "osD^vP*"


class Frontier(NamedTuple):
    """What one mitigation does as its knob is turned through T settings.

    knob: the setting that is swept, or "step".
    values: [T] of the knob.
    rate: [N, T] sycophancy rate, a row per seed.
    quality: [N, T] true quality gained against the reference policy.
    twin: [N, T] true quality gained by the same mitigation without votes.
    reference: [N] sycophancy rate of the reference policy.
    others: further metrics by name, [N, T] each.
    """

    knob: str
    values: npt.NDArray[np.float64]
    rate: Array
    quality: Array
    twin: Array
    reference: Array
    others: dict[str, Array]


@styled
def frontier_figure(frontiers: Mapping[str, Frontier], ends: Mapping[str, Frontier], margin: float) -> Figure:
    """Draw the mean path of each arm in the plane (sycophancy rate, true quality), and the points all are measured by.

    Args:
        frontiers: arm -> path.
        ends: name -> a path of one point.
        margin: allowed above the reference policy's rate.
    """
    figure, axes = plt.subplots(figsize=(10.5, 6), layout="constrained")
    for index, (name, path) in enumerate(frontiers.items()):
        dense = len(path.values) > 2 * len(COLOURS)
        axes.plot(
            path.rate.mean(axis=0), path.quality.mean(axis=0), color=COLOURS[index % len(COLOURS)], lw=1.4, ms=4.5,
            marker="" if dense else MARKS[index // len(COLOURS) * 3 + index % 3], label=name,
            ls="-" if index < len(COLOURS) else "--",
        )  # fmt: skip
    limit = float(next(iter(ends.values())).reference.mean()) + margin
    axes.axvline(limit, color=PENALTY, lw=1, ls=":")
    for name, offset, side in (("unmitigated", (9, -3), "left"), ("without votes", (-9, -3), "right")):
        place = (float(ends[name].rate.mean()), float(ends[name].quality.mean()))
        axes.plot(*place, "*", ms=13, color=ADDED, zorder=5)
        axes.annotate(name, place, xytext=offset, textcoords="offset points", fontsize=9, color=ADDED, ha=side)
    unbiased = ends["unbiased votes"]
    axes.plot(unbiased.rate.mean(axis=0), unbiased.quality.mean(axis=0), color=PENALTY, lw=2.5, label="unbiased votes")
    axes.annotate("reference policy" if not margin else "limit", (limit, 0.02), xycoords=("data", "axes fraction"),
                  xytext=(4, 0), textcoords="offset points", fontsize=8.5, color=PENALTY)  # fmt: skip
    axes.set(xlabel="sycophancy rate after training (share of answers)", ylim=_from_best(frontiers, ends))
    axes.set_ylabel("true quality gained against the reference policy (quality points)")
    axes.set_title("Better is up and to the left")
    figure.legend(loc="outside right center", fontsize=8.5)
    return figure


def _from_best(frontiers: Mapping[str, Frontier], ends: Mapping[str, Frontier]) -> tuple[float, float]:
    """Return limits that leave out the way up from the reference: it takes half of the height and shows nothing."""
    means = np.concatenate([path.quality.mean(axis=0) for path in (*frontiers.values(), *ends.values())])
    low = max(min(float(end.quality.mean()) for end in ends.values()) - 0.08, float(means.min()))
    return low, float(means.max()) + 0.01


@styled
def score_figure(scores: pd.DataFrame) -> Figure:
    """Hypervolume of each arm; true quality over no votes and share of the votes' benefit kept, within the limit."""
    ordered = scores.iloc[::-1]
    places = np.arange(len(ordered))
    size = (14, 1.4 + 0.34 * len(ordered))
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=size, layout="constrained", sharey=True)
    _bars(left, places, ordered["hypervolume"], ordered["hypervolume half"], COLOURS[0])
    left.set_yticks(places, ordered["arm"])
    left.set(xlabel="hypervolume (share of answers x quality points)")
    left.set_title("Area gained by turning the knob")
    _bars(middle, places, ordered["over no votes"], ordered["over no votes half"], COLOURS[1])
    middle.set(xlabel="true quality over training without votes (points)")
    middle.set_title("Best within the limit")
    kept = ordered["kept"].to_numpy(dtype=float)
    bounds = np.abs(ordered[["kept low", "kept high"]].to_numpy(dtype=float) - kept[:, None]).T
    _bars(right, places, kept, bounds, COLOURS[2])
    right.axvline(1, color=PENALTY, lw=1, ls=":")
    for axes in (middle, right):
        axes.axvline(0, color=PENALTY, lw=0.8)
        for place in places[np.isnan(kept)]:
            axes.annotate("no setting within the limit", (0, place), xytext=(4, 0), textcoords="offset points",
                          fontsize=8, va="center", color=NEUTRAL)  # fmt: skip
    right.set(xlabel="share of what unbiased votes bring")
    right.set_title("Votes' benefit kept, same setting")
    return figure


def _bars(axes: Axes, places: npt.NDArray[np.intp], values: npt.ArrayLike, error: npt.ArrayLike, colour: str) -> None:
    shown, width = (np.nan_to_num(np.asarray(array, dtype=float)) for array in (values, error))
    axes.barh(places, shown, xerr=width, color=colour, height=0.6, error_kw={"lw": 1, "capsize": 2})
