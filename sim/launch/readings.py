"""What a check reports: an effect with its error, and how answers and grades are drawn.

Every draw is a uniform number of the stream (seed, "launch", candidate, check, what, look), with a fixed place per
question, turned into an answer by the inverse of its distribution. So a candidate's luck depends on its own name only:
adding a candidate, leaving one out, or changing a policy moves no other draw.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import ndtri

from sim import rng
from sim.launch.models import Model
from sim.world.arrays import Array

Indices = npt.NDArray[np.int64]
TINY = 2.0**-60  # below the smallest number a uniform stream gives


class Reading(NamedTuple):
    """Candidate minus deployed, [R] each; NaN where there is no data.

    effect: the difference.
    error: its standard error; a sequential test widens it so that the usual interval is the sequential one.
    size: observations per arm.
    freedom: degrees of freedom of Student's t; infinite for the normal.
    """

    effect: Array
    error: Array
    size: Array
    freedom: float = np.inf

    def tail(self, margin: float) -> Array:
        """Return P(an effect this high or higher | the true effect is `margin`), [R]; NaN where there is no data."""
        return np.asarray(stats.t.sf((self.effect - margin) / self.error, self.freedom))

    def interval(self, level: float) -> tuple[Array, Array]:
        """Return the two ends of the interval with error `level` on each side."""
        reach = stats.t.isf(level, self.freedom) * self.error
        return self.effect - reach, self.effect + reach


class Draws(NamedTuple):
    """Where the random numbers of a review come from.

    seed: of the review.
    names: of the R candidates.
    look: 1, or 2 for the second look.
    """

    seed: int
    names: tuple[str, ...]
    look: int = 1

    def uniform(self, check: str, what: str, *shape: int) -> Array:
        """Return uniform numbers in (0, 1), [R, *shape]."""
        found = [rng.stream(self.seed, "launch", name, check, what, self.look).random(shape) for name in self.names]
        return np.maximum(np.stack(found), TINY)  # 0 itself has no place on the normal scale

    def normal(self, check: str, what: str, *shape: int) -> Array:
        """Return standard normal numbers, [R, *shape]."""
        return np.asarray(ndtri(self.uniform(check, what, *shape)))

    def rows(self, rows: Indices) -> "Draws":
        """Return the draws of some of the candidates."""
        return self._replace(names=tuple(self.names[row] for row in rows))


def no_data(runs: int) -> Reading:
    """Return the reading of a check that was not made."""
    nothing = np.full(runs, np.nan)
    return Reading(nothing, nothing, np.zeros(runs))


def draw_prompts(prompt_prob: Array, uniform: Array) -> Indices:
    """Return prompt indices with the shape of `uniform`, by the inverse of the cumulative probability."""
    edges = prompt_prob.cumsum()
    return np.minimum(np.searchsorted(edges, uniform * edges[-1], side="right"), len(edges) - 1)


def draw_answers(probs: Array, prompts: Indices, uniform: Array) -> Indices:
    """Return answer indices [R, n].

    Args:
        probs: [R, P, K], or [1, P, K] for one policy that all rows share.
        prompts: [R, n].
        uniform: [R, n].
    """
    edges = probs.cumsum(axis=2)
    rows = np.zeros((1, 1), dtype=int) if len(probs) == 1 else np.arange(len(probs))[:, None]
    found = np.zeros(prompts.shape, dtype=np.int64)
    for answer in range(probs.shape[2] - 1):  # a pass per answer keeps memory at [R, n]
        found += uniform > edges[rows, prompts, answer]
    return found


def paired(difference: Array, scale: float = 1.0) -> Reading:
    """Return the reading of paired differences [R, n].

    The error is never below scale / n: a sample in which nothing happened does not show that nothing ever does.
    """
    count = difference.shape[1]
    error = difference.std(axis=1, ddof=1) / np.sqrt(count) if count > 1 else np.full(len(difference), np.inf)
    return Reading(difference.mean(axis=1), np.maximum(error, scale / count), np.full(len(difference), float(count)))


def graded(
    candidate: Model, deployed: Model, split: str, values: Array, asked: Array, size: int, noise: float,
    draws: Draws, check: str,
) -> Reading:  # fmt: skip
    """Return the reading of an eval: `size` questions, one answer of each model to each, graded with noise.

    Args:
        candidate: R policies.
        deployed: one policy, or R.
        split: where the questions come from.
        values: [P, K] what a faultless grader would say.
        asked: [P] weight of each question, on top of its probability: the eval's coverage.
        size: questions; 0: the eval is not made.
        noise: standard deviation of one grade.
        draws: of the review.
        check: name of the eval.
    """
    weight = candidate.views[split].prompt_prob * asked
    if size == 0 or weight.sum() <= 0:
        return no_data(candidate.runs)
    prompts = draw_prompts(weight, draws.uniform(check, "questions", size))
    grades = []
    for model, who in ((candidate, "candidate"), (deployed, "deployed")):
        answers = draw_answers(model.probs[split], prompts, draws.uniform(check, f"{who} answers", size))
        error = noise * draws.normal(check, f"{who} grades", size) if noise else 0.0
        grades.append(values[prompts, answers] + error)
    return paired(grades[0] - grades[1])
