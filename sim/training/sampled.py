"""Sampled policy gradients: REINFORCE, RLOO, GRPO and PPO, batched over runs.

A step draws n prompts and, for each, a group of G responses from the current policy. Candidates are few, so a group is
its counts: `chosen[p, k]` is the share of the group that fell on candidate k, and every estimator is

    gradient = sum_p prob_p sum_k chosen (A_k) grad log pi(k | p),

on arrays of the size of the exact gradient's. They differ in the baseline that makes rewards into advantages A:

* `reinforce`  the mean reward of the steps before, the reference's counting as one (Williams 1992)
* `rloo`       the mean of the other responses in the group (Kool et al. 2019; Ahmadian et al., arXiv 2402.14740)
* `grpo`       the mean of the whole group (Shao et al., arXiv 2402.03300): shorter than RLOO's by (G - 1) / G
* `ppo`        a critic's value of each prompt, moved towards what groups show (Schulman et al., arXiv 1707.06347)

GRPO and PPO may go over one sample several times (`epochs`); the ratio pi / pi_old is then clipped.

The KL penalty is part of the reward (`k1`: -kl_coef log(pi / ref) of the drawn response, unbiased for the gradient of
KL(pi || ref)), or a loss of its own (`k3`: ref / pi - log(ref / pi) - 1, TRL's GRPO without its bias correction; see
docs/peers.md), whose gradient on fresh samples is in expectation that of KL(ref || pi): its fixed point is another one.

All runs of a world draw the same prompts and the same uniform numbers: common random numbers, so that two weights
differ by what the weight does. Numbers belong to (seed, sampling_seed, step), never to a place in a batch.
"""

from typing import NamedTuple

import torch

from sim import rng
from sim.training.advantages import Normalization, reward_factors
from sim.training.policies import Policy, log_probs

Tensor = torch.Tensor


class Sampling(NamedTuple):
    """How a sampled estimator draws.

    seed: of the world.
    sampling_seed: another number, another sample of the same world.
    prompts: drawn at each step, with replacement; 0: every prompt, weighted by its probability.
    samples: G, responses drawn per prompt.
    epochs: updates on each sample.
    clip: how far pi / pi_old may go from 1 before a sample stops counting.
    kl_estimator: "k1" or "k3".
    value_rate: share of the way that a critic's value moves to what was seen.
    """

    seed: int = 0
    sampling_seed: int = 0
    prompts: int = 64
    samples: int = 8
    epochs: int = 1
    clip: float = 0.2
    kl_estimator: str = "k1"
    value_rate: float = 0.1


class SampledGradient:
    """A gradient from samples; see the top of the file.

    Args:
        policy: R runs share it.
        signals: [S, P K] rewards.
        kl_coef: [R].
        how: how rewards are aggregated and scaled.
        estimator: one of `sim.config.SAMPLED`.
        sampling: how it draws.
    """

    def __init__(
        self,
        policy: Policy,
        signals: Tensor,
        kl_coef: Tensor,
        how: Normalization,
        estimator: str,
        sampling: Sampling,
    ) -> None:
        """Open the random streams and start the baselines."""
        self.policy, self.how, self.estimator, self.sampling = policy, how, estimator, sampling
        self.kl_coef = kl_coef
        self._by_prompt = signals.view(len(signals), *policy.shape).transpose(0, 1).contiguous()
        name = ("training", sampling.sampling_seed)
        self._draw_prompts = rng.stream(sampling.seed, *name, "prompts")
        self._draw_responses = rng.stream(sampling.seed, *name, "responses")
        self._edges = policy.prompt_weight.double().cumsum(dim=0)
        ref = policy.log_ref.view(*policy.shape, 1).exp()
        # What a critic or a running mean expects of each signal [P, S, R], and of the KL penalty [P, 1, R].
        start = torch.bmm(self._by_prompt, ref).expand(-1, -1, len(kl_coef))
        if estimator == "reinforce":
            start = torch.einsum("p,psr->sr", policy.prompt_weight, start).expand_as(start)
        self._expected = torch.cat([start, torch.zeros_like(start[:, :1])], dim=1)
        self._steps = 0

    def weigh(self, weights: Tensor) -> None:
        """Use these weights [S, R] from now on."""
        self.weights = weights

    def draw(self, theta: Tensor) -> None:
        """Draw prompts and responses from the policy at theta [D, R]; their advantages hold until the next draw."""
        rows = self._prompt_rows()
        self._here = here = self.policy if rows is None else self.policy.select(rows)
        self._log_old = log_probs(here, theta)
        self._old = self._log_old.exp()
        self._chosen = self._counts() / self.sampling.samples
        signals = self._by_prompt if rows is None else self._by_prompt[rows]
        penalty = torch.zeros_like(self._old)
        if self.sampling.kl_estimator == "k1":
            penalty = self.kl_coef * (here.log_ref.view(*here.shape, 1) - self._log_old)
        baseline, seen = self._baselines(signals, penalty, rows)
        offset = (self.weights * baseline[:, :-1]).sum(dim=1, keepdim=True) if self.estimator == "ppo" else 0.0
        group = self.sampling.samples
        factors = reward_factors(signals, self._chosen, self.weights, here.prompt_weight, self.how, group, offset)
        # RLOO's leave-one-out mean: r_g - mean of the others = G / (G - 1) (r_g - mean of the group).
        stretch = group / (group - 1) if self.estimator == "rloo" else 1.0
        factors = factors * stretch
        self._signals, self._factors, self._base = signals, factors, baseline
        self._penalty = (penalty - baseline[:, -1:]) * stretch
        self._advantage = torch.bmm(signals.mT, factors)
        self._advantage += self._penalty - (factors * baseline[:, :-1]).sum(dim=1, keepdim=True)
        # A group's own mean takes 1 / G of each reward with it, so the expected gradient is shorter.
        own = self.estimator in ("rloo", "grpo")
        self._shrink = (group - 1) / group if own else 1.0
        self._learn(rows, seen)

    def __call__(self, theta: Tensor) -> Tensor:
        """Return the estimated gradient [D, R] at theta, from what was drawn last."""
        log_pi = log_probs(self._here, theta)
        probs = log_pi.exp()
        surrogate = self._chosen * self._advantage
        if self.sampling.epochs > 1:
            surrogate = surrogate * self._clipped_ratio(log_pi)
        return self._pull(surrogate + self._chosen * self._k3(log_pi), probs)

    def by_cause(self, theta: Tensor) -> Tensor:
        """Return the gradient split by cause, [S + 2, D, R]: signals, KL penalty, sampling noise.

        The line of a signal is what it gives on average over the responses that might have been drawn to the same
        prompts, with the same scaling and clipping; the noise is what this draw adds to the sum of all lines.
        """
        log_pi = log_probs(self._here, theta)
        probs = log_pi.exp()
        share = self._old * self._shrink
        if self.sampling.epochs > 1:
            share = share * self._clipped_ratio(log_pi)
        lines = []
        for row in range(self._signals.shape[1]):
            centred = self._signals[:, row, :, None] - self._base[:, row, None]
            lines.append(self._pull(share * self._factors[:, row, None] * centred, probs))
        lines.append(self._pull(share * self._penalty + self._old * self._k3(log_pi), probs))
        lines.append(self(theta) - torch.stack(lines).sum(dim=0))
        return torch.stack(lines)

    def _prompt_rows(self) -> Tensor | None:
        """Return the drawn prompts [n], or None for all of them."""
        if not self.sampling.prompts:
            return None
        uniform = torch.from_numpy(self._draw_prompts.random(self.sampling.prompts))
        return torch.searchsorted(self._edges, uniform, right=True).clamp_max(self.policy.shape[0] - 1)

    def _counts(self) -> Tensor:
        """Return how many of a group's draws fall on each candidate, [n, K, R], by inverting the cumulative policy."""
        prompts, responses, runs = self._old.shape
        uniform = torch.from_numpy(self._draw_responses.random((prompts, self.sampling.samples))).to(self._old.dtype)
        edges = self._old.cumsum(dim=1)
        edges[:, -1] = 2.0  # rounding must not lose a draw
        below = torch.searchsorted(uniform.sort(dim=1).values, edges.view(prompts, responses * runs), out_int32=True)
        below = below.view(prompts, responses, runs).to(self._old.dtype)
        return torch.diff(below, dim=1, prepend=torch.zeros_like(below[:, :1]))

    def _baselines(self, signals: Tensor, penalty: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the baseline of each signal and of the KL penalty, and their means in the groups, [n, S + 1, R]."""
        seen = torch.cat([torch.bmm(signals, self._chosen), (penalty * self._chosen).sum(dim=1, keepdim=True)], dim=1)
        if self.estimator in ("rloo", "grpo"):
            return seen, seen
        return (self._expected if rows is None else self._expected[rows]), seen

    def _learn(self, rows: Tensor | None, seen: Tensor) -> None:
        """Move what is expected of each signal towards what was seen."""
        self._steps += 1
        if self.estimator == "reinforce":
            mean = torch.einsum("p,psr->sr", self._here.prompt_weight, seen)
            self._expected = self._expected + (mean - self._expected) / (self._steps + 1)
        elif self.estimator == "ppo":
            error = seen - (self._expected if rows is None else self._expected[rows])
            if rows is not None:  # a prompt drawn twice moves once, by the mean of both
                count = torch.bincount(rows, minlength=len(self._expected)).clamp_min(1)[:, None, None]
                error = torch.zeros_like(self._expected).index_add_(0, rows, error) / count
            self._expected = self._expected + self.sampling.value_rate * error

    def _clipped_ratio(self, log_pi: Tensor) -> Tensor:
        """Return pi / pi_old where the clipped surrogate still has a slope, 0 where it has none."""
        ratio = (log_pi - self._log_old).exp()
        clip, gains = self.sampling.clip, self._advantage > 0
        flat = (gains & (ratio > 1 + clip)) | (~gains & (ratio < 1 - clip))
        return ratio.masked_fill(flat, 0.0)

    def _k3(self, log_pi: Tensor) -> Tensor | float:
        """Return minus the slope of  kl_coef (ref / pi - log(ref / pi) - 1)  in log pi, [n, K, R]."""
        if self.sampling.kl_estimator == "k1":
            return 0.0
        return self.kl_coef * ((self._here.log_ref.view(*self._here.shape, 1) - log_pi).exp() - 1)

    def _pull(self, slope: Tensor, probs: Tensor) -> Tensor:
        """Return the gradient [D, R] of sum_k slope_k log pi(k), for slopes [n, K, R]."""
        direction = slope - probs * slope.sum(dim=1, keepdim=True)
        return self._here.pullback(direction.view(-1, direction.shape[2]))
