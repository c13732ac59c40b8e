"""What the studies have in common: seeds, runs with a progress bar, and one way to publish what was found."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.app import command_line
from sim.config import InputError, Scores, Settings
from sim.plots.report import all_or_nothing, writable, write_report
from sim.plots.style import save
from sim.variants import Variant, simulate_variants


def refuse_multirun(name: str) -> None:
    """Raise `InputError` under `-m`: a study is a sweep already."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise InputError(f"experiments.{name} is a sweep already; sweep other settings with experiments.train -m")


def refuse_override(name: str, key: str, instead: str) -> None:
    """Raise `InputError` where the command line sets what the study varies itself; a config may, for other commands."""
    if any(word.lstrip("+").partition("=")[0] == key for word in HydraConfig.get().overrides.task):
        raise InputError(f"{key}: experiments.{name} varies it itself; {instead}")


def seed_list(settings: Settings, count: int) -> npt.NDArray[np.int64]:
    """Return the seeds, from `settings.seed`; seed 0 of a score table is the table and not a draw of it."""
    first = max(settings.seed, 1) if isinstance(settings.world, Scores) else settings.seed
    return first + np.arange(count)


def run_variants(
    settings: Settings, variants: Sequence[Variant], seeds: npt.NDArray[np.int64], what: str = "training"
) -> list[xr.Dataset]:
    """Return the data set of each variant, with a progress bar."""
    with tqdm(total=len(variants) * len(seeds), desc=what, unit="run") as bar:
        return simulate_variants(settings, variants, seeds, bar.update)


def measured(mean: float, half: float, digits: int = 3, sign: bool = True) -> str:
    """Return 'mean  (low to high)', the interval left out where there is none."""
    form = f"{'+' if sign else ''}.{digits}f"
    shown = format(mean, form)
    return shown if np.isnan(half) else f"{shown}  ({format(mean - half, form)} to {format(mean + half, form)})"


def show_table(title: str, table: pd.DataFrame) -> None:
    """Print a table as text."""
    print(f"\n{title}")
    print(table.to_string(index=False, justify="left"))


def publish(
    settings: Any,
    module: str,
    title: str,
    question: str,
    headlines: Mapping[str, str],
    figures: Sequence[tuple[Figure, str, str]],
    tables: Mapping[str, pd.DataFrame],
    shown: Sequence[tuple[str, Sequence[Sequence[str]]]] = (),
) -> None:
    """Print the headlines; write figures, tables, settings and the report to `settings.out`, all of them or none.

    Args:
        settings: of the study; its `out` is the folder.
        module: name of the command, such as "interactions".
        title: of the report.
        question: first line of the report.
        headlines: name -> value, as text.
        figures: (figure, file name, caption).
        tables: file name -> table.
        shown: tables of the report, as of `write_report`.
    """
    this = command_line(f"experiments.{module}")
    width = max(map(len, headlines))
    print()
    for name, value in headlines.items():
        print(f"{name:{width}s}  {value}")
    out = writable(settings.out)
    with all_or_nothing(out) as folder:
        pictures = [(save(figure, folder, name, this), caption) for figure, name, caption in figures]
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False)
        (folder / "settings.json").write_text(json.dumps(dataclasses.asdict(settings), indent=1))
        write_report(folder / "report.html", title, question, headlines, pictures, this, shown)
    print(f"\nreport: {out / 'report.html'}")
