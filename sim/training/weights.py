"""Weights that change while a policy learns: schedules, and constraints with Lagrange multipliers.

A schedule takes the added signal from its absence to its full weight. Effective weights are linear in the added weight
(`sim/rewards/mixture.py`), so at the share f of it they are  before + f (full - before).

A constraint holds a mean at a threshold by moving the weight of one signal, by dual ascent before each update, on the
policy as it then is (Moskovitz et al., arXiv 2310.04373):

    multiplier <- multiplier + rate * sign * (threshold - mean),

kept at 0 or above for "at least" and "at most" (their mu-PPO), free for "equal" (xi-PPO).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sim.training.policies import Policy, log_probs

Array = npt.NDArray[np.float64]
Tensor = torch.Tensor


class Constraint(NamedTuple):
    """A mean to be held by one signal.

    row: the signal whose weight is moved.
    policy: on the prompts of the mean.
    values: [P, K] of the mean, the prompt probability multiplied in.
    threshold: [R].
    sign: 1 where more of the signal raises the mean, -1 where it lowers it.
    equal: whether the multiplier may fall below 0.
    """

    row: int
    policy: Policy
    values: Array
    threshold: Array
    sign: float = 1.0
    equal: bool = False


class Changes(NamedTuple):
    """How weights change.

    before: [S, R] weights without the added signal.
    share: [steps] of the added signal's weight that is in force at each update; empty: all of it, always.
    constraints: those that hold.
    rate: of the multipliers.
    """

    before: Array
    share: Array
    constraints: Sequence[Constraint] = ()
    rate: float = 0.0


class Weights:
    """The weights [S, R] of a chunk of runs at each update."""

    def __init__(self, full: Tensor, changes: Changes | None, runs: slice) -> None:
        """Take the weights of the runs in the chunk, and how they change; None: they do not."""
        self._full, self._changes = full, changes
        self.moving = changes is not None
        if changes is not None:
            self._before = torch.as_tensor(changes.before[:, runs], dtype=full.dtype)
            self._values = [torch.as_tensor(c.values.reshape(1, -1), dtype=full.dtype) for c in changes.constraints]
            self._thresholds = [torch.as_tensor(c.threshold[runs], dtype=full.dtype) for c in changes.constraints]
            self._multipliers = [torch.zeros(full.shape[1], dtype=full.dtype) for _ in changes.constraints]

    def at(self, step: int, theta: Tensor) -> Tensor:
        """Return the weights of update `step` (from 1), made from the policy at theta [D, R]; multipliers move."""
        changes = self._changes
        if changes is None:
            return self._full
        weights = self._full.clone()
        if len(changes.share):
            weights = self._before + float(changes.share[step - 1]) * (self._full - self._before)
        held = zip(changes.constraints, self._values, self._thresholds, self._multipliers, strict=True)
        for constraint, values, threshold, multiplier in held:
            mean = (values @ log_probs(constraint.policy, theta).exp_().flatten(0, 1))[0]
            multiplier += changes.rate * constraint.sign * (threshold - mean)
            if not constraint.equal:
                multiplier.clamp_(min=0.0)
            weights[constraint.row] += multiplier
        return weights
