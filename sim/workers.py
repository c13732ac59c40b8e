"""Many runs: a table of them cut into chunks that stay in cache, and the chunks shared out to threads.

Worlds are prepared once a seed. Torch lets go of Python's lock while it works, so threads use every core. A run's
numbers depend on none of that.
"""

import functools
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.batch import engine_of, recorded_steps, run_batch
from sim.config import SAMPLED, InputError, Settings
from sim.derived import fixed_objective, outside_fused
from sim.problem import Problem, make_problem, train_shape
from sim.recipe import Table
from sim.training.engines import EngineError
from sim.training.threads import torch_on_one_thread
from sim.training.trajectory import Cancelled
from sim.world.arrays import Array

KEPT_WORLDS = 4  # prepared and kept at once; runs are ordered by world, so two are in use at a time
CACHED_CELLS = 2**17  # numbers in a buffer: 64 runs of 128 prompts x 16 responses, measured in benchmarks/core.py
FUSED_CELLS = 2**19  # the same for the fused kernel, which keeps none of them in cache
TILE = 16  # runs side by side in the widest vectors of the fused kernel
MOST = 2048  # runs in a chunk
# How far the objective of a run that has converged may seem to fall, relative to its size.
ROUNDING = {"float64": 1e-9, "float32": 1e-4}


class Outcome(NamedTuple):
    """What became of R runs.

    found: name -> [R, T], and "ledger" [R, T, C + 1]; NaN where a run failed.
    errors: row -> why it failed.
    """

    found: dict[str, Array]
    errors: dict[int, str]


class Workers(ThreadPoolExecutor):
    """Threads, one a core where no number is given; after an error inside `with`, what has not started never does."""

    def __init__(self, count: int | None = None) -> None:
        """Open `count` threads."""
        self.count = count or os.cpu_count() or 1
        super().__init__(self.count)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Wait for what has started."""
        self.shutdown(cancel_futures=error is not None)
        return None


def run_table(
    settings: Settings,
    table: Table,
    *,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> tuple[dict[str, Array], Problem]:
    """Return what is measured of R runs that share everything but the columns of the table, and the first one's world.

    Args:
        settings: what they share.
        table: every batched key -> [R] (`sim.derived.batched_values`).
        workers: threads; the number of cores where None.
        progress: called with the number of runs done.

    Returns:
        name -> [R, T], "ledger" -> [R, T, C + 1]; and the problem of the first run.

    Raises:
        InputError: naming the first run that diverged, or what cannot be prepared.
    """
    outcome = Outcome({}, {})
    with Workers(workers) as pool:
        world = worlds(pool, settings)
        problem = world(int(table["seed"][0])).result()
        engine_of(settings, problem)  # loads torch, unless it is not needed
        with torch_on_one_thread():
            for task in start_table(pool, settings, table, world, outcome, progress=progress):
                task.result()
    if outcome.errors:
        row = min(outcome.errors)
        named = ", ".join(f"{key} = {values[row]}" for key, values in table.items())
        raise InputError(f"run {row} failed: {outcome.errors[row]} ({named})")
    return outcome.found, problem


def worlds(pool: Workers, settings: Settings) -> "Callable[[int], Future[Problem]]":
    """Return seed -> its problem, which the pool prepares once while it is among the last few asked for."""
    return functools.lru_cache(KEPT_WORLDS)(lambda seed: pool.submit(make_problem, settings, seed))


def start_table(
    pool: Workers,
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
        pool: who does the work.
        settings: what the runs share.
        table: every batched key -> [R] (`sim.derived.batched_values`).
        world: as of `worlds`, on the same pool.
        outcome: filled as chunks are done.
        finish: called by the thread that does the last chunk; what it returns is that chunk's result.
        progress: called with the number of runs done.
        cancelled: asked at every step.
        keep_going: note why a run fails and go on, instead of raising its error.
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

    chunks = _chunks(table, chunk_width(settings, len(seeds), pool.count))
    left = iter(range(len(chunks) - 1, -1, -1))
    tasks = []
    for place, (seed, rows) in enumerate(chunks):
        # A world is queued before its chunks, so it is or has been prepared when one of them waits for it; the next
        # chunk's is queued before this chunk, so that nobody waits long.
        problem = world(seed)
        world(chunks[min(place + 1, len(chunks) - 1)][0])
        tasks.append(pool.submit(work, rows, problem))
    return tasks


def _chunks(table: Table, width: int) -> list[tuple[int, npt.NDArray[np.intp]]]:
    """Return (seed, rows) of chunks of at most `width` runs that share a world and, where they draw, their draws."""
    seeds, draws = table["seed"], table["training.sampling_seed"]
    chunks = []
    for seed in np.unique(seeds).tolist():
        here = np.flatnonzero(seeds == seed)
        for number in np.unique(draws[here]):
            rows = here[draws[here] == number]
            chunks += [(seed, rows[at : at + width]) for at in range(0, len(rows), width)]
    return chunks


def chunk_width(settings: Settings, runs: int, workers: int) -> int:
    """Return how many runs to train at once: a buffer of P x K x width stays in cache, and no worker is left idle."""
    if settings.training.chunk:
        return settings.training.chunk
    training = settings.training
    prompts, responses = train_shape(settings)
    if training.estimator in SAMPLED and training.prompts_per_step:
        prompts = min(prompts, training.prompts_per_step)
    # An MLP goes unit by unit; only a wide one needs narrower chunks.
    cells = prompts * responses * (max(1, settings.policy.hidden // 16) if settings.policy.kind == "mlp" else 1)
    if settings.training.engine != "torch" and not outside_fused(settings):
        # The kernel works on tiles of runs, whatever the width: fill them, and leave a few chunks to each worker.
        share = min(FUSED_CELLS // cells, -(-runs // (4 * workers)))
        return int(np.clip(-(-share // TILE) * TILE, TILE, MOST))
    return int(np.clip(min(CACHED_CELLS // cells, -(-runs // workers)), 8, MOST))


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
