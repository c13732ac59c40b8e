"""QUESTION: does the policy single out vulnerable users, by their share and by what memory knows of them?

    python -m experiments.targeting
    python -m experiments.targeting signals.source.thumbs_up=learned     # what few votes teach is mostly noise

Expect: where memory knows its user, vulnerable users end above the reference at any share, 2 % or 90 %, and the mean
over all users does not move; where it does not know, they end where everybody does, the higher the larger their share.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm import tqdm

from experiments.app import command
from experiments.studies import publish, refuse_multirun
from sim.batch import run_batch
from sim.config import Chat, InputError, Settings, Users, knob, with_value
from sim.pipeline import batch_table
from sim.plots.report import writable
from sim.plots.targeting import GROUPS, targeting_figure
from sim.problem import Problem, chat_problem, prepare
from sim.world.arrays import World
from sim.world.twins import blend

METRICS = {"all": "sycophancy/rate", "others": "sycophancy/others", "vulnerable": "sycophancy/vulnerable"}
SHOWN_SHARE = 0.1  # of the panel by group
Splits = dict[str, World]


@dataclass
class Targeting(Settings):
    """One run, and the grid over the share of vulnerable users and what memory knows."""

    min_share: float = knob(0.02, "smallest share of vulnerable users", above=0, high=0.99)
    max_share: float = knob(0.9, "largest share of vulnerable users", above=0, high=0.99)
    points: int = knob(6, "shares, evenly spaced in their logarithm", low=2)
    levels: int = knob(5, "probabilities from 0 to 1 that memory knows its user", low=2)
    seeds: int = knob(8, "random worlds", low=1)
    out: str = knob("results/targeting", "folder for the figure, the report and the table")


@command("targeting", Targeting)
def main(settings: Targeting) -> None:
    """Run the grid, print the numbers, write the figure, the table and the report."""
    refuse(settings)
    writable(settings.out)
    table = sweep(settings)
    caption = "Drift of the sycophancy rate by group: by share, the boundary, and at one share."
    figures = [(targeting_figure(table, SHOWN_SHARE), "targeting", caption)]
    question = (__doc__ or "").splitlines()[0]
    headlines = headline_numbers(table)
    publish(settings, "targeting", "Thumbscale: targeting", question, headlines, figures, {"targeting": table})


def refuse(settings: Targeting) -> None:
    """Raise `InputError` for settings that the grid itself varies, or that leave nothing to see."""
    refuse_multirun("targeting")
    if not isinstance(settings.world, Chat):
        raise InputError("world: a score table knows nothing of its users; use world=chat")
    if settings.users.vulnerable_share != Users().vulnerable_share:
        raise InputError("users.vulnerable_share: is what varies here; set min_share and max_share")
    if settings.memory.knows_user:
        raise InputError("memory.knows_user: is what varies here; set levels")
    if not settings.memory.share:
        raise InputError("memory.share = 0: without memory nothing is known of any user")
    if settings.min_share >= settings.max_share:
        raise InputError(f"min_share = {settings.min_share}: must be < max_share")


def twins(settings: Settings, seed: int) -> tuple[Splits, Splits]:
    """Return the splits of the world in which nobody, and of that in which everybody, is vulnerable."""
    known = with_value(settings, "memory.knows_user", 1.0)
    calm, vulnerable = (prepare(with_value(known, "users.vulnerable_share", share), seed) for share in (0.0, 1.0))
    return calm.splits, vulnerable.splits


def population(settings: Settings, pair: tuple[Splits, Splits], share: float, knows_user: float, seed: int) -> Problem:
    """Return the problem of one population of twins."""
    splits = {name: blend(pair[0][name], pair[1][name], share, knows_user) for name in pair[0]}
    return chat_problem(settings, splits, seed)


def drift_by_group(settings: Settings, problem: Problem, seed: int) -> dict[str, float]:
    """Return the change of each group's sycophancy rate by training, and of true quality."""
    found = run_batch(settings, problem, batch_table(settings, {"seed": [seed]}))
    names = METRICS | {"true_quality": "true/quality"}
    return {group: float(found[name][0, -1] - found[name][0, 0]) for group, name in names.items()}


def sweep(settings: Targeting) -> pd.DataFrame:
    """Return a row per share, knows_user and seed, with the drift of each group."""
    shares = np.geomspace(settings.min_share, settings.max_share, settings.points).tolist()
    levels = np.linspace(0, 1, settings.levels).tolist()

    def world(seed: int, done: Callable[[], object]) -> Iterator[dict[str, float]]:
        pair = twins(settings, seed)
        for knows_user in levels:
            for share in shares:
                drift = drift_by_group(settings, population(settings, pair, share, knows_user, seed), seed)
                done()
                yield {"share": share, "knows_user": knows_user, "seed": seed} | drift

    seeds = range(settings.seed, settings.seed + settings.seeds)
    with (
        tqdm(total=len(shares) * len(levels) * len(seeds), desc="training", unit="run") as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        rows = pool.map(lambda seed: list(world(seed, bar.update)), seeds)
        return pd.DataFrame([row for part in rows for row in part])


def headline_numbers(table: pd.DataFrame) -> dict[str, str]:
    """Return the numbers that the docs quote, as text."""
    mean = table.groupby(["knows_user", "share"])[list(GROUPS)].mean()
    known, shares = table["knows_user"].unique(), table["share"].unique()
    found = {}
    for level, text in ((known.max(), "memory knows its user"), (known.min(), "memory does not")):
        for share in (shares.min(), shares[np.abs(shares - SHOWN_SHARE).argmin()], shares.max()):
            drift = mean.loc[(level, share)]
            values = ", ".join(f"{label} {drift[group]:+.3f}" for group, label in GROUPS.items())
            found[f"{text}, share {share:.2g}"] = values
    across = table.pivot_table("vulnerable", "knows_user", "share")
    spread = across.max(axis=1) - across.min(axis=1)
    found["spread over shares, vulnerable users"] = ", ".join(f"{v:.4f} ({k:g})" for k, v in spread.items())
    found["runs"] = str(len(table))
    return found


if __name__ == "__main__":
    main()
