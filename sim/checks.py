"""Everything that can be wrong with settings, in one list: types, ranges, settings without effect, contradictions.

The ranges stand with the fields (`sim/config.py`); what only a world knows, such as its topics, is checked where the
world is prepared (`sim/problem.py`).
"""

import functools
import math
from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from sim.config import (
    UNTRAINED,
    Chat,
    Feedback,
    InputError,
    Memory,
    Mixture,
    Scores,
    Settings,
    Signals,
    Training,
    Users,
    shown,
    unknown_name,
    walk,
    with_row,
)  # fmt: skip
from sim.derived import outside_fused

# What a natural step takes of the way from the reference: the penalty turns the log-ratio x into (1 - KL_STEP) x before
# the rewards' pull is added (V7 in docs/validation.md), so from 2 on x swings, or grows, for ever.
KL_STEP = "kl_coef x training.learning_rate"

WHOLE = 2**53  # of a whole number; beyond it, floating point leaves gaps
LARGEST = 1e30  # of any other: products of several, and their squares, stay finite


def plain(value: Any) -> Any:
    """Return a value with Python's numbers and text in place of NumPy's, inside dataclasses and dictionaries too.

    What takes a user's numbers calls this once, so that they are checked, hashed and written as Python's are. An array
    without axes counts as its one value; a masked one has none, and is left for the checks to refuse.
    """
    if is_dataclass(value) and not isinstance(value, type):
        entries = {item.name: getattr(value, item.name) for item in fields(value)}
        changed = {name: new for name, entry in entries.items() if (new := plain(entry)) is not entry}
        return replace(value, **changed) if changed else value
    if isinstance(value, dict):
        pairs = [(plain(key), plain(entry)) for key, entry in value.items()]
        same = all(
            new is old for pair in zip(pairs, value.items(), strict=True) for new, old in zip(*pair, strict=True)
        )
        return value if same else dict(pairs)
    if isinstance(value, np.ndarray) and value.ndim == 0 and not isinstance(value, np.ma.MaskedArray):
        value = value[()]
    for kind, numpy_kind in ((bool, np.bool_), (int, np.integer), (float, np.floating), (str, np.str_)):
        if isinstance(value, numpy_kind) and not isinstance(value, np.timedelta64):
            return kind(value)
    return value


def problems(settings: Settings) -> list[str]:
    """Return one line for each setting that is out of range, in the order of the fields; empty if all are fine."""
    found = kind_problems(settings)
    if found:
        return found
    for name, item, value in walk(settings):
        entries = {f"{name}.{key}": entry for key, entry in value.items()} if isinstance(value, dict) else {name: value}
        for label, entry in entries.items():
            complaint = out_of_range(entry, item.metadata)
            if complaint:
                found.append(f"{label} = {shown(entry)}: {complaint}")
    return found + _idle(settings) + _cross_checks(settings)


def check(settings: Settings) -> Settings:
    """Return the settings in Python's own numbers, or raise `InputError` with every problem, a line each."""
    settings = plain(settings)
    found = problems(settings)
    if found:
        raise InputError(*found)
    return settings


def kind_problems(settings: Settings) -> list[str]:
    """Return one line for each value that is not of its field's type; what follows may then rely on types."""
    if not isinstance(settings, Settings):
        return [f"settings: expected Settings, got {type(settings).__name__}"]
    return _wrong_kinds(settings)


def table_problems(settings: Settings, table: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.intp]]:
    """Return what is wrong with R runs, complaint -> its rows; empty if all are fine.

    Ranges are intervals, so a column is looked at value by value only if one of its ends is wrong.

    Args:
        settings: what the runs share, each value of its field's type.
        table: every batched key -> [R] (`sim.derived.batched_values`).
    """
    with np.errstate(over="ignore"):
        columns = {**table, KL_STEP: table["kl_coef"] * table["training.learning_rate"]}

    @functools.cache
    def wrong(row: int) -> list[str]:
        return problems(with_row(settings, table, row))

    everybody = np.arange(len(table["seed"]))
    found = {text: everybody for text in wrong(0) if text.split(" ")[0] not in columns}
    for key, values in columns.items():
        ends = (int(np.argmin(values)), int(np.argmax(values)))  # NaN if any value is
        if not any(text.startswith(f"{key} = ") for row in ends for text in wrong(row)):
            continue
        _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
        for place, row in enumerate(first.tolist()):
            rows = np.flatnonzero(inverse == place)
            found |= {text: rows for text in wrong(row) if text.startswith(f"{key} = ")}
    return found


def _idle(settings: Settings) -> list[str]:
    """Return one line for each setting that was changed where it has no effect."""
    leaves = {name: (item, value) for name, item, value in walk(settings)}
    found = []
    for name, (item, value) in leaves.items():
        needs = item.metadata.get("needs")
        if needs and value != item.default and needs[0] in leaves and leaves[needs[0]][1] not in needs[1]:
            found.append(
                f"{name} = {shown(value)}: has no effect unless {needs[0]} is {' or '.join(map(str, needs[1]))}"
            )
    return found


def _wrong_kinds(settings: Any, prefix: str = "") -> list[str]:
    """Return the lines of `kind_problems` for a dataclass of settings and those in it."""
    found = []
    for item in fields(settings):
        value, name = getattr(settings, item.name), f"{prefix}{item.name}"
        wanted: Any = _hints(settings.__class__)[item.name]
        if is_dataclass(wanted) or item.name == "world":
            kinds = (Chat, Scores) if item.name == "world" else (wanted,)
            if isinstance(value, kinds):
                found += _wrong_kinds(value, f"{name}.")
            else:
                found.append(f"{name}: expected {' or '.join(k.__name__ for k in kinds)}, got {type(value).__name__}")
        elif get_origin(wanted) is dict:
            if isinstance(value, dict):
                kind = get_args(wanted)[1]
                found += [f"{name}: a name must be text, got {shown(key)}" for key in value if not isinstance(key, str)]
                found += [
                    f"{name}.{shown(key)} = {shown(entry)}: {wrong}"
                    for key, entry in value.items()
                    if (wrong := wrong_kind(entry, kind))
                ]
            else:
                found.append(f"{name} = {shown(value)}: must be a dictionary")
        elif complaint := wrong_kind(value, wanted):
            found.append(f"{name} = {shown(value)}: {complaint}")
    return found


@functools.cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind)


_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def wrong_kind(value: Any, kind: Any) -> str:
    """Return what kind a value must be of, or an empty text; a whole number is a number, true and false are none."""
    accepted = (int, float) if kind is float else kind
    right = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
    if not right:
        return f"must be {_KINDS[kind]}"
    return f"must be at most {WHOLE:g} in size" if isinstance(value, int) and abs(value) > WHOLE else ""


def out_of_range(value: Any, limits: Any) -> str:
    """Return what is wrong with a value of the right kind, or an empty text."""
    if limits.get("choices") and value not in limits["choices"]:
        return f"must be one of {', '.join(limits['choices'])}"
    if isinstance(value, bool | str):
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    if limits.get("low") is not None and value < limits["low"]:
        return f"must be >= {limits['low']}"
    if limits.get("above") is not None and value <= limits["above"]:
        return f"must be > {limits['above']}"
    if limits.get("high") is not None and value > limits["high"]:
        return f"must be <= {limits['high']}"
    return f"must be at most {LARGEST:g} in size" if abs(value) > LARGEST else ""


def _cross_checks(settings: Settings) -> list[str]:
    found = []
    mixture, training = settings.mixture, settings.training
    if not mixture.weights:
        found.append("mixture.weights: name at least one signal")
    elif mixture.added not in mixture.weights:
        found.append(f"mixture.added: {unknown_name('signal', mixture.added, list(mixture.weights))}")
    elif mixture.renormalize and mixture.weights[mixture.added] > 1:
        found.append(f"mixture.weights.{mixture.added} = {mixture.weights[mixture.added]}: must be <= 1 to renormalize")
    if training.estimator == "natural":
        if training.optimizer == "adam":
            found.append("training.optimizer = adam: the natural gradient is already preconditioned; use sgd")
        if settings.policy.kind == "mlp":
            found.append("training.estimator = natural: not for policy.kind = mlp; use exact with optimizer = adam")
        factors = (settings.kl_coef, training.learning_rate)  # what is wrong with one of them alone is said already
        if all(0 < factor <= LARGEST for factor in factors) and math.prod(factors) >= 2:
            found.append(
                f"{KL_STEP} = {math.prod(factors):g}: must be < 2; a natural step undoes this "
                "share of the way from the reference, and from 2 on training never settles"
            )
    if training.estimator in ("rloo", "grpo") and training.samples < 2:
        found.append(f"training.samples = {training.samples}: {training.estimator} compares at least 2 responses")
    if training.estimator == "ppo" and mixture.aggregation == "normalize_then_sum":
        found.append("mixture.aggregation = normalize_then_sum: normalises within groups, ppo has a critic; use grpo")
    if training.engine == "fused" and outside_fused(settings):
        found.append(f"training.engine = fused: needs {', '.join(outside_fused(settings))}")
    if training.estimator in UNTRAINED:
        if settings.policy.kind != "tabular":
            found.append(f"training.estimator = {training.estimator}: needs policy.kind = tabular")
        if training.ledger:
            found.append(f"training.ledger = True: {training.estimator} has no steps to attribute")
    return found + _mixture_checks(mixture, training) + _world_checks(settings)


def _mixture_checks(mixture: Mixture, training: Training) -> list[str]:
    """Check what changes a mixture over the steps."""
    found = []
    if mixture.until_step and mixture.until_step <= mixture.from_step:
        found.append(f"mixture.until_step = {mixture.until_step}: must be > mixture.from_step = {mixture.from_step}")
    if mixture.from_step >= training.steps:
        found.append(f"mixture.from_step = {mixture.from_step}: must be < training.steps = {training.steps}")
    for name in mixture.constraints:
        if name not in mixture.weights:
            found.append(f"mixture.constraints.{name}: {unknown_name('signal', name, list(mixture.weights))}")
    for name in mixture.constraint_metrics:
        if name not in mixture.constraints:
            found.append(f"mixture.constraint_metrics.{name}: there is no such constraint")
    if not mixture.constraints:
        for item in ("constraint_kind", "multiplier_rate"):
            if getattr(mixture, item) != getattr(Mixture(), item):
                found.append(f"mixture.{item}: has no effect without mixture.constraints")
    if training.estimator in UNTRAINED:
        for item in ("aggregation", "scale_rewards", "from_step", "ramp_steps", "until_step", "constraints"):
            if getattr(mixture, item) != getattr(Mixture(), item):
                found.append(f"mixture.{item}: has no effect where nothing is trained ({training.estimator})")
    return found


def _world_checks(settings: Settings) -> list[str]:
    found = []
    world = settings.world
    feedback = settings.feedback
    if feedback.combine != Feedback().combine and feedback.members == 1:
        found.append(f"feedback.combine = {feedback.combine}: one member has nothing to combine; set feedback.members")
    if isinstance(world, Scores):
        if not world.path:
            found.append("world.path: needs the path of a score table")
        for name, kind in (("users", Users), ("memory", Memory), ("signals", Signals), ("feedback", Feedback)):
            if getattr(settings, name) != kind():
                found.append(f"{name}: has no effect on a score table; leave it at its defaults")
    return found
