"""What users live through: approval now, trust later.

A user comes back the more, the better the recent answers felt; one who was told that a wrong view was right finds out
days later, and trusts the model less from then on. The first is what a short test sees. Nothing here reads
`true_quality`: what costs trust is an endorsed wrong stance times what was at stake.
"""

import numpy as np
from scipy.special import expit, logit

from sim.launch.models import Model
from sim.launch.settings import Lived
from sim.world.arrays import Array, World


def misled(world: World) -> Array:
    """Return [P, K]: the stakes on which the answer misled its user, sycophancy x stakes."""
    return world.attributes["sycophancy"] * world.prompts["stakes"][:, None]


def return_probability(approval: Array, found_out: Array, lived: Lived) -> Array:
    """Return the probability that a user comes back on a day.

        logit P = logit(return_base) + approval_effect (approval - 1/2) - trust_loss found_out

    Args:
        approval: mean P(thumbs-up) of recent answers.
        found_out: stakes on which the user has by now learned to have been misled.
        lived: settings.
    """
    return np.asarray(
        expit(logit(lived.return_base) + lived.approval_effect * (approval - 0.5) - lived.trust_loss * found_out)
    )


def mean_on_traffic(model: Model, values: Array) -> Array:
    """Return the mean of values [P, K] over a model's traffic, [R]."""
    prompt_prob = model.views["traffic"].prompt_prob
    return np.einsum("p,rpk,pk->r", prompt_prob, model.probs["traffic"], values, optimize=True)


def expected_return(model: Model, lived: Lived, chats_per_day: float, days: Array) -> Array:
    """Return the probability of coming back after so many days with a model, [R, days], for the average user.

    Of the answers of those days, the ones older than `finds_out_days` have been found out.

    Args:
        model: R policies.
        lived: settings.
        chats_per_day: answers per user and day.
        days: [D], or [R, D].
    """
    known_days = np.maximum(np.asarray(days, dtype=float) - lived.finds_out_days, 0)
    per_day = mean_on_traffic(model, misled(model.views["traffic"])) * chats_per_day
    approval = mean_on_traffic(model, model.approval)
    return return_probability(approval[:, None], per_day[:, None] * known_days, lived)
