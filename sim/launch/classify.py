"""Review as a classifier: many random updates, the truth about each, and what a process makes of them.

An update is *bad* if the sycophancy rate rises by more than is tolerated, or true quality falls, against the deployed
model; both are exact figures that no check is given. A bad update that launches is a false launch, a good one that does
not is a false block. How much that hangs on the meaning of "bad" is shown by a second reading, true quality alone.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from sim import rng
from sim.config import Memory, Settings, with_value
from sim.launch.ab_test import ab_test
from sim.launch.evals import sycophancy_eval
from sim.launch.gates import FAIL, PASS, judge
from sim.launch.models import Model, Truth, train_models
from sim.launch.monitors import NAMES, alarm_hours, watch, watched_rates
from sim.launch.process import Decision, decide, named_gates
from sim.launch.readings import Draws, Reading
from sim.launch.rollout import hour_of, rollout_clock
from sim.launch.settings import Bundles, Lived, Monitors, Review, Rollout
from sim.launch.spot_checks import spot_check
from sim.world.arrays import Array

Flags = npt.NDArray[np.bool_]
TRUTHS = ("sycophancy/rate", "true/quality", "users/exposure", "benchmark/accuracy")


def draw_bundles(bundles: Bundles, settings: Settings) -> pd.DataFrame:
    """Return the random updates, a row each: world, memory, fresh, kl_coef and the weights of the mixture."""
    count = bundles.candidates

    def uniform(what: str) -> Array:
        return rng.stream(settings.seed, "bundles", what).random(count)

    def factor(what: str) -> Array:
        return np.exp(bundles.spread * rng.stream(settings.seed, "bundles", what).standard_normal(count))

    table = pd.DataFrame({
        "seed": settings.seed + np.arange(count) % bundles.worlds,
        "memory": uniform("memory") < bundles.memory_share,
        "fresh": uniform("fresh") < bundles.fresh_share,
        "kl_coef": settings.kl_coef * factor("kl_coef"),
    })  # fmt: skip
    for name, weight in settings.mixture.weights.items():
        table[f"mixture.weights.{name}"] = weight * factor(name)
    votes = np.where(uniform("votes") < bundles.votes_share, uniform("weight") * bundles.max_weight, 0.0)
    table[f"mixture.weights.{settings.mixture.added}"] = votes
    return table


def changed(settings: Settings, memory: bool, fresh: bool) -> Settings:
    """Return the settings of an update: memory on for everybody, training prompts as users send them."""
    share = 1.0 if memory else settings.memory.share
    freshness = 1.0 if fresh else settings.world.freshness
    recalled = Memory(share, settings.memory.recall, settings.memory.rapport)
    return dataclasses.replace(with_value(settings, "world.freshness", freshness), memory=recalled)


def review_world(
    settings: Settings, rows: pd.DataFrame, processes: Mapping[str, Review], lived: Lived, rollout: Rollout,
    monitors: Monitors, power: Callable[[Model, Model, Draws], dict[str, Flags]] | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> pd.DataFrame:  # fmt: skip
    """Train the updates of one world, and return what is true, judged and watched of each.

    Args:
        settings: of the deployed model, which is trained on the same world without any change.
        rows: of `draw_bundles`, of one seed.
        processes: name -> Review.
        lived: how answers change returns.
        rollout: dates, for the monitors.
        monitors: what is watched after a launch.
        power: further columns, from (candidates, deployed, draws).
        progress: called with the number of updates done.
    """
    seed = int(rows["seed"].iloc[0])
    deployed, before = train_models(settings, {}, seed)
    parts = []
    for (memory, fresh), part in rows.groupby(["memory", "fresh"]):
        columns = {
            str(name): part[name].to_numpy(dtype=float, copy=True)
            for name in part
            if str(name).startswith(("mixture.", "kl_coef"))
        }
        candidates, after = train_models(changed(settings, bool(memory), bool(fresh)), columns, seed)
        draws = Draws(settings.seed, tuple(str(index) for index in part.index))
        found = truth_columns(before, after)
        for name, review in processes.items():
            found |= decision_columns(name, decide(candidates, deployed, review, lived, draws))
        found |= monitor_columns(candidates, deployed, rollout, monitors, draws)
        if power is not None:
            found |= power(candidates, deployed, draws)
        parts.append(part.assign(**found))
        progress(len(part))
    return pd.concat(parts).sort_index()


def truth_columns(before: Truth, after: Truth) -> dict[str, Any]:
    """Return the exact changes against the deployed model, and whether the rate ends above the reference policy's."""
    changes: dict[str, Any] = {f"change/{name}": after[name] - before[name] for name in TRUTHS}
    return changes | {"above_reference": after["sycophancy/rate"] > after["reference/rate"]}


def decision_columns(name: str, decision: Decision) -> dict[str, Any]:
    """Return what a process decided, as columns."""
    return {f"{name}/{field}": getattr(decision, field) for field in ("launched", "caught", "second", "days", "hours")}


def monitor_columns(
    candidates: Model, deployed: Model, rollout: Rollout, monitors: Monitors, draws: Draws
) -> dict[str, Any]:
    """Return each monitor's highest score before the published answer came, and when it gave the alarm.

    Nobody reacts here: the candidate stays, ramped up as published.
    """
    clock = rollout_clock(dataclasses.replace(rollout, respond="monitors", follow_days=0), monitors.baseline_hours)
    here = clock.hours < hour_of(rollout, "patch") if rollout.patch else np.ones(len(clock.hours), dtype=bool)
    share = clock.share[here]
    old, new = watched_rates(deployed, monitors), watched_rates(candidates, monitors)
    watched = watch(
        old, old[..., None] * (1 - share) + new[..., None] * share, monitors.baseline_hours, monitors, draws
    )
    hours = alarm_hours(watched, monitors.baseline_hours)
    scores = np.where(np.isnan(watched.rate).any(axis=2), np.nan, watched.score.max(axis=2))
    return {f"{name}/score": scores[row] for row, name in enumerate(NAMES)} | {
        f"{name}/alarm": hours[row] for row, name in enumerate(NAMES)
    }


def power_columns(
    review: Review, lived: Lived, probes: Sequence[int], experts: Sequence[int], days: Sequence[float]
) -> Callable[[Model, Model, Draws], dict[str, Flags]]:
    """Return a function whose columns say which candidates a gate calls worse, and which it clears, at each size.

    The gates are those of the review, one at a time and without correction: "worse" rejects that the change lies within
    the margin, "clear" rejects that it lies beyond.
    """
    gates = named_gates(review)

    def said(gate: str, size: float, reading: Reading) -> dict[str, Flags]:
        both = dataclasses.replace(gates[gate], test="noninferior")
        verdict = judge({gate: both}, {both.metric: reading}, review.level, "none").verdict[0]
        return {f"power/{gate}/{size:g}/worse": verdict == FAIL, f"power/{gate}/{size:g}/clear": verdict == PASS}

    def columns(candidates: Model, deployed: Model, draws: Draws) -> dict[str, Flags]:
        found: dict[str, Flags] = {}
        for size in probes:
            how = dataclasses.replace(review.checks.evals, sycophancy=size)
            found |= said("sycophancy", size, sycophancy_eval(candidates, deployed, how, draws))
        for size in experts:
            panel = dataclasses.replace(review.checks.spot_checks, experts=size)
            found |= said("spot_checks", size, spot_check(candidates, deployed, panel, draws))
        for length in days:
            how_long = dataclasses.replace(review.checks.ab_test, days=length, design="fixed", pairs=0)
            result = ab_test(candidates, deployed, how_long, lived, draws, review.level)
            found |= said("votes", length, result.votes) | said("usage", length, result.usage)
        return found

    return columns


def is_bad(table: pd.DataFrame, tolerated_rise: float) -> Flags:
    """Return which updates are bad: the rate rises by more than is tolerated, or true quality falls."""
    return ((table["change/sycophancy/rate"] > tolerated_rise) | (table["change/true/quality"] < 0)).to_numpy()


def share(hits: Flags, level: float = 0.1) -> tuple[float, float, float, int]:
    """Return the share of true entries with its Wilson interval (90 % unless told otherwise) and their number."""
    if not len(hits):
        return float("nan"), float("nan"), float("nan"), 0
    low, high = proportion_confint(int(hits.sum()), len(hits), alpha=level, method="wilson")
    return float(hits.mean()), float(low), float(high), len(hits)


def error_table(table: pd.DataFrame, names: Sequence[str], bad: Flags) -> pd.DataFrame:
    """Return a row per process and kind of error: share, interval, of how many; delay in days and cost in hours."""
    rows = []
    for name in names:
        launched = table[f"{name}/launched"].to_numpy(dtype=bool)
        second = table[f"{name}/second"].to_numpy(dtype=bool)
        kinds = {
            "false launch": (launched, bad),
            "false block": (~launched, ~bad),
            "good, second look": (second, ~bad),
        }
        for kind, (hits, among) in kinds.items():
            rate, low, high, count = share(hits[among])
            rows.append({"process": name, "kind": kind, "share": rate, "low": low, "high": high, "of": count})
    return pd.DataFrame(rows)


def caught_table(table: pd.DataFrame, names: Sequence[str], bad: Flags) -> pd.DataFrame:
    """Return how many bad and good updates each gate stopped, by process; the gate that stopped an update first."""
    rows = []
    for name in names:
        counts = pd.crosstab(table[f"{name}/caught"], bad)
        for gate, row in counts.iterrows():
            rows.append(
                {"process": name, "gate": gate or "launched", "bad": row.get(True, 0), "good": row.get(False, 0)}
            )
    return pd.DataFrame(rows)
