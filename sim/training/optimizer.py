"""From gradients to updates, cause by cause."""

import torch

from sim.training.trajectory import ADAM_BETAS, ADAM_EPSILON

Tensor = torch.Tensor


class Optimizer:
    """Turns gradients by cause [C, D, R] into displacements by cause [C, D, R], whose sum is the update.

    `sgd` moves by learning_rate * g. `adam` is linear in the gradients but for its denominator, which all causes
    share, so each cause keeps its own first moment and the split stays exact.
    """

    def __init__(self, kind: str, learning_rate: Tensor) -> None:
        """Take "sgd" or "adam" and the step size of each run [R]."""
        self.kind, self.learning_rate, self.count = kind, learning_rate, 0
        self.first: Tensor | None = None
        self.second: Tensor | None = None

    def __call__(self, gradients: Tensor) -> Tensor:
        """Return the displacement of each cause, for ascent."""
        if self.kind == "sgd":
            return gradients * self.learning_rate
        if self.first is None or self.second is None:
            self.first, self.second = torch.zeros_like(gradients), torch.zeros_like(gradients[0])
        self.count += 1
        beta1, beta2 = ADAM_BETAS
        self.first.mul_(beta1).add_(gradients, alpha=1 - beta1)
        self.second.mul_(beta2).add_(gradients.sum(dim=0).square(), alpha=1 - beta2)
        denominator = (self.second / (1 - beta2**self.count)).sqrt_().add_(ADAM_EPSILON)
        return self.first / denominator * (self.learning_rate / (1 - beta1**self.count))
