"""V9: the best of n draws, exactly, where rewards may tie."""

from collections.abc import Sequence

import numpy as np

from sim import rng
from sim.training import theory
from sim.validation import inputs
from sim.validation.check import Check, check
from sim.validation.small import SAMPLED_BAND
from sim.validation.tilts import Candidates


def best_of_n(
    case: str,
    problem: Candidates,
    draws: Sequence[int],
    published: tuple[Sequence[float], Sequence[float]] | None = None,
    samples: int = 200_000,
    seed: int = 0,
) -> list[Check]:
    """Return checks of best-of-n: P(class) and KL as published, against draws, and below the usual bound.

    Args:
        case: what to call it.
        problem: the candidates; rewards may tie.
        draws: n.
        published: P(class) and KL at each n, or None.
        samples: to draw.
        seed: of the draws.
    """
    inputs.whole("draws", draws)
    inputs.whole("samples", samples)
    log_ref, reward, inside = problem.arrays()
    policies = [theory.best_of_n(log_ref, reward, n) for n in draws]
    rate = np.array([(np.exp(policy) * inside).sum() for policy in policies])
    kl = np.array([theory.kl_divergence(policy, log_ref)[0] for policy in policies])
    at = tuple(f"n = {n}" for n in draws)
    found = []
    if published is not None:
        found = [
            check(case, what, "closed form", inputs.expected(known, got), got, 1e-6, at=at)
            for what, known, got in (("P(A)", published[0], rate), ("KL", published[1], kl))
        ]
    upper = np.log(draws) - (np.array(draws) - 1) / np.array(draws)
    found.append(check(case, "KL, against log n - (n-1)/n", "closed form", upper, kl, 1e-12, bound="at most", at=at))
    hits = [_drawn(problem, n, samples, seed) for n in draws]
    error = np.sqrt(rate * (1 - rate) / samples)
    found.append(check(case, "P(A)", f"sampled ({samples:,} draws)", rate, hits, SAMPLED_BAND, error=error, at=at))
    return found


def _drawn(problem: Candidates, n: int, samples: int, seed: int) -> float:
    """Return how often the best of n draws is in the class; the first of those that tie is as good as any."""
    random = rng.stream(seed, "validation", "best of n", n)
    drawn = random.choice(len(problem.reward), size=(samples, n), p=problem.ref_probs)
    best = drawn[np.arange(samples), np.array(problem.reward)[drawn].argmax(axis=1)]
    return float(np.array(problem.inside)[best].mean())
