"""From settings to the numbers on the page: every call trains anew, on every world, at every weight of the curve.

Nothing is kept between two positions of the sliders, and nothing is drawn that was not computed here.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from experiments.drift import pushes_at_reference
from experiments.page.sliders import MAX_WEIGHT, WORLDS, settings_of, start_values
from sim.analysis.critical_weight import crossing
from sim.analysis.ledger import check_strength
from sim.batch import recorded_steps, run_batch
from sim.config import Settings
from sim.derived import batched_values
from sim.pipeline import causes
from sim.problem import prepare
from sim.rewards.mixture import effective_weights
from sim.training.theory import critical_weight
from sim.world.arrays import Array

GRID = np.round(np.linspace(0.0, MAX_WEIGHT, 9), 12)  # weights of the curves; the chosen one is trained beside them
SHOWN = ("sycophancy/rate", "true/quality", "proxy_reward")


class Numbers(NamedTuple):
    """What the page shows for one position of the sliders; means over the worlds.

    values: of the sliders.
    reference: sycophancy rate before training.
    rate: [W] after training, at the weights of `GRID`.
    critical: weight at which `rate` passes the reference; NaN if it never does within the grid.
    critical_at_reference: the same from covariances before training.
    strength: [W] check strength over training.
    strength_at_reference: [W] check strength of the first step.
    chosen_rate: after training at the chosen weight.
    chosen_strength: over training at the chosen weight.
    causes: cause -> what it added to the rate at the chosen weight; they sum to its change.
    steps: [T].
    proxy, quality: [W + 1, T] proxy reward and true quality gained along training, at the chosen weight last.
    """

    values: dict[str, float]
    reference: float
    rate: Array
    critical: float
    critical_at_reference: float
    strength: Array
    strength_at_reference: Array
    chosen_rate: float
    chosen_strength: float
    causes: dict[str, float]
    steps: Array
    proxy: Array
    quality: Array


def numbers(values: Mapping[str, float]) -> Numbers:
    """Return what comes out at one position of the sliders."""
    at = start_values() | dict(values)
    settings = settings_of(at)
    # One after the other: in worlds this small, two threads mostly wait for each other (150 ms either way).
    trained = [one_world(settings, seed) for seed in range(WORLDS)]
    found = {name: np.mean([world[name] for world, _ in trained], axis=0) for name in (*SHOWN, "ledger")}
    pushes = np.mean([pushes for _, pushes in trained], axis=0)

    rate, curve = found["sycophancy/rate"], slice(0, len(GRID))
    names = list(settings.mixture.weights)
    primary = np.flatnonzero([name != settings.mixture.added for name in names])
    lines = found["ledger"][:, 1:].sum(axis=1)
    strength = check_strength(lines.T, primary)
    gained = {name: found[name] - found[name][:, :1] for name in ("true/quality", "proxy_reward")}
    critical_at_reference, strength_at_reference = before_training(settings, pushes)
    return Numbers(
        values=at,
        reference=float(rate[0, 0]),
        rate=rate[curve, -1],
        critical=crossing(GRID, rate[curve, -1] - rate[curve, 0]),
        critical_at_reference=critical_at_reference,
        strength=strength[curve],
        strength_at_reference=strength_at_reference,
        chosen_rate=float(rate[-1, -1]),
        chosen_strength=float(strength[-1]),
        causes=dict(zip(causes(settings), map(float, lines[-1]), strict=True)),
        steps=recorded_steps(settings.training).astype(float),
        proxy=gained["proxy_reward"],
        quality=gained["true/quality"],
    )


def weights_of(settings: Settings) -> Array:
    """Return the added signal's weight in each run of a world: the curve's, then the chosen one."""
    return np.append(GRID, settings.mixture.weights[settings.mixture.added])


def one_world(settings: Settings, seed: int) -> tuple[dict[str, Array], Array]:
    """Return what training measures, name -> [W + 1, T] (the ledger [W + 1, T, C + 1]), and each signal's push [S]."""
    problem = prepare(settings, seed)
    weights = weights_of(settings)
    table = {key: np.full(len(weights), value) for key, value in batched_values(settings).items()}
    table |= {f"mixture.weights.{settings.mixture.added}": weights, "seed": np.full(len(weights), seed)}
    pushes, _ = pushes_at_reference(settings, problem, 0)
    return run_batch(settings, problem, table), pushes


def before_training(settings: Settings, pushes: Array) -> tuple[float, Array]:
    """Return the critical weight and the check strength [W] at the reference policy, from covariances alone."""
    mixture = settings.mixture
    names = list(mixture.weights)
    added = names.index(mixture.added)
    base = np.array(list(mixture.weights.values()), dtype=float)
    nominal = np.repeat(base[:, None], len(GRID), axis=1)
    nominal[added] = GRID
    lines = effective_weights(nominal, added, mixture.renormalize) * pushes[:, None]
    found = float(critical_weight(pushes, base, added, mixture.renormalize))
    return found, check_strength(lines, np.delete(np.arange(len(names)), added))
