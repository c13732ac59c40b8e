"""From settings to numbers: the one path through all four floors.

`simulate` trains many runs that share their settings but for a few numeric columns, and returns one labelled data set:
dimensions run and step, the varied keys as coordinates, each metric with its label and unit.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from sim.analysis.ledger import attribute_drift, check_strength
from sim.analysis.metrics import Metric, attribute_metrics, chat_metrics, kl_and_entropy, measure, weighted_values
from sim.config import Chat, InputError, Scores, Settings, check, unknown_name, with_value
from sim.rewards.mixture import effective_weights, order_signals, spread, usable
from sim.rewards.signals import score
from sim.training.finetune import fine_tune
from sim.training.policies import make_policy
from sim.training.train import Trajectory, train
from sim.world.arrays import Array, World
from sim.world.chat import make_chat
from sim.world.scores import make_scores, read_table, resample_prompts

BATCHED = ("seed", "kl_coef", "training.learning_rate", "mixture.weights.")


class Problem(NamedTuple):
    """What is to be learned: one world with its reference policy, signals and metrics.

    splits: name -> World, with the reference policy in place.
    signals: split -> name -> [P, K], for every split that a policy may be trained on.
    metrics: name -> Metric.
    headline: the metric whose drift is attributed.
    """

    splits: dict[str, World]
    signals: dict[str, dict[str, Array]]
    metrics: dict[str, Metric]
    headline: str


def prepare(settings: Settings, seed: int) -> Problem:
    """Return the problem that the settings describe under one seed."""
    if isinstance(settings.world, Chat):
        splits = make_chat(settings.world, settings.users, settings.memory, seed)
        splits = fine_tune(splits, settings.policy.finetune_sharpness, settings.policy.finetune_ridge)
        signals = {
            name: score(world, settings.signals, settings.users, settings.memory) for name, world in splits.items()
        }
        metrics = chat_metrics(splits)
    elif isinstance(settings.world, Scores):
        world, scored = make_scores(settings.world, read_table(settings.world.path))
        splits = {"train": resample_prompts(world, seed) if settings.world.resample else world}
        signals, metrics = {"train": scored}, attribute_metrics(world)
    else:
        raise InputError(f"world: expected Chat or Scores, got {type(settings.world).__name__}")
    headline = settings.metric or next(iter(metrics))
    if headline not in metrics:
        raise InputError(f"metric: {unknown_name('metric', headline, list(metrics))}")
    return Problem(splits, signals, metrics, headline)


def simulate(
    settings: Settings,
    columns: Mapping[str, npt.ArrayLike] | None = None,
    progress: Callable[[int], object] | None = None,
) -> xr.Dataset:
    """Return the data set of R runs, dimensions (run, step).

    Args:
        settings: what all runs share.
        columns: dotted key -> [R] values; keys are seed, kl_coef, training.learning_rate and mixture.weights.NAME.
        progress: called with the number of runs done.

    Raises:
        InputError: naming every setting that is out of range, a key that cannot vary, or a bad score table.
    """
    check(settings)
    table = _columns(settings, columns or {})
    runs = len(table["seed"])
    parts, orders = [], []
    for seed in np.unique(table["seed"]):
        rows = np.flatnonzero(table["seed"] == seed)
        chosen = {key: values[rows] for key, values in table.items()}
        parts.append(run_batch(settings, prepare(settings, int(seed)), chosen, progress))
        orders.append(rows)
    data = xr.concat(parts, dim="run").isel(run=np.argsort(np.concatenate(orders)))
    return data.assign_coords(run=np.arange(runs))


def run_batch(
    settings: Settings, problem: Problem, table: Mapping[str, Array], progress: Callable[[int], object] | None = None
) -> xr.Dataset:
    """Return the data set of runs that share one problem; `table` gives each run's value of every batched key."""
    weights_by_name = settings.mixture.weights
    names = order_signals(weights_by_name, problem.signals["train"])
    nominal = np.stack([table[f"mixture.weights.{name}"] for name in names])
    weights = effective_weights(nominal, names.index(settings.mixture.added), settings.mixture.renormalize)
    signals, scale = _trained_signals(settings, problem, names, weights)
    weights = weights * scale[:, None]

    policies = {
        split: make_policy(settings.policy.kind, world, settings.training.dtype)
        for split, world in problem.splits.items()
        if split != "finetune"
    }
    # A tabular policy does not generalise, so each split is trained on its own prompts.
    on = list(policies) if settings.policy.kind == "tabular" else ["train"]
    trained: dict[str, Trajectory] = {}
    for split in on:
        trained[split] = train(
            policies[split],
            np.stack([signals[split][row] for row in range(len(names))]),
            weights,
            table["kl_coef"],
            table["training.learning_rate"],
            steps=settings.training.steps,
            record_every=settings.training.record_every,
            estimator=settings.training.estimator,
            optimizer=settings.training.optimizer,
            ledger=settings.training.ledger,
            chunk=settings.training.chunk,
            progress=progress if split == "train" else None,
        )
    paths = {split: trained.get(split, trained["train"]) for split in policies}

    variables = _measure_metrics(problem, policies, paths)
    variables |= _measure_rewards(problem, policies["train"], paths["train"], names, weights)
    kl, entropy = kl_and_entropy(policies["train"], problem.splits["train"], paths["train"].theta)
    variables["kl"] = _variable(kl, "KL(policy || reference)", "nats per prompt")
    variables["entropy"] = _variable(entropy, "entropy of the policy", "nats per prompt")
    variables["objective"] = _variable(
        variables["proxy_reward"][1].T - table["kl_coef"] * kl, "proxy reward minus KL penalty", "reward", "higher"
    )
    if settings.training.ledger:
        metric = problem.metrics[problem.headline]
        observed = variables[problem.headline][1].T
        lines = attribute_drift(policies[metric.split], paths[metric.split], metric.values, observed)
        primary = np.flatnonzero([name != settings.mixture.added for name in names])
        strength = check_strength(lines.sum(axis=0), primary)
        label = {"long_name": f"change of {metric.label} by cause", "units": metric.unit, "metric": problem.headline}
        variables["ledger"] = (("run", "interval", "cause"), lines.transpose(2, 0, 1), label)
        variables["check_strength"] = (("run",), strength, {"long_name": "check strength", "units": "ratio"})
    coordinates: dict[str, Any] = {key: ("run", np.asarray(values)) for key, values in table.items()}
    coordinates["step"] = paths["train"].steps
    if settings.training.ledger:
        coordinates["interval"] = paths["train"].steps[1:]
        coordinates["cause"] = [*names, "kl penalty", "remainder"]
    return xr.Dataset(variables, coordinates, {"headline": problem.headline, "added": settings.mixture.added})


def _columns(settings: Settings, columns: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
    """Return a value per run for every batched key, checked."""
    given = {key: np.atleast_1d(np.asarray(values)) for key, values in columns.items()}
    lengths = {len(values) for values in given.values()} or {1}
    if len(lengths) > 1:
        raise InputError(f"columns: lengths differ ({', '.join(f'{key}: {len(v)}' for key, v in given.items())})")
    runs = lengths.pop()
    defaults: dict[str, Any] = {
        "seed": settings.seed,
        "kl_coef": settings.kl_coef,
        "training.learning_rate": settings.training.learning_rate,
        **{f"mixture.weights.{name}": weight for name, weight in settings.mixture.weights.items()},
    }
    for key, values in given.items():
        if key not in defaults:
            raise InputError(f"columns: {unknown_name('key', key, list(defaults))}")
        for value in np.unique(values):
            check(with_value(settings, key, value.item()))
    return {key: given.get(key, np.full(runs, value)) for key, value in defaults.items()}


def _trained_signals(
    settings: Settings, problem: Problem, names: Sequence[str], weights: Array
) -> tuple[dict[str, Array], Array]:
    """Return the signals [S, P, K] of every split that has them, and the scale [S] of each."""
    signals = {
        split: usable(scored, names, weights, problem.splits[split].present)
        for split, scored in problem.signals.items()
        if split == "train" or settings.policy.kind == "tabular"
    }
    if settings.mixture.scale == "std":
        return signals, 1 / spread(problem.splits["train"], signals["train"])
    return signals, np.ones(len(names))


def _measure_metrics(problem: Problem, policies: Mapping[str, Any], paths: Mapping[str, Trajectory]) -> dict[str, Any]:
    variables = {}
    for split in policies:
        here = {name: metric for name, metric in problem.metrics.items() if metric.split == split}
        if not here:
            continue
        values = weighted_values(problem.splits[split], [metric.values for metric in here.values()])
        found = measure(policies[split], paths[split].theta, values)
        for row, (name, metric) in enumerate(here.items()):
            variables[name] = _variable(found[:, row], metric.label, metric.unit, metric.better)
    return {name: variables[name] for name in problem.metrics}


def _measure_rewards(
    problem: Problem, policy: Any, path: Trajectory, names: Sequence[str], weights: Array
) -> dict[str, Any]:
    """Return each signal's raw and weighted mean, and their weighted sum, the proxy reward."""
    world, scored = problem.splits["train"], problem.signals["train"]
    held = [np.where(world.present, scored[name], 0.0) for name in names]
    # A monitor may hold anything; its mean is NaN unless all of it is finite.
    finite = [values if np.isfinite(values).all() else np.full_like(values, np.nan) for values in held]
    raw = measure(policy, path.theta, weighted_values(world, finite))
    weighted = np.where(weights > 0, raw * weights, 0.0)
    variables = {}
    for row, name in enumerate(names):
        variables[f"rewards/{name}/raw"] = _variable(raw[:, row], f"{name}, mean score", "score", "higher")
        variables[f"rewards/{name}/weighted"] = _variable(weighted[:, row], f"{name}, weighted", "reward", "higher")
    variables["proxy_reward"] = _variable(weighted.sum(axis=1), "proxy reward", "reward", "higher")
    return variables


def _variable(values: Array, label: str, unit: str, better: str = "") -> tuple[tuple[str, str], Array, dict[str, str]]:
    """Return an xarray variable (run, step) from values [T, R]."""
    return ("run", "step"), values.T, {"long_name": label, "units": unit, "better": better}
