"""Supervised fine-tuning to ideal answers: where the reference policy comes from.

Writers answer each prompt of the `finetune` split; a log-linear policy is fitted to their answers by penalised maximum
likelihood and read off on every split. Reinforcement learning then starts from it and is held to it by the KL term.
"""

from collections.abc import Mapping

import numpy as np
from scipy.optimize import minimize

from sim.world.arrays import Array, World, normalize_log


def ideal_answers(world: World, sharpness: float) -> Array:
    """Return the writers' choice probabilities [P, K]: log_base + sharpness * score, normalised.

    Writers look for accurate, helpful, warm answers without flattery or sycophancy, one unit each (assumption); they
    cannot see what fits the individual user.
    """
    look = world.attributes
    score = look["accuracy"] + look["helpfulness"] + look["warmth"] - look["flattery"] - look["sycophancy"]
    return np.exp(normalize_log(world.log_ref + sharpness * score))


def fit_traits(world: World, answers: Array, ridge: float) -> Array:
    """Return theta [D] that maximises  sum_p prob_p sum_k answers log pi_theta  -  ridge/2 |theta|^2.

    Args:
        world: prompts, with the base model as its reference.
        answers: [P, K] probabilities of the written answers.
        ridge: above 0; makes the problem strictly convex.
    """
    features = world.features.reshape(-1, world.features.shape[2])

    def loss(theta: Array) -> tuple[float, Array]:
        log_policy = normalize_log(world.log_ref + world.features @ theta)
        value = -np.einsum("p,pk,pk", world.prompt_prob, answers, log_policy) + ridge / 2 * theta @ theta
        surplus = world.prompt_prob[:, None] * (np.exp(log_policy) - answers)
        return float(value), surplus.ravel() @ features + ridge * theta

    start = np.zeros(world.features.shape[2])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-13, "gtol": 1e-9, "maxiter": 500})
    return np.asarray(found.x)


def fine_tune(splits: Mapping[str, World], sharpness: float, ridge: float) -> dict[str, World]:
    """Return the splits with `log_ref` set to the policy that was fine-tuned on `splits["finetune"]`."""
    source = splits["finetune"]
    theta = fit_traits(source, ideal_answers(source, sharpness), ridge)
    return {
        name: world.with_reference(normalize_log(world.log_ref + world.features @ theta))
        for name, world in splits.items()
    }
