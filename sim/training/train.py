"""The core: R runs trained at once, as one tensor program.

Arrays in, arrays out: no files, no settings, no messages. Runs lie innermost in memory, so that every softmax and sum
runs along contiguous lanes, and are cut into chunks that stay in cache. `sim/training/plain.py` is the same training
written as a loop for one run; the tests hold the two together.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from sim.config import SAMPLED
from sim.training.advantages import Normalization
from sim.training.estimators import ExactGradient
from sim.training.optimizer import Optimizer
from sim.training.policies import Policy, log_probs
from sim.training.sampled import SampledGradient, Sampling
from sim.training.trajectory import Cancelled, Trajectory, recorded
from sim.training.weights import Changes, Weights

Array = npt.NDArray[np.float64]
Tensor = torch.Tensor


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
    normalization: Normalization | None = None,
    sampling: Sampling | None = None,
    changes: Changes | None = None,
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
        steps: number of updates; of samples, where each serves several updates.
        record_every: updates between two recorded steps; the last step is always recorded.
        estimator: "exact" (expected gradient), "natural" (the same, times the inverse Fisher matrix), or one of
            "reinforce", "rloo", "grpo", "ppo" (`sim/training/sampled.py`).
        optimizer: "sgd" or "adam".
        normalization: how rewards are aggregated and scaled; None: summed.
        sampling: how sampled estimators draw; None: with the defaults of `Sampling`.
        changes: how weights change over the steps; None: they do not.
        ledger: whether to split every update by cause; costs about S + 1 times as much.
        chunk: runs trained at once.
        cancelled: asked before each step; once it says yes, `Cancelled` is raised.

    Raises:
        Cancelled: the work was called off.
    """
    runs, epochs = weights.shape[1], 1
    how = normalization or Normalization()
    if estimator in SAMPLED:
        sampling = sampling or Sampling()
        epochs = sampling.epochs
    marks = recorded(steps, record_every)
    causes = len(signals) + (2 if estimator in SAMPLED else 1)
    theta = np.empty((len(marks), policy.size, runs))
    moved = np.empty((len(marks) - 1, causes, policy.size, runs)) if ledger else None
    in_force = np.empty((len(marks), *weights.shape)) if changes is not None else None
    dtype = policy.log_ref.dtype
    flat_signals = torch.as_tensor(np.ascontiguousarray(signals).reshape(len(signals), -1), dtype=dtype)
    for start in range(0, runs, chunk):
        part = slice(start, start + chunk)
        weight, coefficient, rate = (
            torch.as_tensor(np.ascontiguousarray(array[..., part]), dtype=dtype)
            for array in (weights, kl_coef, learning_rate)
        )
        gradient: ExactGradient | SampledGradient
        if sampling is not None and estimator in SAMPLED:
            gradient = SampledGradient(policy, flat_signals, coefficient, how, estimator, sampling)
        else:
            gradient = ExactGradient(policy, flat_signals, coefficient, how)
        mixture = Weights(weight, changes, part)
        optimize = Optimizer(optimizer, rate)
        now = torch.zeros(policy.size, weight.shape[1], dtype=dtype)
        since = torch.zeros(causes if ledger else 0, *now.shape, dtype=dtype)
        theta[0, :, part] = now.numpy()
        row = 0
        for step in range(1, steps + 1):
            if cancelled():
                raise Cancelled
            if step == 1 or mixture.moving:
                weight = mixture.at(step, now)
                gradient.weigh(weight)
                if in_force is not None and step == 1:
                    in_force[0, :, part] = weight.numpy()
            gradient.draw(now)
            for _ in range(epochs):
                lines = gradient.by_cause(now) if ledger else gradient(now)[None]
                if isinstance(gradient, ExactGradient) and estimator == "natural":
                    lines = policy.precondition(gradient.probs, lines)
                lines = optimize(lines)
                now += lines.sum(dim=0)
                if ledger:
                    since += lines
            if step == marks[row + 1]:
                row += 1
                theta[row, :, part] = now.numpy()
                if in_force is not None:
                    in_force[row, :, part] = weight.numpy()
                if moved is not None:
                    moved[row - 1, :, :, part] = since.numpy()
                    since.zero_()
    return Trajectory(marks, theta, moved, in_force)


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
    gradient = ExactGradient(policy, torch.as_tensor(np.array(values).reshape(1, -1), dtype=at.dtype), zero)
    gradient.weigh(torch.ones(1, at.shape[1], dtype=at.dtype))
    return gradient(at).double().numpy()
