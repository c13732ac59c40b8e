"""Many runs of one group of settings.

Worlds are prepared once a seed, runs cut into chunks that stay in cache, chunks shared out to threads (torch lets go of
Python's lock while it works). A run's numbers depend on none of that.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.analysis.ledger import attribute_drift
from sim.analysis.metrics import weighted_values
from sim.config import SAMPLED, UNTRAINED, Chat, InputError, Settings, Training, fixed_objective, outside_fused
from sim.problem import Problem, prepare
from sim.recipe import Table, ingredients, policy_options, training_options
from sim.training import engines
from sim.training.engines import Engine, EngineError
from sim.training.trajectory import Cancelled, Trajectory, recorded
from sim.world.arrays import ABSENT, Array

FUSED_CELLS, TILE = (
    2**19,
    16,
)  # likewise for the fused kernel, which needs no cache for them; lanes of the widest vectors
KEPT_WORLDS = 4  # prepared and kept at once; runs are ordered by world, so two are in use at a time
CACHED_CELLS = 2**17  # numbers in a buffer: 64 runs of 128 prompts x 16 responses, measured in benchmarks/core.py
# How far the objective of a run that has converged may seem to fall, relative to its size.
ROUNDING = {"float64": 1e-9, "float32": 1e-4}


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
    outcome = Outcome({}, {})
    with workers_of(workers) as pool:
        options = {"progress": progress, "cancelled": cancelled, "keep_going": keep_going}
        for task in start_table(pool, settings, table, worlds(pool, settings), outcome, **options):  # type: ignore[arg-type]
            task.result()
    if outcome.errors and not keep_going:
        row = min(outcome.errors)
        named = ", ".join(f"{key} = {values[row]}" for key, values in table.items())
        raise InputError(f"run {row} failed: {outcome.errors[row]} ({named})")
    return outcome


@contextlib.contextmanager
def workers_of(count: int | None) -> Iterator[ThreadPoolExecutor]:
    """Give a pool of threads, one a core where None; on an error inside, what has not started never does."""
    with ThreadPoolExecutor(count or os.cpu_count() or 1) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def worlds(pool: ThreadPoolExecutor, settings: Settings) -> "Callable[[int], Future[Problem]]":
    """Return seed -> its problem, which the pool prepares once while it is among the last few asked for."""
    return functools.lru_cache(KEPT_WORLDS)(lambda seed: pool.submit(prepare, settings, seed))


def start_table(
    pool: ThreadPoolExecutor,
    settings: Settings,
    table: Table,
    world: Callable[[int], "Future[Problem]"],
    outcome: Outcome,
    *,
    finish: Callable[[], Any] = lambda: None,
    progress: Callable[[int], object] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    keep_going: bool = False,
) -> "list[Future[Any]]":
    """Hand the chunks of a table to the pool and return them, without waiting.

    Args:
        pool: as of `workers_of`.
        settings: as for `run_table`, like all that is not named here.
        table: as for `run_table`.
        world: as of `worlds`, on the same pool.
        outcome: filled as chunks are done.
        finish: called by the thread that does the last chunk; what it returns is that chunk's result.
        progress: as for `run_table`.
        cancelled: as for `run_table`.
        keep_going: as for `run_table`.
    """
    seeds = table["seed"]

    def run_chunk(rows: npt.NDArray[np.intp], problem: "Future[Problem]") -> None:
        try:
            found = run_batch(settings, problem.result(), {k: v[rows] for k, v in table.items()}, cancelled)
        except (Cancelled, EngineError):
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

    def work(rows: npt.NDArray[np.intp], problem: "Future[Problem]") -> Any:
        run_chunk(rows, problem)
        return finish() if next(left) == 0 else None  # taking the next number is atomic

    width = chunk_width(settings, int(seeds[0]), len(seeds), pool._max_workers)
    chunks: list[tuple[int, npt.NDArray[np.intp]]] = []
    for seed in np.unique(seeds).tolist():
        for rows in _same_draws(np.flatnonzero(seeds == seed), table["training.sampling_seed"]):
            chunks += [(seed, rows[at : at + width]) for at in range(0, len(rows), width)]
    left = iter(range(len(chunks) - 1, -1, -1))
    tasks = []
    for place, (seed, rows) in enumerate(chunks):
        # A world is queued before its chunks, so it is or has been prepared when one of them waits for it; the next
        # chunk's is queued before this chunk, so that nobody waits long.
        problem = world(seed)
        world(chunks[min(place + 1, len(chunks) - 1)][0])
        tasks.append(pool.submit(work, rows, problem))
    return tasks


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
    # An MLP goes unit by unit; only a wide one needs narrower chunks.
    cells = prompts * responses * (max(1, settings.policy.hidden // 16) if settings.policy.kind == "mlp" else 1)
    if settings.training.engine != "torch" and not outside_fused(settings):
        # The kernel works on tiles of runs, whatever the width: fill them, and leave a few chunks to each worker.
        share = min(FUSED_CELLS // cells, -(-runs // (4 * workers)))
        return int(np.clip(-(-share // TILE) * TILE, TILE, 2048))
    return int(np.clip(min(CACHED_CELLS // cells, -(-runs // workers)), 8, 2048))


def engine_of(settings: Settings, problem: Problem) -> Engine:
    """Return the engine that trains these settings; `InputError` if the one they name cannot be had."""
    _, responses, size = problem.splits["train"].features.shape
    return engines.pick(settings.training.engine, not outside_fused(settings), responses, size)


def _keep(outcome: Outcome, rows: npt.NDArray[np.intp], found: dict[str, Array], runs: int, settings: Settings) -> None:
    """Copy a chunk's results to their rows; a run that diverged has failed, and holds NaN."""
    for name, values in found.items():
        if name not in outcome.found:  # setdefault is atomic: whichever thread comes first makes the array
            outcome.found.setdefault(name, np.full((runs, *values.shape[1:]), np.nan))
        outcome.found[name][rows] = values
    training = settings.training
    climbs = fixed_objective(settings)
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
