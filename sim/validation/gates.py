"""V13: gates that let a sycophantic candidate through, and the one that stops it.

Two classes of responses (`TwoClasses`); the class endorses. Users vote by the last signal's gap, offline benchmarks
have no stances, and probes come in mirrored pairs.
"""

from collections.abc import Mapping

import numpy as np

from sim.launch.ab_test import ab_test
from sim.launch.evals import offline_eval, sycophancy_eval
from sim.launch.gates import PASS, judge
from sim.launch.models import Model
from sim.launch.readings import Draws
from sim.launch.settings import ABTest, Evals, Gate, Lived
from sim.training.theory import mixing_law
from sim.validation import inputs
from sim.validation.check import Check, check
from sim.validation.mixing import TwoClasses
from sim.world.arrays import Array, World

OLD = {
    "offline": Gate("launch/offline", "higher", -0.02, "alarm", "blocking"),
    "votes": Gate("launch/votes", "higher", 0.0, "alarm", "blocking"),
}


def with_sycophancy_eval(margin: float) -> dict[str, Gate]:
    """Return the old gates and one on sycophancy, with the rise that it accepts."""
    return OLD | {"sycophancy": Gate("launch/sycophancy", "lower", margin, "noninferior", "blocking")}


def trained_model(problem: TwoClasses, weight: float, runs: int = 1) -> Model:
    """Return the policy that the mixture trains at this weight of the last signal, as its checkers meet it."""
    gaps = np.array(problem.gaps, dtype=float)
    endorse = float(mixing_law(problem.ref_prob, gaps, problem.weights([weight])[:, 0], problem.kl_coef))
    log_ref = np.log([[problem.ref_prob, 1 - problem.ref_prob]] * 2)

    def split(stance: Array) -> World:
        nothing = np.zeros((2, 2))
        look = {"stance_taking": stance, "accuracy": nothing + 0.7, "sycophancy": nothing, "flattery": nothing}
        prompts = {"stance_error": np.array([0.9, 0.1]), "stakes": np.full(2, 0.5)}
        return World(np.full(2, 0.5), np.zeros((2, 2, 1)), log_ref.copy(), look, prompts)

    stance = np.array([[1.0, -1.0], [1.0, -1.0]])
    views = {"probe": split(stance.copy()), "traffic": split(stance.copy()), "benchmark": split(stance * 0)}
    probs = {name: np.tile([endorse, 1 - endorse], (runs, 2, 1)) for name in views}
    return Model(views, probs, gaps[-1] / 2 * stance)


def shipped(problem: TwoClasses, weight: float, gates: Mapping[str, Gate], prompts: int, reviews: int) -> float:
    """Return the share of reviews, of the same candidate against the deployed weight-0 model, that ship it.

    Args:
        problem: what trained both.
        weight: of the last signal in the candidate.
        gates: of the review.
        prompts: of the sycophancy eval.
        reviews: how many.
    """
    candidate, deployed = trained_model(problem, weight, reviews), trained_model(problem, 0.0)
    draws = Draws(0, tuple(map(str, range(reviews))))
    readings = {
        "launch/offline": offline_eval(candidate, deployed, Evals(offline=2000), draws),
        "launch/sycophancy": sycophancy_eval(candidate, deployed, Evals(sycophancy=prompts), draws),
        "launch/votes": ab_test(candidate, deployed, ABTest(), Lived(), draws).votes,
    }
    return float((judge(gates, readings).verdict == PASS).all(axis=0).mean())


def blocked_by_one_gate(
    case: str, problem: TwoClasses, weight: float, prompts: int, margin: float, reviews: int = 400
) -> list[Check]:
    """Return checks: a candidate ships without a sycophancy eval, is blocked with one, and the weight-0 model ships.

    Args:
        case: what to call it.
        problem: what trained both models.
        weight: of the last signal in the bad candidate.
        prompts: of the sycophancy eval.
        margin: rise that its gate accepts.
        reviews: with fresh luck each.
    """
    inputs.whole("prompts", prompts)
    inputs.whole("reviews", reviews, low=2)
    with_eval, how = with_sycophancy_eval(margin), f"sampled ({reviews} reviews)"
    through = shipped(problem, weight, OLD, prompts, reviews)
    stopped = 1 - shipped(problem, weight, with_eval, prompts, reviews)
    clean = shipped(problem, 0.0, with_eval, prompts, reviews)
    luck = 3 * float(np.sqrt(0.95 * 0.05 / reviews))  # three standard errors of a share that is just 0.95
    return [
        check(case, f"w = {weight:g} ships, no sycophancy eval", how, 0.95, through, 0.0, bound="at least"),
        check(case, f"w = {weight:g} is blocked, sycophancy eval", how, 0.99, stopped, 0.0, bound="at least"),
        check(case, "w = 0 ships, sycophancy eval", how, 0.95, clean, round(luck, 4), bound="at least"),
    ]
