"""The figures of the main job: how far the headline metric drifts with the added weight, and why."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sim.plots.style import ADDED, COLOURS, HALO, NEUTRAL, PENALTY, label_ends, new_figure, shades, styled
from sim.world.arrays import Array

BAND = 1.645  # normal 90 % band
BAND_TITLE = {"worlds": "Band: 90 % of the mean over random worlds", "draws": "Band: 90 %, bootstrap over prompts"}


def by_weight(data: xr.Dataset) -> xr.Dataset:
    """Return the data set with run unstacked into (weight, seed)."""
    key = f"mixture.weights.{data.attrs['added']}"
    plain = data.assign_coords(weight=("run", data[key].values), seed=("run", data["seed"].values))
    return plain.set_index(run=["weight", "seed"]).unstack("run")


def mean_and_band(values: xr.DataArray, seeds: str) -> tuple[Array, Array]:
    """Return the mean over seeds and the half-width of a 90 % band.

    Of the mean over random worlds (1.645 standard errors) or, where each seed is a bootstrap draw of one table
    (`seeds="draws"`), of the table's own value (1.645 standard deviations).
    """
    count = values.sizes["seed"]
    spread = values.std("seed", ddof=1) if count > 1 else xr.zeros_like(values.isel(seed=0))
    return values.mean("seed").values, BAND * spread.values / (1 if seeds == "draws" else np.sqrt(count))


@styled
def drift_curves(data: xr.Dataset, shown: int = 7) -> Figure:
    """Left: the headline metric over training, a line per weight. Right: where it ends, against the weight."""
    grid = by_weight(data)
    metric = grid[data.attrs["headline"]].transpose("weight", "step", "seed")
    weights, steps = grid["weight"].values, grid["step"].values
    picked = np.unique(np.linspace(0, len(weights) - 1, min(shown, len(weights))).round().astype(int))
    figure, (left, right) = new_figure(2)
    colours = shades(len(picked))
    reference = float(metric.isel(step=0).mean())
    ends = []
    for colour, index in zip(colours, picked, strict=True):
        mean, band = mean_and_band(metric.isel(weight=index), data.attrs["seeds"])
        left.plot(steps, mean, color=colour)
        left.fill_between(steps, mean - band, mean + band, color=colour, alpha=0.25, lw=0)
        ends.append(mean[-1])
    label_ends(left, steps[-1], ends, [f"{weights[i]:g}" for i in picked], colours)
    left.set(xlabel="training step", ylabel=f"{metric.long_name} ({metric.units})", xlim=(0, steps[-1] * 1.08))
    left.set_title(f"Drift by weight of {data.attrs['added']}")
    mean, band = mean_and_band(metric.isel(step=-1), data.attrs["seeds"])
    right.plot(weights, mean, color=ADDED)
    right.fill_between(weights, mean - band, mean + band, color=ADDED, alpha=0.25, lw=0)
    right.set(xlabel=f"weight of {data.attrs['added']}", ylabel=f"{metric.long_name} after training")
    right.set_title(BAND_TITLE[data.attrs["seeds"]])
    for axes in (left, right):
        axes.axhline(reference, color=PENALTY, lw=1, ls="--")
    right.annotate("reference policy", (weights[-1], reference), xytext=(0, -10), ha="right",
                   textcoords="offset points", fontsize=8.5, color=PENALTY, path_effects=HALO)  # fmt: skip
    return figure


@styled
def ledger_panels(data: xr.Dataset, low: float, high: float) -> Figure:
    """Cumulative contributions of each cause to the change of the metric, stacked, for two weights."""
    grid = by_weight(data)["ledger"].mean("seed").cumsum("interval")
    figure, panels = new_figure(2, width=5.8)
    causes = [str(cause) for cause in grid["cause"].values]
    colours = cause_colours(causes, data.attrs["added"])
    steps = grid["interval"].values
    for axes, weight in zip(panels, (low, high), strict=True):
        lines = grid.sel(weight=weight, method="nearest").transpose("cause", "interval").values
        stack(axes, steps, lines, colours)
        axes.plot(steps, lines.sum(axis=0), color="black", lw=2)
        axes.annotate("sum = observed change", (steps[len(steps) // 2], lines.sum(axis=0)[len(steps) // 2]),
                      xytext=(0, 8), textcoords="offset points", ha="center", fontsize=8.5,
                      path_effects=HALO)  # fmt: skip
        axes.axhline(0, color=PENALTY, lw=0.8)
        actual = float(grid["weight"].sel(weight=weight, method="nearest"))
        axes.set_title(f"{data.attrs['added']} = {actual:g}")
        axes.set(xlabel="training step")
    limits = [min(a.get_ylim()[0] for a in panels), max(a.get_ylim()[1] for a in panels)]
    for axes in panels:
        axes.set_ylim(*limits)
    panels[0].set_ylabel(f"{data['ledger'].long_name}\n({data['ledger'].units}, cumulative)")
    handles = [panels[0].plot([], [], color=colours[cause], lw=6, label=cause)[0] for cause in causes]
    figure.legend(handles=handles, loc="outside right center", fontsize=8.5)
    return figure


@styled
def check_strength_curve(
    data: xr.Dataset, at_reference: Array, critical: dict[str, tuple[float, float, float]]
) -> Figure:
    """Check strength against the weight, at the reference and over training, each beside its critical weight.

    Args:
        data: the sweep.
        at_reference: [weight] primary over added push at the reference policy.
        critical: "at the reference" and "trained" -> (weight, low, high).
    """
    grid = by_weight(data)["check_strength"].transpose("seed", "weight")
    figure, (axes,) = new_figure(1, width=6.8)
    weights = grid["weight"].values
    over_training = grid.median("seed").values
    curves = {"at the reference": (at_reference, ADDED), "trained": (over_training, COLOURS[0])}
    axes.plot(weights, grid.values.T, color=COLOURS[1], lw=0.6, zorder=1)
    shown = np.concatenate([at_reference, over_training])
    shown = shown[np.isfinite(shown) & (shown > 0)]
    if len(shown):
        axes.set(yscale="log", ylim=(max(shown.min() / 1.5, 0.05), min(shown.max() * 1.5, 20)))
    for how, (curve, colour) in curves.items():
        weight, low, high = critical[how]
        name = "at the reference" if how == "at the reference" else "over training (thin: seeds)"
        text = f"critical weight {weight:.3f}" if np.isfinite(weight) else "no critical weight in range"
        axes.plot(weights, curve, color=colour, lw=2, label=f"{name}: {text}")
        if np.isfinite(weight):
            axes.axvline(weight, color=colour, lw=1, ls=":")
        if np.isfinite(low):
            axes.axvspan(low, high, color=colour, alpha=0.12, lw=0)
    axes.axhline(1, color=PENALTY, lw=1)
    for text, offset in (("above 1: the primary group holds", 5), ("below 1: it does not", -12)):
        axes.annotate(text, (0.99, 1), xycoords=("axes fraction", "data"), xytext=(0, offset),
                      textcoords="offset points", ha="right", fontsize=8.5, path_effects=HALO)  # fmt: skip
    axes.set(xlabel=f"weight of {data.attrs['added']}", ylabel="check strength (ratio of pushes)")
    axes.set_title("Check strength (bands: 90 % intervals of the critical weight)")
    axes.legend(loc="upper right", fontsize=8.5)
    return figure


@styled
def quality_against_proxy(data: xr.Dataset, shown: int = 7) -> Figure:
    """Left: true quality gained against proxy reward gained along training. Right: true quality against the weight.

    Where nobody knows the true quality (a score table), the headline metric takes its place.
    """
    name = "true/quality" if "true/quality" in data else data.attrs["headline"]
    grid = by_weight(data)
    label, unit = data[name].long_name, data[name].units
    gain = (grid[name] - grid[name].isel(step=0)).transpose("weight", "step", "seed")
    proxy = (grid["proxy_reward"] - grid["proxy_reward"].isel(step=0)).transpose("weight", "step", "seed")
    weights = grid["weight"].values
    figure, (left, right) = new_figure(2)
    picked = np.unique(np.linspace(0, len(weights) - 1, min(shown, len(weights))).round().astype(int))
    for colour, index in zip(shades(len(picked)), picked, strict=True):
        across, up = proxy.isel(weight=index).mean("seed").values, gain.isel(weight=index).mean("seed").values
        left.plot(across, up, color=colour, label=f"{weights[index]:g}")
        left.plot(across[-1], up[-1], "o", color=colour, ms=4)
    left.legend(title=f"weight of\n{data.attrs['added']}", fontsize=8, title_fontsize=8)
    left.set(xlabel="proxy reward gained (reward)", ylabel=f"change of {label} ({unit})")
    left.set_title("Along training, from the reference policy")
    mean, band = mean_and_band(gain.isel(step=-1), data.attrs["seeds"])
    right.plot(weights, mean, color=COLOURS[2])
    right.fill_between(weights, mean - band, mean + band, color=COLOURS[2], alpha=0.25, lw=0)
    if name == "true/quality":
        peak = int(np.argmax(mean))
        right.plot(weights[peak], mean[peak], "o", color=ADDED)
        right.annotate(f"highest at {weights[peak]:g}", (weights[peak], mean[peak]), xytext=(0, -14), fontsize=8.5,
                       textcoords="offset points", ha="center", color=ADDED)  # fmt: skip
    right.set(xlabel=f"weight of {data.attrs['added']}", ylabel=f"change of {label} after training")
    right.set_title("After training (band: 90 %)")
    return figure


def cause_colours(causes: list[str], added: str) -> dict[str, str]:
    """Return a colour for each cause."""
    fixed = {added: ADDED, "kl penalty": PENALTY, "remainder": NEUTRAL}
    others = iter(COLOURS * 4)
    return {cause: fixed[cause] if cause in fixed else next(others) for cause in causes}


def stack(axes: Axes, steps: Array, lines: Array, colours: dict[str, str]) -> None:
    """Stack what pushes up above zero and what pushes down below it."""
    for sign in (1, -1):
        part = np.clip(sign * lines, 0, None) * sign
        edges = np.concatenate([np.zeros((1, part.shape[1])), part.cumsum(axis=0)])
        for lower, upper, colour in zip(edges[:-1], edges[1:], colours.values(), strict=True):
            axes.fill_between(steps, lower, upper, color=colour, lw=0, alpha=0.9)
