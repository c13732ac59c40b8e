"""The exact log-linear training of `sim.training.train` in JAX, in three spellings.

* `as_written`: what a user writes first: one vmap over all runs of a scan over `jax.grad` of the objective.
* `chunked(..., gradient="grad")`: the same, over chunks of runs, so that they stay in cache.
* `chunked(..., gradient="derived")`: the same chunks with the gradient derived on paper, as the core has it.

jax is imported by the functions that need it, so that this module can be read without it.
"""

import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.world.arrays import Array, World

CHUNKS = (16, 32, 64, 128, 256)
GRADIENTS = ("grad", "derived")
Train = Callable[[], npt.NDArray[Any]]


class Task(NamedTuple):
    """What is trained: arguments of `sim.training.train.train` by their names there."""

    world: World
    signals: Array
    weights: Array
    kl_coef: Array
    learning_rate: Array
    steps: int
    record_every: int


def available() -> bool:
    """Return whether jax is installed."""
    return importlib.util.find_spec("jax") is not None


def as_written(task: Task) -> Train:
    """Return a function that trains all runs under one vmap and returns theta [R, T, D] at the recorded steps."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    features, log_ref, prompt_prob, signals = _shared(task)
    steps, every = task.steps, task.record_every

    def objective(theta: Any, weights: Any, kl_coef: Any) -> Any:
        logs = jax.nn.log_softmax(log_ref + features @ theta, axis=1)
        probs = jnp.exp(logs)
        reward = jnp.tensordot(weights, signals, axes=1)
        return jnp.sum(prompt_prob[:, None] * probs * (reward - kl_coef * (logs - log_ref)))

    def train_one(weights: Any, kl_coef: Any, learning_rate: Any) -> Any:
        def step(theta: Any, _: None) -> Any:
            theta = theta + learning_rate * jax.grad(objective)(theta, weights, kl_coef)
            return theta, theta

        return lax.scan(step, jnp.zeros(features.shape[2]), None, length=steps)[1][every - 1 :: every]

    train = jax.jit(jax.vmap(train_one))
    table = tuple(jnp.asarray(column, jnp.float32) for column in (task.weights.T, task.kl_coef, task.learning_rate))
    return lambda: np.asarray(train(*table))


def chunked(task: Task, chunk: int, gradient: str = "grad", threads: int = 1) -> Train:
    """Return a function that trains chunk after chunk and returns theta [R, T, D] at the recorded steps.

    Args:
        task: what is trained; `steps` is a multiple of `record_every`.
        chunk: runs under one vmap.
        gradient: "grad" (by `jax.grad`) or "derived" (pi (r - E[r]) written out, as the core does).
        threads: Python threads that take chunks; XLA shares each operation out to cores besides.
    """
    import jax
    import jax.numpy as jnp
    from jax import lax

    features, log_ref, prompt_prob, signals = _shared(task)
    flat = features.reshape(-1, features.shape[2])
    weighted = (features * prompt_prob[:, None, None]).reshape(flat.shape)

    def by_grad(theta: Any, reward: Any, kl_coef: Any) -> Any:
        def objective(theta: Any) -> Any:
            logs = jax.nn.log_softmax(log_ref + features @ theta, axis=1)
            return jnp.sum(prompt_prob[:, None] * jnp.exp(logs) * (reward - kl_coef * (logs - log_ref)))

        return jax.grad(objective)(theta)

    def derived(theta: Any, reward: Any, kl_coef: Any) -> Any:
        logits = log_ref + (flat @ theta).reshape(log_ref.shape)
        odds = jnp.exp(logits - logits.max(axis=1, keepdims=True))
        scale = 1 / odds.sum(axis=1, keepdims=True)
        paid = reward - kl_coef * (logits - log_ref)
        mean = (odds * paid).sum(axis=1, keepdims=True) * scale
        return (odds * (paid - mean) * scale).reshape(-1) @ weighted

    slope = {"grad": by_grad, "derived": derived}[gradient]

    def train_one(weights: Any, kl_coef: Any, learning_rate: Any) -> Any:
        reward = jnp.tensordot(weights, signals, axes=1)

        def step(theta: Any, _: None) -> Any:
            return theta + learning_rate * slope(theta, reward, kl_coef), None

        def between_records(theta: Any, _: None) -> Any:
            theta, _ = lax.scan(step, theta, None, length=task.record_every)
            return theta, theta

        return lax.scan(between_records, jnp.zeros(flat.shape[1]), None, length=task.steps // task.record_every)[1]

    train = jax.jit(jax.vmap(train_one))
    table = (task.weights.T, task.kl_coef, task.learning_rate)
    parts = [
        tuple(jnp.asarray(column[at : at + chunk], jnp.float32) for column in table)
        for at in range(0, len(task.kl_coef), chunk)
    ]

    def work() -> npt.NDArray[Any]:
        if threads == 1:
            found = [train(*part) for part in parts]
        else:
            with ThreadPoolExecutor(threads) as pool:
                found = list(pool.map(lambda part: jax.block_until_ready(train(*part)), parts))
        return np.concatenate([np.asarray(one) for one in found])

    return work


def _shared(task: Task) -> tuple[Any, Any, Any, Any]:
    """Return features, log_ref, prompt_prob and signals as JAX arrays in float32."""
    import jax.numpy as jnp

    world = task.world
    return tuple(  # type: ignore[return-value]
        jnp.asarray(np.array(array), jnp.float32)
        for array in (world.features, world.log_ref, world.prompt_prob, task.signals)
    )
