"""The figures of a single run."""

import xarray as xr
from matplotlib.figure import Figure

from sim.plots.drift import cause_colours, stack
from sim.plots.style import ADDED, COLOURS, PENALTY, label_ends, new_figure, styled


@styled
def metrics_figure(run: xr.Dataset) -> Figure:
    """Left: the headline metric. Middle: change of each signal's mean score. Right: KL and entropy."""
    figure, (left, middle, right) = new_figure(3, width=4.6)
    steps = run["step"].values
    headline = run[run.attrs["headline"]]
    left.plot(steps, headline.values, color=ADDED)
    left.axhline(float(headline[0]), color=PENALTY, lw=1, ls="--")
    left.set(xlabel="training step", ylabel=f"{headline.long_name} ({headline.units})")
    left.set_title("Headline metric (dashed: reference)")
    names = [str(key).split("/")[1] for key in run.data_vars if str(key).endswith("/raw")]
    colours = cause_colours(names, run.attrs["added"])
    ends = []
    for name in names:
        raw = run[f"rewards/{name}/raw"].values
        middle.plot(steps, raw - raw[0], color=colours[name])
        ends.append(raw[-1] - raw[0])
    label_ends(middle, steps[-1], ends, names, [colours[name] for name in names])
    middle.set(xlabel="training step", ylabel="change of mean score (score)", xlim=(0, steps[-1] * 1.35))
    middle.set_title("Signals")
    for key, colour in (("kl", COLOURS[0]), ("entropy", COLOURS[3])):
        right.plot(steps, run[key].values, color=colour)
    label_ends(right, steps[-1], [float(run["kl"][-1]), float(run["entropy"][-1])], ["KL", "entropy"],
               [COLOURS[0], COLOURS[3]])  # fmt: skip
    right.set(xlabel="training step", ylabel="nats per prompt", xlim=(0, steps[-1] * 1.2))
    right.set_title("Distance from the reference")
    return figure


@styled
def ledger_figure(run: xr.Dataset) -> Figure:
    """What each cause added to the change of the headline metric, cumulative and stacked."""
    figure, (axes,) = new_figure(1, width=6.8)
    ledger = run["ledger"].cumsum("interval")
    causes = [str(cause) for cause in run["cause"].values]
    colours = cause_colours(causes, run.attrs["added"])
    lines = ledger.transpose("cause", "interval").values
    stack(axes, ledger["interval"].values, lines, colours)
    axes.plot(ledger["interval"].values, lines.sum(axis=0), color="black", lw=2, label="observed change")
    axes.axhline(0, color=PENALTY, lw=0.8)
    handles = [axes.plot([], [], color=colours[cause], lw=6, label=cause)[0] for cause in causes]
    figure.legend(handles=[*handles, axes.get_lines()[0]], loc="outside right center", fontsize=8.5)
    axes.set(xlabel="training step", ylabel=f"{run['ledger'].long_name}\n({run['ledger'].units}, cumulative)")
    return figure
