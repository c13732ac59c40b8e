"""Policies, batched over runs: R parameter vectors on one set of prompts, runs innermost in memory.

Each policy class offers the same things, so that estimators need not know which one they train:

* `logits_`       theta [D, R] -> log pi(k | p) up to a constant per prompt, written into a buffer [P K, R]
* `pullback`      a direction in the logits of each prompt [P K, R] -> the gradient in theta [D, R]
* `precondition`  gradients [C, D, R] -> natural directions [C, D, R]
* `size`, `shape` D parameters of one run; (P, K)
* `log_ref`       [P K, 1]
"""

from typing import Protocol

import numpy as np
import torch

from sim.world.arrays import World

Tensor = torch.Tensor
# Added to the Fisher matrix relative to its mean diagonal, so that unused features do not make it singular.
DAMPING = {torch.float64: 1e-9, torch.float32: 1e-5}


class Policy(Protocol):
    """What estimators may ask of a policy."""

    size: int
    shape: tuple[int, int]
    log_ref: Tensor

    def logits_(self, theta: Tensor, out: Tensor) -> None:
        """Write log pi [P K, R], up to a constant per prompt, into `out`."""

    def pullback(self, direction: Tensor) -> Tensor:
        """Return sum_p prob_p dlogits_p/dtheta . direction_p, [D, R], for a direction [P K, R] in logits."""

    def precondition(self, probs: Tensor, gradients: Tensor) -> Tensor:
        """Return F^+ g, [C, D, R], for gradients [C, D, R] at probabilities [P, K, R]."""


class LogLinear:
    """log pi(k | p) = log_ref[p, k] + features[p, k] . theta - log Z_p: traits shared over prompts.

    `log_ref` is carried as one more feature column with coefficient 1, so that the matrix product adds it.
    """

    def __init__(self, world: World, dtype: torch.dtype = torch.float64) -> None:
        """Take the arrays of a world; `dtype` is the precision of training."""
        prompts, responses, self.size = world.features.shape
        self.shape = (prompts, responses)
        features = torch.as_tensor(np.array(world.features), dtype=dtype).reshape(-1, self.size)
        log_ref = torch.as_tensor(np.array(world.log_ref), dtype=dtype).reshape(-1, 1)
        self.log_ref = log_ref
        self._features = features
        self._with_ref = torch.cat([features, log_ref], dim=1)
        self._prompt_prob = torch.as_tensor(np.array(world.prompt_prob), dtype=dtype)
        self._weighted = (features * self._prompt_prob.repeat_interleave(responses)[:, None]).T.contiguous()
        self._rows, self._columns = torch.triu_indices(self.size, self.size)
        self._pairs: Tensor | None = None  # made when the natural gradient first asks for it

    def logits_(self, theta: Tensor, out: Tensor) -> None:
        """Write log_ref + features @ theta into `out` [P K, R]."""
        coefficients = torch.cat([theta, torch.ones_like(theta[:1])])
        torch.mm(self._with_ref, coefficients, out=out)

    def pullback(self, direction: Tensor) -> Tensor:
        """Return sum_pk prob_p features[p, k] direction[p, k], [D, R]."""
        return torch.mm(self._weighted, direction)

    def precondition(self, probs: Tensor, gradients: Tensor) -> Tensor:
        """Return F^+ g with F = sum_p prob_p Cov_pi(features | p), the Fisher matrix of each run."""
        prompts, responses = self.shape
        runs = probs.shape[2]
        by_run = probs.movedim(2, 0)  # [R, P, K]
        mean = torch.einsum("rpk,pkd->rpd", by_run, self._features.view(prompts, responses, -1))
        if self._pairs is None:
            # One product with all pairs of features serves every run and step; the means are subtracted after.
            self._pairs = self._features[:, self._rows] * self._weighted.T[:, self._columns]
        second = torch.empty(runs, self.size, self.size, dtype=probs.dtype)
        second[:, self._rows, self._columns] = by_run.reshape(runs, -1) @ self._pairs
        second[:, self._columns, self._rows] = second[:, self._rows, self._columns]
        fisher = second - torch.einsum("rpd,rpe,p->rde", mean, mean, self._prompt_prob)
        level = fisher.diagonal(dim1=1, dim2=2).mean(dim=1).clamp_min(torch.finfo(fisher.dtype).tiny)
        fisher.diagonal(dim1=1, dim2=2).add_((DAMPING[fisher.dtype] * level)[:, None])
        # A run that has diverged holds NaN: solve_ex leaves it to itself instead of stopping the batch.
        solved = torch.linalg.solve_ex(fisher, gradients.permute(2, 1, 0)).result
        return solved.permute(2, 1, 0).contiguous()


class Tabular:
    """log pi(k | p) = log_ref[p, k] + theta[p, k] - log Z_p: every prompt on its own, nothing generalises."""

    def __init__(self, world: World, dtype: torch.dtype = torch.float64) -> None:
        """Take the arrays of a world; `dtype` is the precision of training."""
        prompts, responses = self.shape = world.log_ref.shape
        self.size = prompts * responses
        self.log_ref = torch.as_tensor(np.array(world.log_ref), dtype=dtype).reshape(-1, 1)
        weight = torch.as_tensor(np.array(world.prompt_prob), dtype=dtype)
        self._weight = weight[:, None].expand(prompts, responses).reshape(-1, 1)

    def logits_(self, theta: Tensor, out: Tensor) -> None:
        """Write log_ref + theta into `out` [P K, R]."""
        torch.add(self.log_ref, theta, out=out)

    def pullback(self, direction: Tensor) -> Tensor:
        """Return prob_p direction[p, k]: each logit is a parameter."""
        return self._weight * direction

    def precondition(self, probs: Tensor, gradients: Tensor) -> Tensor:
        """Return g / (prob_p pi): the natural direction, exact because g is centred within each prompt."""
        fisher = self._weight * probs.reshape(self.size, -1)
        return gradients / fisher.clamp_min(torch.finfo(fisher.dtype).tiny)


POLICIES: dict[str, type[LogLinear] | type[Tabular]] = {"loglinear": LogLinear, "tabular": Tabular}
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def make_policy(kind: str, world: World, dtype: str = "float64") -> Policy:
    """Return the policy class `kind` on a world, in the precision `dtype`."""
    return POLICIES[kind](world, DTYPES[dtype])


def log_probs(policy: Policy, theta: Tensor) -> Tensor:
    """Return log pi, [P, K, R], for parameters [D, R]."""
    logits = torch.empty(policy.shape[0] * policy.shape[1], theta.shape[1], dtype=theta.dtype)
    policy.logits_(theta, logits)
    return torch.log_softmax(logits.view(*policy.shape, -1), dim=1)
