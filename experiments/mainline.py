"""QUESTION: how far may sycophancy drift over five updates, each of which is compared with the one before?

    python -m experiments.mainline
    python -m experiments.mainline last_weight=0.3 worlds=32

Every update raises the votes' weight a little; memory comes with the second, fresher data with the fourth. Expect: the
process of April 2025 launches all of them, and ends above the reference policy. The improved one stops most, yet the
first, a step within its margin, passes: each gate compares with the model before, and no gate with the start.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from tqdm import tqdm

from experiments.app import command, command_line
from experiments.launch import process_problems, register_launch
from sim.config import InputError, Settings, knob
from sim.launch.mainline import creeping, mainline
from sim.launch.settings import Lived, Review, Rollout, improved
from sim.plots.mainline import mainline_figure
from sim.plots.report import all_or_nothing, writable
from sim.plots.style import save


@dataclass
class MainlineRun(Settings):
    """The model of the start, the updates, and the two processes."""

    before: Review = field(default_factory=Review)
    after: Review = field(default_factory=improved)
    lived: Lived = field(default_factory=Lived)
    updates: int = knob(5, "updates in a row", "five major updates since May 2024 (the post of 2 May 2025)", low=1)
    last_weight: float = knob(0.15, "weight of the votes in the last update", above=0, high=1)
    worlds: int = knob(16, "random worlds", low=2)
    out: str = knob("results/mainline", "folder for the figure and the table")


register_launch()


@command("mainline", MainlineRun)
def main(settings: MainlineRun) -> None:
    """Run the updates through both processes, print a line per update, write the table and the figure."""
    problems = process_problems({"before": settings.before, "after": settings.after}, Rollout())
    if settings.before.name == settings.after.name:
        problems.append(f"after.name = {settings.after.name}: must differ from before.name")
    if problems:
        raise InputError(*problems)
    out = writable(settings.out)
    table = run(settings)
    by_update = table.groupby(["process", "update"])[["launched", "rate", "offered", "quality"]].mean()
    print(by_update.round(3).to_string())
    with all_or_nothing(out) as folder:
        save(mainline_figure(table), folder, "mainline", command_line("experiments.mainline"))
        table.to_csv(folder / "mainline.csv", index=False)
    print(f"\nfigure: {out / 'mainline.png'}")


def run(settings: MainlineRun) -> pd.DataFrame:
    """Return a row per process, world and update; update 0 is the model of the start."""
    updates = creeping(settings.last_weight, settings.updates, settings.mixture.added)
    jobs = [
        (review, settings.seed + world)
        for review in (settings.before, settings.after)
        for world in range(settings.worlds)
    ]
    with tqdm(total=len(jobs), desc="mainlines", unit="line") as bar, ThreadPoolExecutor(os.cpu_count()) as pool:

        def one(job: tuple[Review, int]) -> pd.DataFrame:
            review, seed = job
            start, steps = mainline(settings, updates, review, settings.lived, seed)
            known = [start, *(step.deployed for step in steps)]
            offered = [start, *(step.truth for step in steps)]
            bar.update()
            return pd.DataFrame({
                "process": review.name,
                "seed": seed,
                "update": np.arange(len(known)),
                "launched": [True, *(bool(step.decision.launched[0]) for step in steps)],
                "caught": ["", *(str(step.decision.caught[0]) for step in steps)],
                "rate": [truth["sycophancy/rate"][0] for truth in known],
                "offered": [truth["sycophancy/rate"][0] for truth in offered],
                "quality": [truth["true/quality"][0] for truth in known],
                "reference": start["reference/rate"][0],
            })  # fmt: skip

        return pd.concat(pool.map(one, jobs), ignore_index=True)


if __name__ == "__main__":
    main()
