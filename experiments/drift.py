"""QUESTION: how much weight on the added signal does it take to undo the primary group's check on the headline metric?

    python -m experiments.drift                              # thumbs-up in the chat world
    python -m experiments.drift experiment=judge_scores      # a second judge, on real scores

The README gives the numbers to expect with the defaults: training without votes lowers the sycophancy rate, votes raise
it, and it passes the reference again at a critical weight that is estimated in two ways.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from experiments.app import command
from experiments.studies import publish, refuse_multirun, refuse_override, seed_list
from sim.analysis.critical_weight import crossing, interval, local_pushes, refine, resample_rows
from sim.analysis.ledger import check_strength
from sim.config import InputError, Scores, Settings, knob, with_value
from sim.pipeline import simulate
from sim.plots.drift import by_weight, check_strength_curve, drift_curves, ledger_panels, quality_against_proxy
from sim.plots.report import writable
from sim.problem import Problem, prepare
from sim.rewards.mixture import effective_weights, spread, usable
from sim.training.theory import critical_weight
from sim.world.arrays import Array

LEDGER_CAPTION = (
    "Drift ledger: what each cause added to the change, for two weights. Near the optimum the pushes balance: each "
    "goes on adding up while the metric itself no longer moves."
)
BOOTSTRAP = 1000  # draws
Critical = dict[str, tuple[float, float, float]]


@dataclass
class Drift(Settings):
    """One run, and the sweep over the added weight."""

    max_weight: float = knob(0.6, "largest weight of the added signal", above=0)
    points: int = knob(25, "weights from 0 to max_weight", low=3)
    seeds: int = knob(
        0, "random worlds, or bootstrap draws of a score table's prompts; 0: 16 worlds or 30 draws", low=0
    )
    out: str = knob("results/drift", "folder for the figures, the report and the tables")


@command("drift", Drift)
def main(settings: Drift) -> None:
    """Run the sweep, print the headline numbers, write figures, tables and the report."""
    if settings.mixture.renormalize and settings.max_weight > 1:
        raise InputError(f"max_weight = {settings.max_weight}: must be <= 1 to renormalize")
    refuse_multirun("drift")
    key = f"mixture.weights.{settings.mixture.added}"
    refuse_override("drift", key, "max_weight and points say how; experiments.train takes one weight")
    if not settings.training.ledger:
        raise InputError("training.ledger = False: experiments.drift draws the ledger; experiments.train does without")
    table = isinstance(settings.world, Scores)
    settings.seeds = settings.seeds or (30 if table else 16)
    settings.seed = int(seed_list(settings, 1)[0])
    writable(settings.out)
    data = sweep(settings)
    critical, at_reference = critical_weights(settings, data)
    low, high = settings.max_weight / 6, settings.max_weight * 2 / 3
    figures = [
        (drift_curves(data), "drift", "Drift over training and at its end, against the weight of the added signal."),
        (ledger_panels(data, low, high), "ledger", LEDGER_CAPTION),
        (check_strength_curve(data, at_reference, critical), "check_strength", "Where the primary group lets go."),
        (quality_against_proxy(data), "quality", "What the reward says against what the designers want."),
    ]
    final = data.isel(step=-1).drop_dims(["interval", "cause"], errors="ignore").to_dataframe()
    ledger: Any = data["ledger"].sum("interval").to_pandas()
    tables = {"final": final.rename_axis("run").reset_index(), "ledger": ledger.reset_index()}
    question = (__doc__ or "").splitlines()[0]
    headlines = headline_numbers(settings, data, critical)
    publish(settings, "drift", "Thumbscale: drift", question, headlines, figures, tables)


def sweep(settings: Drift) -> xr.Dataset:
    """Return the data set of the grid (weight, seed)."""
    weights = np.round(np.linspace(0, settings.max_weight, settings.points), 12)
    columns = {
        f"mixture.weights.{settings.mixture.added}": np.tile(weights, settings.seeds),
        "seed": np.repeat(settings.seed + np.arange(settings.seeds), settings.points),
    }
    with tqdm(total=settings.points * settings.seeds, desc="training", unit="run") as bar:
        data = simulate(settings, columns, bar.update)
    return data.assign_attrs(seeds="draws" if isinstance(settings.world, Scores) else "worlds")


def critical_weights(settings: Drift, data: xr.Dataset) -> tuple[Critical, Array]:
    """Return the critical weight at the reference and from trained policies, each (weight, low, high).

    Beside it, the check strength at the reference for each weight: primary over added push.

    Chat worlds: of the mean over seeds, with a bootstrap over seeds. Score tables: of the table itself, with a
    bootstrap over its prompts, of which each seed is a draw.
    """
    key = f"mixture.weights.{settings.mixture.added}"
    metric = by_weight(data)[data.attrs["headline"]]
    excess = (metric.isel(step=-1) - metric.isel(step=0)).transpose("seed", "weight").values
    weights = np.unique(data[key])
    names = list(settings.mixture.weights)
    added = names.index(settings.mixture.added)
    base = np.array(list(settings.mixture.weights.values()), dtype=float)

    def balance(pushes: Array) -> Array:
        return critical_weight(pushes.T, base, added, settings.mixture.renormalize)

    if isinstance(settings.world, Scores):
        pushes, draws = pushes_at_reference(settings, prepare(settings, 0), BOOTSTRAP)
        seeds, excess_draws = np.array([0]), excess
    else:
        seeds = np.unique(data["seed"])
        resamples = BOOTSTRAP if len(seeds) == 1 else 0
        by_seed = [pushes_at_reference(settings, prepare(settings, int(seed)), resamples) for seed in seeds]
        rows = np.array([row for row, _ in by_seed])
        # One world has only its own prompts to resample; several are resampled whole.
        draws = resample_rows(rows, BOOTSTRAP) if len(seeds) > 1 else by_seed[0][1]
        pushes, excess_draws = rows.mean(axis=0), resample_rows(excess, BOOTSTRAP if len(seeds) > 1 else 0)
    trained = np.array([crossing(weights, draw) for draw in excess_draws])
    found = {
        "at the reference": (float(balance(pushes)), *interval(balance(draws))),
        "trained": (train_to_crossing(settings, weights, seeds), *interval(trained)),
    }
    nominal = np.repeat(base[:, None], len(weights), axis=1)
    nominal[added] = weights
    lines = effective_weights(nominal, added, settings.mixture.renormalize) * pushes[:, None]
    return found, check_strength(lines, np.delete(np.arange(len(names)), added))


def pushes_at_reference(settings: Settings, problem: Problem, resamples: int) -> tuple[Array, Array]:
    """Return each signal's push on the headline metric at the reference, [S], and bootstrap draws over prompts."""
    metric, names = problem.metrics[problem.headline], list(settings.mixture.weights)
    counted = np.array([settings.mixture.weights[name] for name in names])
    counted[names.index(settings.mixture.added)] = 1.0
    split = metric.split if settings.policy.kind == "tabular" else "train"
    world = problem.splits[split]
    signals = usable(problem.signals[split], names, counted[:, None], world.present)
    if settings.mixture.scale == "std":
        train = problem.splits["train"]  # the scale is that of training, wherever the metric is
        trained_on = usable(problem.signals["train"], names, counted[:, None], train.present)
        signals = signals / spread(train, trained_on)[:, None, None]
    return local_pushes(world, signals, problem.splits[metric.split], metric.values, settings.policy.kind, resamples)


def train_to_crossing(settings: Settings, weights: Array, seeds: Array) -> float:
    """Return the weight at which the trained headline metric, averaged over seeds, crosses that of the reference."""
    plain = with_value(with_value(settings, "training.ledger", False), "training.record_every", settings.training.steps)
    key = f"mixture.weights.{settings.mixture.added}"

    def excess(grid: Array) -> Array:
        columns = {key: np.tile(grid, len(seeds)), "seed": np.repeat(seeds, len(grid))}
        found = simulate(plain, columns, bar.update)
        metric = found[found.attrs["headline"]].values.reshape(len(seeds), len(grid), -1)
        return np.asarray((metric[..., -1] - metric[..., 0]).mean(axis=0))

    with tqdm(desc="critical weight", unit="run") as bar:
        return refine(excess, float(weights[0]), float(weights[-1]), sections=12, tolerance=1e-4)


def headline_numbers(settings: Drift, data: xr.Dataset, critical: Critical) -> dict[str, str]:
    """Return the numbers that the README quotes, as text."""
    key = f"mixture.weights.{settings.mixture.added}"
    end = data.isel(step=-1).groupby(key).mean("run")
    start = data.isel(step=0).mean("run")
    name, label = data.attrs["headline"], data[data.attrs["headline"]].long_name
    found = {f"{label}, reference policy": f"{float(start[name]):.3f}"}
    top = float(end[key].max())
    for weight in (0.0, top):
        found[f"{label} at {settings.mixture.added} = {weight:g}"] = f"{float(end[name].sel({key: weight})):.3f}"
    for how, (weight, low, high) in critical.items():
        interval = f"  (90 % interval {low:.3f} to {high:.3f})" if np.isfinite(low) else ""
        found[f"critical weight, {how}"] = f"{weight:.3f}{interval}" if np.isfinite(weight) else "none in range"
    if "true/quality" in data:
        gain = end["true/quality"] - start["true/quality"]
        best = float(gain[key][int(np.argmax(gain.values))])
        found["true quality gained, weight 0"] = f"{float(gain.sel({key: 0.0})):+.3f}"
        found["true quality gained, at its best weight"] = f"{float(gain.max()):+.3f}  (weight {best:g})"
        found[f"true quality gained, weight {top:g}"] = f"{float(gain.sel({key: top})):+.3f}"
    if "benchmark/accuracy" in data:
        moved = float(end["benchmark/accuracy"].sel({key: top}) - end["benchmark/accuracy"].sel({key: 0.0}))
        found[f"benchmark accuracy, weight {top:g} against 0"] = f"{moved:+.3f}"
    found["KL(policy || reference) at weight 0"] = f"{float(end['kl'].sel({key: 0.0})):.3f} nats"
    found["runs"] = f"{data.sizes['run']} ({settings.points} weights x {settings.seeds} seeds)"
    return found


if __name__ == "__main__":
    main()
