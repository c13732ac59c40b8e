"""One arm of the mitigations that no setting can express: the agreement penalty that theory says is enough.

It is computed prompt by prompt from the reward that is trained on, so it is added to the problem as one more signal.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import xarray as xr

from sim.batch import run_batch
from sim.config import Settings
from sim.derived import batched_values
from sim.pipeline import batch_table, to_dataset
from sim.problem import Problem, prepare
from sim.recipe import ingredients
from sim.training.theory import minimal_penalty
from sim.world.arrays import Array, World

NAME = "minimal_penalty"


def simulate_penalties(
    settings: Settings,
    strengths: Sequence[float],
    seeds: npt.NDArray[np.int64],
    progress: Callable[[int], object] | None = None,
) -> list[xr.Dataset]:
    """Return a data set (run, step) per strength: training under that multiple of the minimal penalty.

    Args:
        settings: of the run without the penalty; the world must be a chat world.
        strengths: multiples of the penalty.
        seeds: [N].
        progress: called with the number of runs done.
    """
    by_seed = []
    for seed in seeds:
        problem = prepare(settings, int(seed))
        plain, weights = fixed_weights(settings, problem, int(seed))
        for split, scored in problem.signals.items():
            scored[NAME] = -penalties(problem.splits[split], mixed(scored, weights), settings.kl_coef)
        table = batch_table(plain, {f"mixture.weights.{NAME}": strengths, "seed": np.full(len(strengths), seed)})
        found = run_batch(plain, problem, table)
        by_seed.append(to_dataset(plain, problem, table, found))
        if progress is not None:
            progress(len(strengths))
    return [xr.concat([data.isel(run=[index]) for data in by_seed], "run") for index in range(len(strengths))]


def fixed_weights(settings: Settings, problem: Problem, seed: int) -> tuple[Settings, dict[str, float]]:
    """Return the settings with their effective weights written out and the penalty on top of them, and the weights."""
    table = {key: np.array([value]) for key, value in (batched_values(settings) | {"seed": seed}).items()}
    parts = ingredients(settings, problem, table)
    weights = dict(zip(parts.names, map(float, parts.weights[:, 0]), strict=True))
    mixture = replace(settings.mixture, weights=weights | {NAME: 0.0}, renormalize=False, scale="none")
    return replace(settings, mixture=mixture), weights


def mixed(signals: Mapping[str, Array], weights: Mapping[str, float]) -> Array:
    """Return the mixed reward [P, K]."""
    return np.asarray(sum(weight * signals[name] for name, weight in weights.items() if weight > 0))


def penalties(world: World, reward: Array, kl_coef: float) -> Array:
    """Return [P, K]: the minimal penalty where the answer endorses the user's stance, else 0.

    It holds each prompt's agreement where the reference has it, whether the user is right or wrong: whoever trains does
    not know. Exact for a policy that learns each prompt on its own; one that shares traits over prompts comes close.
    """
    endorses = (world.attributes["stance_taking"] > 0).astype(float)
    return minimal_penalty(world.log_ref, reward, endorses, kl_coef)[:, None] * endorses
