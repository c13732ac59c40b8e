"""QUESTION: how many runs a second does each estimator train? GRPO is to reach 150 on 2 cores.

    python -m benchmarks.estimators

A run is 200 steps with 64 prompts, 8 samples each where responses are drawn, K = 16 responses, D = 24 features, 6
signals, SGD, float32, 20 recorded steps, no ledger; 64 is also the number of prompts, all of which the exact gradient
sees. Chunks of runs are shared out to one thread per core, as in `sim.workers`. Rows take turns; each is its best
round, the median beside it. Times on a shared machine are noise; the ratios in one call are what counts.
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.core import random_world
from sim import rng
from sim.training.advantages import Normalization
from sim.training.policies import make_policy
from sim.training.sampled import Sampling
from sim.training.train import train

STEPS, PROMPTS, SAMPLES, RESPONSES, FEATURES = 200, 64, 8, 16, 24
CHUNK = 2**17 // (PROMPTS * RESPONSES)  # as `sim.workers.chunk_width` has it
GROUP = Normalization(scale_rewards="group")


class Row(NamedTuple):
    """What one line of the table trains; `options` are of `sim.training.train.train`."""

    name: str
    options: Mapping[str, Any]
    policy: str = "loglinear"


def estimator(name: str, *, policy: str = "loglinear", epochs: int = 1, prefix: str = "", **options: Any) -> Row:
    """Return the row of an estimator."""
    sampled = name not in ("exact", "natural")
    how = {"sampling": Sampling(prompts=PROMPTS, samples=SAMPLES, epochs=epochs)} if sampled else {}
    return Row(prefix or name, how | options | {"estimator": name}, policy)


ROWS = [
    estimator("exact"),
    estimator("natural"),
    estimator("reinforce"),
    estimator("rloo"),
    estimator("grpo"),
    estimator("grpo", prefix="grpo, scaled by group", normalization=GROUP),
    estimator("grpo", prefix="grpo, adam", optimizer="adam"),
    estimator("grpo", prefix="grpo, 4 epochs", epochs=4),
    estimator("ppo"),
    estimator("ppo", prefix="ppo, 4 epochs", epochs=4),
    estimator("grpo", prefix="grpo, mlp policy", policy="mlp"),
]


def work_of(row: Row, runs: int, workers: int, chunk: int = CHUNK) -> Callable[[], None]:
    """Return a function that trains `runs` runs of a row on so many threads."""
    random = rng.stream(1, "benchmark")
    world = random_world(PROMPTS, RESPONSES, FEATURES)
    signals = random.random((6, *world.log_ref.shape))
    weights = random.dirichlet(np.ones(6), size=runs).T
    width = min(chunk, -(-runs // workers))
    table = (weights, np.full(runs, 0.1), np.full(runs, 0.1))
    parts = [tuple(column[..., at : at + width] for column in table) for at in range(0, runs, width)]

    def run(part: Any) -> None:
        train(make_policy(row.policy, world, "float32"), signals, *part, steps=STEPS, record_every=10, **row.options)

    def work() -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(run, parts))

    return work


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{arguments.threads} threads, load {os.getloadavg()[0]:.1f}, {arguments.runs} runs, {STEPS} steps")
    works = [work_of(row, arguments.runs, arguments.threads) for row in ROWS]
    times = np.array([[seconds(work) for work in works] for _ in range(arguments.rounds)])
    best, median = arguments.runs / times.min(axis=0), arguments.runs / np.median(times, axis=0)
    print(f"{'estimator':26s} {'runs/s':>8s} {'median':>8s} {'exact / it':>10s}")
    for row, fastest, usual in zip(ROWS, best, median, strict=True):
        print(f"{row.name:26s} {fastest:8.0f} {usual:8.0f} {best[0] / fastest:10.2f}")


if __name__ == "__main__":
    main()
