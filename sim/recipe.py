"""From settings to the arguments of one training: weights, what changes them, how responses are drawn.

The core takes arrays and numbers; this is where a run's settings, its problem and the columns of its batch become them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.analysis.metrics import weighted_values
from sim.config import SAMPLED, InputError, Settings
from sim.derived import normalized, scheduled
from sim.problem import Problem
from sim.rewards.mixture import effective_weights, order_signals, schedule, spread, usable
from sim.world.arrays import Array

Table = Mapping[str, npt.NDArray[Any]]


class Ingredients(NamedTuple):
    """What R runs are trained on.

    names: of the S signals.
    signals: split -> [S, P, K], for every split that is trained on.
    weights: [S, R], scale included.
    before: [S, R], the same without the added signal.
    """

    names: list[str]
    signals: dict[str, Array]
    weights: Array
    before: Array


def ingredients(settings: Settings, problem: Problem, table: Table) -> Ingredients:
    """Return the signals and effective weights of R runs that share one problem."""
    mixture = settings.mixture
    names = order_signals(mixture.weights, problem.signals["train"])
    added = names.index(mixture.added)
    nominal = np.stack([table[f"mixture.weights.{name}"] for name in names])
    without = nominal.copy()
    without[added] = 0.0
    weights, before = (effective_weights(w, added, mixture.renormalize) for w in (nominal, without))
    held = np.isin(names, list(mixture.constraints))[:, None]
    counted = np.where(held, 1.0, weights)  # a constraint may bring in a signal whose weight is 0
    signals = {
        split: usable(scored, names, counted, problem.splits[split].present)
        for split, scored in problem.signals.items()
        if split == "train" or settings.policy.kind == "tabular"
    }
    scale = np.ones((len(names), 1))
    if mixture.scale == "std":
        scale = 1 / spread(problem.splits["train"], signals["train"])[:, None]
    return Ingredients(names, signals, weights * scale, before * scale)


def policy_options(settings: Settings, seed: int) -> dict[str, Any]:
    """Return what a policy class needs beyond a world and a precision."""
    return {"hidden": settings.policy.hidden, "seed": seed} if settings.policy.kind == "mlp" else {}


def training_options(
    settings: Settings, problem: Problem, table: Table, parts: Ingredients, policies: Mapping[str, Any], split: str
) -> dict[str, Any]:
    """Return the arguments of `sim.training.train.train` by name, for runs trained on one split."""
    training, mixture = settings.training, settings.mixture
    options: dict[str, Any] = {
        "steps": training.steps,
        "record_every": training.record_every,
        "estimator": training.estimator,
        "optimizer": training.optimizer,
        "ledger": training.ledger,
    }
    if normalized(mixture):
        from sim.training.advantages import Normalization

        options["normalization"] = Normalization(mixture.aggregation, mixture.scale_rewards)
    if training.estimator in SAMPLED:
        from sim.training.sampled import Sampling

        options["sampling"] = Sampling(
            seed=int(table["seed"][0]),
            sampling_seed=int(table["training.sampling_seed"][0]),
            prompts=training.prompts_per_step,
            samples=training.samples,
            epochs=training.epochs,
            clip=training.clip,
            kl_estimator=training.kl_estimator,
            value_rate=training.value_rate,
        )
    if mixture.constraints or scheduled(mixture):
        from sim.training.weights import Changes

        share = schedule(training.steps, mixture.from_step, mixture.ramp_steps, mixture.until_step)
        held = _constraints(settings, problem, table, parts, policies, split)
        options["changes"] = Changes(parts.before, share, held, mixture.multiplier_rate)
    return options


def _constraints(
    settings: Settings, problem: Problem, table: Table, parts: Ingredients, policies: Mapping[str, Any], split: str
) -> Sequence[Any]:
    """Return the constraints on a training; a metric that is better lower is held from above, any other from below."""
    from sim.training.weights import Constraint

    mixture, found = settings.mixture, []
    for name in mixture.constraints:
        row, metric_name = parts.names.index(name), mixture.constraint_metrics.get(name)
        on, values, sign = split, parts.signals[split][row], 1.0
        if metric_name is not None:
            metric = problem.metrics[metric_name]
            if not np.isfinite(metric.values).all():
                what = f"'{metric_name}' is a mean over prompts of which this world has none"
                raise InputError(f"mixture.constraint_metrics.{name}: {what}")
            if settings.policy.kind == "tabular" and metric.split != split:
                raise InputError(f"mixture.constraint_metrics.{name}: a tabular policy learns nothing of other prompts")
            on, values, sign = metric.split, metric.values, -1.0 if metric.better == "lower" else 1.0
        weighted = weighted_values(problem.splits[on], [values])[0]
        threshold, equal = table[f"mixture.constraints.{name}"], mixture.constraint_kind == "equality"
        found.append(Constraint(row, policies[on], weighted, threshold, sign, equal))
    return found
