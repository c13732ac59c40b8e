"""Offline checks: evals with a grader, and the red team.

What each can see is its coverage. Those that the process of April 2025 had ask questions in which the user takes no
stance: benchmarks do, and safety tests look for clear harm, "largely ... direct harms performed by a malicious user"
(OpenAI's post of 2 May 2025). A model cannot be sycophantic where there is nothing to agree with.
"""

import numpy as np
from scipy.special import expit

from sim.launch.models import Model
from sim.launch.readings import Draws, Indices, Reading, draw_answers, draw_prompts, graded, no_data, paired
from sim.launch.settings import Evals, RedTeam
from sim.world.arrays import Array, World
from sim.world.users import topic_column

CLEAR_HARM, HARM_WIDTH = 0.6, 0.1  # harm that graders object to, as the safety signal's default (assumption)
FLATTERY_BREACH = 0.25  # spec breaches per unit of flattery, as the spec grader's default (assumption)


def offline_eval(candidate: Model, deployed: Model, evals: Evals, draws: Draws) -> Reading:
    """Return the change of accuracy on the benchmark, whose users take no stance."""
    world = candidate.views["benchmark"]
    return graded(
        candidate, deployed, "benchmark", world.attributes["accuracy"], _all(world), evals.offline, evals.grader_noise,
        draws, "offline",
    )  # fmt: skip


def safety_eval(candidate: Model, deployed: Model, evals: Evals, draws: Draws) -> Reading:
    """Return the change of the share of clearly harmful answers, on benchmark prompts weighted by their stakes."""
    world = candidate.views["benchmark"]
    stakes = topic_column(world.prompts["topic"], "stakes")
    return graded(
        candidate, deployed, "benchmark", clear_harm(world), stakes, evals.safety, evals.grader_noise, draws, "safety"
    )


def sycophancy_eval(candidate: Model, deployed: Model, evals: Evals, draws: Draws) -> Reading:
    """Return the change of P(endorses | the user is wrong), on probes."""
    world = candidate.views["probe"]
    wrong = (world.prompts["stance_error"] > 0.5).astype(float)
    endorses = (world.attributes["stance_taking"] > 0).astype(float)
    return graded(
        candidate, deployed, "probe", endorses, wrong, evals.sycophancy, evals.grader_noise, draws, "sycophancy"
    )


def overcorrection_eval(candidate: Model, deployed: Model, evals: Evals, draws: Draws) -> Reading:
    """Return the change of P(challenges | the user is right): the opposite fault, on the mirrored probes."""
    world = candidate.views["probe"]
    right = (world.prompts["stance_error"] <= 0.5).astype(float)
    challenges = (world.attributes["stance_taking"] < 0).astype(float)
    return graded(
        candidate, deployed, "probe", challenges, right, evals.sycophancy, evals.grader_noise, draws, "overcorrection"
    )


def model_spec_eval(candidate: Model, deployed: Model, evals: Evals, draws: Draws) -> Reading:
    """Return the change of spec breaches, (sycophancy + c flattery) / (1 + c), on all probes."""
    world = candidate.views["probe"]
    look = world.attributes
    breach = (look["sycophancy"] + FLATTERY_BREACH * look["flattery"]) / (1 + FLATTERY_BREACH)
    return graded(
        candidate, deployed, "probe", breach, _all(world), evals.model_spec, evals.grader_noise, draws, "model_spec"
    )


def red_team(candidate: Model, deployed: Model, settings: RedTeam, draws: Draws) -> Reading:
    """Return the change of clear harm on the worst prompts that a search finds against each model.

    Each model is attacked on its own: the prompts with the most harm in a few answers are kept, and fresh answers to
    them counted, so that the luck of the search does not count. The red team works on benchmark prompts: known attacks,
    not users in need of agreement.
    """
    if not settings.tries:
        return no_data(candidate.runs)
    world = candidate.views["benchmark"]
    harm = clear_harm(world)
    tries = draw_prompts(
        world.prompt_prob * topic_column(world.prompts["topic"], "stakes"),
        draws.uniform("red_team", "tries", settings.tries),
    )
    worst = min(settings.worst, settings.tries)
    found = []
    for model, who in ((candidate, "candidate"), (deployed, "deployed")):
        probs = model.probs["benchmark"]

        def ask(prompts: Indices, answers: int, what: str, probs: Array = probs, who: str = who) -> Array:
            many = np.repeat(prompts, answers, axis=1)
            drawn = draw_answers(probs, many, draws.uniform("red_team", f"{who} {what}", many.shape[1]))
            return harm[many, drawn].reshape(*prompts.shape, answers).mean(axis=2)

        first = ask(tries, settings.answers, "search")
        kept = np.argsort(-first, axis=1, kind="stable")[:, :worst]
        found.append(ask(np.take_along_axis(tries, kept, axis=1), settings.confirm, "confirm"))
    mine, theirs = (paired(one, 1 / settings.confirm) for one in found)
    return Reading(mine.effect - theirs.effect, np.hypot(mine.error, theirs.error), mine.size * settings.confirm)


def clear_harm(world: World) -> Array:
    """Return [P, K]: the probability that a safety grader objects to the answer."""
    return np.asarray(expit((world.attributes["harm"] - CLEAR_HARM) / HARM_WIDTH))


def _all(world: World) -> Array:
    return np.ones(len(world.prompt_prob))
