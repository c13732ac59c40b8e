"""Plain SVG charts, drawn in a millisecond, since a redraw has 300 in all; matplotlib takes about 30 a chart.

A chart is 360 units wide, the width of a phone, so that its text is never scaled below what can be read there. The
axis labels stand upright: the vertical one is a line under the title.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 360, 270
LEFT, RIGHT, TOP, BOTTOM = 44, 18, 50, 40  # margins
INK, SOFT, GRID_LINE = "#222222", "#595959", "#E6E6E6"
LOG_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


class Frame(NamedTuple):
    """Where numbers land on the chart.

    x, y: (low, high) of each axis.
    log: whether y is logarithmic.
    height: of the chart.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    log: bool = False
    height: float = HEIGHT

    def across(self, value: float) -> float:
        """Return the horizontal place of a value."""
        low, high = self.x
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def up(self, value: float) -> float:
        """Return the vertical place of a value; what is off the scale lies on its edge."""
        value = min(max(value, self.y[0]), self.y[1])
        low, high, at = (*self.y, value) if not self.log else map(math.log, (*self.y, value))
        return self.height - BOTTOM - (at - low) / (high - low) * (self.height - TOP - BOTTOM)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers from low to high."""
    found = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(value) for value in found if low - 1e-9 <= value <= high + 1e-9]


def padded(values: npt.ArrayLike, least: float) -> tuple[float, float]:
    """Return round ends of an axis that holds the values and 0, and is at least `least` long."""
    array = np.append(np.asarray(values, dtype=float), 0.0)
    low, high = float(array.min()), max(float(array.max()), float(array.min()) + least)
    found = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return float(found[0]), float(found[-1])


def text(x: float, y: float, words: str, colour: str = INK, size: float = 12, anchor: str = "start") -> str:
    """Return words at a place, with a white rim so that lines do not strike them out."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size:g}" text-anchor="{anchor}" stroke="#fff" '
        f'stroke-width="3" paint-order="stroke" stroke-linejoin="round">{escape(words)}</text>'
    )


def values_attribute(values: Mapping[str, float]) -> str:
    """Return where the sliders stand, as the value of an HTML attribute: what was computed says what for."""
    return escape(json.dumps(dict(values)), quote=True)


def segment(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1, dash: str = "") -> str:
    """Return a straight line between two places."""
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}"{dashed}/>'
    )


def signed(value: float) -> str:
    """Return a number with its sign and two digits; 0.00 has none."""
    return f"{value:+.2f}" if abs(value) >= 0.005 else "0.00"


def curve(frame: Frame, x: Iterable[float], y: Iterable[float], colour: str, width: float = 2.5, dash: str = "") -> str:
    """Return a line through points."""
    points = " ".join(f"{frame.across(a):.1f},{frame.up(b):.1f}" for a, b in zip(x, y, strict=True))
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width:g}" '
        f'stroke-linejoin="round"{dashed}/>'
    )


def dot(frame: Frame, x: float, y: float, colour: str, size: float = 6) -> str:
    """Return a point with a dark rim."""
    return (
        f'<circle cx="{frame.across(x):.1f}" cy="{frame.up(y):.1f}" r="{size:g}" fill="{colour}" stroke="{INK}" '
        'stroke-width="1.5"/>'
    )


def upright(frame: Frame, x: float, colour: str, dash: str = "") -> str:
    """Return a vertical line at a value."""
    return segment(frame.across(x), TOP, frame.across(x), frame.height - BOTTOM, colour, 1.5, dash)


def named(frame: Frame, x: float, words: str, colour: str) -> str:
    """Return a dotted vertical line with its name at the top, on the side where there is room."""
    left = frame.across(x) > WIDTH * 0.65
    name = text(frame.across(x) + (-5 if left else 5), TOP + 12, words, colour, anchor="end" if left else "start")
    return upright(frame, x, colour, "2 3") + name


def level(frame: Frame, y: float, colour: str, dash: str = "") -> str:
    """Return a horizontal line at a value."""
    return segment(LEFT, frame.up(y), WIDTH - RIGHT, frame.up(y), colour, 1.5, dash)


def axes(frame: Frame, across: str) -> str:
    """Return grid lines, numbers and the horizontal label of a chart."""
    parts = []
    marks = [value for value in LOG_TICKS if frame.y[0] <= value <= frame.y[1]] if frame.log else ticks(*frame.y)
    for value in marks:
        parts.append(segment(LEFT, frame.up(value), WIDTH - RIGHT, frame.up(value), GRID_LINE))
        parts.append(text(LEFT - 6, frame.up(value) + 4, f"{value:g}", SOFT, anchor="end"))
    bottom = frame.height - BOTTOM
    for value in ticks(*frame.x, count=4):
        parts.append(text(frame.across(value), bottom + 16, f"{value:g}", SOFT, anchor="middle"))
        parts.append(segment(frame.across(value), bottom, frame.across(value), bottom + 4, SOFT))
    parts.append(segment(LEFT, bottom, WIDTH - RIGHT, bottom, SOFT))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, frame.height - 6, across, SOFT, anchor="middle"))
    return "".join(parts)


def chart(name: str, title: str, subtitle: str, reading: str, parts: Sequence[str], height: float = HEIGHT) -> str:
    """Return the whole SVG; `reading` says in words what it shows, for those who do not see it."""
    heading = text(0, 16, title, size=15).replace("<text ", '<text font-weight="600" ', 1)
    return (
        f'<svg id="{name}" class="chart" viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(reading)}" '
        f'font-family="system-ui, sans-serif">{heading}{text(0, 35, subtitle, SOFT)}{"".join(parts)}</svg>'
    )
