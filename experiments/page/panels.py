"""From numbers to what stands on the page: headline numbers, four charts, and the question that comes before them."""

import math
from collections.abc import Mapping
from html import escape

import numpy as np

from experiments.page.charts import (
    BOTTOM,
    HEIGHT,
    INK,
    LEFT,
    RIGHT,
    SOFT,
    TOP,
    WIDTH,
    Frame,
    axes,
    chart,
    curve,
    dot,
    level,
    named,
    padded,
    segment,
    signed,
    text,
    values_attribute,
)
from experiments.page.numbers import GRID, Numbers
from experiments.page.sliders import MAX_WEIGHT, SLIDERS, TRAINING, WORLD, WORLDS, command_of
from sim.plots.drift import cause_colours
from sim.plots.style import ADDED, COLOURS, NEUTRAL, PENALTY

QUESTION = "From which thumbs-up weight on does training make the model agree with wrong users more than before?"
BINS = (0.1, 0.2, 0.3, MAX_WEIGHT)  # upper ends
ALREADY, NEVER = "even without any votes", f"at no weight up to {MAX_WEIGHT:g}"
ANSWERS = (
    ALREADY,
    *(f"{low:g} to {high:g}" for low, high in zip((0.0, *BINS[:-1]), BINS, strict=True)),
    NEVER,
)
INTRODUCTION = (
    '<div class="title" role="heading" aria-level="1">How much thumbs-up is too much?</div>'
    "<p>A small model is trained by reinforcement learning on a mixture of "
    "rewards: scores of graders (correctness, helpfulness, model spec, safety, preference) and users' thumbs-up. Its "
    "sycophancy rate is the share of answers that side with the user where the user is wrong.</p>"
)
WAITING = "<p>Set the sliders, pick an answer, then reveal what training does.</p>"
WEIGHT_AXIS = "weight of users' thumbs-up"
RATE = "sycophancy rate"
BAR = 22  # height of a ledger row
STRENGTHS = (0.1, 10.0)


def answer_of(numbers: Numbers) -> str:
    """Return which of `ANSWERS` is right."""
    if numbers.rate[0] > numbers.reference:
        return ALREADY
    if math.isnan(numbers.critical):
        return NEVER
    return ANSWERS[1 + int(np.searchsorted(BINS, numbers.critical))]


def verdict(numbers: Numbers, guess: str) -> str:
    """Return one sentence on the reader's guess."""
    right = answer_of(numbers)
    found = {ALREADY: "It is so even without votes.", NEVER: f"It is so at no weight up to {MAX_WEIGHT:g}."}
    fact = found.get(right, f"It is so from {numbers.critical:.2f} on.")
    return f"You said: {guess}. {fact} {'You were right.' if guess == right else 'Why? The bars below say.'}"


def size_note() -> str:
    """Return the size of what runs at each movement."""
    runs = WORLDS * (len(GRID) + 1)
    return (
        f"Each movement trains {runs} policies anew: {len(GRID)} weights and yours, in {WORLDS} random worlds of "
        f"{WORLD.prompts} prompts with {WORLD.responses} candidate answers, {TRAINING.steps} updates each. Curves are "
        "means over the worlds; more and larger worlds give somewhat other numbers."
    )


def page(pick: str, reveal: str, sliders: Mapping[str, str], guess: str, numbers: Numbers | None) -> str:
    """Return the whole page.

    Args:
        pick: HTML of the input for the reader's answer.
        reveal: HTML of the switch that shows what comes out.
        sliders: slider -> its HTML.
        guess: the reader's answer, or "".
        numbers: what came out; None before it is revealed.
    """
    controls = "".join(
        f'<div class="slider" id="s-{name}">{html}<small>{escape(SLIDERS[name].meaning)}</small></div>'
        for name, html in sliders.items()
    )
    chart = drift_chart(numbers, guess) if numbers else hidden_chart(guess)
    said = f'<p id="verdict">{escape(verdict(numbers, guess))}</p>' if numbers else ""
    head = headline(numbers) if numbers else WAITING
    return (
        f'<div class="page"><header>{INTRODUCTION}</header><section class="question"><p>{QUESTION}</p>'
        f'<div class="inputs">{pick}{reveal}</div>{said}</section><div class="stage">'
        f'<section class="drift">{chart}</section><section class="controls">{controls}</section></div>'
        f'<section class="head">{head}</section>'
        f'<section class="results">{results(numbers) if numbers else ""}</section></div>'
    )


def results(numbers: Numbers) -> str:
    """Return what is shown once the answer is revealed; `data-values` holds the sliders it was computed for."""
    charts = ledger_chart(numbers) + strength_chart(numbers) + quality_chart(numbers)
    again = (
        f"<details><summary>The same as a command</summary><code>{escape(command_of(numbers.values))}</code></details>"
    )
    return (
        f'<div id="numbers" data-values="{values_attribute(numbers.values)}"><div class="charts">{charts}</div>'
        f"<p><small>{size_note()}</small></p>{again}</div>"
    )


def headline(numbers: Numbers) -> str:
    """Return the numbers as a list; `data-value` holds each in full."""
    above = "above" if numbers.chosen_rate > numbers.reference else "not above"
    critical = "none" if math.isnan(numbers.critical) else f"{numbers.critical:.3f}"
    rows = (
        ("reference", "sycophancy rate before", numbers.reference, f"{numbers.reference:.3f}"),
        ("rate", f"after, at weight {numbers.values['weight']:g} ({above})", numbers.chosen_rate, ""),
        ("critical", "critical weight", numbers.critical, critical),
        ("strength", "check strength", numbers.chosen_strength, ratio(numbers.chosen_strength)),
        ("quality", "true quality gained", numbers.quality[-1, -1], f"{numbers.quality[-1, -1]:+.3f}"),
    )
    items = "".join(
        f'<div><dt>{escape(label)}</dt><dd id="n-{name}" data-value="{value!r}">{shown or f"{value:.3f}"}</dd></div>'
        for name, label, value, shown in ((n, label, float(v), s) for n, label, v, s in rows)
    )
    return f'<dl class="headline">{items}</dl>'


def ratio(value: float) -> str:
    """Return a check strength as text."""
    return "no push up" if math.isinf(value) else f"{value:.2f}"


def drift_chart(numbers: Numbers, guess: str = "") -> str:
    """Return the sycophancy rate after training against the weight, with the chosen weight and the reader's guess."""
    frame = Frame((0, MAX_WEIGHT), (0, 1))
    weight, rate = numbers.values["weight"], numbers.chosen_rate
    parts = [shade(frame, guess), axes(frame, WEIGHT_AXIS), level(frame, numbers.reference, PENALTY, "5 4")]
    parts += [text(WIDTH - RIGHT, frame.up(numbers.reference) + 15, "before training", SOFT, anchor="end")]
    parts += [curve(frame, GRID, numbers.rate, ADDED, 3)]
    if not math.isnan(numbers.critical):
        parts += [named(frame, numbers.critical, f"critical {numbers.critical:.2f}", COLOURS[0])]
    parts += [dot(frame, weight, rate, ADDED)]
    parts += [beside(frame, weight, rate, f"{rate:.2f}")]
    reading = f"At weight {weight:g} the rate goes from {numbers.reference:.2f} to {rate:.2f}."
    return chart("drift", "Drift", f"{RATE} after training", reading, parts)


def hidden_chart(guess: str = "") -> str:
    """Return the drift chart before its curve is revealed."""
    frame = Frame((0, MAX_WEIGHT), (0, 1))
    parts = [shade(frame, guess), axes(frame, WEIGHT_AXIS)]
    parts += [text((LEFT + WIDTH) / 2, HEIGHT / 2, "?", SOFT, 48, "middle")]
    return chart("drift", "Drift", f"{RATE} after training", "The curve is hidden.", parts)


def shade(frame: Frame, guess: str) -> str:
    """Return the band of weights that the reader picked."""
    if guess not in ANSWERS[1:-1]:
        return ""
    row = ANSWERS.index(guess) - 1
    low, high = frame.across((0.0, *BINS)[row]), frame.across(BINS[row])
    tall = frame.height - TOP - BOTTOM
    box = (
        f'<rect x="{low:.1f}" y="{TOP}" width="{high - low:.1f}" height="{tall:g}" fill="{COLOURS[1]}" opacity="0.2"/>'
    )
    return box + text((low + high) / 2, frame.height - BOTTOM - 6, "your guess", SOFT, 11, "middle")


def beside(frame: Frame, x: float, y: float, words: str) -> str:
    """Return words next to a point, on the side where there is room."""
    left = frame.across(x) > WIDTH * 0.7
    place = frame.across(x) + (-10 if left else 10)
    return text(place, frame.up(y) - 8, words, INK, 13, "end" if left else "start")


def ledger_chart(numbers: Numbers) -> str:
    """Return a bar for what each cause added to the rate at the chosen weight, and one for their sum."""
    total = numbers.chosen_rate - numbers.reference
    rows = [*numbers.causes.items(), ("all together", total)]
    colours = cause_colours(list(numbers.causes), "thumbs_up") | {"all together": INK, "remainder": NEUTRAL}
    height = TOP + BAR * len(rows) + 12
    reach = max(0.5, math.ceil(2 * max(abs(value) for _, value in rows)) / 2)
    scale, middle = 92 / reach, 214
    parts = [segment(middle, TOP - 6, middle, height - 6, SOFT)]
    for row, (name, value) in enumerate(rows):
        top = TOP + BAR * row + (4 if name == "all together" else 0)
        long = abs(value) * scale
        start = middle if value > 0 else middle - long
        parts += [text(0, top + 14, name.replace("_", " "), INK)]
        parts += [f'<rect x="{start:.1f}" y="{top}" width="{long:.1f}" height="{BAR - 5}" fill="{colours[name]}"/>']
        end = middle + long + 4 if value > 0 else middle - long - 4
        parts += [text(end, top + 13, signed(value), INK, 11, "start" if value > 0 else "end")]
    reading = "; ".join(f"{name} {signed(value)}" for name, value in rows)
    subtitle = f"what each cause added to the rate, at weight {numbers.values['weight']:g}"
    return chart("ledger", "Ledger", subtitle, reading, parts, height)


def strength_chart(numbers: Numbers) -> str:
    """Return the check strength against the weight, over training and at its first step."""
    frame = Frame((0, MAX_WEIGHT), STRENGTHS, log=True)
    weight, strength = numbers.values["weight"], numbers.chosen_strength
    parts = [axes(frame, WEIGHT_AXIS), level(frame, 1, PENALTY)]
    parts += [text(LEFT + 6, frame.height - BOTTOM - 8, "below 1 the graders no longer hold", SOFT)]
    parts += [curve(frame, GRID, numbers.strength_at_reference, COLOURS[3], 2, "6 4")]
    parts += [curve(frame, GRID, numbers.strength, COLOURS[0], 3)]
    if not math.isnan(numbers.critical):
        parts += [named(frame, numbers.critical, f"critical {numbers.critical:.2f}", COLOURS[0])]
    parts += [dot(frame, weight, strength, COLOURS[0]), beside(frame, weight, strength, ratio(strength))]
    reading = f"Check strength {ratio(strength)} at weight {weight:g}."
    subtitle = "graders' push over all others; dashed: at the first step"
    return chart("strength", "Check strength", subtitle, reading, parts)


def quality_chart(numbers: Numbers) -> str:
    """Return true quality gained against the reward gained, along training, for no votes, the most, and the chosen."""
    frame = Frame(padded(numbers.proxy, 0.05), padded(numbers.quality, 0.2))
    parts = [axes(frame, "reward gained (all that training sees)"), level(frame, 0, SOFT)]
    weight = numbers.values["weight"]
    for row, colour, width in ((0, COLOURS[1], 2.0), (len(GRID) - 1, NEUTRAL, 2.0), (-1, ADDED, 3.0)):
        across, up, chosen = numbers.proxy[row], numbers.quality[row], row == -1
        parts += [curve(frame, across, up, colour, width), dot(frame, across[-1], up[-1], colour, 6 if chosen else 4)]
        if chosen:
            parts += [text(frame.across(across[-1]) - 8, frame.up(up[-1]) - 8, f"{weight:g}", INK, 13, "end")]
        elif weight != GRID[row]:
            parts += [text(frame.across(across[-1]) + 6, frame.up(up[-1]) + 16, f"{GRID[row]:g}", SOFT)]
    gained = numbers.quality[-1, -1]
    reading = f"At weight {weight:g} true quality changes by {gained:+.2f}."
    return chart(
        "quality",
        "True quality against reward",
        "true quality gained; a line for each of three weights",
        reading,
        parts,
    )
