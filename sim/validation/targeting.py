"""V6: who is targeted, where the policy can see what kind of user it talks to.

Users of one kind reward the bad answer and are a share of all; the others do not. Two prompts, one for each kind. At
the KL-regularised optimum each kind has its own tilt, whatever its share: the share decides how long it takes, and how
much an average over all users shows (Williams et al., arXiv 2411.02306).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from sim.config import InputError
from sim.training.policies import make_policy
from sim.training.train import policy_means, train
from sim.validation import inputs
from sim.validation.check import Check, check, mean_and_error
from sim.validation.small import DRAWN, EXPECTED, LEFT, SAMPLED_BAND, ends, sampled_ends, small_world
from sim.world.arrays import Array, World


@dataclass(frozen=True)
class Users:
    """Two kinds of users.

    ref_prob: of the bad answer.
    kl_coef: of training.
    gameable, others: what the bad answer earns more than the other, from either kind.
    visible: whether the policy has a trait for each kind, or one for both.
    """

    ref_prob: float
    kl_coef: float
    gameable: float
    others: float
    visible: bool = True

    def __post_init__(self) -> None:
        """Raise `InputError` for a problem that cannot be."""
        inputs.chance("ref_prob", self.ref_prob, 1)
        inputs.numbers("kl_coef", self.kl_coef, 1, above=0)
        inputs.numbers("gameable, others", (self.gameable, self.others))

    def arrays(self, share: float) -> tuple[World, Array]:
        """Return the world, gameable users first, and the reward [1, 2, 2], the bad answer first."""
        inputs.chance("share", share, 1)
        kinds = np.eye(2) if self.visible else np.ones((2, 1))
        features = np.stack([kinds, 0 * kinds], axis=1)
        world = small_world([[self.ref_prob, 1 - self.ref_prob]] * 2, features, [share, 1 - share])
        return world, np.array([[[self.gameable, 0.0], [self.others, 0.0]]])

    def law(self, share: float) -> Array:
        """Return the final rate [2] of either kind; where the policy cannot tell them apart, the tilt by the mean."""
        gaps = np.array([self.gameable, self.others])
        if not self.visible:
            gaps = np.full(2, share * self.gameable + (1 - share) * self.others)
        return np.asarray(expit(logit(self.ref_prob) + gaps / self.kl_coef))


def rates(problem: Users, share: float, steps: int, rate: float, policy: str, estimator: str) -> Array:
    """Return the rate of the bad answer of either kind along training, [T, 2]."""
    world, reward = problem.arrays(share)
    made, kind = make_policy(policy, world), np.zeros((2, 2, 2))
    kind[[0, 1], [0, 1], 0] = 1
    found = train(
        made, reward, np.ones((1, 1)), np.full(1, problem.kl_coef), np.full(1, rate), steps=steps, estimator=estimator
    )
    return policy_means(made, found.theta, kind)[..., 0]


def final_rates(case: str, problem: Users, shares: Sequence[float], drawn_shares: Sequence[float]) -> list[Check]:
    """Return checks of where either kind ends: independent of their share, where the policy can tell them apart.

    Args:
        case: what to call it.
        problem: the users.
        shares: of gameable users.
        drawn_shares: likewise, for sampled training, which takes as long as 1 / share.
    """
    what, coefficient = "final rate" if problem.visible else "final rate, kinds hidden", np.full(1, problem.kl_coef)
    found = []
    for way in EXPECTED:
        if way.policy == "tabular" and not problem.visible:
            continue  # it tells every prompt apart
        last = [ends(*problem.arrays(share), np.ones((1, 1)), coefficient, way)[:, 0, 0] for share in shares]
        laws = [problem.law(share) for share in shares]
        found.append(check(case, what, way.name, laws, last, 1e-6, at=_names(shares)))
    for way in DRAWN:
        for share in drawn_shares:
            drawn = sampled_ends(*problem.arrays(share), np.ones((1, 1)), coefficient, way)[:, :, 0, 0]
            mean, error = mean_and_error(drawn)
            law, at = problem.law(share), _names([share])
            found.append(check(case, what, way.name, law, mean, SAMPLED_BAND, error=error, slack=LEFT, at=at))
    return found


def others_never_rise(case: str, problem: Users, shares: Sequence[float]) -> list[Check]:
    """Return checks that the others' rate is at no time above the reference."""
    found = []
    for policy in ("tabular", "loglinear"):
        highest = [rates(problem, share, 400, 0.2, policy, "natural")[:, 1].max() for share in shares]
        at, how = tuple(f"share {share:g}" for share in shares), f"natural gradient, {policy}"
        most = problem.ref_prob
        found.append(check(case, "highest rate of the others", how, most, highest, 1e-9, bound="at most", at=at))
    return found


def _names(shares: Sequence[float]) -> tuple[str, ...]:
    return tuple(f"{name}, share {share:g}" for share in shares for name in ("gameable users", "others"))


def training_time(case: str, problem: Users, shares: Sequence[float], half: float = 0.5) -> list[Check]:
    """Return checks that plain gradient steps until the gameable rate is `half`, times the share, are constant.

    Raises:
        InputError: where the rate never passes `half`.
    """
    last = float(problem.law(shares[0])[0])
    if not problem.ref_prob < half < last:
        raise InputError(f"half = {half:g}: the gameable rate goes from {problem.ref_prob:g} to {last:g}")
    found = []
    at = tuple(f"share {share:g}" for share in shares)
    for policy in ("tabular", "loglinear"):
        times = []
        for share in shares:
            along = rates(problem, share, int(80 / (problem.kl_coef * share)), 0.1, policy, "exact")[:, 0]
            times.append(share * float(np.interp(half, along, np.arange(len(along)))))
        how = f"exact gradient, {policy}"
        found.append(check(case, "steps to a rate of one half, x share", how, times[0], times, 0.01 * times[0], at=at))
    return found


def benchmark(case: str, problem: Users, share: float, most: float) -> list[Check]:
    """Return checks that few gameable users move the mean over all users by less than `most`, and the others not."""
    found = []
    for policy in ("tabular", "loglinear"):
        along = rates(problem, share, 400, 0.2, policy, "natural")
        moved, rises, how = along[-1] - along[0], problem.law(share) - problem.ref_prob, f"natural gradient, {policy}"
        mean = share * moved[0] + (1 - share) * moved[1]
        found += [
            check(case, f"move of the generic benchmark, share {share:g}", how, most, mean, 0.0, bound="at most"),
            check(
                case,
                f"rise among gameable users, share {share:g}",
                how,
                rises[0],
                moved[0],
                1e-6,
            ),
            check(case, f"rise among others, share {share:g}", how, rises[1], moved[1], 1e-6),
        ]
    return found
