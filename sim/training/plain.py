"""The same training as `train.py`, for one run, as a loop that can be read aloud: the oracle of the core's tests.

Everything is spelled out in NumPy, prompt by prompt; nothing is shared with the core.
"""

import numpy as np

from sim.world.arrays import Array, World


def policy_probs(world: World, theta: Array, policy: str, prompt: int) -> Array:
    """Return pi(. | prompt), [K]."""
    shift = world.features[prompt] @ theta if policy == "loglinear" else theta.reshape(world.log_ref.shape)[prompt]
    logits = world.log_ref[prompt] + shift
    unnormalized = np.exp(logits - logits.max())
    return unnormalized / unnormalized.sum()


def gradient_and_fisher(world: World, theta: Array, reward: Array, kl_coef: float, policy: str) -> tuple[Array, Array]:
    """Return dJ/dtheta [D] and the Fisher matrix [D, D] of the policy."""
    gradient: Array = np.zeros(len(theta))
    fisher: Array = np.zeros((len(theta), len(theta)))
    responses = world.log_ref.shape[1]
    for prompt, prompt_prob in enumerate(world.prompt_prob):
        probs = policy_probs(world, theta, policy, prompt)
        if policy == "loglinear":
            features = world.features[prompt]
        else:
            features = np.zeros((responses, len(theta)))
            features[:, prompt * responses : (prompt + 1) * responses] = np.eye(responses)
        advantage = reward[prompt] - kl_coef * (np.log(probs) - world.log_ref[prompt])
        centred_features = features - probs @ features
        gradient += prompt_prob * (probs * (advantage - probs @ advantage)) @ features
        fisher += prompt_prob * centred_features.T @ (probs[:, None] * centred_features)
    return gradient, fisher


def train_plainly(
    world: World,
    reward: Array,
    kl_coef: float,
    learning_rate: float,
    steps: int,
    estimator: str = "natural",
    optimizer: str = "sgd",
    policy: str = "loglinear",
) -> Array:
    """Return theta after each step, [steps + 1, D], for one run from the reference policy.

    Args:
        world: prompts and candidates.
        reward: [P, K] the mixed reward.
        kl_coef: reward per nat.
        learning_rate: step size.
        steps: number of updates.
        estimator: "exact" or "natural".
        optimizer: "sgd" or "adam".
        policy: "loglinear" or "tabular".
    """
    size = world.features.shape[2] if policy == "loglinear" else world.log_ref.size
    theta: Array = np.zeros(size)
    history = [theta]
    first, second = np.zeros(size), np.zeros(size)
    for step in range(1, steps + 1):
        gradient, fisher = gradient_and_fisher(world, theta, reward, kl_coef, policy)
        direction = gradient
        if estimator == "natural":
            if policy == "loglinear":  # as in the core: unused features must not make it singular
                fisher += 1e-9 * np.trace(fisher) / size * np.eye(size)
            direction = np.asarray(np.linalg.lstsq(fisher, gradient, rcond=1e-14)[0])
        if optimizer == "adam":
            first = 0.9 * first + 0.1 * direction
            second = 0.999 * second + 0.001 * direction**2
            direction = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        theta = theta + learning_rate * direction
        history.append(theta)
    return np.array(history)
