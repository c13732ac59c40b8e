"""A review process: checks are made, gates judge them, verdicts become a decision, with its delay and its cost.

Checks come in stages; a candidate that is blocked goes no further. Where a blocking gate can neither pass nor fail, or
where users like what experts call off, there is a second look at that stage on fresh and larger samples; what is still
not clear then does not launch. An override is possible, and is on record.
"""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.config import InputError, unknown_name
from sim.launch import evals, spot_checks
from sim.launch.ab_test import ab_test
from sim.launch.gates import FAIL, INVESTIGATE, PASS, Judged, gate_problems, judge
from sim.launch.models import Model
from sim.launch.readings import Draws, Reading, no_data
from sim.launch.settings import Checks, Gate, Lived, Review
from sim.launch.stages import AB_METRICS, METRICS, STAGES, costs, scaled
from sim.world.arrays import Array

CHECKS: dict[str, Callable[[Model, Model, Checks, Draws], Reading]] = {
    "launch/offline": lambda new, old, how, draws: evals.offline_eval(new, old, how.evals, draws),
    "launch/safety": lambda new, old, how, draws: evals.safety_eval(new, old, how.evals, draws),
    "launch/sycophancy": lambda new, old, how, draws: evals.sycophancy_eval(new, old, how.evals, draws),
    "launch/overcorrection": lambda new, old, how, draws: evals.overcorrection_eval(new, old, how.evals, draws),
    "launch/model_spec": lambda new, old, how, draws: evals.model_spec_eval(new, old, how.evals, draws),
    "launch/red_team": lambda new, old, how, draws: evals.red_team(new, old, how.red_team, draws),
    "launch/spot_checks": lambda new, old, how, draws: spot_checks.spot_check(new, old, how.spot_checks, draws),
    "launch/alpha": lambda new, old, how, draws: spot_checks.alpha_phase(new, old, how.alpha, draws),
}
CONFLICT = "conflict"
Flags = npt.NDArray[np.bool_]


class Override(NamedTuple):
    """Somebody decided against the verdicts."""

    candidate: str
    launch: bool
    by: str
    reason: str


class Decision(NamedTuple):
    """What a process decided about R candidates.

    names: [R].
    first: the verdicts of the first look.
    last: those of the second look, where there was one, else of the first.
    launched: [R].
    caught: [R] the gate that stopped it first, "conflict", or "".
    word: [R] the experts' word, an index into `spot_checks.WORDS`.
    second: [R] there was a second look.
    days: [R] from candidate to decision.
    hours: [R] person-hours.
    overrides: on record.
    """

    names: tuple[str, ...]
    first: Judged
    last: Judged
    launched: Flags
    caught: npt.NDArray[np.str_]
    word: npt.NDArray[np.int64]
    second: Flags
    days: Array
    hours: Array
    overrides: tuple[Override, ...] = ()


def named_gates(review: Review) -> dict[str, Gate]:
    """Return the gates of a process by name."""
    return {item.name: getattr(review.gates, item.name) for item in dataclasses.fields(review.gates)}


def review_problems(review: Review, where: str = "review") -> list[str]:
    """Return one line for each setting of a process that cannot work."""
    found = gate_problems(named_gates(review), METRICS, f"{where}.gates")
    if not any(gate.role == "blocking" for gate in named_gates(review).values()):
        found.append(f"{where}.gates: no gate is blocking, so nothing could stop a launch")
    return found


def take_readings(
    candidate: Model, deployed: Model, checks: Checks, lived: Lived, draws: Draws, level: float,
    wanted: Collection[str] = tuple(METRICS),
) -> tuple[dict[str, Reading], Array]:  # fmt: skip
    """Return metric -> Reading, without data where not wanted, and the days that the A/B test ran, [R]."""
    found = {metric: no_data(candidate.runs) for metric in METRICS}
    for metric, check in CHECKS.items():
        if metric in wanted:
            found[metric] = check(candidate, deployed, checks, draws)
    days = np.zeros(candidate.runs)
    if set(AB_METRICS) & set(wanted):
        result = ab_test(candidate, deployed, checks.ab_test, lived, draws, level)
        found |= dict(zip(AB_METRICS, result[:3], strict=True))
        days = result.days
    return found, days


def decide(candidate: Model, deployed: Model, review: Review, lived: Lived, draws: Draws) -> Decision:
    """Return what a process decides about R candidates.

    Raises:
        InputError: naming every gate that cannot work.
    """
    problems = review_problems(review)
    if problems:
        raise InputError(*problems)
    gates = named_gates(review)
    wanted = [gate.metric for gate in gates.values() if gate.role != "muted"]
    readings, ab_days = take_readings(candidate, deployed, review.checks, lived, draws, review.level, wanted)
    first = judge(gates, readings, review.level, review.correction)
    votes_pass = first.verdict[list(gates).index("votes")] == PASS
    word = spot_checks.panel_word(readings["launch/spot_checks"], review.checks.spot_checks)
    conflict = votes_pass & (word > 0) & (review.conflict == "investigate")
    blocking = np.array([gate.role == "blocking" for gate in gates.values()])[:, None]
    failed = blocking & (first.verdict == FAIL)
    open_gates = blocking & (first.verdict == INVESTIGATE)
    open_gates[list(gates).index("spot_checks")] |= conflict
    second = ~failed.any(axis=0) & open_gates.any(axis=0)

    stages = np.array([list(STAGES).index(METRICS[gate.metric]) for gate in gates.values()])[:, None]
    reached = np.where(failed, stages, len(STAGES)).min(axis=0)
    made = np.array([gate.role != "muted" for gate in gates.values()])[:, None] & (stages <= reached)
    days, hours = costs(review.checks, gates, made, ab_days)

    last, refused, still = first, failed, np.zeros_like(conflict)
    if second.any() and review.second_look:
        last, still, more_days, more_hours = _second_look(
            candidate, deployed, review, lived, draws, first, open_gates & second
        )
        days, hours = days + more_days, hours + more_hours
        refused = blocking & np.where(second, last.verdict != PASS, failed)
    elif second.any():
        refused, still = failed | (blocking & (first.verdict == INVESTIGATE)), conflict
    caught = _caught(np.array(list(gates)), stages[:, 0], refused, still)
    return Decision(draws.names, first, last, caught == "", caught, word, second, days, hours)


def _second_look(
    candidate: Model, deployed: Model, review: Review, lived: Lived, draws: Draws, first: Judged, undecided: Flags
) -> tuple[Judged, Flags, Array, Array]:
    """Return verdicts after a second look, where conflicts stay, and the days and person-hours it took.

    Only gates that were open [G, R] are judged anew, on the second look's data alone.
    """
    rows, gates = np.flatnonzero(undecided.any(axis=0)), dict(first.gates)
    asked = undecided[:, rows]
    checks = scaled(review.checks, review.second_look)
    readings, ab_days = take_readings(
        candidate.rows(rows), deployed, checks, lived, draws.rows(rows)._replace(look=2), review.level,
        {gate.metric for gate, row in zip(gates.values(), asked, strict=True) if row.any()},
    )  # fmt: skip
    for metric, found in readings.items():
        # What another candidate needed to know is no data on this one.
        needed = asked[[gate.metric == metric for gate in gates.values()]].any(axis=0)
        readings[metric] = found._replace(effect=np.where(needed, found.effect, np.nan))
    again = judge(gates, readings, review.level, review.correction)
    merged = {}
    for field in ("verdict", "effect", "low", "high", "size", "alarm"):
        old = getattr(first, field).copy()
        old[:, rows] = np.where(asked, getattr(again, field), old[:, rows])
        merged[field] = old
    liked = first.verdict[list(gates).index("votes"), rows] == PASS
    word = spot_checks.panel_word(readings["launch/spot_checks"], checks.spot_checks)
    conflict = np.zeros(candidate.runs, dtype=bool)
    conflict[rows] = liked & (word > 0) & (review.conflict == "investigate")
    days, hours = np.zeros(candidate.runs), np.zeros(candidate.runs)
    days[rows], hours[rows] = costs(checks, gates, asked, ab_days)
    return first._replace(**merged), conflict, days, hours


def _caught(names: npt.NDArray[np.str_], stages: npt.NDArray[np.int64], refused: Flags, conflict: Flags) -> Any:
    """Return the first gate, by stage, that refused each candidate; "conflict"; or ""."""
    order = np.argsort(stages, kind="stable")
    first = names[order][refused[order].argmax(axis=0)]
    return np.where(refused.any(axis=0), first, np.where(conflict, CONFLICT, ""))


def override(decision: Decision, candidate: str, launch: bool, by: str, reason: str) -> Decision:
    """Return the decision with one candidate decided by hand; who and why stay on record."""
    if candidate not in decision.names:
        raise InputError(f"override: {unknown_name('candidate', candidate, list(decision.names))}")
    for field, text in (("by", by), ("reason", reason)):
        if not text.strip():
            raise InputError(f"override.{field}: must not be empty")
    launched = decision.launched.copy()
    launched[decision.names.index(candidate)] = launch
    note = Override(candidate, launch, by, reason)
    return decision._replace(launched=launched, overrides=(*decision.overrides, note))
