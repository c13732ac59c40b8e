"""QUESTION: how does the core compare with JAX doing the same mathematics, per core and on all cores?

    python -m benchmarks.peers

P = 128 prompts, K = 16 responses, D = 24 features, 200 exact steps of SGD, 20 of them recorded, float32. JAX (and the
fused kernel, where g++ and AVX-512 are) must give the core's parameters first. Each row is the best of several rounds in
which all rows take turns, each in a process of its own that is held to its cores; JAX has compiled before. Expect JAX
with `jax.grad` behind the core. Times on a shared machine are noise; the ratios in one call are what counts.
"""

import argparse
import contextlib
import importlib.metadata
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.core import random_world
from benchmarks.peers import fused, jax_core
from benchmarks.peers.jax_core import Task
from sim import rng
from sim.training.policies import LogLinear
from sim.training.train import train

TOLERANCE = 1e-4
Work = Callable[[], npt.NDArray[Any]]


def make_task(prompts: int, responses: int, size: int, runs: int) -> Task:
    """Return runs that differ in weights, KL coefficient and learning rate on one random world."""
    random = rng.stream(1, "benchmark")
    world = random_world(prompts, responses, size)
    signals = random.random((6, *world.log_ref.shape))
    weights = random.dirichlet(np.ones(6), size=runs).T
    return Task(world, signals, weights, random.uniform(0.05, 0.5, runs), random.uniform(0.05, 0.5, runs), 200, 10)


def core(task: Task, chunk: int, threads: int) -> Work:
    """Return a function that trains in the core, chunks shared out to threads as in `sim.batch`; theta [R, T, D]."""
    policy = LogLinear(task.world, torch.float32)
    settings: dict[str, Any] = {"steps": task.steps, "record_every": task.record_every, "estimator": "exact"}
    return _in_threads(lambda *table: train(policy, task.signals, *table, **settings).theta, task, chunk, threads)


def fused_kernel(task: Task, chunk: int, threads: int) -> Work:
    """Return a function that trains in the fused kernel; theta [R, T, D]."""
    settings = {"steps": task.steps, "record_every": task.record_every}
    return _in_threads(
        lambda *table: fused.train_fused(task.world, task.signals, *table, **settings).theta, task, chunk, threads
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
    if kind == "core":
        return {f"chunk {chunk}": core(task, chunk, cores)}
    if kind == "fused":
        return {f"chunk {chunk}": fused_kernel(task, chunk, cores)}
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
        times = {name: np.inf for name in found}
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


def _plan(cores: int) -> Iterator[tuple[str, str, int]]:
    """Yield the name, kind and number of cores of every row."""
    counts = (1, cores) if cores > 1 else (1,)
    for count in counts:
        yield f"core, {count} thread{'s' * (count > 1)}", "core", count
    if fused.available():
        for count in counts:
            yield f"fused kernel, {count} thread{'s' * (count > 1)}", "fused", count
    if jax_core.available():
        for count in counts:
            where = f"{count} core{'s' * (count > 1)}"
            yield f"JAX chunked, jax.grad, {where}", "grad", count
            yield f"JAX chunked, gradient by hand, {where}", "derived", count
            yield f"JAX as written, {where}", "as written", count


def _versions() -> str:
    names = [name for name in ("torch", "numpy", "jax", "jaxlib") if name != "jaxlib" or jax_core.available()]
    found = [f"{name} {importlib.metadata.version(name)}" for name in names if name != "jax" or jax_core.available()]
    return ", ".join([f"Python {platform.python_version()}", *found])


def main() -> None:
    """Check that all agree, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--responses", type=int, default=16)
    parser.add_argument("--features", type=int, default=24)
    parser.add_argument("--runs", type=int, default=1024)
    parser.add_argument("--chunk", type=int, default=64, help="of the core")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    task = make_task(arguments.prompts, arguments.responses, arguments.features, arguments.runs)
    torch.set_num_threads(1)
    reference = core(task, arguments.chunk, len(cores))()

    print(_versions())
    print(
        f"{len(cores)} cores, load {os.getloadavg()[0]:.1f}, {arguments.runs} runs, best of {arguments.rounds} rounds"
    )
    if not jax_core.available():
        print("jax is not installed, so its rows are left out: pip install jax")
    if not fused.available():
        print("g++ or AVX-512 is missing, so the fused kernel is left out")
    rows: list[Row] = []
    try:
        for name, kind, count in _plan(len(cores)):
            row = Row(name, kind, task, cores[-count:], arguments.chunk, reference)
            rows.append(row)
            if not row.wrong <= TOLERANCE:
                raise SystemExit(f"{name} differs from the core by {row.wrong:.1e} in theta; nothing was timed")
        worst = max(row.wrong for row in rows)
        print(f"all agree with the core's theta within {worst:.0e} (allowed: {TOLERANCE:.0e})\n")
        for _ in range(arguments.rounds):
            for row in rows:
                row.measure()
    finally:
        for row in rows:
            row.close()
    scale = 1e6 / arguments.runs / task.steps
    one, both = (min(rows[place].times) * scale for place in (0, min(1, len(cores) - 1)))
    print(f"{'what':42s} {'us/run/step':>11s} {'median':>7s} {'/ core,1':>9s} {f'/ core,{len(cores)}':>9s}  best of")
    for row in rows:
        best, median = min(row.times) * scale, float(np.median(row.times)) * scale
        print(f"{row.name:42s} {best:11.2f} {median:7.2f} {best / one:9.2f} {best / both:9.2f}  {row.chosen}")


if __name__ == "__main__":
    main()
