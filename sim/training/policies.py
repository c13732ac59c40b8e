"""Policies, batched over runs: R parameter vectors on one set of prompts, runs innermost in memory.

Each policy class offers the same things, so that estimators need not know which one they train:

* `logits_`       theta [D, R] -> log pi(k | p) up to a constant per prompt, written into a buffer [P K, R]
* `pullback`      a direction in the logits of each prompt [P K, R] -> the gradient in theta [D, R]
* `precondition`  gradients [C, D, R] -> natural directions [C, D, R]
* `select`        the same policy on some of the prompts, equally weighted
* `size`, `shape` D parameters of one run; (P, K)
* `log_ref`       [P K, 1]
* `prompt_weight` [P], sums to 1

Parameters of 0 are the reference policy.
"""

import copy
from typing import Protocol, Self

import numpy as np
import torch

from sim import rng
from sim.world.arrays import World

Tensor = torch.Tensor
# Added to the Fisher matrix relative to its mean diagonal, so that unused features do not make it singular.
DAMPING = {torch.float64: 1e-9, torch.float32: 1e-5}


class Policy(Protocol):
    """What estimators may ask of a policy."""

    size: int
    shape: tuple[int, int]
    log_ref: Tensor
    prompt_weight: Tensor

    def logits_(self, theta: Tensor, out: Tensor) -> None:
        """Write log pi [P K, R], up to a constant per prompt, into `out`."""

    def pullback(self, direction: Tensor) -> Tensor:
        """Return sum_p prob_p dlogits_p/dtheta . direction_p, [D, R], for a direction [P K, R] in logits.

        The slope is taken at the theta that `logits_` saw last.
        """

    def precondition(self, probs: Tensor, gradients: Tensor) -> Tensor:
        """Return F^+ g, [C, D, R], for gradients g [C, D, R] at probabilities [P, K, R], F the Fisher matrix.

        (Amari 1998; Kakade, "A natural policy gradient", NIPS 2001.)
        """

    def select(self, rows: Tensor) -> Self:
        """Return the policy on the prompts in `rows` [n], each with weight 1 / n."""


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
        self.prompt_weight = torch.as_tensor(np.array(world.prompt_prob), dtype=dtype)
        self._weighted = (features * self.prompt_weight.repeat_interleave(responses)[:, None]).T.contiguous()
        self._rows, self._columns = torch.triu_indices(self.size, self.size)
        self._pair_of = torch.empty(self.size, self.size, dtype=torch.long)  # (d, e) and (e, d) -> column of the pair
        self._pair_of[self._rows, self._columns] = torch.arange(len(self._rows))
        self._pair_of[self._columns, self._rows] = torch.arange(len(self._rows))
        self._pairs: Tensor | None = None  # made when the natural gradient first asks for it

    def logits_(self, theta: Tensor, out: Tensor) -> None:
        """Write log_ref + features @ theta into `out` [P K, R]."""
        coefficients = torch.cat([theta, torch.ones_like(theta[:1])])
        torch.mm(self._with_ref, coefficients, out=out)

    def pullback(self, direction: Tensor) -> Tensor:
        """Return sum_pk prob_p features[p, k] direction[p, k], [D, R]."""
        return torch.mm(self._weighted, direction)

    def select(self, rows: Tensor) -> Self:
        """Return the policy on some prompts; see `Policy`."""
        here, responses = copy.copy(self), self.shape[1]
        here.shape = (len(rows), responses)
        here._with_ref = self._with_ref.view(*self.shape, -1)[rows].flatten(0, 1)
        here._features, here.log_ref = here._with_ref[:, :-1], here._with_ref[:, -1:]
        here.prompt_weight = torch.full((len(rows),), 1 / len(rows), dtype=self.log_ref.dtype)
        here._weighted = here._features.T / len(rows)
        here._pairs = None
        return here

    def precondition(self, probs: Tensor, gradients: Tensor) -> Tensor:
        """Return (F + damping)^-1 g with F = sum_p prob_p Cov_pi(features | p), the Fisher matrix of each run."""
        prompts, responses = self.shape
        runs = probs.shape[2]
        mean = torch.bmm(probs.mT, self._features.view(prompts, responses, -1))  # [P, R, D]
        mean = mean.mul_(self.prompt_weight.sqrt()[:, None, None]).movedim(0, 2)  # [R, D, P]
        if self._pairs is None:
            # One product with all pairs of features serves every run and step; the means are subtracted after.
            self._pairs = self._features[:, self._rows] * self._weighted.T[:, self._columns]
        second = (probs.view(-1, runs).T @ self._pairs)[:, self._pair_of]
        fisher = second - mean @ mean.mT
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
        self.prompt_weight = torch.as_tensor(np.array(world.prompt_prob), dtype=dtype)
        self._rows: Tensor | None = None  # parameters [P K] of the selected prompts; None for all of them

    def logits_(self, theta: Tensor, out: Tensor) -> None:
        """Write log_ref + theta into `out` [P K, R]."""
        torch.add(self.log_ref, theta if self._rows is None else theta[self._rows], out=out)

    def pullback(self, direction: Tensor) -> Tensor:
        """Return prob_p direction[p, k]: each logit is a parameter."""
        here = self.prompt_weight.repeat_interleave(self.shape[1])[:, None] * direction
        if self._rows is None:
            return here
        return torch.zeros(self.size, direction.shape[1], dtype=here.dtype).index_add_(0, self._rows, here)

    def select(self, rows: Tensor) -> Self:
        """Return the policy on some prompts; see `Policy`."""
        here, responses = copy.copy(self), self.shape[1]
        here._rows = (rows[:, None] * responses + torch.arange(responses)).flatten()
        here.shape = (len(rows), responses)
        here.log_ref = self.log_ref[here._rows]
        here.prompt_weight = torch.full((len(rows),), 1 / len(rows), dtype=self.log_ref.dtype)
        return here

    def precondition(self, probs: Tensor, gradients: Tensor) -> Tensor:
        """Return g / (prob_p pi): the natural direction, exact because g is centred within each prompt."""
        fisher = (self.prompt_weight[:, None, None] * probs).reshape(self.size, -1)
        return gradients / fisher.clamp_min(torch.finfo(fisher.dtype).tiny)


class MLP:
    """log pi = log_ref + v . tanh(W x) - log Z_p on the features x of a response, with one hidden layer of H units.

    Parameters are the distance from the start: W = W0 + theta_W with a random W0 of variance 1 / D (one draw for all
    runs of a seed), v = theta_v. The start is thus the reference.
    """

    def __init__(self, world: World, dtype: torch.dtype = torch.float64, hidden: int = 16, seed: int = 0) -> None:
        """Take the arrays of a world, H and the seed of W0; `dtype` is the precision of training."""
        prompts, responses, traits = world.features.shape
        self.shape, self.hidden, self.size = (prompts, responses), hidden, (traits + 1) * hidden
        self.log_ref = torch.as_tensor(np.array(world.log_ref), dtype=dtype).reshape(-1, 1)
        self.prompt_weight = torch.as_tensor(np.array(world.prompt_prob), dtype=dtype)
        self._features = torch.as_tensor(np.array(world.features), dtype=dtype).reshape(-1, traits)
        start = rng.stream(seed, "policy", "mlp").standard_normal((hidden, traits)) / np.sqrt(traits)
        self._start = torch.as_tensor(start, dtype=dtype)[:, :, None]

    def logits_(self, theta: Tensor, out: Tensor) -> None:
        """Write log_ref + v . tanh(W x) into `out` [P K, R], and keep the hidden layer for `pullback`."""
        hidden, traits, _ = self._start.shape
        inner = theta[: hidden * traits].view(hidden, traits, -1) + self._start
        self._outer = theta[hidden * traits :]
        self._active = torch.matmul(self._features, inner).tanh_()  # [H, P K, R]
        out.copy_(self.log_ref.expand_as(out))
        for unit, strength in zip(self._active, self._outer, strict=True):
            out.addcmul_(unit, strength)

    def pullback(self, direction: Tensor) -> Tensor:
        """Return the chain rule through both layers."""
        pull = self.prompt_weight.repeat_interleave(self.shape[1])[:, None] * direction
        inner, outer = torch.empty_like(self._start.expand(-1, -1, direction.shape[1])), torch.empty_like(self._outer)
        for row, unit in enumerate(self._active):
            back = unit * pull
            outer[row] = back.sum(dim=0)
            # (1 - unit^2) pull v, with what is at hand
            inner[row] = self._features.T @ torch.addcmul(pull, back, unit, value=-1).mul_(self._outer[row])
        return torch.cat([inner.flatten(0, 1), outer])

    def select(self, rows: Tensor) -> Self:
        """Return the policy on some prompts; see `Policy`."""
        here, (prompts, responses) = copy.copy(self), self.shape
        here.shape = (len(rows), responses)
        here.log_ref = self.log_ref.view(prompts, responses)[rows].view(-1, 1)
        here._features = self._features.view(prompts, responses, -1)[rows].flatten(0, 1)
        here.prompt_weight = torch.full((len(rows),), 1 / len(rows), dtype=self.log_ref.dtype)
        return here

    def precondition(self, probs: Tensor, gradients: Tensor) -> Tensor:
        """Refuse: a natural gradient of an MLP would need a Fisher matrix of all its parameters for every run."""
        raise NotImplementedError("the natural gradient is for loglinear and tabular policies; use exact with adam")


DTYPES = {"float32": torch.float32, "float64": torch.float64}


def make_policy(kind: str, world: World, dtype: str = "float64", hidden: int = 16, seed: int = 0) -> Policy:
    """Return the policy class `kind` on a world, in the precision `dtype`; an MLP needs its width and a seed."""
    if kind == "mlp":
        return MLP(world, DTYPES[dtype], hidden, seed)
    return Tabular(world, DTYPES[dtype]) if kind == "tabular" else LogLinear(world, DTYPES[dtype])


def log_probs(policy: Policy, theta: Tensor) -> Tensor:
    """Return log pi, [P, K, R], for parameters [D, R]; the policy is then ready for `pullback` at theta."""
    logits = torch.empty(policy.shape[0] * policy.shape[1], theta.shape[1], dtype=theta.dtype)
    policy.logits_(theta, logits)
    return torch.log_softmax(logits.view(*policy.shape, -1), dim=1)
