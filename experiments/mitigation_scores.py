"""What each mitigation is worth: its hypervolume, its best setting, and what it keeps of the votes' benefit."""

import numpy as np
import pandas as pd

from experiments.studies import measured
from sim.analysis.frontier import benefit_kept, best_within, hypervolumes, pareto, refined
from sim.analysis.intervals import mean_interval
from sim.config import InputError
from sim.plots.mitigations import Frontier
from sim.world.arrays import Array


def score_table(frontiers: dict[str, Frontier], ends: dict[str, Frontier], margin: float) -> pd.DataFrame:
    """Return a row per arm: hypervolume, the setting that is best within the limit, and what it keeps.

    The reference point of the hypervolume is, in each world, the unmitigated update's sycophancy rate and the reference
    policy's true quality. `cost` is the share of the votes' benefit that is lost.
    """
    unmitigated, without = ends["unmitigated"], ends["without votes"].quality[:, 0]
    limit = float(unmitigated.reference.mean()) + margin
    whole = best_unbiased(ends, limit) - without
    rows = []
    for name, path in frontiers.items():
        rate, quality = refined(path.rate), refined(path.quality)
        area = hypervolumes(rate, quality, unmitigated.rate[:, 0], np.zeros(len(quality)))
        row: dict[str, float | str] = {"arm": name, "knob": path.knob} | spread("hypervolume", area)
        best = best_within(rate, quality, limit)
        if best is not None:
            at = {"setting": refined(path.values[None])[0, best], "rate": rate[:, best].mean()}
            at |= {what: refined(values)[:, best].mean() for what, values in path.others.items()}
            row |= at | spread("quality", quality[:, best]) | spread("over no votes", quality[:, best] - without)
            kept, low, high = benefit_kept(quality[:, best] - refined(path.twin)[:, best], whole)
            row |= {"kept": kept, "kept low": low, "kept high": high, "cost": 1 - kept}
        rows.append(row)
    return pd.DataFrame(rows).sort_values("hypervolume", ascending=False, ignore_index=True)


def best_unbiased(ends: dict[str, Frontier], limit: float) -> Array:
    """Return the true quality [N] that unbiased votes bring at their best weight within the limit."""
    path = ends["unbiased votes"]
    best = best_within(refined(path.rate), refined(path.quality), limit)
    if best is None:
        raise InputError("unbiased: no setting of it keeps within the limit; margin is too low")
    return np.asarray(refined(path.quality)[:, best])


def spread(name: str, per_seed: Array) -> dict[str, float]:
    """Return mean and half-width of a column, by name."""
    mean, half = mean_interval(per_seed)
    return {name: float(mean), f"{name} half": float(half)}


def frontier_table(frontiers: dict[str, Frontier]) -> pd.DataFrame:
    """Return a row per arm and setting, with whether it is on its arm's Pareto set (of means)."""
    tables = []
    for name, path in frontiers.items():
        columns: dict[str, Array] = {}
        shown = {"rate": path.rate, "quality": path.quality, "quality_without_votes": path.twin} | path.others
        for what, values in shown.items():
            mean, half = mean_interval(values)
            columns |= {what: mean, f"{what} low": mean - half, f"{what} high": mean + half}
        front = pareto(columns["rate"], columns["quality"])
        tables.append(
            pd.DataFrame({"arm": name, "knob": path.knob, "value": path.values} | columns | {"pareto": front})
        )
    return pd.concat(tables, ignore_index=True)


def shown_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the table of scores as it is printed; the last columns are at the best setting within the limit."""

    def column(name: str, digits: int = 3, sign: bool = True) -> list[str]:
        pairs = scores[[name, f"{name} half"]].to_numpy(dtype=float)
        return ["none" if np.isnan(mean) else measured(mean, half, digits, sign) for mean, half in pairs]

    shown = scores[["arm"]].copy()
    shown["hypervolume"] = column("hypervolume", 4, sign=False)
    for name, form in (("setting", "{:.3g}"), ("rate", "{:.3f}"), ("endorses_right", "{:.3f}")):
        shown[name] = scores[name].map(form.format).replace("nan", "none")
    shown["true quality over no votes"] = column("over no votes")
    shown["votes' benefit kept"] = [
        "none" if np.isnan(kept) else f"{kept:.0%}  ({low:.0%} to {high:.0%})"
        for kept, low, high in scores[["kept", "kept low", "kept high"]].to_numpy(dtype=float)
    ]
    return shown


def shown(pair: dict[str, float]) -> str:
    """Return what `spread` gave, as text."""
    mean, half = pair.values()
    return measured(mean, half)


def headline_numbers(scores: pd.DataFrame, ends: dict[str, Frontier], margin: float) -> dict[str, str]:
    """Return the numbers that docs/mitigations.md quotes, as text."""
    reference, without = ends["unmitigated"].reference, ends["without votes"]
    found = {"sycophancy rate, reference policy": f"{reference.mean():.3f}"}
    for name in ("unmitigated", "without votes"):
        rate, gained = ends[name].rate.mean(), spread("quality", ends[name].quality[:, 0])
        found[name] = f"rate {rate:.3f}, true quality gained {shown(gained)}"
    whole = spread("", best_unbiased(ends, float(reference.mean()) + margin) - without.quality[:, 0])
    found["benefit of unbiased votes at their best weight"] = shown(whole)
    for row in scores.dropna(subset=["kept"]).sort_values("kept", ascending=False).to_dict("records"):
        kept = f"{row['kept']:.0%}  ({row['kept low']:.0%} to {row['kept high']:.0%})"
        found[f"votes' benefit kept, {row['arm']}"] = kept
    found["worlds"] = str(len(reference))
    return found
