"""Every configuration key changes the output, or is refused: nothing is accepted and ignored.

The test walks over all settings, in a world where each of them has something to act on.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import sim
from sim.config import InputError, walk, with_value
from sim.pipeline import simulate

# Where a key can act: memory needs users who have it, a clip a second epoch.
CONTEXTS = {
    "memory.": {"memory.share": 0.6},
    "feedback.combine": {"feedback.members": 4},
    "feedback.variance_penalty": {"feedback.members": 4, "feedback.combine": "mean_minus_variance"},
    "users.hindsight": {"mixture.weights": {"helpfulness": 0.6, "satisfaction": 0.4}, "mixture.added": "satisfaction"},
    "mixture.constraint_metrics": {"mixture.constraints": {"model_spec": 0.99}},
    "mixture.constraint_kind": {"mixture.constraints": {"model_spec": 0.3}},
    "mixture.multiplier_rate": {"mixture.constraints": {"model_spec": 0.99}},
    "policy.hidden": {"policy.kind": "mlp", "training.estimator": "exact"},
    "training.candidates": {
        "training.estimator": "best_of_n", "policy.kind": "tabular", "training.ledger": False,
    },
    "training.prompts_per_step": {"training.estimator": "rloo"},
    "training.samples": {"training.estimator": "rloo"},
    "training.sampling_seed": {"training.estimator": "rloo"},
    "training.kl_estimator": {"training.estimator": "rloo"},
    "training.epochs": {"training.estimator": "grpo"},
    "training.clip": {"training.estimator": "grpo", "training.epochs": 4, "training.learning_rate": 20.0},
    "training.value_rate": {"training.estimator": "ppo"},
    "training.optimizer": {"training.estimator": "exact"},
    "training.ledger": {},
}  # fmt: skip
OTHER = {
    "metric": "sycophancy/flattery",
    "mixture.added": "preference",
    "mixture.constraints": {"model_spec": 0.99},
    "mixture.constraint_metrics": {"model_spec": "sycophancy/rate"},
    "training.estimator": "exact",
    "training.clip": 0.01,
    "mixture.until_step": 3,
    "mixture.from_step": 2,
    "mixture.ramp_steps": 3,
    "policy.kind": "tabular",
    "feedback.answers": 10_000,  # one more may leave no vote
}
# They say how the work is done, not what comes out: equal to rounding, which other tests hold.
HOW_NOT_WHAT = {"training.chunk", "training.engine"}
BASE = sim.Settings(
    world=sim.Chat(prompts=24, responses=6),
    mixture=sim.Mixture(weights=sim.Mixture().weights | {"thumbs_up": 0.3}),
    training=sim.Training(steps=6, record_every=2, learning_rate=0.5),
)


def leaves():
    return [name for name, _, _ in walk(BASE)]


def set_all(settings, values):
    for key, value in values.items():
        settings = with_value(settings, key, value)
    return settings


def another(name, item, value):
    """Some other allowed value of a setting."""
    if name in OTHER:
        return OTHER[name]
    if item.metadata["choices"] and isinstance(value, str):
        return next((word for word in item.metadata["choices"] if word != value), None)
    if isinstance(value, bool):
        return not value
    if isinstance(value, dict):
        for key, entry in value.items():
            if isinstance(entry, str):
                return value | {key: next(word for word in item.metadata["choices"] if word != entry)}
        key = next(k for k, entry in value.items() if entry)
        return value | {key: value[key] / 2}
    if isinstance(value, int):
        return value + 1
    high = item.metadata["high"]
    return value + 0.3 if high is None or value + 0.3 <= high else value - 0.3


def outcome(settings):
    data = simulate(settings)
    return {name: array.values for name, array in data.variables.items()}


def same(first, second):
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name], equal_nan=first[name].dtype.kind == "f") for name in first
    )


@pytest.mark.parametrize("name", [n for n in leaves() if n not in {*HOW_NOT_WHAT, "world.kind"}])
def test_every_key_changes_the_output_or_is_refused(name):
    context = next((c for key, c in CONTEXTS.items() if name.startswith(key)), {})
    settings = set_all(BASE, context)
    item, value = next((i, v) for n, i, v in walk(settings) if n == name)
    changed = another(name, item, value)
    before = outcome(settings)
    try:
        after = outcome(with_value(settings, name, changed))
    except InputError as error:
        answer = str(error)
    else:
        answer = "" if same(before, after) else name
    assert name.rpartition(".")[2] in answer, f"{name}: {value} -> {changed} has no effect and is not refused"


ON_CHAT_ALONE = ("world.", "mixture.weights", "mixture.constraint_metrics", "policy.kind")


@pytest.mark.parametrize("name", [n for n in leaves() if n not in HOW_NOT_WHAT and not n.startswith(ON_CHAT_ALONE)])
def test_every_key_changes_the_output_of_a_score_table_or_is_refused(name):
    table = Path(__file__).parent.parent / "experiments/data/chat_scores.csv"
    columns = {key: key for key in ("correctness", "helpfulness", "thumbs_up")}
    settings = sim.Settings(
        world=sim.Scores(path=str(table), signals=columns, attributes={"sycophancy": "sycophancy", "harm": "flattery"}),
        mixture=sim.Mixture(weights={"correctness": 0.5, "helpfulness": 0.4, "thumbs_up": 0.3}),
        policy=sim.Policy(kind="tabular"),
        training=sim.Training(steps=6, record_every=2, learning_rate=0.5),
    )
    context = next((c for key, c in CONTEXTS.items() if name.startswith(key) and key.startswith("training")), {})
    others = {"metric": "attributes/harm", "mixture.added": "helpfulness", "mixture.constraints": {"helpfulness": 0.9}}
    held = {"mixture.constraint_kind": 0.3, "mixture.multiplier_rate": 0.9}
    settings = set_all(settings, {"mixture.constraints": {"helpfulness": held[name]}} if name in held else context)
    item, value = next((i, v) for n, i, v in walk(settings) if n == name)
    changed = others.get(name, another(name, item, value))
    before = outcome(settings)
    try:
        after = outcome(with_value(settings, name, changed))
    except InputError as error:
        answer = str(error)
    else:
        answer = "" if same(before, after) else name
    assert name.split(".")[0] in answer, f"{name}: {value} -> {changed} has no effect and is not refused"


def test_the_walk_sees_every_field():
    held = [field.name for field in dataclasses.fields(sim.Settings)]
    assert {name.split(".")[0] for name in leaves()} == set(held)
