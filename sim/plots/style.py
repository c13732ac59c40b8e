"""One look for every figure, and one way to save it: PNG and SVG, with the command that made it."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke

# Okabe & Ito's colours, told apart by colour-blind readers; the added signal is always vermilion, the remainder grey.
COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#CC79A7", "#F0E442", "#882255", "#44AA99")
ADDED, NEUTRAL, PENALTY = "#D55E00", "#999999", "#333333"
STYLE: Any = {
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "thumbscale",
}
HALO = [withStroke(linewidth=2.5, foreground="white")]  # around words that stand on lines or areas
styled = mpl.rc_context(STYLE)  # decorates a function that draws a figure


def new_figure(columns: int, width: float = 5.2, height: float = 3.9) -> tuple[Figure, list[Axes]]:
    """Return a figure with a row of panels."""
    figure, axes = plt.subplots(
        1, columns, figsize=(width * columns, height), squeeze=False,
        layout=ConstrainedLayoutEngine(wspace=0.05),  # a label of one panel keeps off the panel beside it
    )  # fmt: skip
    return figure, list(axes[0])


def shades(count: int) -> list[tuple[float, float, float, float]]:
    """Return colours for an ordered quantity, light to dark enough to print in grey."""
    return [tuple(colour) for colour in mpl.colormaps["viridis_r"](np.linspace(0.12, 0.95, count))]


@styled
def save(figure: Figure, folder: Path, name: str, command: str) -> Path:
    """Write NAME.png and NAME.svg with the command in small print and in the metadata; return the PNG's path."""
    wrapped = textwrap.fill(command, max(40, int(24 * figure.get_figwidth())))
    figure.supxlabel(wrapped, fontsize=6.5, color="#777777", x=0.01, ha="left", parse_math=False)
    figure.savefig(folder / f"{name}.png", metadata={"Description": command, "Software": "thumbscale"})
    figure.savefig(folder / f"{name}.svg", metadata={"Description": command, "Date": None})
    plt.close(figure)
    return folder / f"{name}.png"


def label_ends(axes: Axes, at: float, heights: npt.ArrayLike, texts: Sequence[str], colours: Sequence[object]) -> None:
    """Write each line's name at its right end, moved apart where lines end close together."""
    low, high = axes.get_ylim()
    gap = 0.05 * (high - low)
    order = np.argsort(np.asarray(heights, dtype=float))
    placed = np.asarray(heights, dtype=float)[order]
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    for height, index in zip(placed, order, strict=True):
        axes.annotate(
            texts[index], (at, height), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5,
            color=colours[index], annotation_clip=False, path_effects=HALO,
        )  # fmt: skip
