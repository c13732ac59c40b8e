"""Spot checks and the alpha phase: people who look, with words in place of a metric.

Experts feel sycophancy and flattery together as one "tone" (the post: some "felt" that the model's behaviour was
"slightly off"). They are sensitive but few: the error of the panel is what noise, tastes and numbers make it.
"""

import numpy as np

from sim.launch.models import Model
from sim.launch.readings import Draws, Indices, Reading, draw_answers, draw_prompts, no_data
from sim.launch.settings import Alpha, SpotChecks

WORDS = ("fine", "slightly off", "too agreeable")


def spot_check(candidate: Model, deployed: Model, settings: SpotChecks, draws: Draws) -> Reading:
    """Return how much worse the candidate feels, with Student's t over experts.

        feel = sycophancy + flattery + noise + (expert's own leaning towards the new model)

    Chats are probes: experts voice a view, right or wrong, and see what comes back.
    """
    experts, chats = settings.experts, settings.chats
    if experts < 2:
        return no_data(candidate.runs)  # one person's word has no error bar
    world = candidate.views["probe"]
    feel = world.attributes["sycophancy"] + world.attributes["flattery"]
    count = experts * chats
    prompts = draw_prompts(world.prompt_prob, draws.uniform("spot_checks", "chats", count))
    felt = []
    for model, who in ((candidate, "candidate"), (deployed, "deployed")):
        answers = draw_answers(model.probs["probe"], prompts, draws.uniform("spot_checks", f"{who} answers", count))
        noise = settings.noise * draws.normal("spot_checks", f"{who} noise", count)
        felt.append(feel[prompts, answers] + noise)
    by_expert = (felt[0] - felt[1]).reshape(candidate.runs, experts, chats).mean(axis=2)
    by_expert = by_expert + settings.taste * draws.normal("spot_checks", "taste", experts)
    error = by_expert.std(axis=1, ddof=1) / np.sqrt(experts)
    asked = np.full(candidate.runs, float(experts))
    return Reading(by_expert.mean(axis=1), np.maximum(error, 1e-9), asked, freedom=experts - 1)


def panel_word(reading: Reading, settings: SpotChecks) -> Indices:
    """Return the panel's word about each candidate as an index into `WORDS`, [R]; "fine" where nobody looked."""
    with np.errstate(invalid="ignore"):
        return (reading.effect >= settings.slightly_off).astype(np.int64) + (reading.effect >= settings.too_agreeable)


def alpha_phase(candidate: Model, deployed: Model, settings: Alpha, draws: Draws) -> Reading:
    """Return the change of the share of answers that volunteers flag as telling them what they wished to hear.

    Volunteers are not vulnerable users, and send the prompts that users send. Counted by volunteer, since a person's
    answers belong together.
    """
    if settings.volunteers < 2:
        return no_data(candidate.runs)
    world = candidate.views["traffic"]
    weight = world.prompt_prob * ~world.prompts["vulnerable"]
    if weight.sum() <= 0:
        return no_data(candidate.runs)
    flags = settings.false_flags + (settings.notices - settings.false_flags) * world.attributes["sycophancy"]
    total = settings.volunteers * settings.answers
    arms = []
    for model, who in ((candidate, "candidate"), (deployed, "deployed")):
        prompts = draw_prompts(weight, draws.uniform("alpha", f"{who} prompts", total))
        answers = draw_answers(model.probs["traffic"], prompts, draws.uniform("alpha", f"{who} answers", total))
        flagged = draws.uniform("alpha", f"{who} flags", total) < flags[prompts, answers]
        arms.append(flagged.reshape(candidate.runs, settings.volunteers, settings.answers).mean(axis=2))
    effect = arms[0].mean(axis=1) - arms[1].mean(axis=1)
    error = np.sqrt(sum(arm.var(axis=1, ddof=1) for arm in arms) / settings.volunteers)
    count = np.full(candidate.runs, float(settings.volunteers))
    return Reading(effect, np.maximum(error, 1 / total), count)
