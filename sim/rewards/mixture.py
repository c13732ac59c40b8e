"""The mixture: how much each signal counts.

    reward[p, k, run] = sum_i weight[i, run] * scale[i] * signal[i, p, k]

With `renormalize` the added signal dilutes the others, w_i (1 - w_added) / sum of the others; without, it comes on top.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sim.config import InputError, unknown_name
from sim.world.arrays import Array, World

TINY = 1e-24  # a variance below this is rounding


def effective_weights(weights: Array, added: int, renormalize: bool) -> Array:
    """Return [S, R]: the weights that training uses.

    Renormalized, the primary weights are divided by their own sum and multiplied by 1 - w, so that all of them sum to
    1 at any weight w of the added signal.

    Args:
        weights: [S, R] nominal weights, at least 0.
        added: row of the added signal.
        renormalize: whether the others make room for it.
    """
    if not renormalize:
        return weights
    primary = np.delete(np.arange(len(weights)), added)
    total = weights[primary].sum(axis=0)
    effective = weights.copy()
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(total > 0, weights[primary] / total, 0.0)
    effective[primary] = share * (1 - weights[added])
    return effective


def schedule(steps: int, from_step: int, ramp_steps: int, until_step: int) -> Array:
    """Return the share of its weight that the added signal has at each update, [steps], in [0, 1].

    0 for `from_step` updates, then rising by 1 / (ramp_steps + 1) an update to 1, and 0 again after `until_step`.

    Args:
        steps: updates.
        from_step: updates before it counts.
        ramp_steps: updates at less than its full weight.
        until_step: last update at which it counts; 0: the last of all.
    """
    update = np.arange(1, steps + 1)
    rising = np.clip((update - from_step) / (ramp_steps + 1), 0, 1)
    return np.where(update > (until_step or steps), 0.0, rising)


def order_signals(weights: Mapping[str, float], signals: Mapping[str, Array]) -> list[str]:
    """Return the names of the weighted signals in order, or raise `InputError` for an unknown one."""
    for name in weights:
        if name not in signals:
            raise InputError(f"mixture.weights.{name}: {unknown_name('signal', name, list(signals))}")
    return list(weights)


def usable(signals: Mapping[str, Array], names: Sequence[str], weights: Array, present: npt.NDArray[np.bool_]) -> Array:
    """Return the signals as [S, P, K], zero where the candidate is absent.

    A signal whose weight is 0 in every run is a monitor: its values, NaN included, reach no sum, so it is zeroed. A
    signal that counts must be finite, else `InputError` names it and the first bad prompt and response.
    """
    stacked = np.zeros((len(names), *present.shape))
    for row, name in enumerate(names):
        if not np.any(weights[row] > 0):
            continue
        bad = present & ~np.isfinite(signals[name])
        if bad.any():
            prompt, response = np.argwhere(bad)[0]
            what = "is not finite on any response" if bad.sum() == present.sum() else "is not finite"
            raise InputError(f"signal '{name}' has a weight but {what} (prompt {prompt}, response {response})")
        stacked[row] = np.where(present, signals[name], 0.0)
    return stacked


def spread(world: World, signals: Array) -> Array:
    """Return [S]: the standard deviation of each signal within prompts, under the reference policy.

    sqrt(sum_p prob_p Var_ref(signal | p)); 1 where it is zero, so that a constant signal stays constant.

    Args:
        world: gives the reference and the prompts' probabilities.
        signals: [S, P, K], finite.
    """
    prob = np.exp(world.log_ref)
    mean = (prob * signals).sum(axis=2, keepdims=True)
    variance = ((prob * (signals - mean) ** 2).sum(axis=2) * world.prompt_prob).sum(axis=1)
    return np.where(variance > TINY, np.sqrt(variance), 1.0)
