"""The core: R runs trained at once, as one tensor program.

Arrays in, arrays out: no files, no settings, no messages. Runs lie innermost in memory, so that every softmax and sum
runs along contiguous lanes, and are cut into chunks that stay in cache. `sim/training/plain.py` is the same training
written as a loop for one run; the tests hold the two together.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from sim.training.estimators import ExactGradient
from sim.training.policies import Policy, log_probs
from sim.training.trajectory import ADAM_BETAS, ADAM_EPSILON, Cancelled
from sim.training.trajectory import Trajectory as Trajectory

Array = npt.NDArray[np.float64]
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


def train(
    policy: Policy,
    signals: Array,
    weights: Array,
    kl_coef: Array,
    learning_rate: Array,
    *,
    steps: int,
    record_every: int = 1,
    estimator: str = "natural",
    optimizer: str = "sgd",
    ledger: bool = False,
    chunk: int = 64,
    cancelled: Callable[[], bool] = lambda: False,
) -> Trajectory:
    """Return the trajectories of R runs that climb E[sum_i w_i r_i] - kl_coef KL(policy || reference).

    Args:
        policy: one policy class on one set of prompts.
        signals: [S, P, K] rewards, finite.
        weights: [S, R] effective weights (`sim/rewards/mixture.py`).
        kl_coef: [R] reward per nat.
        learning_rate: [R] step size.
        steps: number of updates.
        record_every: updates between two recorded steps; the last step is always recorded.
        estimator: "exact" (expected gradient) or "natural" (the same, times the inverse Fisher matrix).
        optimizer: "sgd" or "adam".
        ledger: whether to split every update by cause; costs about S + 1 times as much.
        chunk: runs trained at once.
        cancelled: asked before each step; once it says yes, `Cancelled` is raised.

    Raises:
        Cancelled: the work was called off.
    """
    runs = weights.shape[1]
    recorded = np.unique(np.append(np.arange(0, steps + 1, record_every), steps))
    theta = np.empty((len(recorded), policy.size, runs))
    moved = np.empty((len(recorded) - 1, len(signals) + 1, policy.size, runs)) if ledger else None
    dtype = policy.log_ref.dtype
    flat_signals = torch.as_tensor(np.ascontiguousarray(signals).reshape(len(signals), -1), dtype=dtype)
    for start in range(0, runs, chunk):
        part = slice(start, start + chunk)
        weight, coefficient, rate = (
            torch.as_tensor(np.ascontiguousarray(array[..., part]), dtype=dtype)
            for array in (weights, kl_coef, learning_rate)
        )
        gradient = ExactGradient(policy, flat_signals.T @ weight, coefficient)
        optimize = Optimizer(optimizer, rate)
        now = torch.zeros(policy.size, weight.shape[1], dtype=dtype)
        since = torch.zeros(len(signals) + 1, *now.shape, dtype=dtype)
        theta[0, :, part] = now
        row = 0
        for step in range(1, steps + 1):
            if cancelled():
                raise Cancelled
            lines = gradient.by_cause(now, flat_signals, weight) if ledger else gradient(now)[None]
            if estimator == "natural":
                lines = policy.precondition(gradient.probs, lines)
            lines = optimize(lines)
            now += lines.sum(dim=0)
            if ledger:
                since += lines
            if step == recorded[row + 1]:
                row += 1
                theta[row, :, part] = now
                if moved is not None:
                    moved[row - 1, :, :, part] = since
                    since.zero_()
    return Trajectory(recorded, theta, moved)


def policy_means(policy: Policy, theta: Array, values: Array) -> Array:
    """Return the means [T, M, R] of M metrics that are linear in the probabilities.

    Args:
        policy: on the prompts of the metrics.
        theta: [T, D, R] recorded parameters.
        values: [M, P, K], the prompt probability multiplied in.
    """
    dtype = policy.log_ref.dtype
    flat = torch.as_tensor(values.reshape(len(values), -1), dtype=dtype)
    found = [flat @ log_probs(policy, step).exp_().flatten(0, 1) for step in torch.as_tensor(theta, dtype=dtype)]
    return torch.stack(found).double().numpy()


def kl_and_entropy(policy: Policy, theta: Array, prompt_prob: Array) -> tuple[Array, Array]:
    """Return KL(policy || reference) and the entropy, each [T, R] in nats per prompt, for theta [T, D, R]."""
    dtype = policy.log_ref.dtype
    weight = torch.as_tensor(np.array(prompt_prob), dtype=dtype)
    log_ref = policy.log_ref.view(*policy.shape, 1)
    kl, entropy = [], []
    for step in torch.as_tensor(theta, dtype=dtype):
        logs = log_probs(policy, step)
        probs = logs.exp()
        entropy.append(-weight @ (probs * logs).sum(dim=1))
        kl.append(weight @ logs.sub_(log_ref).mul_(probs).sum(dim=1))
    return torch.stack(kl).double().numpy(), torch.stack(entropy).double().numpy()


def policy_log_probs(policy: Policy, theta: Array) -> Array:
    """Return log pi, [P, K, R], of parameters [D, R]."""
    return log_probs(policy, torch.as_tensor(theta, dtype=policy.log_ref.dtype)).double().numpy()


def mean_gradient(policy: Policy, theta: Array, values: Array) -> Array:
    """Return the gradient [D, R] of  sum_p prob_p E_pi[values | p]  at parameters theta [D, R].

    Args:
        policy: gives the prompts and their probabilities.
        theta: [D, R].
        values: [P, K].
    """
    at = torch.as_tensor(theta, dtype=policy.log_ref.dtype)
    zero = torch.zeros(at.shape[1], dtype=at.dtype)
    column = torch.as_tensor(np.array(values).reshape(-1, 1), dtype=at.dtype).expand(-1, at.shape[1])
    return ExactGradient(policy, column, zero)(at).double().numpy()
