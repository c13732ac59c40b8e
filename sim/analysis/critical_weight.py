"""The critical weight: how much of the added signal turns the push on a metric around.

Two answers, which agree where the pressure is small:

(a) `local_pushes`, from covariances at the reference policy, with no training. The first-order direction of the
    KL-regularised optimum is F^+ g, so signal i pushes the metric by grad(metric) . F^+ . g_i; where the pushes cancel
    is in `sim/training/theory.py`.
(b) `refine`, from trained policies, by section search on the weight.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sim import rng
from sim.world.arrays import Array, World

RIDGE = 1e-9  # on the Fisher matrix, relative to its mean diagonal, as in training


def local_pushes(
    world: World,
    signals: Array,
    probe: World,
    values: Array,
    policy: str = "loglinear",
    resamples: int = 0,
    seed: int = 0,
) -> tuple[Array, Array]:
    """Return the push of one unit of each signal on a metric at the reference, [S], and its bootstrap draws, [B, S].

    The bootstrap resamples prompts: those of training and those of the metric, independently, unless both are the same.

    Args:
        world: the training prompts.
        signals: [S, P, K].
        probe: the prompts of the metric.
        values: [P', K'] of the metric.
        policy: "loglinear" or "tabular" (where the push is the covariance on the metric's own prompts).
        resamples: B.
        seed: of the resampling.
    """
    same = world is probe
    if policy == "tabular" and not same:
        raise ValueError("a tabular policy needs the signals on the prompts of the metric")
    train_weight = _resample(world.prompt_prob, resamples, rng.stream(seed, "critical_weight", "train"))
    draws_of = "train" if same else "probe"  # the same prompts are resampled together
    probe_weight = _resample(probe.prompt_prob, resamples, rng.stream(seed, "critical_weight", draws_of))
    if policy == "tabular":
        pushes = train_weight @ _covariances(world, signals, values)
    else:
        centred = _centre(world, world.features)
        probs = np.exp(world.log_ref)
        fisher = np.einsum("pk,pkd,pke->pde", probs, centred, centred, optimize=True)
        gradient = np.einsum("pk,spk,pkd->psd", probs, signals, centred, optimize=True)
        slope = np.einsum("pk,pk,pkd->pd", np.exp(probe.log_ref), values, _centre(probe, probe.features), optimize=True)
        matrix = np.tensordot(train_weight, fisher, axes=1)
        level = np.trace(matrix, axis1=1, axis2=2)[:, None, None] / matrix.shape[1]
        pull = np.tensordot(train_weight, gradient, axes=1).swapaxes(1, 2)
        direction = np.linalg.solve(matrix + RIDGE * level * np.eye(matrix.shape[1]), pull)
        pushes = np.einsum("bd,bds->bs", probe_weight @ slope, direction)
    return pushes[0], pushes[1:]


def interval(draws: Array, level: float = 0.9) -> tuple[float, float]:
    """Return the percentile interval of bootstrap draws [B]; NaN where more than 1 - level of them are NaN."""
    if not len(draws) or np.isnan(draws).mean() > 1 - level:
        return float("nan"), float("nan")
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def crossing(weights: npt.ArrayLike, excess: npt.ArrayLike) -> float:
    """Return the first weight at which `excess` goes from at most 0 to above 0, linearly interpolated; else NaN."""
    at, value = np.asarray(weights, dtype=float), np.asarray(excess, dtype=float)
    i = _first_rise(value)
    if i is None:
        return float("nan")
    return float(at[i] - value[i] * (at[i + 1] - at[i]) / (value[i + 1] - value[i]))


def _first_rise(excess: Array) -> int | None:
    """Return the first place from which excess [W] goes from at most 0 to above 0; None if it never does."""
    ups = np.flatnonzero((excess[:-1] <= 0) & (excess[1:] > 0))
    return int(ups[0]) if len(ups) else None


def refine(
    excess: Callable[[Array], Array], low: float, high: float, sections: int = 16, tolerance: float = 1e-4
) -> float:
    """Return the weight in [low, high] at which `excess` crosses 0 upwards, or NaN if it does not.

    Bisection, but with a whole batch of weights per round, since the core trains them at once.

    Args:
        excess: weights [W] -> metric of the trained policies minus that of the reference [W].
        low: lower end.
        high: upper end.
        sections: how many parts a round cuts the bracket into.
        tolerance: width of the last bracket.
    """
    while True:
        grid = np.linspace(low, high, sections + 1)
        found = excess(grid)
        i = _first_rise(found)
        if i is None or high - low <= tolerance * sections:
            return crossing(grid, found)
        low, high = float(grid[i]), float(grid[i + 1])


def resample_rows(rows: Array, resamples: int, seed: int = 0) -> Array:
    """Return bootstrap means over rows (seeds), [B, ...], for values [N, ...]."""
    random = rng.stream(seed, "critical_weight", "rows")
    counts = random.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=resamples)
    return np.tensordot(counts / len(rows), rows, axes=1)


def _resample(prompt_prob: Array, resamples: int, random: np.random.Generator) -> Array:
    """Return prompt weights [1 + B, P]: those of the sample itself, then of B draws with replacement."""
    prompts = len(prompt_prob)
    drawn = random.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples)
    weight = np.concatenate([np.ones((1, prompts)), drawn]) * prompt_prob
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def _centre(world: World, array: Array) -> Array:
    return array - np.einsum("pk,pkd->pd", np.exp(world.log_ref), array)[:, None]


def _covariances(world: World, signals: Array, values: Array) -> Array:
    """Return Cov_ref(signal, values | p), [P, S]."""
    probs = np.exp(world.log_ref)
    centred = values - (probs * values).sum(axis=1, keepdims=True)
    return np.einsum("pk,spk,pk->ps", probs, signals, centred, optimize=True)
