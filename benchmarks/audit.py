"""QUESTION: how long does an audit of many rows take, and how much memory?

    python -m benchmarks.audit                      # 1,000,000 rows: 62,500 prompts x 16
    python -m benchmarks.audit 10000000 csv         # 10,000,000 rows in shuffled order, from CSV
    python -m benchmarks.audit 1000000 jsonl        # from JSON Lines

Made-up scores (three signals, two attributes), 1,000 bootstrap draws, reading included. Processor time counts both
cores; wall time says something on an idle machine only. Expect for 1,000,000 rows about 12 s of processor time and
0.7 GB; the bar is 30 s on 2 cores and 2 GB.
"""

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

import sim
from sim import rng

ANSWERS = 16


def make_table(rows: int, shuffled: bool) -> pa.Table:
    """Return a long table of scores in which the votes like what the primary signals do not."""
    random = rng.stream(0, "benchmarks", "audit")
    prompts = rows // ANSWERS
    shape = (prompts, ANSWERS)
    feared = (random.random(shape) < 0.35).astype(float)
    columns = {
        "helpfulness": random.standard_normal((prompts, 1)) + random.standard_normal(shape) - 0.3 * feared,
        "correctness": random.standard_normal(shape) - 0.5 * feared,
        "thumbs_up": random.standard_normal(shape) + 0.6 * feared,
        "sycophancy": feared,
        "length": random.standard_normal(shape),
    }
    order = random.permutation(prompts * ANSWERS) if shuffled else np.arange(prompts * ANSWERS)
    names = {"prompt_id": order // ANSWERS, "response_id": order % ANSWERS}
    text = {name: pa.array(values).cast(pa.string()) for name, values in names.items()}
    return pa.table(text | {name: values.ravel()[order] for name, values in columns.items()})


def write_jsonl(table: pa.Table, path: Path) -> None:
    """Write an object a line."""
    with path.open("w", encoding="utf-8") as file:
        for batch in table.to_batches(max_chunksize=100_000):
            file.writelines(json.dumps(row) + "\n" for row in batch.to_pylist())


WRITERS = {"csv": pa.csv.write_csv, "parquet": pq.write_table, "jsonl": write_jsonl}


def main(rows: int = 1_000_000, ending: str = "parquet") -> None:
    """Print wall time, processor time and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"scores.{ending}"
        child = os.fork()
        if not child:  # so that making the table does not count as the audit's memory
            table = make_table(rows, shuffled=ending != "parquet")
            WRITERS[ending](table, path)
            os._exit(0)
        os.waitpid(child, 0)
        wall, processor = time.perf_counter(), time.process_time()
        signals = {"helpfulness": 0.5, "correctness": 0.5}
        print(sim.audit(path, signals=signals, add="thumbs_up", attribute=["sycophancy", "length"]))
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\n{rows} rows: {wall:.1f} s, {processor:.1f} s of processor time, {peak:.2f} GB at most")
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main(*(int(text) if text.isdigit() else text for text in sys.argv[1:]))
