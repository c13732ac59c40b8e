"""Many runs of one group of settings.

Worlds are prepared once a seed, runs cut into chunks that stay in cache, chunks shared out to threads (torch lets go of
Python's lock while it works). A run's numbers depend on none of that.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.analysis.ledger import attribute_drift
from sim.analysis.metrics import weighted_values
from sim.config import SAMPLED, UNTRAINED, Chat, InputError, Mixture, Settings, Training, unknown_name
from sim.problem import Problem, prepare
from sim.rewards.mixture import effective_weights, order_signals, schedule, spread, usable
from sim.training.advantages import Normalization
from sim.training.policies import Policy, make_policy
from sim.training.sampled import Sampling
from sim.training.theory import best_of_n
from sim.training.train import Cancelled, Trajectory, kl_and_entropy, policy_means, train
from sim.training.weights import Changes, Constraint
from sim.world.arrays import ABSENT, Array

CACHED_CELLS = 2**17  # numbers in a buffer: 64 runs of 128 prompts x 16 responses, measured in benchmarks/core.py
# How far the objective of a run that has converged may seem to fall, relative to its size.
ROUNDING = {"float64": 1e-9, "float32": 1e-4}
Table = Mapping[str, npt.NDArray[Any]]


class Outcome(NamedTuple):
    """What became of R runs.

    found: name -> [R, T], and "ledger" [R, T, C + 1]; NaN where a run failed.
    errors: row -> why it failed.
    """

    found: dict[str, Array]
    errors: dict[int, str]


def run_table(
    settings: Settings,
    table: Table,
    *,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    keep_going: bool = False,
) -> Outcome:
    """Train and measure R runs that share everything but the columns of the table.

    Args:
        settings: what they share.
        table: every batched key -> [R] (`batched_values`).
        workers: threads; the number of cores where None.
        progress: called with the number of runs done.
        cancelled: asked at every step.
        keep_going: note a failing run and go on, instead of raising its error.
    """
    seeds = table["seed"]
    outcome = Outcome({}, {})

    def run_chunk(rows: npt.NDArray[np.intp], problem: "Future[Problem]") -> None:
        try:
            found = run_batch(settings, problem.result(), {k: v[rows] for k, v in table.items()}, cancelled)
        except Cancelled:
            raise
        except Exception as error:
            if not keep_going:
                raise
            # Halve until the run that fails stands alone; a lack of memory is cured on the way.
            if len(rows) > 1 and not problem.exception():
                half = len(rows) // 2
                run_chunk(rows[:half], problem)
                run_chunk(rows[half:], problem)
                return
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            outcome.errors.update(dict.fromkeys(map(int, rows), reason))
        else:
            _keep(outcome, rows, found, len(seeds), settings)
        if progress is not None:
            progress(len(rows))

    workers = workers or os.cpu_count() or 1
    width = chunk_width(settings, int(seeds[0]), len(seeds), workers)
    with ThreadPoolExecutor(workers) as pool:
        tasks = []
        for seed in np.unique(seeds):
            # Queued before its chunks, so it runs or has run when one of them waits for it.
            problem = pool.submit(prepare, settings, int(seed))
            for rows in _same_draws(np.flatnonzero(seeds == seed), table["training.sampling_seed"]):
                for at in range(0, len(rows), width):
                    tasks.append(pool.submit(run_chunk, rows[at : at + width], problem))
        try:
            for task in tasks:
                task.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if outcome.errors and not keep_going:
        row = min(outcome.errors)
        named = ", ".join(f"{key} = {values[row]}" for key, values in table.items())
        raise InputError(f"run {row} failed: {outcome.errors[row]} ({named})")
    return outcome


def _same_draws(rows: npt.NDArray[np.intp], sampling_seed: npt.NDArray[Any]) -> list[npt.NDArray[np.intp]]:
    """Return the rows cut by sampling seed, since the runs of a chunk share their draws."""
    return [rows[sampling_seed[rows] == number] for number in np.unique(sampling_seed[rows])]


def chunk_width(settings: Settings, seed: int, runs: int, workers: int) -> int:
    """Return how many runs to train at once: a buffer of P x K x width stays in cache, and no worker is left idle."""
    if settings.training.chunk:
        return settings.training.chunk
    world, training = settings.world, settings.training
    prompts, responses = (
        (world.prompts, world.responses)
        if isinstance(world, Chat)
        else prepare(settings, seed).splits["train"].log_ref.shape
    )
    if training.estimator in SAMPLED and training.prompts_per_step:
        prompts = min(prompts, training.prompts_per_step)
    cells = prompts * responses * (settings.policy.hidden if settings.policy.kind == "mlp" else 1)
    return int(np.clip(min(CACHED_CELLS // cells, -(-runs // workers)), 8, 2048))


def _keep(outcome: Outcome, rows: npt.NDArray[np.intp], found: dict[str, Array], runs: int, settings: Settings) -> None:
    """Copy a chunk's results to their rows; a run that diverged has failed, and holds NaN."""
    for name, values in found.items():
        # setdefault is atomic: whichever thread comes first makes the array
        whole = outcome.found.setdefault(name, np.full((runs, *values.shape[1:]), np.nan))
        whole[rows] = values
    training, climbs = settings.training, _climbs(settings)
    steps = recorded_steps(training)
    finite = np.asarray(np.isfinite(found["kl"]).all(axis=1))
    gain = found["objective"][:, -1] - found["objective"][:, 0]
    slack = ROUNDING[training.dtype] * (1 + np.abs(found["objective"][:, 0]))
    for place, row in enumerate(map(int, rows)):
        if not finite[place]:
            step = steps[np.flatnonzero(~np.isfinite(found["kl"][place]))[0]]
            outcome.errors[row] = f"diverged: not finite at step {step}; lower training.learning_rate"
        elif climbs and gain[place] < -slack[place]:
            outcome.errors[row] = "diverged: the objective ended below its start; lower training.learning_rate"
        if row in outcome.errors:
            for name in found:
                outcome.found[name][row] = np.nan


def _climbs(settings: Settings) -> bool:
    """Return whether a step of training can only raise the objective, unless it is too long."""
    mixture = settings.mixture
    fixed = not mixture.constraints and not _scheduled(mixture) and mixture.scale_rewards == "none"
    return (
        fixed
        and mixture.aggregation == "sum_then_normalize"
        and settings.training.estimator in ("exact", "natural", "closed_form")
    )


def _scheduled(mixture: Mixture) -> bool:
    return bool(mixture.from_step or mixture.ramp_steps or mixture.until_step)


def run_batch(
    settings: Settings, problem: Problem, table: Table, cancelled: Callable[[], bool] = lambda: False
) -> dict[str, Array]:
    """Return what is measured of R runs that share one problem, by name: [R, T], and [R, T, C + 1] for the ledger."""
    names, training = order_signals(settings.mixture.weights, problem.signals["train"]), settings.training
    nominal = np.stack([table[f"mixture.weights.{name}"] for name in names])
    added = names.index(settings.mixture.added)
    weights = effective_weights(nominal, added, settings.mixture.renormalize)
    held = np.isin(names, list(settings.mixture.constraints))[:, None]
    signals, scale = _trained_signals(settings, problem, names, np.where(held, 1.0, weights))
    weights = weights * scale[:, None]
    without = nominal.copy()
    without[added] = 0.0
    before = effective_weights(without, added, settings.mixture.renormalize) * scale[:, None]
    seed = int(table["seed"][0])
    policies = {
        split: make_policy(settings.policy.kind, world, training.dtype, settings.policy.hidden, seed)
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
        trained[split] = train(
            policies[split],
            signals[split],
            weights,
            table["kl_coef"],
            table["training.learning_rate"],
            steps=training.steps,
            record_every=training.record_every,
            estimator=training.estimator,
            optimizer=training.optimizer,
            normalization=Normalization(settings.mixture.aggregation, settings.mixture.scale_rewards),
            sampling=_sampling(training, seed, int(table["training.sampling_seed"][0])),
            changes=_changes(settings, problem, table, names, before, policies, split, signals[split]),
            ledger=training.ledger,
            chunk=weights.shape[1],
            cancelled=cancelled,
        )
    paths = {split: trained.get(split, trained["train"]) for split in policies}

    found = _measure_metrics(problem, policies, paths)
    found |= _measure_rewards(problem, policies["train"], paths["train"], names, weights)
    found["kl"], found["entropy"] = kl_and_entropy(
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
    theta = np.zeros((2, log_ref.size, weights.shape[1]))
    for run, weight in enumerate(weights.T):
        reward = np.tensordot(weight, signals, axes=1)
        if training.estimator == "closed_form":
            theta[1, :, run] = (reward / kl_coef[run]).ravel()
        else:
            best = best_of_n(log_ref, reward, training.candidates)
            theta[1, :, run] = np.maximum(best - log_ref, ABSENT).ravel()
    return theta


def _sampling(training: Training, seed: int, sampling_seed: int) -> Sampling:
    return Sampling(
        seed=seed,
        sampling_seed=sampling_seed,
        prompts=training.prompts_per_step,
        samples=training.samples,
        epochs=training.epochs,
        clip=training.clip,
        kl_estimator=training.kl_estimator,
        value_rate=training.value_rate,
    )


def _changes(
    settings: Settings,
    problem: Problem,
    table: Table,
    names: Sequence[str],
    before: Array,
    policies: Mapping[str, Policy],
    split: str,
    signals: Array,
) -> Changes | None:
    """Return how the weights change while the policy of `split` learns; None if they do not."""
    mixture = settings.mixture
    if not mixture.constraints and not _scheduled(mixture):
        return None
    constraints = []
    for name in mixture.constraints:
        row, metric_name = names.index(name), mixture.constraint_metrics.get(name)
        on, values, sign = split, signals[row], 1.0
        if metric_name is not None:
            if metric_name not in problem.metrics:
                known = unknown_name("metric", metric_name, list(problem.metrics))
                raise InputError(f"mixture.constraint_metrics.{name}: {known}")
            metric = problem.metrics[metric_name]
            if settings.policy.kind == "tabular" and metric.split != split:
                raise InputError(f"mixture.constraint_metrics.{name}: a tabular policy learns nothing about '{split}'")
            on, values, sign = metric.split, metric.values, 1.0 if metric.better == "higher" else -1.0
        constraints.append(
            Constraint(
                row,
                policies[on],
                weighted_values(problem.splits[on], [values])[0],
                table[f"mixture.constraints.{name}"],
                sign,
                mixture.constraint_kind == "equality",
            )
        )
    share = schedule(settings.training.steps, mixture.from_step, mixture.ramp_steps, mixture.until_step)
    return Changes(before, share, constraints, mixture.multiplier_rate)


def recorded_steps(training: Training) -> npt.NDArray[np.int64]:
    """Return the steps that are recorded, [T]; without training, the reference (0) and the policy (1)."""
    if training.estimator in UNTRAINED:
        return np.array([0, 1])
    return np.unique(np.append(np.arange(0, training.steps + 1, training.record_every), training.steps))


def batched_values(settings: Settings) -> dict[str, Any]:
    """Return the settings that may differ between the runs of a batch, by dotted key."""
    return {
        "seed": settings.seed,
        "kl_coef": settings.kl_coef,
        "training.learning_rate": settings.training.learning_rate,
        "training.sampling_seed": settings.training.sampling_seed,
        **{f"mixture.weights.{name}": weight for name, weight in settings.mixture.weights.items()},
        **{f"mixture.constraints.{name}": held for name, held in settings.mixture.constraints.items()},
    }


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


def _measure_metrics(
    problem: Problem, policies: Mapping[str, Policy], paths: Mapping[str, Trajectory]
) -> dict[str, Array]:
    """Return every linear metric, name -> [T, R], in the order of the problem's metrics."""
    found: dict[str, Array] = {}
    for split in policies:
        here = {name: metric for name, metric in problem.metrics.items() if metric.split == split}
        if not here:
            continue
        values = weighted_values(problem.splits[split], [metric.values for metric in here.values()])
        means = policy_means(policies[split], paths[split].theta, values)
        found |= {name: means[:, row] for row, name in enumerate(here)}
    return {name: found[name] for name in problem.metrics}


def _measure_rewards(
    problem: Problem, policy: Policy, path: Trajectory, names: Sequence[str], weights: Array
) -> dict[str, Array]:
    """Return each signal's raw and weighted mean, and their weighted sum, the proxy reward; name -> [T, R]."""
    world, scored = problem.splits["train"], problem.signals["train"]
    held = [np.where(world.present, scored[name], 0.0) for name in names]
    # A monitor may hold anything; its mean is NaN unless all of it is finite.
    finite = [values if np.isfinite(values).all() else np.full_like(values, np.nan) for values in held]
    raw = policy_means(policy, path.theta, weighted_values(world, finite))
    in_force = np.broadcast_to(weights, raw.shape) if path.weights is None else path.weights
    weighted = np.where(in_force != 0, raw * in_force, 0.0)
    found = {}
    for row, name in enumerate(names):
        found[f"rewards/{name}/raw"], found[f"rewards/{name}/weighted"] = raw[:, row], weighted[:, row]
        if path.weights is not None:
            found[f"rewards/{name}/weight"] = path.weights[:, row]
    return found | {"proxy_reward": weighted.sum(axis=1)}
