"""From the sliders to the settings of a run: each slider is one setting, or one factor on a table of settings."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from sim.checks import check
from sim.config import Chat, InputError, Memory, Settings, Signals, Training, Users, unknown_name

MAX_WEIGHT = 0.6
WORLDS = 4
# Small enough for a redraw in 300 ms, measured in the browser (docs/play.md). Users of so small a world leave too few
# votes to learn a reward model from, so people's signals are oracles: what votes would say without sampling error.
WORLD = Chat(prompts=72, responses=16)
SOURCE = dict.fromkeys(Signals().source, "oracle")
# As far as the default's 100 steps of size 1; tests/test_page.py holds their ends together.
TRAINING = Training(steps=16, learning_rate=6.25, record_every=2)


class Slider(NamedTuple):
    """One knob of the page.

    label: what it is.
    low, high, step: its range.
    start: where it stands at first.
    meaning: a line under it.
    """

    label: str
    low: float
    high: float
    step: float
    start: float
    meaning: str


SLIDERS = {
    "weight": Slider(
        "Weight of users' thumbs-up", 0.0, MAX_WEIGHT, 0.02, 0.3, "share of the reward; graders share the rest"
    ),
    "kl_coef": Slider("KL coefficient", 0.01, 0.15, 0.01, 0.05, "how firmly training is held to the reference model"),
    "appetite": Slider("Appetite for agreement", 0.0, 1.5, 0.1, 0.5, "how much more users like being agreed with"),
    "memory": Slider("Users with memory on", 0.0, 1.0, 0.1, 0.0, "whose views the model knows from earlier chats"),
    "freshness": Slider(
        "Fresher training data",
        0.0,
        1.0,
        0.1,
        0.0,
        "0: tasks and facts; 1: what users really ask. The critical weight moves by less than so few worlds can tell",
    ),
    "coverage": Slider(
        "What the spec grader covers", 0.0, 4.0, 0.25, 1.0, "times its default share of each topic, at most all"
    ),
    "vulnerable": Slider(
        "Vulnerable users", 0.0, 0.5, 0.05, 0.1, f"share of users, with {Users().vulnerable_boost:g} times the appetite"
    ),
}


def start_values() -> dict[str, float]:
    """Return where the sliders stand at first."""
    return {name: slider.start for name, slider in SLIDERS.items()}


def settings_of(values: Mapping[str, float]) -> Settings:
    """Return the settings of the run that the sliders describe.

    Args:
        values: slider -> value; what is missing stands where it stands at first.

    Raises:
        InputError: for a slider that there is not, or a value outside its range.
    """
    for name, value in values.items():
        if name not in SLIDERS:
            raise InputError(f"sliders: {unknown_name('slider', name, list(SLIDERS))}")
        low, high = SLIDERS[name].low, SLIDERS[name].high
        if not low <= value <= high:
            raise InputError(f"sliders.{name} = {value}: must be from {low:g} to {high:g}")
    at = start_values() | dict(values)
    plain = Settings()
    coverage = {topic: min(1.0, at["coverage"] * share) for topic, share in plain.signals.spec_coverage.items()}
    weights = plain.mixture.weights | {plain.mixture.added: float(at["weight"])}
    return check(
        Settings(
            kl_coef=float(at["kl_coef"]),
            world=dataclasses.replace(WORLD, freshness=float(at["freshness"])),
            users=Users(appetite=float(at["appetite"]), vulnerable_share=float(at["vulnerable"])),
            memory=Memory(share=float(at["memory"])),
            signals=Signals(source=dict(SOURCE), spec_coverage=coverage),
            mixture=dataclasses.replace(plain.mixture, weights=weights),
            training=dataclasses.replace(TRAINING),
        )
    )


def command_of(values: Mapping[str, float]) -> str:
    """Return the command that gives the page's curve, on the page's worlds, to run it again or larger."""
    at = start_values() | dict(values)
    parts = [
        "python -m experiments.drift",
        f"seeds={WORLDS} points=9 max_weight={MAX_WEIGHT:g}",
        f"world.prompts={WORLD.prompts} training.steps={TRAINING.steps}",
        f"training.learning_rate={TRAINING.learning_rate:g} training.record_every={TRAINING.record_every}",
        "signals.source.thumbs_up=oracle signals.source.preference=oracle",
        f"kl_coef={at['kl_coef']:g}",
    ]
    keys = {"appetite": "users.appetite", "memory": "memory.share", "freshness": "world.freshness"}
    keys["vulnerable"] = "users.vulnerable_share"
    parts += [f"{key}={at[name]:g}" for name, key in keys.items() if at[name] != SLIDERS[name].start]
    if at["coverage"] != SLIDERS["coverage"].start:
        shares = settings_of(values).signals.spec_coverage
        parts += [f"signals.spec_coverage.{topic}={share:g}" for topic, share in shares.items()]
    return " ".join(parts)
