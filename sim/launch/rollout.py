"""The rollout: an hourly clock and a small state machine of dated events.

    planned -start-> ramping <-resume/pause-> paused
                     ramping -complete-> live
    ramping, paused, live -rollback-> rolling_back -restored-> rolled_back

A patch of the system prompt takes hold in every state in which the candidate serves somebody, and a second patch takes
the place of the first. `complete` and `restored` come by themselves, when the ramp has run its hours and when the last
user is back on the old model. Whatever is not in `TRANSITIONS` is refused by name and date.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.config import InputError, shown
from sim.launch.settings import Rollout
from sim.world.arrays import Array

STATES = ("planned", "ramping", "paused", "live", "rolling_back", "rolled_back")
EVENTS = ("start", "pause", "resume", "complete", "patch", "rollback", "restored")
TRANSITIONS = {
    ("planned", "start"): "ramping",
    ("ramping", "pause"): "paused",
    ("ramping", "complete"): "live",
    ("ramping", "patch"): "ramping",
    ("ramping", "rollback"): "rolling_back",
    ("paused", "resume"): "ramping",
    ("paused", "patch"): "paused",
    ("paused", "rollback"): "rolling_back",
    ("live", "patch"): "live",
    ("live", "rollback"): "rolling_back",
    ("rolling_back", "patch"): "rolling_back",
    ("rolling_back", "restored"): "rolled_back",
}
HOUR = timedelta(hours=1)
LONGEST = 24 * 366  # hours of a rollout


class Event(NamedTuple):
    """Something that happens at an hour of the clock (0 is the start of the rollout)."""

    hour: int
    kind: str


class Clock(NamedTuple):
    """What was in force in each hour, [H].

    hours: the hour, counted from the start of the rollout; negative before it.
    state: index into `STATES`.
    share: of users on the candidate.
    patches: how many patches there have been; 0: none.
    log: the events that happened, `complete` and `restored` among them.
    """

    hours: npt.NDArray[np.int64]
    state: npt.NDArray[np.int64]
    share: Array
    patches: npt.NDArray[np.int64]
    log: tuple[Event, ...]


def next_state(state: str, event: str, when: str = "") -> str:
    """Return the state after an event, or raise `InputError` where it cannot happen."""
    if event not in EVENTS:
        raise InputError(f"rollout: unknown event '{event}'; known: {', '.join(EVENTS)}")
    found = TRANSITIONS.get((state, event))
    if found is None:
        raise InputError(f"rollout.{event}{f' = {when}' if when else ''}: not possible while {state}")
    return found


def date_of(settings: Rollout, field: str) -> datetime:
    """Return the date of a setting, or raise `InputError` naming it."""
    text = getattr(settings, field)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"rollout.{field} = {shown(text)}: must be a date and hour such as 2025-04-24 10:00") from None
    if found.tzinfo is not None:
        raise InputError(f"rollout.{field} = {text}: must be without a time zone, since all dates are in one")
    if found.minute or found.second or found.microsecond:
        raise InputError(f"rollout.{field} = {text}: the clock is hourly, so it must be a full hour")
    return found


def hour_of(settings: Rollout, field: str) -> int:
    """Return a setting's date in hours since the start."""
    return int((date_of(settings, field) - date_of(settings, "start")) / HOUR)


def planned_events(settings: Rollout) -> list[Event]:
    """Return the dated events of the settings in order of time.

    Raises:
        InputError: for a date that is none, a rollout that ends before it starts, or events out of order.
    """
    for field in ("complete", "end"):
        if not 0 < hour_of(settings, field) <= LONGEST:
            text = getattr(settings, field)
            raise InputError(
                f"rollout.{field} = {text}: must be after rollout.start = {settings.start}, and within a year of it"
            )
    named = ("pause", "resume", "patch", "rollback") if settings.respond == "published" else ("pause", "resume")
    events = [Event(0, "start")]
    for field in named:
        if getattr(settings, field):
            hour = hour_of(settings, field)
            if hour < 0:
                raise InputError(
                    f"rollout.{field} = {getattr(settings, field)}: comes before rollout.start = {settings.start}"
                )
            events.append(Event(hour, field))
    return sorted(events, key=lambda event: event.hour)


def run_clock(
    events: Sequence[Event],
    *,
    ramp_hours: int,
    rollback_hours: int,
    first: int,
    last: int,
    label: Callable[[int], str] = "hour {}".format,
) -> Clock:
    """Return what was in force in each hour from `first` to before `last`.

    The share climbs evenly over `ramp_hours` hours that are not paused, and falls evenly over `rollback_hours`.

    Args:
        events: in order of time; several in one hour happen in the order given.
        ramp_hours: at least 1.
        rollback_hours: at least 1.
        first: first hour of the clock, 0 or below.
        last: end of the clock.
        label: hour -> what an error message calls it.

    Raises:
        InputError: for an event that is not possible in the state that the rollout is in.
    """
    hours = np.arange(first, last)
    state, share, patches, fall = "planned", 0.0, 0, 0.0
    states, shares, counts = np.zeros(len(hours), dtype=int), np.zeros(len(hours)), np.zeros(len(hours), dtype=int)
    log: list[Event] = []
    waiting = list(events)
    for place, hour in enumerate(hours.tolist()):
        if state == "ramping":
            share = min(share + 1 / ramp_hours, 1.0)
        if state == "rolling_back":
            share = max(share - fall, 0.0)
        due = [Event(hour, "complete")] if state == "ramping" and share > 1 - 1e-9 else []
        due += [Event(hour, "restored")] if state == "rolling_back" and share < 1e-9 else []
        while waiting and waiting[0].hour <= hour:
            due.append(waiting.pop(0))
        for event in due:
            state = next_state(state, event.kind, label(event.hour))
            patches += event.kind == "patch"
            if event.kind == "rollback":
                fall = share / rollback_hours
            log.append(event)
        states[place], shares[place], counts[place] = STATES.index(state), share, patches
    return Clock(hours, states, shares, counts, tuple(log))


def rollout_clock(settings: Rollout, baseline_hours: int = 0, alarm: int | None = None) -> Clock:
    """Return the clock of the settings, from `baseline_hours` before the start to `follow_days` after the end.

    Args:
        settings: dates and durations.
        baseline_hours: hours before the start.
        alarm: with respond = monitors, the hour at which one fired; None: none did.
    """
    events = planned_events(settings)
    last = hour_of(settings, "end") + 24 * settings.follow_days
    if settings.respond == "monitors" and alarm is not None:
        events += [Event(alarm + settings.patch_delay, "patch"), Event(alarm + settings.rollback_delay, "rollback")]
        events.sort(key=lambda event: event.hour)
    return run_clock(
        events,
        ramp_hours=hour_of(settings, "complete"),
        rollback_hours=settings.rollback_hours,
        first=-baseline_hours,
        last=last,
        label=lambda hour: date_text(settings, hour),
    )


def no_launch(clock: Clock) -> Clock:
    """Return the same hours without a launch: everybody stays on the deployed model."""
    return Clock(clock.hours, np.zeros_like(clock.state), np.zeros_like(clock.share), np.zeros_like(clock.patches), ())


def date_text(settings: Rollout, hour: int) -> str:
    """Return an hour of the clock as text, such as "Sun 27 Apr 20:00"."""
    return (date_of(settings, "start") + hour * HOUR).strftime("%a %d %b %H:%M")
