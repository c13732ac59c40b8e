"""Stable-Baselines3's PPO on a contextual bandit: an episode is one prompt and one response.

The observation is the prompt, one-hot, and the policy is linear in it: a table of logits and a table of values. Its
entropy bonus is a KL penalty to the uniform policy, up to a constant. stable_baselines3 and gymnasium are imported by
the functions that need them.
"""

import importlib.util
from typing import Any

import numpy as np
import torch

from sim.world.arrays import Array


def available() -> bool:
    """Return whether stable_baselines3 is installed."""
    return importlib.util.find_spec("stable_baselines3") is not None


def make_ppo(
    rewards: Array, samples: int, *, hidden: tuple[int, ...] = (), optimizer: type[Any] | None = None, **settings: Any
) -> Any:
    """Return a PPO whose rollout holds `samples` responses to each prompt, all of them one batch.

    Args:
        rewards: [P, K].
        samples: responses to each prompt in a rollout.
        hidden: widths of hidden layers; without any, the policy is a table.
        optimizer: torch's; Adam where None.
        settings: of `stable_baselines3.PPO`.
    """
    import gymnasium
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    prompts, responses = rewards.shape

    class OnePrompt(gymnasium.Env):  # type: ignore[type-arg]
        """One prompt, over and over."""

        observation_space = gymnasium.spaces.Box(0, 1, (prompts,), np.float32)
        action_space = gymnasium.spaces.Discrete(responses)

        def __init__(self, prompt: int) -> None:
            self._seen = np.eye(prompts, dtype=np.float32)[prompt]
            self._rewards = rewards[prompt]

        def reset(self, **_: Any) -> Any:
            return self._seen, {}

        def step(self, action: int) -> Any:
            return self._seen, float(self._rewards[action]), True, False, {}

    environment = DummyVecEnv([lambda prompt=prompt: OnePrompt(prompt) for prompt in range(prompts)])  # type: ignore[misc]
    choices = {"net_arch": list(hidden)} | ({"optimizer_class": optimizer, "optimizer_kwargs": {}} if optimizer else {})
    ppo = PPO(
        "MlpPolicy", environment, n_steps=samples, batch_size=prompts * samples, gamma=0.0, max_grad_norm=np.inf,
        device="cpu", policy_kwargs=choices, **settings,
    )  # fmt: skip
    if not hidden:  # prompts must not share a bias
        ppo.policy.action_net.bias.requires_grad_(False).zero_()
    return ppo


def set_logits(ppo: Any, logits: Array) -> None:
    """Set the table of logits [P, K]."""
    with torch.no_grad():
        ppo.policy.action_net.weight.copy_(torch.as_tensor(logits.T, dtype=torch.float32))


def policy_probs(ppo: Any) -> Array:
    """Return pi(k | p), [P, K]."""
    return np.array(ppo.policy.get_distribution(_prompts(ppo)).distribution.probs.detach().double().numpy())


def policy_values(ppo: Any) -> Array:
    """Return the critic's value of each prompt, [P]."""
    return np.array(ppo.policy.predict_values(_prompts(ppo)).detach().double().numpy()[:, 0])


def _prompts(ppo: Any) -> torch.Tensor:
    return torch.eye(ppo.observation_space.shape[0])
