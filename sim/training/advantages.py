"""How several rewards become one advantage: aggregation and scaling, in the words of the RLHF trainers.

The advantage of response k to prompt p is a sum over signals, each linear in its own reward:

    A[p, k] = sum_i factor[p, i] (r_i[p, k] - baseline_i[p])

so that a ledger can split it. The factors hold the weight and the scaling (TRL's GRPOTrainer, `scale_rewards` and
`multi_objective_aggregation`):

* `sum_then_normalize`  factor_i = w_i / std(sum_j w_j r_j)      (GRPO: Shao et al., arXiv 2402.03300)
* `normalize_then_sum`  factor_i = w_i / std(r_i in the group) / std(their sum)   (GDPO: arXiv 2601.05242)

`scale_rewards` says over what the std of the sum is taken: the responses to one prompt ("group"), all responses of the
step ("batch"), or nothing ("none": the plain weighted sum where the rewards are summed first). The KL penalty stands
beside this, unscaled. Both work on samples (`chosen`: the share of a group that fell on each candidate; `group` draws,
whose variance is divided by group - 1) and on the whole distribution (`chosen`: the policy; `group` 0).
"""

from typing import NamedTuple

import numpy as np
import torch

from sim.world.arrays import Array

Tensor = torch.Tensor
EPSILON = 1e-4  # added to every standard deviation, as trainers do
EQUAL = 1e-6  # rewards that spread less are equal: what is left of their difference is rounding


class Normalization(NamedTuple):
    """The two words."""

    aggregation: str = "sum_then_normalize"
    scale_rewards: str = "none"

    @property
    def plain(self) -> bool:
        """Whether the rewards are simply summed."""
        return self == Normalization()


def reward_factors(
    signals: Tensor,
    chosen: Tensor,
    weights: Tensor,
    prompt_weight: Tensor,
    how: Normalization,
    group: int = 0,
    offset: Tensor | float = 0.0,
) -> Tensor:
    """Return the factor of each signal, [n, S, R].

    Args:
        signals: [n, S, K] rewards on n prompts.
        chosen: [n, K, R] share of each candidate; sums to 1 over K.
        weights: [S, R].
        prompt_weight: [n], sums to 1.
        how: aggregation and scaling.
        group: samples per prompt, for the unbiased variance; 0 where `chosen` is the policy itself.
        offset: [n, 1, R] taken off the summed reward before its spread over a batch is measured (a critic's value).
    """
    factors = weights.expand(len(signals), -1, -1)
    in_group = group / (group - 1) if group > 1 else 1.0
    each_first = how.aggregation == "normalize_then_sum"
    if each_first:
        spread = torch.stack([_group_variance(signals[:, i, :, None], chosen)[0] for i in range(signals.shape[1])], 1)
        factors = factors * _inverse((spread * in_group).sqrt())
    if how.scale_rewards == "none":
        return factors
    within, mean = _group_variance(torch.bmm(signals.mT, factors) - offset, chosen)
    if how.scale_rewards == "group":
        return factors * _inverse((within * in_group).sqrt())[:, None]
    weight = prompt_weight[:, None]
    between = 0.0 if each_first else (weight * (mean - (weight * mean).sum(dim=0)) ** 2).sum(dim=0)
    draws = len(signals) * group
    in_batch = draws / (draws - 1) if draws > 1 else 1.0
    return factors * _inverse((((weight * within).sum(dim=0) + between) * in_batch).sqrt())


def advantages(
    signals: Tensor,
    chosen: Tensor,
    weights: Tensor,
    how: Normalization,
    group: int = 0,
    prompt_weight: Tensor | None = None,
) -> Tensor:
    """Return the advantage against the group's own mean, [n, K, R]; arguments as of `reward_factors`."""
    if prompt_weight is None:
        prompt_weight = torch.full((len(signals),), 1 / len(signals), dtype=signals.dtype)
    factors = reward_factors(signals, chosen, weights, prompt_weight, how, group)
    reward = torch.bmm(signals.mT, factors)
    return reward - (chosen * reward).sum(dim=1, keepdim=True)


def group_advantages(rewards: Array, how: Normalization, weights: Array | None = None, sampled: bool = True) -> Array:
    """Return the advantages [G] of one group of G responses, as a trainer computes them.

    Args:
        rewards: [S, G].
        how: aggregation and scaling.
        weights: [S]; None: all 1.
        sampled: whether they are a sample; else they are all there are, equally likely.
    """
    signals = torch.as_tensor(np.asarray(rewards, dtype=float))[None]
    weight = torch.ones(len(rewards)) if weights is None else torch.as_tensor(np.asarray(weights, dtype=float))
    group = signals.shape[2]
    chosen = torch.full((1, group, 1), 1 / group, dtype=signals.dtype)
    found = advantages(signals, chosen, weight.to(signals.dtype)[:, None], how, group if sampled else 0)
    return found[0, :, 0].numpy()


def _inverse(spread: Tensor) -> Tensor:
    """Return 1 / (spread + epsilon), and 0 where rewards are equal: they say nothing about which response is better."""
    return torch.where(spread > EQUAL, 1 / (spread + EPSILON), 0.0)


def _group_variance(values: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the variance and mean of values [n, K, R] within each group, each [n, R]."""
    mean = (chosen * values).sum(dim=1, keepdim=True)
    return (chosen * (values - mean) ** 2).sum(dim=1), mean[:, 0]
