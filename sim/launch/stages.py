"""The stages of a review, and what they take: a stage's checks go on side by side, the stages one after the other."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.launch.settings import Checks, Evals, Gate
from sim.world.arrays import Array

AB_METRICS = ("launch/votes", "launch/preference", "launch/usage")
STAGES = {
    "evals": ("launch/offline", "launch/safety", "launch/sycophancy", "launch/overcorrection", "launch/model_spec"),
    "red team": ("launch/red_team",),
    "spot checks": ("launch/spot_checks",),
    "alpha phase": ("launch/alpha",),
    "A/B test": AB_METRICS,
}
METRICS = {metric: stage for stage, metrics in STAGES.items() for metric in metrics}
Flags = npt.NDArray[np.bool_]


def scaled(checks: Checks, factor: float) -> Checks:
    """Return the checks with samples `factor` times larger."""

    def times(settings: Any, *names: str) -> Any:
        return dataclasses.replace(settings, **{name: round(getattr(settings, name) * factor) for name in names})

    return Checks(
        times(checks.evals, "offline", "safety", "sycophancy", "model_spec"),
        times(checks.red_team, "confirm"),
        times(checks.spot_checks, "experts"),
        times(checks.alpha, "volunteers"),
        times(checks.ab_test, "users", "pairs"),
    )


def costs(checks: Checks, gates: dict[str, Gate], made: Flags, ab_days: Array) -> tuple[Array, Array]:
    """Return the days and the person-hours of the checks that were made, [R] each.

    The checks of a stage go on side by side, the stages one after the other.

    Args:
        checks: sizes, durations and prices.
        gates: name -> Gate.
        made: [G, R] whether a gate's check was made.
        ab_days: [R] how long the A/B test ran.
    """
    panel, days, hours = checks.spot_checks, np.zeros(len(ab_days)), np.zeros(len(ab_days))
    by_stage: dict[str, tuple[Any, float]] = {
        "evals": (checks.evals.days, 0.0),
        "red team": (checks.red_team.days, checks.red_team.hours),
        "spot checks": (panel.days, panel.hours_each * panel.experts * panel.chats * 2),
        "alpha phase": (checks.alpha.days, checks.alpha.hours),
        "A/B test": (ab_days, checks.ab_test.hours),
    }
    for stage, (duration, price) in by_stage.items():
        mine = made[[METRICS[gate.metric] == stage for gate in gates.values()]].any(axis=0)
        days, hours = days + mine * duration, hours + mine * price
    for gate, asked in zip(gates.values(), made, strict=True):
        hours = hours + asked * checks.evals.hours_each * questions(checks.evals, gate.metric)
    return days, hours


def questions(settings: Evals, metric: str) -> int:
    """Return how many questions an eval asks; 0 for what is no eval."""
    asked_of = {"overcorrection": "sycophancy"}  # the other half of the same mirrored probes
    name = metric.removeprefix("launch/")
    return getattr(settings, asked_of.get(name, name)) if metric in STAGES["evals"] else 0
