"""QUESTION: what does the batched launcher gain, and does its rate hold?

    python -m benchmarks.sweep            # about 6 minutes; --full adds the grid of a million runs

Prints, each with its ratio in this one call: the same jobs through Hydra's stock launcher (a sample, scaled) and
through the batched one, from command to result on disk; planning time per job; the rate at growing numbers of runs
with peak memory; two workers against one.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sim.sweep.results import open_sweep

SIZE = ["world.prompts=128", "training=fast", "figures=false"]
SMALL = ["world.prompts=24", "world.responses=4", "training=fast", "training.steps=20", "training.record_every=20"]


def timed(folder: Path, *overrides: str) -> tuple[float, float]:
    """Run one sweep; return seconds from command to result and the peak memory of the process in GB."""
    command = [sys.executable, "-m", "experiments.train", "-m", *overrides, f"hydra.sweep.dir={folder}"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.perf_counter() - start, usage.ru_maxrss / 1e6


def grid(weights: int, coefficients: int, seeds: int) -> list[str]:
    """Return the overrides of a grid of weights x coefficients x seeds."""
    coefs = ",".join(f"{0.05 + 0.01 * i:.2f}" for i in range(coefficients))
    values = ",".join(f"{0.6 * i / weights:.6f}" for i in range(weights))
    return [f"mixture.weights.thumbs_up={values}", f"kl_coef={coefs}", f"seed=range(0,{seeds})"]


def planning(jobs: int) -> float:
    """Return microseconds a job of planning alone (a dry run, less the dry run of one job)."""
    with tempfile.TemporaryDirectory() as folder:
        one, _ = timed(Path(folder) / "a", *SIZE, "hydra.launcher.dry_run=true", *grid(1, 1, 1))
        many, _ = timed(Path(folder) / "b", *SIZE, "hydra.launcher.dry_run=true", *grid(100, 10, jobs // 1000))
    return (many - one) / jobs * 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stock-jobs", type=int, default=40, help="jobs of the stock launcher that are timed")
    parser.add_argument("--full", action="store_true", help="the grid of a million runs as well")
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    stock = ["hydra/launcher=basic", "hydra/sweeper=basic"]
    try:
        few, _ = timed(root / "s1", *SIZE, *stock, *grid(2, 1, 1))
        more, _ = timed(root / "s2", *SIZE, *stock, *grid(arguments.stock_jobs, 1, 1))
        per_job = (more - few) / (arguments.stock_jobs - 2)
        thousand = few + 998 * per_job
        print(f"stock launcher: {per_job * 1e3:.0f} ms a job; 1,000 jobs {thousand:.0f} s (scaled)")
        ours, _ = timed(root / "b0", *SIZE, *grid(50, 5, 4))
        ours = min(ours, timed(root / "b1", *SIZE, *grid(50, 5, 4))[0])
        print(f"batched, 1,000 jobs: {ours:.2f} s from command to result: {thousand / ours:.0f} x sooner")
        print(f"  the engine: {open_sweep(root / 'b1').attrs['engine']} (training=fast asks for auto)")
        empty, _ = timed(root / "b2", *SIZE, *grid(1, 1, 1))
        print(f"  of which starting Python and Hydra (one job): {empty:.2f} s")
        ten, memory = timed(root / "b3", *SIZE, *grid(50, 20, 10))
        torch, _ = timed(root / "b5", *SIZE, *grid(50, 20, 10), "training.engine=torch")
        print(f"  with training.engine=torch, 10,000 jobs: {torch:.1f} s")
        print(f"batched, 10,000 jobs: {ten:.1f} s, {10_000 * per_job / ten:.0f} x sooner, {memory:.2f} GB")
        single, _ = timed(root / "b4", *SIZE, *grid(50, 20, 10), "hydra.launcher.workers=1")
        print(f"two workers against one, 10,000 jobs, after start: {(single - empty) / (ten - empty):.2f} x")
        print(f"planning, 100,000 jobs: {planning(100_000):.1f} us a job")
        print(f"{'runs':>10s} {'s':>8s} {'runs/s after start':>20s} {'peak GB':>8s}   (24 x 4 responses, 20 steps)")
        start, _ = timed(root / "r0", *SMALL, *grid(1, 1, 1))
        for seeds in (1, 10, 100) + ((1000,) if arguments.full else ()):
            took, memory = timed(root / f"r{seeds}", *SMALL, *grid(100, 10, seeds))
            runs = 1000 * seeds
            rate = f"{runs / (took - start):.0f}" if took - start > 0.2 else "within noise"
            print(f"{runs:10,d} {took:8.1f} {rate:>20s} {memory:8.2f}", flush=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
