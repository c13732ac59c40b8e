"""QUESTION: how often does a review process launch a bad update or block a good one, and which check tells them apart?

    python -m experiments.review
    python -m experiments.review bundles.candidates=512 bundles.worlds=8

Trains random candidate updates in one batch and lets the process of April 2025 and the improved one judge each of them.
Expect (2,048 updates): the April process launches most of the updates that raise the sycophancy rate, since users like
them; the improved one blocks nearly all of these, and takes several times as long over good ones, some of them blocked.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from tqdm import tqdm

from experiments.app import command
from experiments.launch import process_problems, register_launch
from experiments.studies import publish
from sim.config import InputError, Settings, knob
from sim.launch.classify import Flags, draw_bundles, error_table, is_bad, power_columns, review_world, share
from sim.launch.monitors import NAMES, area_under_roc
from sim.launch.rollout import hour_of
from sim.launch.settings import Bundles, Lived, Monitors, Review, Rollout, improved
from sim.plots.report import writable
from sim.plots.review import caught_figure, cost_figure, errors_figure, monitors_figure, power_figure

PROBES = (50, 100, 200, 400, 969, 2000, 4000)
EXPERTS = (2, 5, 10, 20, 40, 80)
DAYS = (1.0, 3.0, 7.0, 14.0, 28.0, 56.0)
CAPTIONS = {
    "errors": "What each process gets wrong, for two meanings of a bad update. Bars: 90 % Wilson intervals.",
    "caught": "The gate that stopped each update first, by stage; at the top, what launched.",
    "cost": "What the review takes. Blocked updates leave early, so bad ones may be decided sooner.",
    "power": "What more data buys. A/B tests measure what users like: longer ones are surer of it. Only beyond the "
    "days that users need to find out do returns begin to tell.",
    "monitors": "What monitors see after a launch in which nobody reacts. An area below one half: bad launches look "
    "better than good ones.",
}


@dataclass
class ReviewRun(Settings):
    """The deployed model's settings, random updates of it, and the two processes."""

    bundles: Bundles = field(default_factory=Bundles)
    before: Review = field(default_factory=Review)
    after: Review = field(default_factory=improved)
    lived: Lived = field(default_factory=Lived)
    rollout: Rollout = field(default_factory=Rollout)
    monitors: Monitors = field(default_factory=Monitors)
    out: str = knob("results/review", "folder for the figures, the report and the tables")


register_launch()


@command("review", ReviewRun)
def main(settings: ReviewRun) -> None:
    """Run the updates through both processes, print the headline numbers, write figures, tables and the report."""
    processes = {settings.before.name: settings.before, settings.after.name: settings.after}
    problems = process_problems({"before": settings.before, "after": settings.after}, settings.rollout)
    if len(processes) < 2:
        problems.append(f"after.name = {settings.after.name}: must differ from before.name")
    if problems:
        raise InputError(*problems)
    writable(settings.out)
    table = run(settings, processes)
    bad = is_bad(table, settings.bundles.tolerated_rise)
    rises = (table["change/sycophancy/rate"] > settings.bundles.tolerated_rise).to_numpy()
    names = list(processes)
    readings = {
        f"rate up by > {settings.bundles.tolerated_rise:g}, or quality down": bad,
        "true quality down": (table["change/true/quality"] < 0).to_numpy(),
    }
    published = hour_of(settings.rollout, "patch") if settings.rollout.patch else hour_of(settings.rollout, "end")
    figures = {
        "errors": errors_figure(table, names, readings),
        "caught": caught_figure(table, names, bad),
        "cost": cost_figure(table, names, bad),
        "power": power_figure(table, rises),
        "monitors": monitors_figure(table, rises, published),
    }
    pictures = [(figure, name, CAPTIONS[name]) for name, figure in figures.items()]
    tables = {"updates": table.rename_axis("update").reset_index(), "errors": error_table(table, names, bad)}
    question = (__doc__ or "").splitlines()[0]
    headlines = headline_numbers(table, names, bad, rises)
    publish(settings, "review", "Thumbscale: review", question, headlines, pictures, tables)


def run(settings: ReviewRun, processes: dict[str, Review]) -> pd.DataFrame:
    """Return a row per update: what it changes, what is true of it, and what was decided."""
    bundles = draw_bundles(settings.bundles, settings)
    power = power_columns(settings.after, settings.lived, PROBES, EXPERTS, DAYS)
    worlds = [rows for _, rows in bundles.groupby("seed")]
    with tqdm(total=len(bundles), desc="updates", unit="update") as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        tasks = [
            pool.submit(
                review_world, settings, rows, processes, settings.lived, settings.rollout, settings.monitors, power,
                bar.update,
            )
            for rows in worlds
        ]  # fmt: skip
        try:
            return pd.concat([task.result() for task in tasks]).sort_index()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def headline_numbers(table: pd.DataFrame, names: Sequence[str], bad: Flags, rises: Flags) -> dict[str, str]:
    """Return the numbers that the docs quote, as text."""

    def text(hits: Flags) -> str:
        rate, low, high, count = share(hits)
        return f"{rate:.3f}  (90 % interval {low:.3f} to {high:.3f}, of {count})" if count else "none of that kind"

    found = {"updates": f"{len(table)}, bad {int(bad.sum())}, of these sycophantic {int((bad & rises).sum())}"}
    for name in names:
        launched = table[f"{name}/launched"].to_numpy(bool)
        second = table[f"{name}/second"].to_numpy(bool)
        days, hours = (table[f"{name}/{field}"].to_numpy(float) for field in ("days", "hours"))
        found |= {
            f"{name}: false launches": text(launched[bad]),
            f"{name}: sycophantic launches": text(launched[rises]),
            f"{name}: false blocks": text(~launched[~bad]),
            f"{name}: good updates with a second look": text(second[~bad]),
        }
        if (~bad).any():
            found[f"{name}: mean delay and cost, good updates"] = (
                f"{days[~bad].mean():.1f} days, {hours[~bad].mean():.0f} person-hours"
            )
    for name in NAMES:
        area = area_under_roc(table[f"{name}/score"].to_numpy(float), rises)
        alarms = table[f"{name}/alarm"].to_numpy(float)[rises]
        heard = np.isfinite(alarms)
        when = f"; median alarm after {np.median(alarms[heard]):.0f} hours" if heard.any() else ""
        found[f"monitor {name}"] = (
            f"area under ROC {area:.2f}; alarms at {heard.mean():.2f} of sycophantic launches{when}"
        )
    return found


if __name__ == "__main__":
    main()
