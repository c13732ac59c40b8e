"""Expected gradients of  J(theta) = sum_p prob_p { E_pi[reward] - kl_coef KL(pi || ref) },  batched over runs.

For any reward r the gradient in the logits of a prompt is  pi (r - E_pi[r | p]);  the KL term is the reward
-kl_coef log(pi / ref), whose own derivative vanishes in expectation (Williams 1992; Sutton et al. 2000). Constants
per prompt cancel, so unnormalised logits serve in place of log pi. Where rewards are normalised
(`sim/training/advantages.py`), r is scaled by its spread under the policy: a group of infinitely many samples.

An estimator offers `weigh` (the mixture, which may change from step to step), `draw` (a fresh sample, once a step),
itself as a function (the gradient) and `by_cause` (the gradient, split).
"""

import torch

from sim.training.advantages import Normalization, reward_factors
from sim.training.policies import Policy

Tensor = torch.Tensor


class ExactGradient:
    """The expected gradient, summed over every prompt and response, with buffers that are reused at each step.

    Args:
        policy: R runs share it.
        signals: [S, P K] rewards.
        kl_coef: [R].
        how: how rewards are aggregated and scaled.
    """

    def __init__(self, policy: Policy, signals: Tensor, kl_coef: Tensor, how: Normalization | None = None) -> None:
        """Allocate the buffers."""
        prompts, responses = policy.shape
        self.policy, self.signals, self.how = policy, signals, how or Normalization()
        self.probs = torch.empty(prompts, responses, len(kl_coef), dtype=signals.dtype)
        self._logits = torch.empty(prompts * responses, len(kl_coef), dtype=signals.dtype)
        self._baseline = torch.empty_like(self.probs[:, :1])
        self._minus_kl_coef = -kl_coef
        self._kl_of_ref = kl_coef * policy.log_ref
        self._by_prompt = signals.view(len(signals), prompts, responses).transpose(0, 1).contiguous()

    def weigh(self, weights: Tensor) -> None:
        """Use these weights [S, R] from now on."""
        self.weights = weights
        if self.how.plain:  # reward - kl_coef (logits - log_ref), all but the logits
            self._reward = torch.addmm(self._kl_of_ref, self.signals.T, weights)

    def draw(self, theta: Tensor) -> None:
        """Nothing to draw."""

    def __call__(self, theta: Tensor) -> Tensor:
        """Return dJ/dtheta, [D, R]; `probs` then holds the policy at theta."""
        advantage = self._logits
        self.policy.logits_(theta, advantage)
        cube = advantage.view_as(self.probs)
        torch.softmax(cube, dim=1, out=self.probs)
        reward = self._reward if self.how.plain else self._scaled_reward()
        torch.addcmul(reward, advantage, self._minus_kl_coef, out=advantage)
        return self.policy.pullback(self._centre_(cube))

    def by_cause(self, theta: Tensor) -> Tensor:
        """Return the gradient split by cause, [S + 1, D, R]: one line per signal, then the KL penalty."""
        advantage = self._logits
        cube = advantage.view_as(self.probs)
        self.policy.logits_(theta, advantage)
        torch.softmax(cube, dim=1, out=self.probs)
        lines = torch.empty(len(self.signals) + 1, *theta.shape, dtype=theta.dtype)
        torch.sub(advantage, self.policy.log_ref, out=advantage).mul_(self._minus_kl_coef)
        lines[-1] = self.policy.pullback(self._centre_(cube))
        factors = self.weights[None] if self.how.plain else self._factors()
        for row in range(len(self.signals)):
            torch.mul(self._by_prompt[:, row, :, None], factors[:, row, None], out=cube)
            lines[row] = self.policy.pullback(self._centre_(cube))
        return lines

    def _factors(self) -> Tensor:
        return reward_factors(self._by_prompt, self.probs, self.weights, self.policy.prompt_weight, self.how)

    def _scaled_reward(self) -> Tensor:
        return torch.bmm(self._by_prompt.mT, self._factors()).view_as(self._logits) + self._kl_of_ref

    def _centre_(self, advantage: Tensor) -> Tensor:
        """Turn a reward [P, K, R] in place into pi (r - E_pi[r]) and return it as [P K, R]."""
        advantage.mul_(self.probs)
        torch.sum(advantage, dim=1, keepdim=True, out=self._baseline)
        advantage.addcmul_(self.probs, self._baseline, value=-1)
        return advantage.view(-1, advantage.shape[2])
