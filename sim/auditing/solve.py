"""Three equations in one unknown, each side of which is a pass over the sample.

* the kl_coef at which training on a mixture moves the policy by a given KL;
* the smallest penalty on an attribute that brings its mean back to the reference's;
* the most KL that the candidates allow at all.
"""

from collections.abc import Callable

import numpy as np

from sim.auditing.measures import TINY, moments
from sim.auditing.sample import Block, Sample
from sim.auditing.scan import scan
from sim.config import InputError
from sim.training.theory import kl_divergence, tilt
from sim.world.arrays import Array

ROUNDS = 60
CLOSE = 1e-10  # relative


def most_kl(sample: Sample, line: Array) -> float:
    """Return the KL of the policy that always picks a best candidate: no tilt of the sample goes beyond."""

    def measure(block: Block) -> Array:
        reward = np.tensordot(line, block.values[: len(line)], axes=1)
        ref = np.exp(block.log_ref)
        top = np.where(ref > 0, reward, -np.inf).max(axis=1, keepdims=True)
        return -np.log((ref * (reward >= top)).sum(axis=1, keepdims=True))

    return float(scan(sample, measure, 1).point[0])


def coefficient_for_kl(
    sample: Sample, line: Array, target: float, progress: Callable[[int], object] | None = None
) -> float:
    """Return the kl_coef at which the optimum for a mixture lies `target` nats per prompt from the reference.

    By Newton's method on log KL against log pressure, x = log(1 / kl_coef), where  dKL/dx = Var_pi(reward) / kl_coef^2.

    Args:
        sample: the candidates.
        line: [S] weights of the mixture.
        target: above 0.
        progress: called with 1 after every pass.

    Raises:
        InputError: where the candidates allow no such KL, saying how much they do.
    """
    limit = most_kl(sample, line)
    if target >= 0.98 * limit:
        raise InputError(
            f"kl = {target:g}: the candidates allow at most {limit:.3g} nats (always the best of each prompt's "
            "answers); ask for less, or sample more answers per prompt"
        )

    def at(pressure: float) -> tuple[float, float]:
        def measure(block: Block) -> Array:
            reward = np.tensordot(line, block.values[: len(line)], axes=1)
            log_policy = tilt(block.log_ref, reward, 1 / pressure)
            _, cov = moments(reward[None], log_policy)
            return np.column_stack([kl_divergence(log_policy, block.log_ref), pressure**2 * cov[:, 0, 0]])

        kl, slope = scan(sample, measure, 2).point
        _tick(progress)
        return float(kl), float(slope)

    def start(block: Block) -> Array:
        _, cov = moments(np.tensordot(line, block.values[: len(line)], axes=1)[None], block.log_ref)
        return cov[:, 0]

    low, high = -np.inf, np.inf
    x = 0.5 * np.log(2 * target / scan(sample, start, 1).point[0])  # KL = Var / (2 kl_coef^2) where it is small
    for _ in range(ROUNDS):
        kl, slope = at(float(np.exp(x)))
        if abs(kl - target) <= CLOSE * target:
            break
        low, high = (x, high) if kl < target else (low, x)
        step = x + (np.log(target / kl) * kl / slope if kl > 0 and slope > 0 else 1.0)
        x = step if low < step < high and abs(step - x) < 3 else _inside(low, high, x, kl < target)
    return float(np.exp(-x))


def _tick(progress: Callable[[int], object] | None) -> None:
    if progress is not None:
        progress(1)


def _inside(low: float, high: float, at: float, up: bool) -> float:
    if np.isfinite(low) and np.isfinite(high):
        return (low + high) / 2
    return at + (1.0 if up else -1.0)


def minimal_penalty(
    sample: Sample, line: Array, kl_coefs: Array, attribute: int, progress: Callable[[int], object] | None = None
) -> tuple[Array, Array]:
    """Return the least c >= 0 such that training on  mixture - c attribute  does not raise the attribute, [L].

    E_pi[attribute] = E_ref[attribute] under pi ~ ref exp((mixture - c attribute) / kl_coef), averaged over prompts: the
    one penalty that a trainer can apply to all prompts. For a single prompt it is that of Shapira, Benade & Procaccia
    (arXiv 2602.01002, Theorem 6). Its left side falls in c with slope -E[Var_pi(attribute)] / kl_coef, so Newton's
    method with a bracket finds it. NaN where the attribute does not vary. Beside it, the passes' last [L, 2]: change
    and variance of the attribute at the solution.

    Args:
        sample: the candidates.
        line: [S] weights of the mixture.
        kl_coefs: [L].
        attribute: its row in the sample's values.
        progress: called with 1 after every pass.
    """

    def at(penalty: Array) -> Array:
        _tick(progress)
        return scan(sample, penalised(line, kl_coefs, attribute, penalty), 2 * len(kl_coefs)).point.reshape(-1, 2)

    found = at(np.zeros(len(kl_coefs)))
    penalty, needed = np.zeros(len(kl_coefs)), found[:, 0] > 0
    low, high = np.zeros(len(kl_coefs)), np.full(len(kl_coefs), np.inf)
    scale = np.abs(found[:, 0]).max() + np.sqrt(found[:, 1].max())
    reach = 8 * kl_coefs / max(float(np.sqrt(found[:, 1].max())), np.sqrt(TINY))  # 8 nats between typical answers
    for _ in range(ROUNDS):
        open_ = needed & (np.abs(found[:, 0]) > CLOSE * scale)
        if not open_.any():
            break
        low = np.where(open_ & (found[:, 0] > 0), penalty, low)
        high = np.where(open_ & (found[:, 0] < 0), penalty, high)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            step = penalty + found[:, 0] * kl_coefs / found[:, 1]
        with np.errstate(invalid="ignore"):
            furthest = np.where(np.isfinite(high), high, 2 * low + reach)
            middle = np.where(np.isfinite(high), (low + high) / 2, furthest)
        inside = np.isfinite(step) & (step > low) & (step < furthest)
        penalty = np.where(open_, np.where(inside, step, middle), penalty)
        found = at(penalty)
    stuck = needed & (np.abs(found[:, 0]) > 1e-6 * scale)
    return np.where(stuck, np.nan, penalty), found


def penalised(line: Array, kl_coefs: Array, attribute: int, penalty: Array) -> Callable[[Block], Array]:
    """Return what measures [p, 2 L]: change and variance of the attribute under each penalised optimum."""

    def measure(block: Block) -> Array:
        reward = np.tensordot(line, block.values[: len(line)], axes=1)
        values = block.values[attribute]
        reference = (np.exp(block.log_ref) * values).sum(axis=1)
        found = []
        for coef, cost in zip(kl_coefs, penalty, strict=True):
            mean, cov = moments(values[None], tilt(block.log_ref, reward - cost * values, float(coef)))
            found += [mean[:, 0] - reference, cov[:, 0, 0]]
        return np.stack(found, axis=1)

    return measure
