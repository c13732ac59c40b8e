"""Figures of review as a classifier: what a process gets wrong, what catches it, what it costs, what more data buys."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sim.launch.classify import caught_table, error_table, share
from sim.launch.monitors import NAMES, area_under_roc, roc
from sim.launch.process import CONFLICT, named_gates
from sim.launch.settings import Review
from sim.launch.stages import METRICS
from sim.plots.style import ADDED, COLOURS, NEUTRAL, PENALTY, new_figure, styled

Flags = npt.NDArray[np.bool_]
GATES = {name: gate.metric for name, gate in named_gates(Review()).items()}
PROCESS_COLOURS = (ADDED, COLOURS[0], COLOURS[2], COLOURS[4])
MONITOR_COLOURS = dict(zip(NAMES, (ADDED, COLOURS[3], COLOURS[0]), strict=True))
BY_STAGE = ("launched", CONFLICT, *sorted(GATES, key=lambda gate: -list(METRICS).index(GATES[gate])))[::-1]
MONITOR_LABELS = {"votes": "thumbs-down votes", "complaints": "complaints", "probes": "sycophancy probes"}


def spaced(name: str) -> str:
    """Return a name as words."""
    return name.replace("_", " ")


@styled
def errors_figure(table: pd.DataFrame, names: Sequence[str], readings: Mapping[str, Flags]) -> Figure:
    """Shares of false launches, false blocks and delays by process, one panel for each meaning of "bad"."""
    figure, panels = new_figure(len(readings), width=5.6)
    for axes, (meaning, bad) in zip(panels, readings.items(), strict=True):
        errors = error_table(table, names, bad)
        kinds = list(dict.fromkeys(errors["kind"]))
        for row, name in enumerate(names):
            mine = errors[errors["process"] == name]
            at = np.arange(len(kinds)) + 0.36 * (row - (len(names) - 1) / 2)
            height = mine["share"].to_numpy()
            reach = np.abs(np.stack([height - mine["low"], mine["high"] - height]))
            axes.bar(at, height, 0.34, color=PROCESS_COLOURS[row], label=spaced(name))
            axes.errorbar(at, height, reach, fmt="none", ecolor=PENALTY, lw=1, capsize=3)
            for x, value, top in zip(at, height, mine["high"], strict=True):
                axes.annotate(
                    f"{value:.2f}", (x, top), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=8
                )
        axes.set_xticks(range(len(kinds)), [kind.replace(", ", ",\n") for kind in kinds])
        axes.grid(visible=False, axis="x")
        axes.set(ylim=(0, 1.08))
        axes.set_title(f"Bad: {meaning} ({int(bad.sum())} of {len(bad)})", fontsize=10)
    panels[0].set_ylabel("share of bad, or of good, updates")
    panels[-1].legend(loc="upper right", fontsize=8.5)
    return figure


@styled
def caught_figure(table: pd.DataFrame, names: Sequence[str], bad: Flags) -> Figure:
    """How many bad (right) and good (left) updates each gate stopped first, by process."""
    caught = caught_table(table, names, bad)
    gates = [gate for gate in BY_STAGE if gate in set(caught["gate"])]
    figure, panels = new_figure(len(names), width=5.4)
    for axes, name in zip(panels, names, strict=True):
        mine = caught[caught["process"] == name].set_index("gate")[["bad", "good"]].reindex(gates, fill_value=0)
        place = np.arange(len(gates))
        for kind, sign, colour in (("bad", 1, ADDED), ("good", -1, COLOURS[2])):
            axes.barh(place, sign * mine[kind].to_numpy(), color=colour, label=f"{kind} updates")
            for y, value in zip(place, mine[kind], strict=True):
                if value:
                    axes.annotate(f"{value}", (sign * value, y), xytext=(4 * sign, 0), textcoords="offset points",
                                  ha="left" if sign > 0 else "right", va="center", fontsize=8)  # fmt: skip
        axes.axvline(0, color=PENALTY, lw=0.8)
        axes.axhline(len(gates) - 1.5, color=NEUTRAL, lw=0.8, ls=":")
        axes.set_yticks(place, [spaced(gate) for gate in gates])
        axes.set(xlabel="updates", title=spaced(name))
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    limit = 1.2 * max(np.abs(axes.get_xlim()).max() for axes in panels)
    for axes in panels:
        axes.set_xlim(-limit, limit)
    panels[0].legend(loc="center right", fontsize=8.5)
    return figure


@styled
def cost_figure(table: pd.DataFrame, names: Sequence[str], bad: Flags) -> Figure:
    """Days to the decision (left) and person-hours (right): cumulative share of good updates, and of bad ones."""
    figure, panels = new_figure(2)
    for axes, field, unit in zip(panels, ("days", "hours"), ("days to the decision", "person-hours"), strict=True):
        for row, name in enumerate(names):
            for among, style, kind in ((~bad, "-", "good"), (bad, "--", "bad")):
                values = np.sort(table[f"{name}/{field}"].to_numpy(dtype=float)[among])
                up = np.arange(1, len(values) + 1) / len(values)
                axes.step(np.append(values[:1], values), np.append(0, up), where="post", color=PROCESS_COLOURS[row],
                          ls=style, label=f"{spaced(name)}, {kind} (mean {values.mean():.0f})")  # fmt: skip
        axes.set(xlabel=unit, ylim=(0, 1.02))
        axes.legend(loc="lower right", fontsize=8)
    panels[0].set(ylabel="share of updates decided")
    panels[0].set_title("Delay")
    panels[1].set_title("Cost")
    return figure


@styled
def power_figure(table: pd.DataFrame, rises: Flags) -> Figure:
    """How often a check calls a sycophantic update worse, and clears another one, against the check's size."""
    panels_of = {
        "probes of the sycophancy eval": {"sycophancy": ""},
        "experts of the spot check": {"spot_checks": ""},
        "days of the A/B test": {"votes": "votes: ", "usage": "returns: "},
    }
    figure, panels = new_figure(3, width=4.4)
    for axes, (label, gates) in zip(panels, panels_of.items(), strict=True):
        for (gate, prefix), marker in zip(gates.items(), "os", strict=False):
            sizes = sorted({float(str(name).split("/")[2]) for name in table if str(name).startswith(f"power/{gate}/")})
            lines = (
                ("worse", rises, ADDED, "sycophantic, called worse"),
                ("clear", ~rises, COLOURS[2], "other, cleared"),
            )
            for what, among, colour, text in lines:
                found = np.array(
                    [share(table[f"power/{gate}/{size:g}/{what}"].to_numpy(bool)[among])[:3] for size in sizes]
                )
                axes.plot(sizes, found[:, 0], marker=marker, ms=4, color=colour, ls="-" if marker == "o" else "--",
                          label=prefix + text)  # fmt: skip
                axes.fill_between(sizes, found[:, 1], found[:, 2], color=colour, alpha=0.2, lw=0)
        axes.set(xscale="log", xlabel=label, ylim=(-0.02, 1.25))
        axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
        axes.minorticks_off()
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.legend(fontsize=7.5, loc="upper left")
    panels[0].set_ylabel("share of updates (band: 90 %)")
    return figure


@styled
def monitors_figure(table: pd.DataFrame, rises: Flags, published: int) -> Figure:
    """ROC of each monitor for telling sycophantic launches from others; and how early it gives the alarm.

    Args:
        table: of `review_world`.
        rises: which updates are sycophantic.
        published: hours from the start to the first published answer.
    """
    figure, (left, right) = new_figure(2, width=5.6)
    for name in NAMES:
        scores = table[f"{name}/score"].to_numpy(dtype=float)
        if np.isnan(scores).all():
            continue
        area = area_under_roc(scores, rises)
        left.plot(*roc(scores, rises), color=MONITOR_COLOURS[name], label=f"{MONITOR_LABELS[name]}: area {area:.2f}")
        _alarms(right, table[f"{name}/alarm"].to_numpy(dtype=float), rises, name, published)
    left.plot([0, 1], [0, 1], color=NEUTRAL, lw=0.8, ls=":")
    left.set(xlabel="false alarms (share of other launches)", ylabel="sycophantic launches that score higher")
    left.set_title("Highest score before the published patch")
    left.legend(loc="center", fontsize=8.5)
    right.axvline(published, color=PENALTY, lw=1, ls="--")
    right.annotate("published patch", (published, 0.7), xytext=(-4, 0), textcoords="offset points", ha="right",
                   va="center", fontsize=8.5)  # fmt: skip
    right.set(
        xlabel="hours after the start of the rollout", ylabel="share of launches with an alarm", ylim=(-0.02, 1.02)
    )
    right.set_title("Alarms: solid, sycophantic launches; dashed, others")
    return figure


def _alarms(axes: Axes, hours: npt.NDArray[np.float64], rises: Flags, name: str, until: int) -> None:
    grid = np.arange(until + 1)
    for among, style in ((rises, "-"), (~rises, "--")):
        mine = hours[among]
        with np.errstate(invalid="ignore"):
            up = (mine[None] <= grid[:, None]).mean(axis=1)
        axes.plot(grid, up, color=MONITOR_COLOURS[name], ls=style)
