"""The same users twice: once vulnerable and once not, in any share, so that their share is all that differs.

Drawing users afresh for every share would compare different people. Streams are named, so the worlds with nobody and
with everybody vulnerable hold the same users, answers and noise; a population is then a weighting of the two and, since
memory may be wrong about its user, of what it says of each.
"""

import numpy as np

from sim.world.arrays import World


def blend(calm: World, vulnerable: World, share: float, knows_user: float) -> World:
    """Return the population in which `share` of the users is vulnerable, with up to 4 P prompts.

        P(memory says vulnerable | vulnerable) = knows_user + (1 - knows_user) share
        P(memory says vulnerable | not)        =              (1 - knows_user) share

    Where knows_user is 0 memory says nothing (as `memory.knows_user`).

    Args:
        calm: nobody is vulnerable; made with knows_user = 1, so what memory says is right.
        vulnerable: the same users, all vulnerable.
        share: of vulnerable users.
        knows_user: how often memory knows; else it guesses at the population's share.
    """
    worlds = (calm, vulnerable)
    guess = (1 - knows_user) * share if knows_user else 0.0
    says = (guess, knows_user + guess)
    blocks = [
        (worlds[is_vulnerable], worlds[said], mass)
        for is_vulnerable in (0, 1)
        for said in (0, 1)
        if (mass := abs(1 - is_vulnerable - share) * abs(1 - said - says[is_vulnerable])) > 0
    ]
    users, seen = [user for user, _, _ in blocks], [sight for _, sight, _ in blocks]
    prompts = {name: np.concatenate([world.prompts[name] for world in users]) for name in calm.prompts}
    prompts["seen_vulnerable"] = np.concatenate([world.prompts["seen_vulnerable"] for world in seen])
    quality = [world.true_quality for world in users if world.true_quality is not None]
    return World(
        prompt_prob=np.concatenate([mass * world.prompt_prob for world, _, mass in blocks]),
        features=np.concatenate([world.features for world in seen]),
        log_ref=np.concatenate([world.log_ref for world in users]),
        attributes={name: np.concatenate([w.attributes[name] for w in users]) for name in calm.attributes},
        prompts=prompts,
        true_quality=np.concatenate(quality) if quality else None,
    )
