"""The figure of the interactions study: where each combination ends, and what each group of changes adds."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sim.analysis.interactions import additive, dividends, shapley
from sim.analysis.intervals import mean_interval
from sim.plots.style import ADDED, COLOURS, NEUTRAL, PENALTY, styled
from sim.world.arrays import Array

ROWS = 32  # most rows that can be read


class Measure(NamedTuple):
    """One metric of every combination.

    label, unit: what the axes say.
    better: "lower", "higher" or "".
    values: [N, 2^n] after training, a row per seed.
    reference: [N, 2^n] before training.
    """

    label: str
    unit: str
    better: str
    values: Array
    reference: Array


@styled
def combination_figure(rows: npt.NDArray[np.bool_], names: list[str], measure: Measure) -> Figure:
    """Left: every combination, and where single effects would add up to. Right: dividends and Shapley values.

    With more than 32 combinations, those of at most one change and of all but one; and terms of one or two changes.
    """
    size = rows.sum(axis=1)
    order = np.array(sorted(range(len(rows)), key=lambda row: (size[row], row)))
    few = len(rows) <= ROWS
    left_rows = order if few else order[(size[order] <= 1) | (size[order] >= len(names) - 1)]
    right_rows = order[1:] if few else order[(size[order] >= 1) & (size[order] <= 2)]
    height = 1.8 + 0.34 * max(len(left_rows), len(right_rows))
    figure, (left, right) = plt.subplots(1, 2, figsize=(12.5, height), layout="constrained")
    _combinations(left, measure, left_rows, [_label(rows[row], names, " + ") for row in left_rows])
    _terms(right, measure, right_rows, [_label(rows[row], names, " x ") for row in right_rows])
    figure.legend(loc="outside upper center", fontsize=8.5, ncols=6, columnspacing=1.5, handletextpad=0.5)
    return figure


def _combinations(axes: Axes, measure: Measure, shown: npt.NDArray[np.intp], labels: list[str]) -> None:
    mean, half = mean_interval(measure.values - measure.reference)
    places = np.arange(len(shown))[::-1]
    axes.axvline(0, color=PENALTY, lw=1, ls="--", label="reference policy, before training")
    axes.plot(additive(mean)[shown], places, "D", mfc="none", color=NEUTRAL, label="if single effects added up")
    axes.errorbar(mean[shown], places, xerr=half[shown], fmt="o", color=ADDED, capsize=2, label="measured")
    axes.set_yticks(places, labels)
    axes.set(xlabel=f"{measure.label}, against the reference ({measure.unit})", ylim=(-0.6, len(shown) - 0.4))
    axes.locator_params(axis="x", nbins=6)
    axes.set_title("Where each combination of changes ends")


def _terms(axes: Axes, measure: Measure, shown: npt.NDArray[np.intp], labels: list[str]) -> None:
    mean, half = mean_interval(dividends(measure.values.T).T)
    places = np.arange(len(shown))[::-1]
    alone = np.log2(shown) % 1 == 0
    kinds = ((alone, COLOURS[0], "effect of one change alone"), (~alone, COLOURS[3], "added only together (dividend)"))
    for these, colour, name in kinds:
        axes.barh(
            places[these], mean[shown[these]], xerr=half[shown[these]], color=colour, height=0.55, label=name,
            error_kw={"lw": 1, "capsize": 2},
        )  # fmt: skip
    average, width = mean_interval(shapley(measure.values.T).T)
    change = np.log2(shown[alone]).astype(int)
    axes.errorbar(
        average[change], places[alone] - 0.38, xerr=width[change], fmt="s", ms=4, color=PENALTY, capsize=2,
        label="Shapley value",
    )  # fmt: skip
    axes.axvline(0, color=PENALTY, lw=0.8)
    axes.set_yticks(places, labels)
    axes.set(xlabel=f"adds to {measure.label} ({measure.unit})", ylim=(-0.6, len(shown) - 0.4))
    axes.locator_params(axis="x", nbins=6)
    axes.set_title("What each group of changes adds")


def _label(row: npt.NDArray[np.bool_], names: list[str], join: str) -> str:
    if row.all() and len(names) > 2:
        return f"all {len(names)}"
    return join.join(name for name, made in zip(names, row, strict=True) if made) or "no change"
