"""The figure of the mainline: what is deployed after each update, and how many of the updates launched."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sim.plots.drift import BAND
from sim.plots.review import PROCESS_COLOURS, spaced
from sim.plots.style import PENALTY, new_figure, styled


@styled
def mainline_figure(table: pd.DataFrame) -> Figure:
    """Left: sycophancy rate deployed after each update, by process. Right: share of updates that launched."""
    figure, (left, right) = new_figure(2)
    names = list(dict.fromkeys(table["process"]))
    for row, name in enumerate(names):
        mine = table[table["process"] == name]
        rates = mine.pivot_table(index="update", columns="seed", values="rate")
        mean, band = rates.mean(axis=1), BAND * rates.std(axis=1, ddof=1) / np.sqrt(rates.shape[1])
        left.plot(rates.index, mean, color=PROCESS_COLOURS[row], marker="o", ms=4, label=spaced(name))
        left.fill_between(rates.index, mean - band, mean + band, color=PROCESS_COLOURS[row], alpha=0.2, lw=0)
        launched = mine[mine["update"] > 0].groupby("update")["launched"].mean()
        right.bar(launched.index + 0.38 * (row - 0.5), launched, 0.36, color=PROCESS_COLOURS[row], label=spaced(name))
    left.axhline(table["reference"].mean(), color=PENALTY, lw=1, ls="--")
    left.annotate(
        "reference policy", (0, table["reference"].mean()), xytext=(0, 4), textcoords="offset points", fontsize=8.5
    )
    left.set(xlabel="update", ylabel="sycophancy rate of the deployed model")
    left.set_title("Drift over updates (band: 90 %)")
    left.legend(loc="center left", fontsize=8.5)
    right.set(xlabel="update", ylabel="share of worlds in which it launched", ylim=(0, 1.05))
    right.set_title("Launches")
    right.grid(visible=False, axis="x")
    return figure
