"""Who is targeted: drift by group, and the boundary beyond which the check no longer holds for vulnerable users."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sim.plots.style import ADDED, COLOURS, PENALTY, label_ends, new_figure, shades, styled
from sim.world.arrays import Array

BAND = 1.645  # normal 90 % band
GROUPS = {"all": "all users", "others": "other users", "vulnerable": "vulnerable users"}
DRIFT = "change of the sycophancy rate"


@styled
def targeting_figure(table: pd.DataFrame, share: float) -> Figure:
    """Left: drift against the share of vulnerable users. Middle: the boundary. Right: both memories by group.

    Args:
        table: columns share, knows_user, seed and the drift of each group (`GROUPS`).
        share: of the panel by group; the nearest one in the table is shown.
    """
    figure, (left, middle, right) = new_figure(3, width=4.7)
    mean = table.groupby(["knows_user", "share"])[list(GROUPS)].mean()
    _by_share(left, mean)
    drift = table.pivot_table("vulnerable", "knows_user", "share")
    limit = float(np.abs(drift.to_numpy()).max())
    shares, known = drift.columns.to_numpy(), drift.index.to_numpy()
    colours = middle.contourf(
        shares, known, drift, levels=np.linspace(-limit, limit, 15), cmap="RdBu_r", vmin=-limit, vmax=limit
    )
    figure.colorbar(colours, ax=middle, label="change of the rate, vulnerable users", format="%+.2f")
    if (drift.to_numpy() < 0).any() and (drift.to_numpy() > 0).any():
        middle.contour(shares, known, drift, levels=[0.0], colors="black", linewidths=2)
    middle.set(xscale="log", xlabel="share of vulnerable users", ylabel="memory knows its user (probability)")
    middle.set_title("Red: above the reference (line: boundary)")
    middle.grid(visible=False)
    _share_ticks(middle, shares)
    _by_group(right, table, float(shares[np.abs(shares - share).argmin()]))
    return figure


def _by_share(axes: Axes, mean: pd.DataFrame) -> None:
    known = mean.index.get_level_values("knows_user").unique().to_numpy()
    picked = known[[0, len(known) // 2, -1]]
    ends = []
    for colour, level in zip(shades(3), picked, strict=True):
        rows = mean.loc[level]
        axes.plot(rows.index, rows["vulnerable"], color=colour, marker="o", ms=3)
        axes.plot(rows.index, rows["others"], color=colour, ls="--", lw=1)
        ends.append(rows["vulnerable"].iloc[-1])
    axes.axhline(0, color=PENALTY, lw=0.8)
    axes.set(xscale="log", xlabel="share of vulnerable users", ylabel=f"{DRIFT}\n(share of answers)")
    label_ends(axes, float(rows.index[-1]), ends, [f"{level:g}" for level in picked], shades(3))
    axes.set_title("Vulnerable (solid) and others (dashed),\nby how well memory knows its user")
    _share_ticks(axes, rows.index.to_numpy())


def _by_group(axes: Axes, table: pd.DataFrame, share: float) -> None:
    here = table[table["share"] == share]
    ends = (here["knows_user"].min(), here["knows_user"].max())
    labels = {ends[0]: "memory does not know its user", ends[1]: "memory knows its user"}
    colours = {"all": COLOURS[0], "others": COLOURS[1], "vulnerable": ADDED}
    at = np.arange(len(GROUPS))
    for offset, level in zip((-0.2, 0.2), ends, strict=True):
        rows = here[here["knows_user"] == level][list(GROUPS)]
        error = BAND * rows.std(ddof=1) / np.sqrt(len(rows)) if len(rows) > 1 else None
        axes.bar(at + offset, rows.mean(), 0.36, yerr=error, color=[colours[g] for g in GROUPS],
                 alpha=0.45 if offset < 0 else 1.0, ecolor=PENALTY)  # fmt: skip
    axes.bar([0], [0], color=PENALTY, alpha=0.45, label=labels[ends[0]])
    axes.bar([0], [0], color=PENALTY, label=labels[ends[1]])
    axes.axhline(0, color=PENALTY, lw=0.8)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.3 * (high - low))
    axes.legend(loc="upper left", fontsize=8.5)
    axes.set_xticks(at, [name.replace(" ", "\n") for name in GROUPS.values()])
    axes.set_ylabel(DRIFT)
    axes.set_title(f"At a share of {share:.1g} (bars: 90 % over worlds)")


def _share_ticks(axes: Axes, shares: Array) -> None:
    axes.set_xticks(shares, [f"{share:.2g}" for share in shares])
    axes.minorticks_off()
