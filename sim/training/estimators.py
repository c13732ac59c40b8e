"""Gradients of the objective  J(theta) = sum_p prob_p { E_pi[reward] - kl_coef KL(pi || ref) },  batched over runs.

For any reward r the gradient in the logits of a prompt is  pi (r - E_pi[r | p]);  the KL term is the reward
-kl_coef log(pi / ref), whose own derivative vanishes in expectation (Williams 1992; Sutton et al. 2000). Constants
per prompt cancel, so unnormalised logits serve in place of log pi.
"""

import torch

from sim.training.policies import Policy

Tensor = torch.Tensor


class ExactGradient:
    """The expected gradient, summed over every prompt and response, with buffers that are reused at each step.

    Args:
        policy: R runs share it.
        reward: [P K, R] the mixed reward.
        kl_coef: [R].
    """

    def __init__(self, policy: Policy, reward: Tensor, kl_coef: Tensor) -> None:
        """Allocate the buffers; everything that does not change with theta is computed here."""
        prompts, responses = policy.shape
        self.policy = policy
        self.probs = torch.empty(prompts, responses, reward.shape[1], dtype=reward.dtype)
        self._logits = torch.empty_like(reward)
        self._baseline = torch.empty_like(self.probs[:, :1])
        self._minus_kl_coef = -kl_coef
        self._reward = reward + kl_coef * policy.log_ref  # reward - kl_coef (logits - log_ref), without the logits

    def __call__(self, theta: Tensor) -> Tensor:
        """Return dJ/dtheta, [D, R]; `probs` then holds the policy at theta."""
        advantage = self._logits
        self.policy.logits_(theta, advantage)
        cube = advantage.view_as(self.probs)
        torch.softmax(cube, dim=1, out=self.probs)
        torch.addcmul(self._reward, advantage, self._minus_kl_coef, out=advantage)
        return self.policy.pullback(self._centre_(cube))

    def by_cause(self, theta: Tensor, signals: Tensor, weights: Tensor) -> Tensor:
        """Return the gradient split by cause, [S + 1, D, R]: one line per signal, then the KL penalty.

        Args:
            theta: [D, R].
            signals: [S, P K].
            weights: [S, R].
        """
        advantage = self._logits
        cube = advantage.view_as(self.probs)
        self.policy.logits_(theta, advantage)
        torch.softmax(cube, dim=1, out=self.probs)
        lines = torch.empty(len(signals) + 1, *theta.shape, dtype=theta.dtype)
        torch.sub(advantage, self.policy.log_ref, out=advantage).mul_(self._minus_kl_coef)
        lines[-1] = self.policy.pullback(self._centre_(cube))
        for row, signal in enumerate(signals):
            torch.mul(signal[:, None], weights[row], out=advantage)
            lines[row] = self.policy.pullback(self._centre_(cube))
        return lines

    def _centre_(self, advantage: Tensor) -> Tensor:
        """Turn a reward [P, K, R] in place into pi (r - E_pi[r]) and return it as [P K, R]."""
        advantage.mul_(self.probs)
        torch.sum(advantage, dim=1, keepdim=True, out=self._baseline)
        advantage.addcmul_(self.probs, self._baseline, value=-1)
        return advantage.view(-1, advantage.shape[2])
