"""From numbers to the report: predictions, penalties, slices, and the flat list for the gate."""

import dataclasses
import importlib.metadata
from typing import Any

import numpy as np

from sim.analysis.ledger import check_strength
from sim.auditing.critical import turning_weight
from sim.auditing.numbers import Numbers
from sim.auditing.result import SCHEMA_VERSION
from sim.auditing.sections import (
    Rows,
    check_rows,
    critical_entry,
    critical_rows,
    influence_rows,
    normalization_rows,
    pushes_on,
    signal_rows,
)
from sim.auditing.warnings import warnings
from sim.world.arrays import Array

WORST = 10  # prompts that are named


def assemble(numbers: Numbers, notes: list[str]) -> dict[str, Any]:
    """Return the report (docs/audit.schema.json), given the warnings so far."""
    report: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "thumbscale": importlib.metadata.version("thumbscale"),
        "options": dataclasses.asdict(numbers.options) | {"kl_coef": numbers.plan.kl_coef},
        "attributes": numbers.options.attributes,
        "sample": numbers.sample.counts,
        "signals": signal_rows(numbers),
        "check": check_rows(numbers),
        "critical_weight": critical_rows(numbers),
        "predictions": prediction_rows(numbers),
        "penalty": penalty_rows(numbers),
        "influence": influence_rows(numbers),
        "normalization": normalization_rows(numbers),
        "slices": slice_rows(numbers),
        "prompts": prompt_rows(numbers),
    }
    report["metrics"] = metrics(numbers, report)
    report["warnings"] = [*notes, *warnings(report)]
    return report


def main_draws(numbers: Numbers) -> dict[str, Array]:
    """Return bootstrap draws [B] of the numbers that two audits are compared by."""
    plan, found = numbers.plan, {}
    for index, name in enumerate(numbers.options.attributes):
        pushes, row = pushes_on(numbers, index), numbers.signals + index
        found[f"push/{name}"] = (pushes @ plan.nominal[plan.planned])[1:]
        found[f"drift/{name}"] = numbers.along[1:, plan.planned, row]
        found[f"best_of_{plan.draws[0]}/{name}"] = numbers.best[1:, plan.planned, 0, row]
        found[f"critical_weight/{name}"] = turning_weight(pushes, numbers.base, numbers.options.renormalize)[1:]
    return found


def prediction_rows(numbers: Numbers) -> Rows:
    """Return every policy that was looked at: its KL, effective sample size, and what it does to each column."""
    plan, none = numbers.plan, None
    rows = [
        _policy(numbers, numbers.along[:, w], "closed_form", weight, plan.kl_coef, none)
        for w, weight in enumerate(plan.weights)
    ]
    for row, w in enumerate(plan.rows):
        for at, coef in enumerate(plan.kl_coefs):
            if coef != plan.kl_coef:
                rows.append(_policy(numbers, numbers.pressed[:, row, at], "closed_form", plan.weights[w], coef, none))
    for w, weight in enumerate(plan.weights):
        for at, n in enumerate(plan.draws):
            rows.append(_policy(numbers, numbers.best[:, w, at], "best_of_n", weight, none, n))
    return rows


def _policy(
    numbers: Numbers, found: Array, method: str, weight: float, kl_coef: float | None, n: int | None
) -> dict[str, Any]:
    names = [*numbers.options.signal_columns, *numbers.options.attributes]
    kl, size, supported = (float(value) for value in found[0, -3:])
    values = {}
    # An attribute that is also a signal stands in both rows, with equal numbers.
    for i, (name, change) in enumerate(zip(names, numbers.found(found[:, :-3]), strict=True)):
        reference = float(numbers.mean[0, i])
        values[name] = {"reference": reference, "value": reference + change["value"], "change": change}
    settings = {"method": method, "weight": float(weight), "kl_coef": kl_coef and float(kl_coef), "n": n}
    return settings | {"kl": kl, "effective_sample_size": size, "supported": supported, "values": values}


def penalty_rows(numbers: Numbers) -> Rows:
    """Return the least penalty on the feared attribute at each kl_coef, and in the limit of weak pressure.

    The limit is push / Var(attribute), a regression slope. Elsewhere the draws follow by one Newton step from the
    solution, so that their interval is a linearised one.
    """
    plan, row = numbers.plan, numbers.signals
    push = pushes_on(numbers, 0) @ plan.nominal[plan.planned]
    # In a draw the attribute may not vary, or no longer once it is penalised: then there is no slope to step along.
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        limit = np.maximum(push / numbers.cov[:, row, row], 0)
        step = numbers.excess[..., 0] * plan.kl_coefs / numbers.excess[..., 1]
    draws = np.maximum(numbers.penalty + np.where(np.isinf(step), np.nan, step), 0)
    draws[0] = numbers.penalty
    rows: Rows = [{"kl_coef": None, "penalty": numbers.found(limit)[0]}]
    for coef, found in zip(plan.kl_coefs, numbers.found(draws), strict=True):
        rows.append({"kl_coef": float(coef), "penalty": found})
    return rows


def slice_rows(numbers: Numbers) -> Rows:
    """Return the net push as planned within groups of prompts, worst first, with the group's own critical weight."""
    line, rows = numbers.plan.nominal[numbers.plan.planned], []
    for column, (shares, means, draws) in numbers.slices.items():
        for value, share, mean, drawn in zip(numbers.sample.slices[column].values, shares, means, draws, strict=True):
            if share <= 0:
                continue
            pushes = np.concatenate([mean[None], drawn[~np.isnan(drawn).any(axis=1)]]) / numbers.plan.unit
            critical = turning_weight(pushes, numbers.base, numbers.options.renormalize)
            entry = {
                "column": column,
                "value": str(value),
                "share": float(share),
                "push": numbers.found(pushes @ line)[0],
            }
            rows.append(entry | {"critical_weight": critical_entry(numbers, critical)})
    return sorted(rows, key=lambda entry: -entry["push"]["value"])


def prompt_rows(numbers: Numbers) -> Rows:
    """Return the prompts that add most to the net push as planned, and the share of all upward push that they make."""
    plan = numbers.plan
    push = numbers.prompt_pushes / plan.unit @ plan.nominal[plan.planned]
    part = push * numbers.sample.prompt_prob
    upward = np.maximum(part, 0).sum()
    worst = np.argsort(-part, kind="stable")[:WORST]
    return [
        {"prompt": str(numbers.sample.ids[i]), "push": float(push[i]), "share_of_upward_push": float(part[i] / upward)}
        for i in worst
        if part[i] > 0
    ]


def metrics(numbers: Numbers, report: dict[str, Any]) -> dict[str, float]:
    """Return the numbers that a gate can be put on, by name (`sim.auditing.result.METRICS`)."""
    plan = numbers.plan
    found: dict[str, float] = {}
    unknown = dict.fromkeys(("value", "low", "high"), float("nan"))

    def put(name: str, entry: dict[str, float]) -> None:
        for ending, key in (("", "value"), ("_low", "low"), ("_high", "high")):
            found[name + ending] = entry[key]

    for name, entry in zip(
        ("critical_weight", "critical_weight_at_kl", "critical_weight_trained"), report["critical_weight"], strict=False
    ):
        put(name, entry)
    pushes = pushes_on(numbers, 0) * plan.nominal[plan.planned]
    found["check_strength"] = float(check_strength(pushes[:1].T, np.arange(numbers.signals - 1))[0])
    put("push", numbers.found(pushes.sum(axis=1))[0])
    shared = {"critical_weight_shared": unknown, "push_shared": unknown}
    if numbers.shared is not None:
        planned_push = numbers.shared / plan.unit @ plan.nominal[plan.planned]
        shared = {
            "critical_weight_shared": report["critical_weight"][-1],
            "push_shared": numbers.found(planned_push)[0],
        }
    for name, entry in shared.items():
        put(name, entry)
    planned = report["predictions"][plan.planned]
    put("drift", planned["values"][numbers.options.attributes[0]]["change"])
    found["kl"] = planned["kl"]
    found["penalty"] = next(row["penalty"]["value"] for row in report["penalty"] if row["kl_coef"] == plan.kl_coef)
    found["influence"] = report["influence"][-1]["variance"]["value"]
    found["decisions_changed"] = report["influence"][-1]["decisions"]["value"]
    found["effective_sample_size"] = planned["effective_sample_size"]
    found["supported"] = planned["supported"]
    counts = numbers.sample.counts
    return found | {name: float(counts[name]) for name in ("dropped_responses", "dropped_prompts")}
