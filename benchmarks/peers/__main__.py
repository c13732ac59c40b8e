"""QUESTION: how does the core compare with JAX doing the same mathematics, per core and on all cores?

    python -m benchmarks.peers

P = 128 prompts, K = 16 responses, D = 24 features, 200 exact steps of SGD, 20 of them recorded, float32. JAX and the
fused engine must give the torch engine's parameters first. Each row is the best of several rounds
in which all rows take turns, each in a process of its own that is held to its cores; everything has compiled before.
Expect the core's torch engine level with JAX, its fused engine two to three times ahead. Times on a shared machine are
noise; the ratios in one call are what counts.
"""

import argparse
import importlib.metadata
import os
import platform
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.peers import jax_core
from benchmarks.peers.rows import Row, core, make_task
from sim.training import engines

TOLERANCE = 1e-4


def _plan(cores: int) -> Iterator[tuple[str, str, int]]:
    """Yield the name, kind and number of cores of every row."""
    counts = (1, cores) if cores > 1 else (1,)
    for engine in ("fused", "torch") if _fused_is_here() else ("torch",):
        for count in counts:
            yield f"core, {engine} engine, {count} thread{'s' * (count > 1)}", engine, count
    if jax_core.available():
        for count in counts:
            where = f"{count} core{'s' * (count > 1)}"
            yield f"JAX chunked, jax.grad, {where}", "grad", count
            yield f"JAX chunked, gradient by hand, {where}", "derived", count
            yield f"JAX as written, {where}", "as written", count


def _fused_is_here() -> bool:
    try:
        return bool(engines.pick("fused", True, 16, 24))
    except engines.EngineError:
        return False


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
    reference = core("torch", task, arguments.chunk, len(cores))()

    print(_versions())
    print(
        f"{len(cores)} cores, load {os.getloadavg()[0]:.1f}, {arguments.runs} runs, best of {arguments.rounds} rounds"
    )
    if not jax_core.available():
        print("jax is not installed, so its rows are left out: pip install jax")
    if not _fused_is_here():
        print("the fused kernel cannot be compiled here, so the core's own rows are those of torch")
    rows: list[Row] = []
    try:
        for name, kind, count in _plan(len(cores)):
            row = Row(name, kind, task, cores[-count:], arguments.chunk, reference)
            rows.append(row)
            if not row.wrong <= TOLERANCE:
                raise SystemExit(f"{name} differs from the torch engine by {row.wrong:.1e} in theta; nothing was timed")
        worst = max(row.wrong for row in rows)
        print(f"all agree with the torch engine's theta within {worst:.0e} (allowed: {TOLERANCE:.0e})\n")
        for _ in range(arguments.rounds):
            for row in rows:
                row.measure()
    finally:
        for row in rows:
            row.close()
    scale = 1e6 / arguments.runs / task.steps
    one, both = (min(rows[place].times) * scale for place in (0, min(1, len(cores) - 1)))
    print(f"{'what':42s} {'us/run/step':>11s} {'median':>7s} {'/ first,1':>9s} {f'/ first,{len(cores)}':>9s}  best of")
    for row in rows:
        best, median = min(row.times) * scale, float(np.median(row.times)) * scale
        print(f"{row.name:42s} {best:11.2f} {median:7.2f} {best / one:9.2f} {best / both:9.2f}  {row.chosen}")


if __name__ == "__main__":
    main()
