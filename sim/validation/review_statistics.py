"""V12: statistics of a review: peeking, its remedies, and sample sizes."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from sim import rng
from sim.launch.sequential import ab_sample_size, always_valid_radius, boundaries, crossing_probability, sample_size
from sim.validation import inputs
from sim.validation.check import Check, check
from sim.world.arrays import Array

SIMULATIONS = 100_000
ROUNDING = 0.0005  # of probabilities that are published with three digits


def null_paths(looks: int, simulations: int = SIMULATIONS, seed: int = 0) -> Array:
    """Return standardised sums at evenly spaced looks under no effect, [simulations, looks]."""
    steps = rng.stream(seed, "validation", "null paths", looks).standard_normal((simulations, looks))
    return steps.cumsum(axis=1) / np.sqrt(np.arange(1, looks + 1))


def peeking(
    case: str, looks: Sequence[int], published: Sequence[float] | None = None, level: float = 0.05
) -> list[Check]:
    """Return checks of how often a fixed two-sided test ever rejects at evenly spaced looks, under no effect."""
    inputs.whole("looks", looks)
    inputs.chance("level", level, 1)
    bound = float(stats.norm.isf(level / 2))
    exact = np.array([crossing_probability(np.full(count, bound)) for count in looks])
    expected = inputs.expected(published, exact)
    drawn = [(np.abs(null_paths(count)) > bound).any(axis=1).mean() for count in looks]
    at = tuple(f"{count} looks" for count in looks)
    how, error = f"sampled ({SIMULATIONS:,} tests)", np.sqrt(expected * (1 - expected) / SIMULATIONS)
    return [
        check(case, "P(ever rejects), peeking", "integration", expected, exact, 6e-4, at=at),
        check(case, "P(ever rejects), peeking", how, expected, drawn, np.inf, error=error, slack=ROUNDING, at=at),
    ]


def pocock(case: str, looks: int, published: float | None = None, level: float = 0.05) -> list[Check]:
    """Return checks of Pocock's constant, where it is published, and that a test with it keeps its error."""
    inputs.whole("looks", looks)
    inputs.chance("level", level, 1)
    bounds = np.array(boundaries("pocock", looks, level))
    drawn, error = (np.abs(null_paths(looks)) > bounds).any(axis=1).mean(), np.sqrt(level * (1 - level) / SIMULATIONS)
    how = f"sampled ({SIMULATIONS:,} tests)"
    found = check(case, "P(ever rejects), Pocock", how, level, drawn, np.inf, error=error, slack=ROUNDING)
    if published is None:
        return [found]
    return [check(case, f"Pocock's constant, {looks} looks", "integration", published, bounds, 1e-3), found]


def always_valid(case: str, mixing: Sequence[float], level: float = 0.05, seed: int = 0) -> list[Check]:
    """Return a check that the mSPRT, looked at after each of 1,000 observations, rejects at most at its level."""
    inputs.numbers("mixing", mixing, above=0)
    inputs.chance("level", level, 1)
    paths, length = 20_000, 1000
    sums = rng.stream(seed, "validation", "msprt").standard_normal((paths, length)).cumsum(axis=1)
    count = np.arange(1, length + 1)
    ever = [(np.abs(sums / count) > always_valid_radius(1 / count, tau, level)).any(axis=1).mean() for tau in mixing]
    at = tuple(f"mixing {tau:g}" for tau in mixing)
    how = f"sampled ({paths:,} tests)"
    return [check(case, "P(ever rejects), mSPRT", how, level, ever, 0.0, bound="at most", at=at)]


def arm_sizes(case: str, rates: Sequence[tuple[float, float]], published: Sequence[int] | None = None) -> list[Check]:
    """Return checks of users per arm to tell two rates apart at 80 % power, and that the power is that."""
    for pair in rates:
        inputs.chance("rates", pair, 2)
    sizes = [ab_sample_size(*pair) for pair in rates]
    at = tuple(f"{one:g} v {other:g}" for one, other in rates)
    power = [_power(*pair, users) for pair, users in zip(rates, sizes, strict=True)]
    found = check(
        case, "power at that size", f"sampled ({SIMULATIONS:,} tests)", 0.8, power, np.inf,
        error=np.sqrt(0.16 / SIMULATIONS), slack=0.001, at=at,
    )  # fmt: skip
    if published is None:
        return [found]
    return [check(case, "users per arm", "closed form", inputs.expected(published, sizes), sizes, 0.0, at=at), found]


def questions(case: str, spread: float, effect: float, published: int | None = None, seed: int = 0) -> list[Check]:
    """Return checks of the questions that an eval needs to see an effect at 80 % power, and that the power is that.

    Args:
        case: what to call it.
        spread: standard deviation of the difference of two models' answers to one question.
        effect: difference to be seen, in the same unit; not 0.
        published: number of questions, or None.
        seed: of the simulated evals.
    """
    inputs.numbers("spread", spread, 1, above=0)
    inputs.numbers("effect", effect, 1)
    size = sample_size(spread, effect)
    means = effect + spread / np.sqrt(size) * rng.stream(seed, "validation", "questions").standard_normal(SIMULATIONS)
    power = (np.abs(means) > stats.norm.isf(0.025) * spread / np.sqrt(size)).mean()
    found = check(
        case, "power at that many questions", f"sampled ({SIMULATIONS:,} evals)", 0.8, power, np.inf,
        error=np.sqrt(0.16 / SIMULATIONS), slack=0.001,
    )  # fmt: skip
    if published is None:
        return [found]
    return [check(case, "questions of an eval", "closed form", published, size, 0.0), found]


def _power(rate: float, other: float, users: int) -> float:
    """Return how often a two-sided 5 % test tells two rates apart."""
    random = rng.stream(0, "validation", "power", rate, other)
    up, down = (random.binomial(users, chance, SIMULATIONS) / users for chance in (rate, other))
    error = np.sqrt((up * (1 - up) + down * (1 - down)) / users)
    return float((np.abs(up - down) > stats.norm.isf(0.025) * error).mean())
