"""The figures of an audit, drawn from its report alone, so that a report that was saved can be drawn again."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sim.plots.drift import cause_colours, stack
from sim.plots.style import ADDED, COLOURS, NEUTRAL, PENALTY, label_ends, new_figure, shades, styled
from sim.world.arrays import Array

Report = dict[str, Any]
SHOWN = 12  # slices in the figure
LONGEST = 28  # letters of a name from the user's table


def plain_text(text: object) -> str:
    """Return a name from the user's table as a figure can show it: one line, no mathematics, not too long."""
    letters = "".join(letter if letter.isprintable() and letter.isascii() else "?" for letter in str(text))
    short = letters if len(letters) <= LONGEST else letters[: LONGEST - 3] + "..."
    return short.replace("$", r"\$")


def audit_figures(report: Report) -> dict[str, tuple[Figure, str]]:
    """Return every figure of the report with its caption, by name."""
    attribute = report["attributes"][0]
    level = f"{report['options']['level'] * 100:g} %"
    found = {
        "pushes": (
            push_figure(report),
            f"Who pushes {attribute}, to first order, and where trained policies end up ({level} intervals).",
        ),
        "pressure": (
            pressure_figure(report),
            "Against KL. Hollow: fewer than three answers carry the prediction on more than a tenth of prompts.",
        ),
        "rewards": (reward_figure(report), "What each mixture does to every signal's own mean score."),
        "influence": (influence_figure(report), "What each signal is said to weigh, and what it decides."),
    }
    if report["slices"]:
        found["slices"] = (slice_figure(report), f"Groups of prompts, the strongest push on {attribute} first.")
    if report.get("trainer"):
        found["trainer"] = (trainer_figure(report), "What a trainer logged, beside what the audit predicts at that KL.")
    return found


def _cells(report: Report, method: str, **wanted: Any) -> list[Report]:
    return [
        cell
        for cell in report["predictions"]
        if cell["method"] == method and all(cell[key] == value for key, value in wanted.items())
    ]


def _changes(cells: list[Report], column: str) -> Array:
    """Return [3, cells]: change, low, high."""
    found = [cell["values"][column]["change"] for cell in cells]
    return np.array([[entry[key] for entry in found] for key in ("value", "low", "high")], dtype=float).reshape(3, -1)


@styled
def push_figure(report: Report) -> Figure:
    """Left: each signal's weighted push. Right: the attribute's predicted change against the added weight."""
    figure, (left, right) = new_figure(2, width=5.6)
    options, attribute = report["options"], report["attributes"][0]
    rows = report["check"]
    places = np.arange(len(rows))[::-1]
    for key, colour, offset, label in (
        ("push_now", COLOURS[0], 0.17, "now"),
        ("push_planned", ADDED, -0.17, f"with {plain_text(options['add'])} at {options['weight']:g}"),
    ):
        value, low, high = (np.array([row[key][end] for row in rows]) for end in ("value", "low", "high"))
        left.barh(places + offset, value, 0.32, color=colour, label=label)
        held = np.isfinite(low)
        left.hlines((places + offset)[held], low[held], high[held], color="black", lw=1.2)
    left.axvline(0, color=PENALTY, lw=1)
    left.set_yticks(places, [plain_text(row["signal"]) for row in rows])
    left.set(xlabel=f"weighted covariance with {plain_text(attribute)}")
    left.xaxis.set_major_locator(MaxNLocator(5))
    left.set_title("Push at the reference (left of 0: holds)")
    left.legend(fontsize=8.5, loc="best")

    trained = _cells(report, "closed_form", kl_coef=options["kl_coef"])
    _band(right, trained, attribute, COLOURS[0], f"trained, kl_coef {options['kl_coef']:.3g}")
    for n, colour in zip((2, 16), (COLOURS[1], COLOURS[2]), strict=True):
        cells = _cells(report, "best_of_n", n=n)
        if cells:
            _band(right, cells, attribute, colour, f"best of {n}")
    right.axhline(0, color=PENALTY, lw=1)
    for entry, style in zip(report["critical_weight"][:3:2], (":", "--"), strict=True):
        if np.isfinite(entry["value"]):
            right.axvline(entry["value"], color=ADDED, lw=1.2, ls=style, label=f"critical, {entry['at']}")
    right.axvline(options["weight"], color=NEUTRAL, lw=1, label="planned weight")
    right.set(xlabel=f"weight of {plain_text(options['add'])}", ylabel=f"change of {plain_text(attribute)}")
    right.set_title("Predicted change from the reference")
    right.legend(fontsize=8)
    return figure


def _band(axes: Axes, cells: list[Report], column: str, colour: str, label: str) -> None:
    weights = [cell["weight"] for cell in cells]
    value, low, high = _changes(cells, column)
    axes.plot(weights, value, color=colour, label=label)
    axes.fill_between(weights, low, high, color=colour, alpha=0.2, lw=0)


@styled
def pressure_figure(report: Report) -> Figure:
    """Left: the attribute's change against KL, a line a weight. Right: effective answers per prompt against KL."""
    figure, (left, right) = new_figure(2, width=5.6)
    attribute, options = report["attributes"][0], report["options"]
    followed = {cell["weight"] for cell in report["predictions"] if cell["kl_coef"] not in (None, options["kl_coef"])}
    weights = sorted(followed)
    for weight, colour in zip(weights, shades(len(weights)), strict=True):
        cells = sorted(_cells(report, "closed_form", weight=weight), key=lambda cell: cell["kl"])
        kl = np.array([0.0, *(cell["kl"] for cell in cells)])
        value, low, high = np.concatenate([np.zeros((3, 1)), _changes(cells, attribute)], axis=1)
        left.plot(kl, value, color=colour, label=f"weight {weight:g}")
        left.fill_between(kl, low, high, color=colour, alpha=0.2, lw=0)
        right.plot(kl[1:], [cell["effective_sample_size"] for cell in cells], color=colour)
        for at, cell in enumerate(cells, start=1):
            face = colour if cell["supported"] >= 0.9 else "white"
            left.plot(kl[at], value[at], "o", ms=4.5, color=colour, mfc=face)
            right.plot(kl[at], cell["effective_sample_size"], "o", ms=4.5, color=colour, mfc=face)
        best = _cells(report, "best_of_n", weight=weight)
        left.plot([cell["kl"] for cell in best], _changes(best, attribute)[0], "x", color=colour, ms=5)
    left.plot([], [], "x", color=PENALTY, label="best of 2, 4, ...")
    left.axhline(0, color=PENALTY, lw=1)
    left.set(xlabel="KL(policy || reference), nats per prompt", ylabel=f"change of {plain_text(attribute)}")
    left.set_title("Trained policies (lines) and best-of-n")
    left.legend(fontsize=8.5)
    right.axhline(3, color=NEUTRAL, lw=1, ls="--")
    right.set(xlabel="KL(policy || reference), nats per prompt", ylabel="answers per prompt", ylim=(0, None))
    right.set_title("Effective sample size (dashed: too few)")
    return figure


@styled
def reward_figure(report: Report) -> Figure:
    """The predicted change of every signal's mean, in units of its spread, against the weight of the added signal."""
    figure, (axes,) = new_figure(1, width=7.2, height=4.0)
    options = report["options"]
    cells = _cells(report, "closed_form", kl_coef=options["kl_coef"])
    weights = np.array([cell["weight"] for cell in cells])
    names = [row["signal"] for row in report["signals"]]
    colours = cause_colours(names, options["add"])
    ends = []
    for row in report["signals"]:
        spread = row["spread"]["value"] or 1.0
        value, low, high = _changes(cells, row["signal"]) / spread
        axes.plot(weights, value, color=colours[row["signal"]])
        axes.fill_between(weights, low, high, color=colours[row["signal"]], alpha=0.2, lw=0)
        ends.append(value[-1])
    axes.axhline(0, color=PENALTY, lw=1)
    axes.axvline(options["weight"], color=NEUTRAL, lw=1)
    label_ends(axes, weights[-1], ends, [plain_text(name) for name in names], [colours[name] for name in names])
    axes.set(xlabel=f"weight of {plain_text(options['add'])} (grey: planned)", xlim=(0, weights[-1] * 1.25),
             ylabel="change of mean score (spreads)")  # fmt: skip
    axes.set_title(f"Signals after training at kl_coef {options['kl_coef']:.3g}")
    return figure


@styled
def influence_figure(report: Report) -> Figure:
    """Nominal weight, share of the reward's variance, and best-of-n choices that hang on each signal."""
    figure, (axes,) = new_figure(1, width=7.2, height=0.9 + 0.75 * len(report["influence"]))
    rows = report["influence"]
    places = np.arange(len(rows))[::-1]
    axes.barh(places + 0.26, [row["nominal"] for row in rows], 0.24, color=NEUTRAL, label="share of the weights")
    for key, colour, offset, label in (
        ("variance", COLOURS[0], 0.0, "share of the reward's variance"),
        ("decisions", COLOURS[3], -0.26, "choices that change without it"),
    ):
        value, low, high = (np.array([row[key][end] for row in rows], dtype=float) for end in ("value", "low", "high"))
        axes.barh(places + offset, value, 0.24, color=colour, label=label)
        axes.hlines(places + offset, low, high, color="black", lw=1.2)
    axes.axvline(0, color=PENALTY, lw=1)
    axes.set_yticks(places, [plain_text(row["signal"]) for row in rows])
    axes.set(xlabel="share")
    figure.legend(loc="outside right center", fontsize=8.5)
    axes.set_title("Nominal weight and real influence")
    return figure


@styled
def slice_figure(report: Report) -> Figure:
    """The net push as planned within groups of prompts, worst first, with intervals."""
    rows = report["slices"][:SHOWN]
    figure, (axes,) = new_figure(1, width=7.2, height=1.2 + 0.33 * len(rows))
    places = np.arange(len(rows))[::-1]
    value, low, high = (np.array([row["push"][end] for row in rows], dtype=float) for end in ("value", "low", "high"))
    colours = [
        ADDED if bottom > 0 else COLOURS[0] if top < 0 else NEUTRAL for bottom, top in zip(low, high, strict=True)
    ]
    axes.hlines(places, low, high, color=colours, lw=2)
    axes.scatter(value, places, color=colours, zorder=3)
    axes.axvline(0, color=PENALTY, lw=1)
    names = [f"{plain_text(row['column'])} = {plain_text(row['value'])}  ({row['share']:.0%})" for row in rows]
    axes.set_yticks(places, names)
    weight = report["options"]["weight"]
    axes.set(
        ylim=(-0.6, len(rows) - 0.4), xlabel=f"net push on {plain_text(report['attributes'][0])} at weight {weight:g}"
    )
    left_out = len(report["slices"]) - len(rows)
    axes.set_title("Where the push is worst" + (f" ({left_out} more in the report)" if left_out else ""))
    return figure


@styled
def trainer_figure(report: Report) -> Figure:
    """Left: what each signal added to the logged reward, stacked over steps. Right: logged and predicted, over KL."""
    trainer, options = report["trainer"], report["options"]
    names = [row["signal"] for row in trainer["signals"]]
    colours = cause_colours(names, options["add"])
    figure, axes = new_figure(2, width=5.8)
    left, right = axes
    steps = np.array(trainer["steps"])
    lines = np.array([row["weighted_change"] for row in trainer["signals"]], dtype=float)
    stack(left, steps, np.nan_to_num(lines), {name: colours[name] for name in names})
    left.plot(steps, lines.sum(axis=0), color="black", lw=1.5)
    left.axhline(0, color=PENALTY, lw=0.8)
    for name in names:
        left.plot([], [], color=colours[name], lw=6, label=plain_text(name))
    left.plot([], [], color="black", lw=1.5, label="sum")
    left.legend(fontsize=8.5)
    left.set(xlabel="training step", ylabel="change of the mixed reward since the first entry")
    left.set_title("What the trainer logged, by signal")
    kl = np.array(trainer["kl"], dtype=float)
    furthest = np.nanmax(kl) if np.isfinite(kl).any() else 0.0
    for row in trainer["signals"]:
        right.plot(kl, row["change"], ".", ms=3, color=colours[row["signal"]], alpha=0.6)
        curve = row["predicted"]
        if curve:
            at = np.array(curve["kl"])
            shown = np.searchsorted(at, furthest) + 1
            right.plot(
                at[:shown], curve["value"][:shown], color=colours[row["signal"]], label=plain_text(row["signal"])
            )
            right.fill_between(at[:shown], curve["low"][:shown], curve["high"][:shown], lw=0, alpha=0.2,
                               color=colours[row["signal"]])  # fmt: skip
    if furthest > 0:
        right.set_xlim(-0.02 * furthest, 1.1 * furthest)
        right.legend(fontsize=8.5)
    right.axhline(0, color=PENALTY, lw=0.8)
    right.set(xlabel="KL, nats per response", ylabel="change of mean score")
    right.set_title("Logged (dots) and predicted (lines)")
    return figure
