"""V7: how two actions are learned, step by step, and not only where they end."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from sim import rng
from sim.config import InputError
from sim.training import theory
from sim.training.policies import make_policy
from sim.training.sampled import Sampling
from sim.training.train import policy_log_probs, train
from sim.validation import inputs
from sim.validation.check import Check, check, mean_and_error
from sim.validation.small import DRAWN, REPLICAS, SAMPLED_BAND, Way, side_by_side, small_world
from sim.world.arrays import Array, normalize_log

# A log-linear policy with a trait of +-1/sqrt(2) moves its log-odds as two logits do.
FEATURES = np.array([[[1.0], [-1.0]]]) / np.sqrt(2)
DRAWN_UNTIL = 20  # time to which sampled training is followed: small steps take long


@dataclass(frozen=True)
class TwoActions:
    """One prompt, two responses.

    ref_prob: of the first.
    gap: what it earns more than the other.
    """

    ref_prob: float
    gap: float

    def __post_init__(self) -> None:
        """Raise `InputError` for a problem that cannot be."""
        inputs.chance("ref_prob", self.ref_prob, 1)
        inputs.numbers("gap", self.gap, 1)


def along(
    problem: TwoActions, policy: str, estimator: str, kl_coef: float, rate: float, steps: int, every: int = 1
) -> tuple[npt.NDArray[np.int64], Array]:
    """Return the recorded steps [T] and P(first) [T] of plain steps."""
    made = make_policy(policy, small_world([problem.ref_prob, 1 - problem.ref_prob], FEATURES))
    found = train(
        made, np.array([[[problem.gap, 0.0]]]), np.ones((1, 1)), np.full(1, kl_coef), np.full(1, rate),
        steps=steps, record_every=every, estimator=estimator,
    )  # fmt: skip
    return found.steps, np.array([np.exp(policy_log_probs(made, theta))[0, 0, 0] for theta in found.theta])


def vanilla_flow(
    case: str, problem: TwoActions, times: Sequence[int], published: Sequence[float] | None = None, rate: float = 0.01
) -> list[Check]:
    """Return checks of P(first) under plain gradient flow at whole times, in units of 1 / learning rate."""
    inputs.whole("times", times)
    inputs.numbers("rate", rate, 1, above=0, high=1)
    law = theory.two_action_flow(problem.ref_prob, problem.gap, times)
    expected = inputs.expected(published, law)
    at = tuple(f"t = {time}" for time in times)
    found = [check(case, "P under vanilla flow", "closed form", expected, law, 1e-5, at=at)]
    a_unit = round(1 / rate)
    for policy in ("tabular", "loglinear"):
        steps, path = along(problem, policy, "exact", 0.0, rate, a_unit * max(times), a_unit)
        got = path[np.searchsorted(steps, np.array(times) * a_unit)]
        found.append(check(case, "P under vanilla steps", f"exact gradient, {policy}", expected, got, 1e-3, at=at))
    early = np.array(times) <= DRAWN_UNTIL
    for way in DRAWN if early.any() else ():
        seen = np.array(times)[early]
        mean, error = mean_and_error(drawn_along(problem, way, rate, seen * a_unit))
        names = tuple(name for name, kept in zip(at, early, strict=True) if kept)
        what = "P under vanilla steps"
        found.append(
            check(case, what, way.name, expected[early], mean, SAMPLED_BAND, error=error, slack=1e-3, at=names)
        )
    return found


def drawn_along(problem: TwoActions, way: Way, rate: float, steps: npt.NDArray[np.int64]) -> Array:
    """Return P(first) [N, T] of N sampled trainings after so many plain steps [T], without a KL penalty."""
    world = side_by_side(small_world([problem.ref_prob, 1 - problem.ref_prob], FEATURES))
    made, every = make_policy(way.policy, world), int(np.gcd.reduce(steps))
    reward = np.tile([[problem.gap, 0.0]], (REPLICAS, 1))[None]
    found = train(
        made, reward, np.ones((1, 1)), np.zeros(1), np.full(1, rate * REPLICAS),
        steps=int(steps.max()), record_every=every, estimator=way.estimator, sampling=Sampling(prompts=0, samples=32),
    )  # fmt: skip
    rows = np.searchsorted(found.steps, steps)
    return np.exp([policy_log_probs(made, found.theta[row])[:, 0, 0] for row in rows]).T


def natural_path(case: str, prompts: int, candidates: int, rate: float, steps: int, seed: int = 0) -> list[Check]:
    """Return a check on a random problem: after t natural steps the policy is the tilt by rate x t x reward."""
    inputs.whole("prompts, candidates, steps", (prompts, candidates, steps))
    inputs.numbers("rate", rate, 1, above=0)
    random = rng.stream(seed, "validation", case)
    ref = np.exp(normalize_log(random.standard_normal((prompts, candidates))))
    world, reward = small_world(ref), random.standard_normal((1, prompts, candidates))
    what = "log pi along natural steps, against the KL tilt"
    policy = make_policy("tabular", world)
    path = train(policy, reward, np.ones((1, 1)), np.zeros(1), np.full(1, rate), steps=steps)
    expected = [theory.tilt(world.log_ref, reward[0], 1 / (rate * step)) for step in path.steps[1:]]
    got = [policy_log_probs(policy, theta)[..., 0] for theta in path.theta[1:]]
    return [check(case, what, "natural gradient, tabular", expected, got, 1e-10)]


def contraction(case: str, problem: TwoActions, kl_coef: float, rate: float, steps: int) -> list[Check]:
    """Return checks that each natural step multiplies the log-ratio's distance from its end by 1 - rate kl_coef."""
    inputs.numbers("kl_coef", kl_coef, 1, above=0)
    inputs.numbers("rate", rate, 1, above=0, below=1 / kl_coef)
    inputs.whole("steps", steps)
    if not problem.gap:
        raise InputError("gap = 0: there is no way to go")
    found = []
    for policy in ("tabular", "loglinear"):
        path = along(problem, policy, "natural", kl_coef, rate, steps)[1]
        left = logit(path) - logit(problem.ref_prob) - problem.gap / kl_coef
        how = f"natural gradient, {policy}"
        found.append(check(case, "what a step leaves of the way", how, 1 - rate * kl_coef, left[1:] / left[:-1], 1e-8))
    return found
