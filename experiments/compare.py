"""QUESTION: do two sweeps give the same numbers, run by run, and where do they differ most?

    python -m experiments.compare BEFORE AFTER
    python -m experiments.compare a=BEFORE b=AFTER metric=true/quality

Runs are matched by what varied, never by job number, so grids may differ in size and order. Writes a scatter figure,
by default into AFTER/figures.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.app import command_line
from experiments.options import need, options_command
from experiments.plot import write
from sim.config import InputError, knob
from sim.plots.axes import metric_label
from sim.plots.drift import BAND
from sim.plots.sweep import scatter
from sim.sweep.results import NOT_IDENTITY, Store, open_sweep
from sim.sweep.select import final_values, finished, rounded, varying

if TYPE_CHECKING:
    import xarray as xr


@dataclass
class Compare:
    """Two sweeps and a metric."""

    a: str = knob("", "the folder of a sweep")
    b: str = knob("", "the folder of another")
    metric: str = knob("", "metric, after training; empty: the headline metric of a")
    out: str = knob("", "file without its ending; empty: in the folder of b")


class Matched(NamedTuple):
    """Runs of two sweeps side by side.

    both: a row per matched run: its settings, then a and b.
    only_a, only_b: how many runs the other sweep lacks.
    keys: the settings by which they were matched.
    """

    both: pd.DataFrame
    only_a: int
    only_b: int
    keys: list[str]


@options_command("compare", Compare)
def main(options: Compare) -> None:
    """Print the table and write the figure."""
    need(options, "a", "b")
    a, b = open_sweep(options.a), open_sweep(options.b)
    base_a, base_b = (Store(path).manifest().get("base", {}) for path in (options.a, options.b))
    metric = options.metric or str(a.attrs["headline"])
    (done_a, failed_a), (done_b, failed_b) = finished(a, metric), finished(b, metric)
    matched = match(done_a, done_b, base_a, base_b, metric)
    rows = {"matched runs": str(len(matched.both)), "only in a": str(matched.only_a), "only in b": str(matched.only_b)}
    rows |= {f"failed in {name}, left out": str(count) for name, count in (("a", failed_a), ("b", failed_b)) if count}
    different = settings_that_differ(base_a, base_b, matched.keys)
    rows |= {f"setting {key}": f"{before} -> {after}" for key, (before, after) in different.items()}
    numbers = differences(matched)
    label = metric_label(a, metric)
    for key, value in ({"metric": " ".join(label.split())} | rows | numbers).items():
        print(f"{key:28s}  {value}")
    folders = (Path(options.a).name, Path(options.b).name)
    note = f"{len(matched.both)} runs; b - a: {numbers['mean difference, b - a']}"
    figure = scatter(matched.both["a"].to_numpy(), matched.both["b"].to_numpy(), label, folders, note)
    stem = Path(options.out or Path(options.b) / "figures" / f"compare-{metric.replace('/', '_').replace(' ', '_')}")
    print(write(figure, stem, command_line("experiments.compare")))


def match(a: "xr.Dataset", b: "xr.Dataset", base_a: dict[str, Any], base_b: dict[str, Any], metric: str) -> Matched:
    """Pair the runs of two sweeps by every setting that varies in either and is known in both.

    Args:
        a: completed runs of one sweep.
        b: of the other.
        base_a: dotted key -> value of the settings that all runs of a share.
        base_b: likewise.
        metric: whose final value is put side by side.
    """
    wanted = ["seed", *dict.fromkeys(varying(a) + varying(b))]
    keys = [
        key for key in wanted if all(key in data.coords or key in base for data, base in ((a, base_a), (b, base_b)))
    ]
    tables = []
    for name, data, base in (("a", a, base_a), ("b", b, base_b)):
        columns = {key: _column(data, base, key) for key in keys}
        table = pd.DataFrame(columns | {name: final_values(data, metric)})
        if table.duplicated(keys).any():
            unknown = [key for key in wanted if key not in keys]
            raise InputError(
                f"{name}: several runs share {', '.join(keys)}; the other sweep does not know {', '.join(unknown)}"
            )
        tables.append(table)
    for key in keys:  # a word in one sweep and a number in the other never match, but have to compare
        if len({table[key].dtype.kind in "OTU" for table in tables}) > 1:
            tables = [table.astype({key: str}) for table in tables]
    joined = tables[0].merge(tables[1], on=keys, how="outer", indicator=True)
    found = joined["_merge"].value_counts()
    both = joined[joined["_merge"] == "both"].drop(columns="_merge").dropna(subset=["a", "b"]).reset_index(drop=True)
    if both.empty:
        raise InputError(f"no run of a has the {', '.join(keys)} of a run of b")
    return Matched(both, int(found["left_only"]), int(found["right_only"]), keys)


def _column(data: "xr.Dataset", base: dict[str, Any], key: str) -> Any:
    """Return a setting's value in each run: its own, or the one that all share."""
    values = data[key].values if key in data.coords else np.full(data.sizes["run"], base[key])
    return rounded(np.asarray(values))


def settings_that_differ(
    base_a: dict[str, Any], base_b: dict[str, Any], matched_by: list[str]
) -> dict[str, tuple[Any, Any]]:
    """Return the settings that are constant in both sweeps and not equal, and those that only one of them knows.

    A setting that varies in a sweep is missing from its base; it is not told apart from one that the sweep lacks, so
    settings that the runs were matched by are left out.
    """
    keys = [key for key in dict.fromkeys([*base_a, *base_b]) if key not in (*matched_by, *NOT_IDENTITY)]
    pairs = {key: (base_a.get(key, "(not constant)"), base_b.get(key, "(not constant)")) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def differences(matched: Matched) -> dict[str, str]:
    """Return the mean of b - a with its 90 % interval, and the largest difference with its settings, as text."""
    both = matched.both
    gap = (both["b"] - both["a"]).to_numpy()
    mean, half = paired_interval(gap, both["seed"].to_numpy() if "seed" in both else np.arange(len(gap)))
    interval = "one seed: no interval" if np.isnan(half) else f"90 % interval {mean - half:+.4g} to {mean + half:+.4g}"
    worst = int(np.argmax(np.abs(gap)))
    varied = [key for key in matched.keys if len(both[key].unique()) > 1]
    where = ", ".join(f"{key} = {both[key][worst]}" for key in varied)
    return {
        "mean difference, b - a": f"{mean:+.4g}  ({interval})",
        "largest difference, b - a": f"{gap[worst]:+.4g}" + (f"  at {where}" if where else ""),
    }


def paired_interval(gap: "np.ndarray[Any, Any]", seeds: "np.ndarray[Any, Any]") -> tuple[float, float]:
    """Return the mean of paired differences and the half-width of its 90 % interval; NaN for a single seed.

    Runs of one seed share their random world and are not independent, so the sum of deviations of each seed is what
    varies: half = 1.645 sqrt(C / (C - 1) sum_c (sum_{i in c} (gap_i - mean))^2) / N, with C seeds and N pairs.
    """
    mean = float(gap.mean())
    _, place = np.unique(seeds, return_inverse=True)
    sums = np.bincount(place, gap - mean)
    count = len(sums)
    if count < 2:
        return mean, float("nan")
    return mean, float(BAND * np.sqrt(count / (count - 1) * (sums**2).sum()) / len(gap))


def named_arguments(arguments: list[str]) -> list[str]:
    """Return the arguments with two plain words A B as Hydra overrides a='A' b='B'; anything else as it is."""
    plain = [text for text in arguments if "=" not in text and not text.startswith("-")]
    if len(plain) != 2:
        return arguments
    quoted = [text.replace("\\'", "\\\\'").replace("'", "\\'") for text in plain]
    given = iter(f"{name}='{text}'" for name, text in zip("ab", quoted, strict=True))
    return [next(given) if text in plain else text for text in arguments]


if __name__ == "__main__":
    sys.argv[1:] = named_arguments(sys.argv[1:])
    main()
