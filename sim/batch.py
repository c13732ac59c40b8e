"""One batch: R runs of one world, trained and measured together.

A run's numbers do not depend on who shares its batch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.analysis.ledger import attribute_drift
from sim.analysis.metrics import weighted_values
from sim.config import UNTRAINED, Settings, Training
from sim.derived import outside_fused
from sim.problem import Problem
from sim.recipe import Table, ingredients, policy_options, training_options
from sim.training import engines
from sim.training.engines import Engine
from sim.training.trajectory import Trajectory, recorded
from sim.world.arrays import ABSENT, Array


def engine_of(settings: Settings, problem: Problem) -> Engine:
    """Return the engine that trains these settings; `InputError` if the one they name cannot be had."""
    _, responses, size = problem.splits["train"].features.shape
    return engines.pick(settings.training.engine, not outside_fused(settings), responses, size)


def run_batch(
    settings: Settings, problem: Problem, table: Table, cancelled: Callable[[], bool] = lambda: False
) -> dict[str, Array]:
    """Return what is measured of R runs that share one problem, by name: [R, T], and [R, T, C + 1] for the ledger."""
    training, seed = settings.training, int(table["seed"][0])
    parts = ingredients(settings, problem, table)
    signals, weights = parts.signals, parts.weights
    engine = engine_of(settings, problem)
    policies = {
        split: engine.make_policy(settings.policy.kind, world, training.dtype, **policy_options(settings, seed))
        for split, world in problem.splits.items()
        if split != "finetune"
    }
    # A tabular policy does not generalise, so each split is trained on its own prompts.
    trained: dict[str, Trajectory] = {}
    for split in policies if settings.policy.kind == "tabular" else ["train"]:
        if training.estimator in UNTRAINED:
            theta = _untrained(training, problem.splits[split].log_ref, signals[split], weights, table["kl_coef"])
            trained[split] = Trajectory(recorded_steps(training), theta, None)
            continue
        trained[split] = engine.train(
            policies[split],
            signals[split],
            weights,
            table["kl_coef"],
            table["training.learning_rate"],
            **training_options(settings, problem, table, parts, policies, split),
            chunk=weights.shape[1],
            cancelled=cancelled,
        )
    paths = {split: trained.get(split, trained["train"]) for split in policies}

    found = _measure_metrics(engine, problem, policies, paths)
    found |= _measure_rewards(engine, problem, policies["train"], paths["train"], parts.names, weights)
    found["kl"], found["entropy"] = engine.kl_and_entropy(
        policies["train"], paths["train"].theta, problem.splits["train"].prompt_prob
    )
    found["objective"] = found["proxy_reward"] - table["kl_coef"] * found["kl"]
    found = {name: values.T for name, values in found.items()}
    if training.ledger:
        metric = problem.metrics[problem.headline]
        observed = found[problem.headline].T
        lines = attribute_drift(policies[metric.split], paths[metric.split], metric.values, observed)
        found["ledger"] = np.concatenate([np.zeros_like(lines[:1]), lines]).transpose(2, 0, 1)
    return found


def _untrained(training: Training, log_ref: Array, signals: Array, weights: Array, kl_coef: Array) -> Array:
    """Return theta [2, P K, R]: the reference, then the tabular policy that needs no training."""
    from sim.training.theory import best_of_n  # loads scipy's root finder

    theta = np.zeros((2, log_ref.size, weights.shape[1]))
    for run, weight in enumerate(weights.T):
        reward = np.tensordot(weight, signals, axes=1)
        if training.estimator == "closed_form":
            theta[1, :, run] = (reward / kl_coef[run]).ravel()
        else:
            best = best_of_n(log_ref, reward, training.candidates)
            theta[1, :, run] = np.maximum(best - log_ref, ABSENT).ravel()
    return theta


def recorded_steps(training: Training) -> npt.NDArray[np.int64]:
    """Return the steps that are recorded, [T]; without training, the reference (0) and the policy (1)."""
    if training.estimator in UNTRAINED:
        return np.array([0, 1])
    return recorded(training.steps, training.record_every)


def _measure_metrics(
    engine: Engine, problem: Problem, policies: Mapping[str, Any], paths: Mapping[str, Trajectory]
) -> dict[str, Array]:
    """Return every linear metric, name -> [T, R], in the order of the problem's metrics."""
    found: dict[str, Array] = {}
    for split in policies:
        here = {name: metric for name, metric in problem.metrics.items() if metric.split == split}
        if not here:
            continue
        values = weighted_values(problem.splits[split], [metric.values for metric in here.values()])
        means = engine.policy_means(policies[split], paths[split].theta, values)
        found |= {name: means[:, row] for row, name in enumerate(here)}
    return {name: found[name] for name in problem.metrics}


def _measure_rewards(
    engine: Engine, problem: Problem, policy: Any, path: Trajectory, names: Sequence[str], weights: Array
) -> dict[str, Array]:
    """Return each signal's raw and weighted mean, and their weighted sum, the proxy reward; name -> [T, R]."""
    world, scored = problem.splits["train"], problem.signals["train"]
    held = [np.where(world.present, scored[name], 0.0) for name in names]
    # A monitor may hold anything; its mean is NaN unless all of it is finite.
    finite = [values if np.isfinite(values).all() else np.full_like(values, np.nan) for values in held]
    raw = engine.policy_means(policy, path.theta, weighted_values(world, finite))
    in_force = np.broadcast_to(weights, raw.shape) if path.weights is None else path.weights
    weighted = np.where(in_force != 0, raw * in_force, 0.0)
    found = {}
    for row, name in enumerate(names):
        found[f"rewards/{name}/raw"], found[f"rewards/{name}/weighted"] = raw[:, row], weighted[:, row]
        if path.weights is not None:
            found[f"rewards/{name}/weight"] = path.weights[:, row]
    return found | {"proxy_reward": weighted.sum(axis=1)}
