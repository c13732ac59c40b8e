"""V3 and V4: what a reward does to one prompt with a few candidates, in closed form and in training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize

from sim import rng
from sim.config import InputError
from sim.training import theory
from sim.validation import inputs
from sim.validation.check import Check, check, mean_and_error
from sim.validation.small import ADAM, ADAM_BAND, DRAWN, EXPECTED, LEFT, SAMPLED_BAND, ends, sampled_ends, small_world
from sim.world.arrays import Array, normalize_log


@dataclass(frozen=True)
class Candidates:
    """One prompt.

    ref_probs: [K] under the reference policy.
    reward: [K].
    inside: [K] 1 for responses of the class that is counted, else 0.
    """

    ref_probs: Sequence[float]
    reward: Sequence[float]
    inside: Sequence[float]

    def __post_init__(self) -> None:
        """Raise `InputError` for a problem that cannot be."""
        count = inputs.distribution("ref_probs", self.ref_probs)
        inputs.numbers("reward", self.reward, count)
        inputs.two_kinds("inside", self.inside, count)

    def arrays(self) -> tuple[Array, Array, Array]:
        """Return log_ref, reward and inside, each [1, K]."""
        ref, reward, inside = (np.array([values], dtype=float) for values in (self.ref_probs, self.reward, self.inside))
        return np.log(ref), reward, inside


def minimal_penalty(
    case: str,
    problem: Candidates,
    kl_coef: float,
    published: tuple[float, float] | None = None,
) -> list[Check]:
    """Return checks of the smallest penalty that keeps a class from rising above the reference.

    Args:
        case: what to call it.
        problem: the candidates; the class is agreement.
        kl_coef: of training.
        published: P(class) without the penalty and the penalty, or None.
    """
    inputs.numbers("kl_coef", kl_coef, 1, above=0)
    log_ref, reward, inside = problem.arrays()
    limit = float((np.exp(log_ref) * inside).sum())
    penalty = theory.minimal_penalty(log_ref, reward, inside, kl_coef)
    free = (np.exp(theory.tilt(log_ref, reward, kl_coef)) * inside).sum()
    corrected = reward - penalty[:, None] * inside
    held = (np.exp(theory.tilt(log_ref, corrected, kl_coef)) * inside).sum()
    found = [check(case, "P(agrees), corrected", "closed form", limit, held, 1e-9)]
    if published is not None:
        found += [
            check(case, "P(agrees), uncorrected", "closed form", published[0], free, 1e-6),
            check(case, "lambda*", "closed form", published[1], penalty, 1e-6),
        ]
    for values, expected, what in ((reward, free, "uncorrected"), (corrected, limit, "corrected")):
        found += trained(case, f"P(agrees), {what}", problem, values, [kl_coef], [expected], 1e-6)
    return found


def trained(
    case: str,
    what: str,
    problem: Candidates,
    reward: Array,
    kl_coef: Sequence[float],
    expected: npt.ArrayLike,
    tolerance: float,
    at: tuple[str, ...] = (),
) -> list[Check]:
    """Return checks of P(class) trained on `reward` [1, K] at each kl_coef [R], in every way that fits."""
    world, inside = small_world(problem.ref_probs), np.array(problem.inside, dtype=float)
    arguments = (world, reward[None], np.ones((1, len(kl_coef))), np.array(kl_coef, dtype=float))
    found = []
    for way in (*EXPECTED, *ADAM):
        probability, band = inside @ ends(*arguments, way)[0], max(tolerance, ADAM_BAND if way in ADAM else 0.0)
        found.append(check(case, what, way.name, expected, probability, band, at=at))
    for way in DRAWN:
        mean, error = mean_and_error(np.einsum("k,nkr->nr", inside, sampled_ends(*arguments, way)[:, 0]))
        found.append(check(case, what, way.name, expected, mean, SAMPLED_BAND, error=error, slack=LEFT, at=at))
    return found


def nothing_closer(case: str, problems: int, candidates: int, kl_coef: float, seed: int = 0) -> list[Check]:
    """Return a check, on random problems, that no policy within the limit is KL-closer to the trained one.

    An independent convex solver (scipy's SLSQP) looks for one; its distance minus that of the closed form is shown.
    """
    inputs.whole("problems", problems)
    inputs.whole("candidates", candidates, low=3)
    inputs.numbers("kl_coef", kl_coef, 1, above=0)
    random = rng.stream(seed, "validation", case)
    more = np.empty(problems)
    inside = (np.arange(candidates) < 2).astype(float)[None]
    for row in range(problems):
        log_ref = normalize_log(random.standard_normal((1, candidates)))
        more[row] = _excess(log_ref, 2 * random.standard_normal((1, candidates)), inside, kl_coef)
    what = "KL of the closest feasible, solver - formula"
    return [
        check(case, what, "closed form", 0.0, more, 1e-6, bound="at least"),
        check(case, f"{what}: it got there", "closed form", 0.0, more, 1e-4, bound="at most"),
    ]


def _excess(log_ref: Array, reward: Array, inside: Array, kl_coef: float) -> float:
    """Return by how much the solver's policy is farther from the trained one than the closed form's."""
    aim = theory.tilt(log_ref, reward, kl_coef)
    penalty = theory.minimal_penalty(log_ref, reward, inside, kl_coef)
    corrected = theory.tilt(log_ref, reward - penalty[:, None] * inside, kl_coef)
    limit = float((np.exp(log_ref) * inside).sum())
    if float((np.exp(corrected) * inside).sum()) > limit + 1e-12:
        return np.nan

    def distance(probs: Array) -> float:
        return float(probs @ (np.log(probs) - aim[0]))

    solved = minimize(
        distance, np.exp(log_ref[0]), method="SLSQP", bounds=[(1e-12, 1)] * aim.size,
        constraints=[
            {"type": "eq", "fun": lambda probs: probs.sum() - 1},
            {"type": "ineq", "fun": lambda probs: limit - probs @ inside[0]},
        ],
        options={"ftol": 1e-12, "maxiter": 500},
    )  # fmt: skip
    return solved.fun - distance(np.exp(corrected[0])) if solved.success else np.nan


def covariance_identity(case: str, problems: int, candidates: int, kl_coef: float, seed: int = 0) -> list[Check]:
    """Return checks on random problems: the shift of a mean is a covariance, and its slope at no pressure another."""
    inputs.whole("problems", problems)
    inputs.whole("candidates", candidates, low=2)
    inputs.numbers("kl_coef", kl_coef, 1, above=0)
    random = rng.stream(seed, "validation", case, "covariance")
    log_ref = normalize_log(random.standard_normal((problems, candidates)))
    reward, values = random.standard_normal((2, problems, candidates))
    ref = np.exp(log_ref)
    moved = ((np.exp(theory.tilt(log_ref, reward, kl_coef)) - ref) * values).sum(axis=1)
    covariance = (ref * reward * values).sum(1) - (ref * reward).sum(1) * (ref * values).sum(1)
    slope = theory.tilt_shift(log_ref, reward, values, 1e6) * 1e6
    world, cells = small_world(ref, features=np.zeros((problems, candidates, 1))), (1, problems, candidates)
    after = ends(world, reward.reshape(cells), np.ones((1, 1)), np.full(1, kl_coef), EXPECTED[0])[..., 0]
    found = theory.tilt_shift(log_ref, reward, values, kl_coef)
    what = "E*[g] - E[g], random problems"
    return [
        check(case, what, "closed form", moved, found, 1e-10),
        check(case, what, EXPECTED[0].name, ((after - ref) * values).sum(axis=1), found, 1e-10),
        check(case, "slope in 1/kl_coef at 0", "closed form", covariance, slope, 2e-5),
    ]


def sign_flip(
    case: str,
    problem: Candidates,
    pressures: Sequence[float],
    published: Sequence[float] | None = None,
    flip: float | None = None,
) -> list[Check]:
    """Return checks of P(class) at each pressure 1/kl_coef, and of the pressure at which it is the reference's again.

    Args:
        case: what to call it.
        problem: the candidates.
        pressures: 1/kl_coef.
        published: P(class) at each, or None.
        flip: the published pressure of the return, or None.

    Raises:
        InputError: where P(class) does not return between half and twice `flip`.
    """
    inputs.numbers("pressures", pressures, above=0)
    log_ref, reward, inside = problem.arrays()

    def rate(pressure: float) -> float:
        return float((np.exp(theory.tilt(log_ref, reward, 1 / pressure)) * inside).sum())

    law = np.array([rate(pressure) for pressure in pressures])
    expected = inputs.expected(published, law)
    at = tuple(f"lam = {pressure:g}" for pressure in pressures)
    found = [check(case, "P(A)", "closed form", expected, law, 1e-6, at=at)]
    if flip is not None:
        inputs.numbers("flip", flip, 1, above=0)
        start = float((np.exp(log_ref) * inside).sum())
        if (rate(flip / 2) - start) * (rate(flip * 2) - start) >= 0:
            raise InputError(f"flip = {flip:g}: P(class) does not return to {start:g} between half and twice that")
        returned = brentq(lambda pressure: rate(pressure) - start, flip / 2, flip * 2, xtol=1e-12)
        found.append(check(case, "lam at which the sign flips", "closed form", flip, returned, 1e-5))
    return found + trained(case, "P(A)", problem, reward, [1 / p for p in pressures], expected, 5e-4, at)
