"""Figures of the incident: the timeline, who would have stopped it, what users met, and what came of their trust."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import matplotlib.dates as mdates
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sim.launch.exposure import GROUPS
from sim.launch.monitors import NAMES
from sim.launch.replay import Replay, totals
from sim.launch.rollout import date_of, hour_of
from sim.launch.settings import Rollout
from sim.plots.review import MONITOR_COLOURS, MONITOR_LABELS, spaced
from sim.plots.style import ADDED, COLOURS, NEUTRAL, PENALTY, label_ends, new_figure, styled

REPLAY_COLOURS = (ADDED, COLOURS[0], COLOURS[2])


@styled
def timeline_figure(replays: Mapping[str, Replay], rollout: Rollout) -> Figure:
    """From above: users on the candidate with the events; sycophancy of what was served; what the monitors showed.

    Args:
        replays: name -> Replay; the first is the one whose events and monitors are drawn.
        rollout: dates.
    """
    figure, _ = new_figure(1, width=9.5, height=8.2)
    figure.clear()
    top, middle, bottom = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": (1.25, 1, 1)})
    name, main = next(iter(replays.items()))
    end = hour_of(rollout, "end")
    shown = (main.clock.hours >= -24) & (main.clock.hours < end)
    dates = np.array([date_of(rollout, "start") + timedelta(hours=int(hour)) for hour in main.clock.hours[shown]])
    for (label, one), colour in zip(replays.items(), REPLAY_COLOURS, strict=False):
        top.step(dates, one.clock.share[shown], where="post", color=colour, label=label)
        middle.step(dates, one.rates[NAMES.index("probes"), shown], where="post", color=colour, label=label)
    _mark_events(top, main, rollout)
    top.set(ylabel="share of users on the candidate", ylim=(-0.03, 1.5))
    top.set_yticks(np.linspace(0, 1, 5))
    top.legend(loc="center left", fontsize=8.5)
    top.set_title("The rollout")
    middle.set(ylabel="sycophancy rate, probes")
    middle.set_title("What was served (expected)")
    for row, monitor in enumerate(NAMES):
        score = main.watched.score[row, 0, shown]
        bottom.plot(
            dates, score / main.watched.threshold, color=MONITOR_COLOURS[monitor], label=MONITOR_LABELS[monitor]
        )
    bottom.axhline(1, color=PENALTY, lw=1, ls="--")
    bottom.annotate("alarm", (dates[0], 1), xytext=(2, 3), textcoords="offset points", fontsize=8.5)
    bottom.set(yscale="symlog", ylabel="CUSUM / threshold", ylim=(0, None))
    bottom.set_title(f"What monitors would have shown: {name}")
    bottom.legend(loc="upper left", fontsize=8.5)
    bottom.xaxis.set_major_locator(mdates.DayLocator())
    bottom.xaxis.set_major_formatter(mdates.DateFormatter("%a %d %b"))
    return figure


def _mark_events(axes: Axes, one: Replay, rollout: Rollout) -> None:
    for place, event in enumerate(one.clock.log):
        when = date_of(rollout, "start") + timedelta(hours=event.hour)
        axes.axvline(
            when,  # type: ignore[arg-type]
            color=PENALTY,
            lw=0.8,
            ls=":",
        )
        side = 1 if place % 2 == 0 else 0
        axes.annotate(f"{event.kind}\n{when:%a %H:%M}", (when, 1.44 - 0.2 * side), xytext=(3, 0), fontsize=8,
                      textcoords="offset points", va="top")  # fmt: skip


@styled
def launch_figure(shares: Mapping[str, tuple[float, float, float, int]]) -> Figure:
    """How often each process launches the same candidate, over many draws of its checks."""
    figure, (axes,) = new_figure(1, width=7.2, height=3.6)
    names = list(shares)[::-1]
    values = np.array([shares[name][:3] for name in names])
    place = np.arange(len(names))
    axes.barh(place, values[:, 0], color=[ADDED if value > 0.5 else COLOURS[0] for value in values[:, 0]])
    reach = np.abs(np.stack([values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]))
    axes.errorbar(values[:, 0], place, xerr=reach, fmt="none", ecolor=PENALTY, lw=1, capsize=3)
    for y, (value, _, high) in zip(place, values, strict=True):
        axes.annotate(f"{value:.2f}", (high, y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8.5)
    labels = [spaced(name) if name in (names[-1], names[0]) else f"+ {name}" for name in names]
    axes.set_yticks(place, labels)
    axes.grid(visible=False, axis="y")
    count = next(iter(shares.values()))[3]
    axes.set(xlabel=f"share of {count} reviews that launch the candidate (bars: 90 %)", xlim=(0, 1.12))
    axes.set_title("Would it have launched?")
    return figure


@styled
def exposure_figure(replays: Mapping[str, Replay], base: str, rollout: Rollout) -> Figure:
    """Sycophantic answers and stakes misled on, by user group; and what came on top of `base`, hour by hour."""
    figure, (left, middle, right) = new_figure(3, width=4.7)
    end = hour_of(rollout, "end")
    still = replays[base].lives
    for row, ((name, one), colour) in enumerate(zip(replays.items(), REPLAY_COLOURS, strict=False)):
        sums, lives = totals(one.lives, 0, end), one.lives
        at = np.arange(len(GROUPS)) + 0.27 * (row - (len(replays) - 1) / 2)
        for axes, values in (
            (left, 1000 * sums["sycophantic"] / sums["answers"]),
            (middle, 1000 * sums["misled"] / lives.users),
        ):
            axes.bar(at, values, 0.25, color=colour, label=name)
            for x, value in zip(at, values, strict=True):
                axes.annotate(f"{value:.1f}" if value < 100 else f"{value:.0f}", (x, value), xytext=(0, 2),
                              textcoords="offset points", ha="center", fontsize=7.5)  # fmt: skip
        here = (lives.hours >= 0) & (lives.hours < end)
        more = (lives.counts["sycophantic"] - still.counts["sycophantic"])[:, here].sum(axis=0).cumsum()
        right.plot(lives.hours[here] / 24, 1000 * more / lives.users.sum(), color=colour, label=name)
    for axes in (left, middle):
        axes.set_xticks(range(len(GROUPS)), ["vulnerable users", "other users"])
        axes.grid(visible=False, axis="x")
        axes.margins(y=0.3)
    left.set(ylabel="sycophantic answers per 1,000 answers")
    middle.set(ylabel="stakes misled on, per 1,000 users")
    right.set(ylabel=f"sycophantic answers beyond {base},\nper 1,000 users, cumulative")
    right.set(xlabel="days after the start of the rollout")
    left.set_title("From start to end of the clock")
    left.legend(loc="upper left", fontsize=8)
    return figure


@styled
def trust_figure(replays: Mapping[str, Replay], base: str, finds_out_days: float) -> Figure:
    """Approval now, trust later: change of thumbs-up share (left) and of returns (right) against no launch, by day."""
    figure, (left, right) = new_figure(2, width=5.2)
    still = replays[base]
    day = still.clock.hours // 24
    days = np.unique(day)[1:-1]

    def by_day(one: Replay) -> tuple[list[float], list[float]]:
        approval, around = [], []
        for value in days:
            here = day == value
            votes = one.lives.counts["votes"][:, here].sum()
            approval.append(one.lives.counts["thumbs_up"][:, here].sum() / max(votes, 1))
            around.append(
                float((one.lives.around[:, here].mean(axis=1) * one.lives.users).sum() / one.lives.users.sum())
            )
        return approval, around

    start = by_day(still)
    for (name, one), colour in zip(replays.items(), REPLAY_COLOURS, strict=False):
        if name == base:
            continue
        for axes, values, before in zip((left, right), by_day(one), start, strict=True):
            axes.plot(days, np.subtract(values, before), color=colour, marker="o", ms=3, label=name)
    for axes in (left, right):
        axes.axhline(0, color=PENALTY, lw=0.8)
        axes.set(xlabel="days after the start of the rollout")
    right.axvline(finds_out_days, color=NEUTRAL, lw=1, ls=":")
    right.annotate("first users find out", (finds_out_days, 0.97), xycoords=("data", "axes fraction"), xytext=(3, 0),
                   textcoords="offset points", fontsize=8.5, va="top")  # fmt: skip
    left.set(ylabel="change of the share of thumbs-up")
    right.set(ylabel="change of the share of users who return")
    left.set_title(f"Approval, against {base}")
    right.set_title(f"Trust, against {base}")
    left.legend(loc="upper right", fontsize=8.5)
    return figure


@styled
def changes_figure(runs: Mapping[str, xr.Dataset], labels: Sequence[str] = ()) -> Figure:
    """The headline metric over training: without changes, with each change alone, and with all."""
    figure, (axes,) = new_figure(1, width=7.2)
    colours = (NEUTRAL, COLOURS[3], COLOURS[1], COLOURS[2], ADDED)
    ends = []
    for (_, run), colour in zip(runs.items(), colours, strict=False):
        metric = run[run.attrs["headline"]]
        axes.plot(run["step"].values, metric.values, color=colour, lw=1.8)
        ends.append(float(metric[-1]))
    steps = run["step"].values
    axes.axhline(float(metric[0]), color=PENALTY, lw=1, ls="--")
    axes.annotate("reference policy", (0, float(metric[0])), xytext=(0, 4), textcoords="offset points", fontsize=8.5)
    label_ends(axes, steps[-1], ends, list(labels or runs), colours)
    axes.set(xlabel="training step", ylabel=f"{metric.long_name} ({metric.units})", xlim=(0, steps[-1] * 1.3))
    axes.set_title("Training the update")
    return figure
