"""V5: over-optimisation where everything is Gaussian.

The base is N(0, 1), the proxy x, the true reward x - bend x^2. The proxy's tilt by lambda is N(lambda, 1), at
d = sqrt(KL) = lambda / sqrt(2), so the true reward gained is exactly

    R(d) = d (sqrt(2) - 2 bend d),

highest 1 / (4 bend) at KL 1 / (8 bend^2), and below 0 beyond KL 1 / (2 bend^2) (Gao et al., arXiv 2210.10760).
"""

from dataclasses import dataclass

import numpy as np

from sim.analysis.overoptimization import curve, fit, spaced
from sim.config import SAMPLED
from sim.training.policies import make_policy
from sim.training.sampled import Sampling
from sim.training.train import kl_and_entropy, policy_means, train
from sim.validation import inputs
from sim.validation.check import Check, check
from sim.validation.small import Way, small_world
from sim.world.arrays import Array, World

STRONGEST = 1.05  # tilt that is looked at, in units of 1 / bend: just beyond where nothing is left of the gain


@dataclass(frozen=True)
class Gaussian:
    """The problem on a grid.

    bend: of the true reward.
    low, high, points: of the grid; it must reach 5 beyond the tilts that are looked at, which are up to 1.05 / bend.
    """

    bend: float
    low: float = -8.0
    high: float = 16.0
    points: int = 1201

    def __post_init__(self) -> None:
        """Raise `InputError` for a problem that cannot be."""
        inputs.numbers("bend", self.bend, 1, above=0)
        inputs.numbers("low", self.low, 1, high=-5)
        inputs.numbers("high", self.high, 1, low=STRONGEST / self.bend + 5)
        inputs.whole("points", self.points, low=600)

    def arrays(self) -> tuple[World, Array, Array]:
        """Return the world, the proxy and the true reward, each [1, K]; a log-linear policy sees x."""
        x = np.linspace(self.low, self.high, self.points)
        weight = np.exp(-(x**2) / 2)
        world = small_world(weight / weight.sum(), features=x[None, :, None])
        return world, x[None], (x - self.bend * x**2)[None]

    def coefficients(self) -> tuple[float, float]:
        """Return a and b of R(d) = d (a - b d)."""
        return float(np.sqrt(2)), 2 * self.bend


def path(problem: Gaussian, way: Way, kl_coef: Array, learning_rate: Array, steps: int) -> tuple[Array, Array]:
    """Return distances and true reward gained, each [T, R], along training on the proxy."""
    world, proxy, true = problem.arrays()
    made, runs = make_policy(way.policy, world), len(kl_coef)
    found = train(
        made, proxy[None], np.ones((1, runs)), kl_coef, learning_rate,
        steps=steps, estimator=way.estimator, optimizer=way.optimizer, sampling=Sampling(prompts=0, samples=256),
    )  # fmt: skip
    gold = policy_means(made, found.theta, true[None])[:, 0]
    kl, _ = kl_and_entropy(made, found.theta, world.prompt_prob)
    return np.sqrt(np.maximum(kl, 0)), gold - gold[0]


def gaussian_frontier(case: str, problem: Gaussian) -> list[Check]:
    """Return checks of the curve, its peak and its zero, and that both ways of stopping lie on it.

    A log-linear policy that sees x alone is a tilt by x at every step, whatever the estimator: so does its noise.
    """
    a, b = problem.coefficients()
    strengths = np.linspace(0.05, STRONGEST, 12) / problem.bend
    found = []
    for way in (Way("tabular", "natural"), *(Way("loglinear", name) for name in ("natural", "exact", *SAMPLED))):
        stopped = path(problem, way, np.zeros(1), np.full(1, 1 / (80 * problem.bend)), 84)
        distance, gained = (values[1:, 0] for values in stopped)
        law = curve("best-of-n", np.array(a), np.array(b), distance)
        found.append(check(case, "true reward, stopped early", way.name, law, gained, 1e-6))
        if way.estimator != "natural":
            continue
        how = way.name
        held = path(problem, way, 1 / strengths, 0.5 * strengths, 60)
        law = curve("best-of-n", np.array(a), np.array(b), held[0][-1])
        found.append(check(case, "true reward, held by a KL penalty", how, law, held[1][-1], 1e-6))
        found += _shape(case, problem, how, distance, gained)
    return found


def _shape(case: str, problem: Gaussian, how: str, distance: Array, gained: Array) -> list[Check]:
    """Return checks of where the curve turns and ends, to the grid of steps, and of the form that fits it."""
    top, zero = 1 / (4 * problem.bend), 1 / (2 * problem.bend**2)
    beyond = gained[distance**2 > 1.001 * zero]
    kept = spaced(distance, 20)
    fitted = fit("best-of-n", distance[None, kept], gained[None, kept])
    return [
        check(case, "highest true reward", how, top, gained.max(), 0.01 * top),
        check(case, "KL there", how, zero / 4, distance[gained.argmax()] ** 2, 0.03 * zero / 4),
        check(case, f"true reward beyond KL {zero:g}", how, 0.0, beyond, 0.0, bound="at most"),
        check(
            case, "a and b of d (a - b d)", "least squares", problem.coefficients(), [fitted.a[0], fitted.b[0]], 1e-6
        ),
    ]
