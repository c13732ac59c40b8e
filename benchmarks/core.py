"""QUESTION: how long does the core take for one run and one step? Expect at most 5.5 us on one thread (torch engine).

    python -m benchmarks.core

P = 128 prompts, K = 16 responses, D = 24 features, 200 exact steps, float32. Times on a shared machine are noise; the
ratios in one call are what counts. Expect the fused engine (`training.engine=fused`) at about a third.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from sim import rng
from sim.training import engines
from sim.training.plain import train_plainly
from sim.world.arrays import World, normalize_log

STEPS = 200


def random_world(prompts: int, responses: int, size: int) -> World:
    """Return a world of standard normal features and a random reference."""
    random = rng.stream(0, "benchmark")
    return World(
        prompt_prob=np.full(prompts, 1 / prompts),
        features=random.standard_normal((prompts, responses, size)),
        log_ref=normalize_log(random.standard_normal((prompts, responses))),
        attributes={},
    )


def best_of(repeats: int, work: Callable[[], object]) -> float:
    """Return the shortest of several timings of `work`, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def core_time(world: World, runs: int, dtype: str, engine: str = "torch", **options: object) -> float:
    """Return microseconds per run and step."""
    random = rng.stream(1, "benchmark")
    _, responses, size = world.features.shape
    chosen = engines.pick(engine, True, responses, size)
    policy = chosen.make_policy("loglinear", world, dtype)
    signals = random.random((6, *world.log_ref.shape))
    weights = random.dirichlet(np.ones(6), size=runs).T

    def work() -> object:
        settings = {"steps": STEPS, "record_every": 10, "estimator": "exact"} | options
        return chosen.train(policy, signals, weights, np.full(runs, 0.1), np.full(runs, 0.1), **settings)

    work()
    return best_of(5, work) / runs / STEPS * 1e6


def main() -> None:
    """Print a table of times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--responses", type=int, default=16)
    parser.add_argument("--features", type=int, default=24)
    parser.add_argument("--runs", type=int, default=256)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    world = random_world(arguments.prompts, arguments.responses, arguments.features)
    fast = core_time(world, arguments.runs, "float32")
    print(f"{'what':34s} {'us per run and step':>20s} {'ratio':>8s}")
    rows: list[tuple[str, Callable[[], float]]] = [
        (f"chunk {chunk}", lambda chunk=chunk: core_time(world, arguments.runs, "float32", chunk=chunk))  # type: ignore[misc]
        for chunk in (1, 16, 32, 64, 128, 256)
    ]
    rows += [
        ("float64", lambda: core_time(world, arguments.runs, "float64")),
        ("adam", lambda: core_time(world, arguments.runs, "float32", optimizer="adam")),
        ("with ledger", lambda: core_time(world, 64, "float32", ledger=True)),
        ("natural", lambda: core_time(world, 64, "float32", estimator="natural")),
    ]
    try:
        engines.pick("fused", True, arguments.responses, arguments.features)
        rows = [
            ("fused engine", lambda: core_time(world, arguments.runs, "float32", "fused")),
            ("fused engine, adam", lambda: core_time(world, arguments.runs, "float32", "fused", optimizer="adam")),
            *rows,
        ]
    except engines.EngineError as error:
        print(f"{error}; its rows are left out")
    print(f"{'torch engine, float32, chunk 64':34s} {fast:20.2f} {1.0:8.2f}")
    for name, measure in rows:
        took = measure()
        print(f"{name:34s} {took:20.2f} {took / fast:8.2f}", flush=True)
    reward = rng.stream(1, "benchmark").random(world.log_ref.shape)
    start = time.perf_counter()
    train_plainly(world, reward, 0.1, 0.1, 3, estimator="exact")
    took = (time.perf_counter() - start) / 3 * 1e6
    print(f"{'plain loop (one run)':34s} {took:20.2f} {took / fast:8.2f}")


if __name__ == "__main__":
    main()
