"""What if: the same days again with one decision changed, on the same random draws.

Each improvement is taken over alone from the improved process. What users live through depends on two things only:
whether the update launched, and how the rollout responded. Replays that agree in both are one.
"""

import copy
from collections.abc import Mapping
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from sim.launch.classify import share
from sim.launch.exposure import Lives, in_force, live_through, patch_shifts
from sim.launch.models import Model
from sim.launch.monitors import NAMES, Watched, alarm_hours, watch, watched_rates
from sim.launch.process import decide
from sim.launch.readings import Draws
from sim.launch.rollout import Clock, no_launch, rollout_clock
from sim.launch.settings import IMPROVEMENTS, Lived, Monitors, Review, Rollout
from sim.world.arrays import Array


class Replay(NamedTuple):
    """The days of a rollout, lived through once.

    clock: what was in force when.
    lives: what users lived through.
    rates: [monitors, H] expected rates of what was served.
    watched: what the monitors showed.
    shifts: log-odds of endorsing that each patch added.
    """

    clock: Clock
    lives: Lives
    rates: Array
    watched: Watched
    shifts: list[float]


def with_parts(before: Review, after: Review, paths: tuple[str, ...]) -> Review:
    """Return a copy of `before` that has the dotted parts named in `paths` from `after`."""
    found = copy.deepcopy(before)
    for path in paths:
        *way, last = path.split(".")
        value = reduce(getattr, [*way, last], after)
        setattr(reduce(getattr, way, found), last, copy.deepcopy(value))
    return found


def variants(before: Review, after: Review) -> dict[str, Review]:
    """Return the process as it was, with each improvement alone, and with all of them."""
    alone = {name: with_parts(before, after, paths) for name, paths in IMPROVEMENTS.items()}
    return {before.name: before, **alone, "all together": after}


def launch_shares(
    reviews: Mapping[str, Review], candidate: Model, deployed: Model, lived: Lived, draws: Draws
) -> dict[str, tuple[float, float, float, int]]:
    """Return how often each process launches the same candidate over many draws: share, interval, of how many."""
    many = candidate.rows(np.zeros(len(draws.names), dtype=np.int64))
    return {name: share(decide(many, deployed, review, lived, draws).launched) for name, review in reviews.items()}


def replay(
    deployed: Model, candidate: Model, launched: bool, rollout: Rollout, lived: Lived, monitors: Monitors, seed: int
) -> Replay:
    """Return the days of a rollout; with respond = monitors the alarm is that of days without a response."""
    alarm = None
    if launched and rollout.respond == "monitors":
        alarm = first_alarm(deployed, candidate, rollout, monitors, seed)
    clock = rollout_clock(rollout, monitors.baseline_hours, alarm)
    if not launched:
        clock = no_launch(clock)
    shifts = patch_shifts(rollout, int(clock.patches.max()), seed)
    models = in_force(deployed, candidate, shifts)
    rates = served_rates(models, clock, monitors)
    watched = _watch(deployed, rates, monitors, seed)
    return Replay(clock, live_through(models, clock, rollout, lived, monitors, seed), rates, watched, shifts)


def served_rates(models: list[Model], clock: Clock, monitors: Monitors) -> Array:
    """Return the expected rates that monitors watch, mixed by share, [monitors, H]."""
    rates = np.concatenate([watched_rates(model, monitors) for model in models], axis=1)
    new = rates[:, 1 + clock.patches]
    return np.asarray(rates[:, :1] * (1 - clock.share) + new * clock.share)


def first_alarm(deployed: Model, candidate: Model, rollout: Rollout, monitors: Monitors, seed: int) -> int | None:
    """Return the hour at which the monitor that is acted on gives the alarm if nobody responds; None: never."""
    clock = rollout_clock(rollout, monitors.baseline_hours)
    rates = served_rates([deployed, candidate], clock, monitors)
    hours = alarm_hours(_watch(deployed, rates, monitors, seed), monitors.baseline_hours)
    hour = hours[NAMES.index(rollout.monitor), 0]
    return None if np.isnan(hour) else int(hour)


def _watch(deployed: Model, rates: Array, monitors: Monitors, seed: int) -> Watched:
    draws = Draws(seed, ("rollout",))
    return watch(watched_rates(deployed, monitors), rates[:, None], monitors.baseline_hours, monitors, draws)


def totals(lives: Lives, first: int, last: int) -> dict[str, Any]:
    """Return sums over the hours from `first` to before `last`, name -> [G]."""
    here = (lives.hours >= first) & (lives.hours < last)
    return {name: counts[:, here].sum(axis=1) for name, counts in lives.counts.items()}
