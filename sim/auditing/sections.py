"""The sections of the report that say what each signal does: spread, push, check, influence, normalisation."""

from typing import Any

import numpy as np

from sim.auditing.critical import status, turning_point, turning_weight
from sim.auditing.measures import TINY
from sim.auditing.numbers import Numbers
from sim.training.theory import critical_weight
from sim.world.arrays import Array

Rows = list[dict[str, Any]]


def signal_rows(numbers: Numbers) -> Rows:
    """Return mean, spread, correlations with the other columns, and the push of one unit on each attribute."""
    names = [*numbers.options.signal_columns, *numbers.options.attributes]
    spread = np.sqrt(np.maximum(np.einsum("bvv->bv", numbers.cov), 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = numbers.cov[0] / np.outer(spread[0], spread[0])
    correlation = np.where(np.outer(spread[0], spread[0]) > TINY, np.clip(correlation, -1, 1), np.nan)
    rows = []
    for i, name in enumerate(numbers.options.signal_columns):
        pushes = numbers.found(numbers.cov[:, i, numbers.signals :])
        rows.append(
            {
                "signal": name,
                "role": "added" if name == numbers.options.add else "primary",
                "mean": float(numbers.mean[0, i]),
                "spread": numbers.found(spread[:, i])[0],
                "correlation": {other: float(correlation[i, j]) for j, other in enumerate(names) if j != i},
                "push": dict(zip(numbers.options.attributes, pushes, strict=True)),
            }
        )
    return rows


def pushes_on(numbers: Numbers, attribute: int, tilted: bool = False) -> Array:
    """Return the push of one unit of each signal, as it is weighed, on an attribute, [1 + B, S]."""
    cov = numbers.tilted_cov if tilted else numbers.cov
    return cov[:, : numbers.signals, numbers.signals + attribute] / numbers.plan.unit


def check_rows(numbers: Numbers) -> Rows:
    """Return each signal's weighted push on the feared attribute, now (weight 0) and as planned, and what it does."""
    pushes = pushes_on(numbers, 0)
    now, planned = (numbers.found(pushes * numbers.plan.nominal[row]) for row in (0, numbers.plan.planned))
    holding = sum(-entry["value"] for entry in now if entry["value"] < 0)
    rows = []
    for name, first, second in zip(numbers.options.signal_columns, now, planned, strict=True):
        sure = second if name == numbers.options.add else first
        does = "holds" if sure["high"] < 0 else "raises" if sure["low"] > 0 else "unclear"
        share = max(-first["value"], 0.0) / holding if holding > 0 else float("nan")
        rows.append({"signal": name, "push_now": first, "push_planned": second, "does": does, "share_of_check": share})
    return rows


def critical_rows(numbers: Numbers) -> Rows:
    """Return the critical weight for every attribute: at the reference, at the chosen KL, and of trained policies."""
    plan, rows = numbers.plan, []
    for index, name in enumerate(numbers.options.attributes):
        curves = {
            "at the reference": _turning(numbers, pushes_on(numbers, index)),
            "at the chosen KL": _turning(numbers, pushes_on(numbers, index, tilted=True)),
            "after training": turning_point(plan.weights, numbers.along[..., numbers.signals + index]),
        }
        for at, draws in curves.items():
            rows.append({"attribute": name, "at": at} | critical_entry(numbers, draws))
        rows[-3]["restored_at"] = _restored(numbers, pushes_on(numbers, index)[0])
    if numbers.shared is not None:
        entry = critical_entry(numbers, _turning(numbers, numbers.shared / plan.unit))
        rows.append({"attribute": numbers.options.attributes[0], "at": "at the reference, shared traits"} | entry)
    return rows


def _turning(numbers: Numbers, pushes: Array) -> Array:
    return turning_weight(pushes, numbers.base, numbers.options.renormalize)


def _restored(numbers: Numbers, pushes: Array) -> float:
    """Return the weight from which the added signal pushes the attribute down, where the others push it up."""
    if not pushes[-1] < 0 < numbers.plan.nominal[0] @ pushes:
        return float("nan")
    weights = np.append(numbers.base, 0.0)
    return float(critical_weight(pushes, weights, len(weights) - 1, numbers.options.renormalize))


def critical_entry(numbers: Numbers, draws: Array) -> dict[str, Any]:
    """Return a critical weight with its interval, its word, and how the bootstrap draws fall, for draws [1 + B]."""
    found = numbers.found(draws)[0]
    share = {
        "never held": float(np.mean(draws[1:] <= 0)),
        "held up to it": float(np.mean((draws[1:] > 0) & np.isfinite(draws[1:]))),
        "always held": float(np.mean(np.isinf(draws[1:]))),
    }
    return found | {"status": status(found["value"]), "share_of_draws": share}


def influence_rows(numbers: Numbers) -> Rows:
    """Return how much of the planned mixture each signal really decides.

    nominal: share of the weights. spread: share of weight times spread. variance: w_i Cov(r_i, R) / Var(R), which is
    the Shapley value of the game in which a group of signals is worth the variance of its sum. decisions: best-of-n
    choices that would be others without the signal.
    """
    plan, count = numbers.plan, numbers.signals
    line, nominal = plan.lines[plan.planned], plan.nominal[plan.planned]
    cov = numbers.cov[:, :count, :count]
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = line * np.sqrt(np.maximum(np.einsum("bss->bs", cov), 0))
        spread = spread / spread.sum(axis=1, keepdims=True)
        part = line * (cov @ line)
        part = part / part.sum(axis=1, keepdims=True)
    columns = {"spread": spread, "variance": part, "decisions": numbers.changed}
    found = {name: numbers.found(values) for name, values in columns.items()}
    return [
        {"signal": name, "nominal": float(nominal[i] / nominal.sum())} | {key: found[key][i] for key in columns}
        for i, name in enumerate(numbers.options.signal_columns)
    ]


def normalization_rows(numbers: Numbers) -> Rows:
    """Return what each way of scaling makes of the planned mixture: effective shares, net push, critical weight.

    none and std (one scale a signal, over all prompts); normalize_then_sum (each signal by its spread within the
    prompt, GDPO) and sum_then_normalize (the mixture by its spread within the prompt, GRPO), as trainers call them.
    """
    plan, count = numbers.plan, numbers.signals
    nominal, pushes = plan.nominal[plan.planned], numbers.cov[:, :count, count]
    spread = np.sqrt(np.maximum(np.einsum("bss->bs", numbers.cov[:, :count, :count]), 0))
    safe = np.where(spread > np.sqrt(TINY), spread, 1.0)
    schemes = {
        "none": (nominal * spread[0], pushes),
        "std": (nominal * (spread[0] > np.sqrt(TINY)), pushes / safe),
        "normalize_then_sum": (nominal * numbers.varies[0], numbers.apart),
    }
    rows = []
    for name, (size, by_signal) in schemes.items():
        rows.append(_scheme(numbers, name, size, by_signal @ nominal, _turning(numbers, by_signal)))
    crossing = turning_point(plan.weights, numbers.together)
    size = nominal * numbers.shares[0]
    rows.append(_scheme(numbers, "sum_then_normalize", size, numbers.together[:, plan.planned], crossing))
    return rows


def _scheme(numbers: Numbers, name: str, size: Array, push: Array, critical: Array) -> dict[str, Any]:
    names = numbers.options.signal_columns
    shares = size / size.sum() if size.sum() > 0 else np.full(len(size), np.nan)
    return {
        "scheme": name,
        "shares": dict(zip(names, map(float, shares), strict=True)),
        "push": numbers.found(push)[0],
        "critical_weight": critical_entry(numbers, critical),
    }
