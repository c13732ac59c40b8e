"""QUESTION: how far can a proxy be optimised before what it stands for gets worse?

    python -m experiments.overoptimization                                    # proxy: votes alone, memory for all
    python -m experiments.overoptimization mixture.weights.thumbs_up=0.3      # proxy: a mixture
    python -m experiments.overoptimization "+arms.mlp='policy.kind=mlp training.estimator=grpo training.optimizer=adam'"

Proxy and true quality against sqrt(KL), after Gao et al. (arXiv 2210.10760): along training by each estimator, under KL
penalties, and for the best of n. An arm is a name with settings; a setting with several values is swept, and an arm
without one is followed along its training. With the defaults expect: the proxy rises throughout; true quality turns at
sqrt(KL) between 1.3 and 1.6 under most arms; the form published for best-of-n fits better, RL included.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from experiments.app import command
from experiments.studies import measured, publish, refuse_multirun, run_variants, seed_list, show_table
from sim.analysis.intervals import mean_interval
from sim.analysis.overoptimization import FORMS, fall, fit, peak, spaced
from sim.config import InputError, Settings, knob, unknown_name
from sim.plots.overoptimization import Path, frontier_figure
from sim.plots.report import writable
from sim.variants import Arm, final, read_arm
from sim.world.arrays import Array

ADAM = "training.optimizer=adam training.learning_rate=0.05 training.steps=200"
ARMS = {
    "best_of_n": "policy.kind=tabular training.estimator=best_of_n training.candidates=2,4,8,16,32,64,128,256",
    "KL_penalty": "policy.kind=tabular training.estimator=closed_form kl_coef=1,0.5,0.25,0.15,0.1,0.07,0.05,0.03,0.02",
    "natural_tabular": "policy.kind=tabular training.estimator=natural",
    "natural": "training.estimator=natural",
    "natural_oracle": "training.estimator=natural signals.source.thumbs_up=oracle",
    "natural_worst_case": "training.estimator=natural feedback.members=5 feedback.combine=worst",
    "natural_less_variance": "training.estimator=natural feedback.members=5 feedback.combine=mean_minus_variance",
    "exact_plain": "training.estimator=exact training.learning_rate=2 training.steps=200",
    "exact_Adam": f"training.estimator=exact {ADAM}",
    "REINFORCE": f"training.estimator=reinforce {ADAM}",
    "RLOO": f"training.estimator=rloo {ADAM}",
    "GRPO": f"training.estimator=grpo {ADAM}",
    "PPO": f"training.estimator=ppo training.epochs=4 {ADAM}",
}
PROXY = ("feedback.", "signals.", "users.", "mixture.")  # settings that make another proxy, optimised in the same way
POINTS = 14  # of a path along training, spread out evenly in sqrt(KL)


CAPTION = "Proxy and true quality against the distance from the reference: {}. Marks: swept; lines: along training."


@dataclass
class Overoptimization(Settings):
    """One run, and the ways of optimising that are compared."""

    arms: dict[str, str] = knob(ARMS, "arm: KEY=VALUE, separated by spaces; KEY=V1,V2,... is swept")
    gold: str = knob("true/quality", "metric that stands for what is wanted; higher is better")
    seeds: int = knob(10, "random worlds, or bootstrap draws of a score table's prompts", low=2)
    out: str = knob("results/overoptimization", "folder for the figures, the report and the tables")


@command("overoptimization", Overoptimization)
def main(settings: Overoptimization) -> None:
    """Train every arm, fit both forms, print and write what was found."""
    refuse_multirun("overoptimization")
    if not settings.arms:
        raise InputError("arms: name at least one")
    arms = {name.replace("_", " "): read_arm(settings, f"arms.{name}", text) for name, text in settings.arms.items()}
    writable(settings.out)
    variants = [variant for arm in arms.values() for variant in arm.variants]
    data = run_variants(settings, variants, seed_list(settings, settings.seeds))
    if settings.gold not in data[0]:
        raise InputError(f"gold: {unknown_name('metric', settings.gold, [str(name) for name in data[0]])}")
    paths, at = {}, 0
    for name, arm in arms.items():
        paths[name] = read_path(arm, data[at : at + len(arm.variants)], settings.gold)
        at += len(arm.variants)
    fits = fit_table(paths)
    show_table("which form fits true quality better (90 % intervals over worlds)", shown_fits(fits))
    label = data[0][settings.gold]
    labels = ("proxy reward gained (reward)", f"{label.long_name} gained ({label.units})")
    best = {row["arm"]: best_form(row) for row in fits.to_dict("records")}
    question = (__doc__ or "").splitlines()[0]
    figures = [
        (frontier_figure({name: paths[name] for name in names}, best, labels), name, CAPTION.format(name))
        for name, names in figure_groups(arms).items()
    ]
    publish(
        settings, "overoptimization", "Thumbscale: over-optimisation", question, headline_numbers(paths, fits),
        figures, {"curves": curve_table(paths), "fits": fits},
    )  # fmt: skip


def figure_groups(arms: dict[str, Arm]) -> dict[str, list[str]]:
    """Return the arms of each figure: ways of optimising the one proxy, and other proxies beside it."""

    def way(arm: Arm) -> dict[str, Any]:
        swept = {key: value for key, value in arm.variants[0].items() if not key.startswith(PROXY)}
        return swept | {arm.key: arm.values}

    other = [name for name, arm in arms.items() if any(key.startswith(PROXY) for key in arm.variants[0])]
    ways = [name for name in arms if name not in other]
    beside = [name for name in ways if any(way(arms[name]) == way(arms[rival]) for rival in other)]
    groups = {"estimators": ways, "proxies": [*beside, *other] if other else []}
    return {name: names for name, names in groups.items() if names}


def read_path(arm: Arm, data: list[xr.Dataset], gold: str) -> Path:
    """Return the path of an arm: distances and gains against the reference, by growing distance."""
    if arm.key == "step":
        steps = {name: data[0][name].values for name in ("kl", "proxy_reward", gold)}
        values = data[0]["step"].values.astype(float)
    else:
        steps = {name: np.c_[data[0][name].values[:, :1], final(data, name)] for name in ("kl", "proxy_reward", gold)}
        # The proxy may itself be what is swept, so each point is compared with its own start.
        starts = np.stack([each["proxy_reward"].values[:, 0] for each in data], axis=1)
        steps["proxy_reward"][:, 1:] -= starts - steps["proxy_reward"][:, :1]
        values = np.r_[np.nan, np.array(arm.values, dtype=float)]
    distance = np.sqrt(np.maximum(steps["kl"], 0.0))
    order = np.argsort(distance.mean(axis=0), kind="stable")
    # The reference itself is no point of the curve: every form passes through 0 there.
    kept = 1 + spaced(distance[:, 1:].mean(axis=0), POINTS) if arm.key == "step" else order[order > 0]
    gained = {name: (steps[name] - steps[name][:, :1])[:, kept] for name in ("proxy_reward", gold)}
    return Path(arm.key, values[kept], distance[:, kept], gained["proxy_reward"], gained[gold])


def fit_table(paths: dict[str, Path]) -> pd.DataFrame:
    """Return a row per arm: both fits of true quality, how they compare, and the turnover as it was measured.

    `a` and `b` are those of the mean curve over seeds; R^2 and its difference are means over the fits of single seeds.
    """
    rows = []
    for name, path in paths.items():
        row: dict[str, str | float] = {"arm": name, "largest_distance": float(path.distance.mean(axis=0).max())}
        per_seed = {form: fit(form, path.distance, path.true) for form in FORMS}
        for form, each in per_seed.items():
            whole = fit(form, path.distance.mean(axis=0)[None], path.true.mean(axis=0)[None])
            row |= {
                f"{form} a": whole.a[0],
                f"{form} b": whole.b[0],
                f"{form} turns at": peak(form, whole.a, whole.b)[0][0],
            }
            row[f"{form} R2"] = each.explained.mean()
        mean, half = mean_interval(per_seed["best-of-n"].explained - per_seed["RL"].explained)
        row |= {"R2 difference": float(mean), "R2 difference half": float(half)}
        row["fits_better"] = "best-of-n" if mean - half > 0 else "RL" if mean + half < 0 else "undecided"
        top, lost = fall(path.true)
        down, width = mean_interval(lost)
        row |= {"highest": path.true.mean(axis=0)[top], "highest at": path.distance.mean(axis=0)[top]}
        rows.append(row | {"fall": float(down), "fall half": float(width) if down else np.nan})
    return pd.DataFrame(rows)


def best_form(row: Mapping[Hashable, Any]) -> tuple[str, float, float]:
    """Return (form, a, b) of the form with the larger R^2."""
    form = max(FORMS, key=lambda name: float(row[f"{name} R2"]))
    return form, float(row[f"{form} a"]), float(row[f"{form} b"])


def shown_fits(fits: pd.DataFrame) -> pd.DataFrame:
    """Return the table of fits as it is printed."""
    shown = fits[["arm"]].copy()
    for form in FORMS:
        shown[f"{form} R2"] = fits[f"{form} R2"].map("{:.4f}".format)
    pairs = zip(fits["R2 difference"], fits["R2 difference half"], strict=True)
    shown["difference"] = [measured(mean, half, 4) for mean, half in pairs]
    shown["fits better"] = fits["fits_better"]
    shown["highest"] = [
        f"{high:+.3f} at {at:.2f}" for high, at in zip(fits["highest"], fits["highest at"], strict=True)
    ]
    shown["fall to the end"] = [
        measured(mean, half) if mean else "none" for mean, half in zip(fits["fall"], fits["fall half"], strict=True)
    ]
    shown["end"] = fits["largest_distance"].map("{:.2f}".format)
    return shown


def curve_table(paths: dict[str, Path]) -> pd.DataFrame:
    """Return a row per arm and point: where it is, and what proxy and true quality gained there."""
    rows = []
    for name, path in paths.items():
        columns: dict[str, Array] = {"sqrt_kl": path.distance.mean(axis=0)}
        for what, values in (("proxy", path.proxy), ("true", path.true)):
            mean, half = mean_interval(values)
            columns |= {what: mean, f"{what} low": mean - half, f"{what} high": mean + half}
        rows.append(pd.DataFrame({"arm": name, "swept": path.swept, "value": path.values} | columns))
    return pd.concat(rows, ignore_index=True)


def headline_numbers(paths: dict[str, Path], fits: pd.DataFrame) -> dict[str, str]:
    """Return the numbers that docs/overoptimization.md quotes, as text."""
    turned = fits["fall"] - fits["fall half"].fillna(np.inf) > 0
    found = {
        "true quality turns under": ", ".join(fits["arm"][turned]) or "none",
        "does not under": ", ".join(fits["arm"][~turned]) or "none",
    }
    for word in ("best-of-n", "RL", "undecided"):
        found[f"better form: {word}"] = ", ".join(fits["arm"][fits["fits_better"] == word]) or "none"
    for row in fits.to_dict("records"):
        found[f"highest true quality, {row['arm']}"] = f"{row['highest']:+.3f} at sqrt(KL) = {row['highest at']:.2f}"
    worlds = len(next(iter(paths.values())).distance)
    found["worlds"] = str(worlds)
    return found


if __name__ == "__main__":
    main()
