"""What `python -m benchmarks.peers` times: each row in a process of its own, held to its cores."""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.core import random_world
from benchmarks.peers import jax_core
from benchmarks.peers.jax_core import Task
from sim import rng
from sim.training import engines

Work = Callable[[], npt.NDArray[Any]]


def make_task(prompts: int, responses: int, size: int, runs: int) -> Task:
    """Return runs that differ in weights, KL coefficient and learning rate on one random world."""
    random = rng.stream(1, "benchmark")
    world = random_world(prompts, responses, size)
    signals = random.random((6, *world.log_ref.shape))
    weights = random.dirichlet(np.ones(6), size=runs).T
    return Task(world, signals, weights, random.uniform(0.05, 0.5, runs), random.uniform(0.05, 0.5, runs), 200, 10)


def core(engine: str, task: Task, chunk: int, threads: int) -> Work:
    """Return a function that trains in the core, chunks shared out to threads as in `sim.workers`; theta [R, T, D]."""
    _, responses, size = task.world.features.shape
    chosen = engines.pick(engine, True, responses, size)
    policy = chosen.make_policy("loglinear", task.world, "float32")
    settings: dict[str, Any] = {"steps": task.steps, "record_every": task.record_every, "estimator": "exact"}
    return _in_threads(
        lambda *table: chosen.train(policy, task.signals, *table, **settings).theta, task, chunk, threads
    )


def _in_threads(run: Callable[..., npt.NDArray[Any]], task: Task, chunk: int, threads: int) -> Work:
    """Return a function that calls `run(weights, kl_coef, learning_rate)` for each chunk."""
    table = (task.weights, task.kl_coef, task.learning_rate)
    parts = [tuple(c[..., at : at + chunk] for c in table) for at in range(0, len(task.kl_coef), chunk)]

    def work() -> npt.NDArray[Any]:
        if threads == 1:
            found = [run(*part) for part in parts]
        else:
            with ThreadPoolExecutor(threads) as pool:
                found = list(pool.map(lambda part: run(*part), parts))
        return np.concatenate(found, axis=2)[1:].transpose(2, 0, 1)

    return work


def candidates(kind: str, task: Task, cores: int, chunk: int) -> dict[str, Work]:
    """Return what competes to be the row `kind`, by description."""
    if kind in ("torch", "fused"):
        return {f"chunk {chunk}": core(kind, task, chunk, cores)}
    if kind == "as written":
        return {"one vmap": jax_core.as_written(task)}
    found = {f"chunk {size}": jax_core.chunked(task, size, kind) for size in jax_core.CHUNKS}
    if cores > 1:
        found |= {
            f"chunk {size}, {cores} Python threads": jax_core.chunked(task, size, kind, cores)
            for size in jax_core.CHUNKS
        }
    return found


def _seconds(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def serve(
    pipe: Connection, kind: str, task: Task, cores: list[int], chunk: int, reference: npt.NDArray[Any] | None
) -> None:
    """Be the process of one row: send what was chosen and its error, then one time for each message that asks."""
    os.sched_setaffinity(0, cores)  # before jax counts them
    if len(cores) == 1:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    torch.set_num_threads(1)
    found = candidates(kind, task, len(cores), chunk)
    first = {name: work() for name, work in found.items()}
    wrong = 0.0 if reference is None else max(float(np.abs(theta - reference).max()) for theta in first.values())
    best = next(iter(found))
    if len(found) > 1:
        times = dict.fromkeys(found, np.inf)
        for _ in range(3):
            for name, work in found.items():
                times[name] = min(times[name], _seconds(work))
        best = min(times, key=times.__getitem__)
    pipe.send((best, wrong))
    while pipe.recv():
        pipe.send(_seconds(found[best]))


class Row:
    """One line of the table and the process behind it."""

    def __init__(self, name: str, kind: str, task: Task, cores: list[int], chunk: int, reference: Any) -> None:
        """Start the process and wait until it has compiled, checked its result and chosen its chunk."""
        self.name, self.times = name, list[float]()
        self._pipe, theirs = multiprocessing.get_context("spawn").Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(theirs, kind, task, cores, chunk, reference), daemon=True
        )
        self._process.start()
        theirs.close()
        self.chosen, self.wrong = self._pipe.recv()

    def measure(self) -> None:
        """Time it once; nothing else of ours runs meanwhile."""
        self._pipe.send(True)
        self.times.append(self._pipe.recv())

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe.send(False)
        self._process.join()
