"""Closed forms: what training must come to, computed without training.

`kl_coef` is the coefficient of the KL penalty; papers write beta for it or for its inverse.
"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit, logit

from sim.world.arrays import Array, normalize_log


def tilt(log_ref: Array, reward: Array, kl_coef: float) -> Array:
    """Return log pi* [P, K], the maximiser of E[reward] - kl_coef KL(pi || ref):  log_ref + reward / kl_coef - log Z.

    (Ziebart et al. 2008; Korbak et al. 2022, arXiv 2205.11275.)

    Args:
        log_ref: [P, K].
        reward: [P, K].
        kl_coef: above 0.
    """
    return normalize_log(log_ref + reward / kl_coef)


def k3_fixed_point(log_ref: Array, reward: Array, kl_coef: float) -> Array:
    """Return log pi [P, K] where training settles if the k3 penalty is a loss, as in GRPO.

    It is the maximiser of E[reward] - kl_coef KL(ref || pi), the KL the other way round:

        pi_k = kl_coef ref_k / (mu - reward_k),  mu > max reward such that the sum over k is 1

    k3 = ref/pi - log(ref/pi) - 1 has KL(pi || ref) for its mean, but its gradient on samples of pi has the mean
    -E_ref[grad log pi], the gradient of KL(ref || pi) (Tang & Munos, arXiv 2506.09477). The optimum is thus not `tilt`:
    tails are polynomial in the reward, not exponential. Where advantages are taken against the mean of a group of G
    that includes the response itself, the reward's gradient is shorter by (G - 1)/G and the loss's is not, so that
    this is the fixed point for kl_coef G/(G - 1).

    Args:
        log_ref: [P, K].
        reward: [P, K].
        kl_coef: above 0.
    """
    best = reward.max(axis=1)
    behind, share = best[:, None] - reward, kl_coef * np.exp(log_ref)

    def solve(behind: Array, share: Array) -> float:
        """Return mu - best: the root lies between the mass of the best response and that of all."""
        low, high = share[behind == 0].sum(), share.sum()
        if low == high:
            return float(high)
        return float(brentq(lambda above: (share / (above + behind)).sum() - 1, low, high, xtol=1e-15 * high))

    above = np.array([solve(*row) for row in zip(behind, share, strict=True)])
    return np.log(share) - np.log(above[:, None] + behind)


def mixing_law(ref_prob: float, gaps: Array, weights: Array, kl_coef: float) -> Array:
    """Return the optimal probability of a class of responses whose signals differ from the rest by `gaps`.

        logit P = logit p0 + (1 / kl_coef) sum_k w_k gap_k,

    which is `tilt` for two classes: inside a class rewards are equal, so only the odds between them move.

    Args:
        ref_prob: p0, in (0, 1).
        gaps: [S] mean signal inside the class minus outside (signals constant on each side).
        weights: [S] or [S, R] effective weights.
        kl_coef: above 0.
    """
    return np.asarray(expit(logit(ref_prob) + np.tensordot(gaps, weights, axes=1) / kl_coef))


def critical_weight(pushes: Array, weights: Array, added: int, renormalize: bool = True) -> Array:
    """Return the weight of the added signal at which the pushes on a metric cancel.

    With the others diluted:  (1 - w) A + w B = 0  so  w = A / (A - B);  on top:  w = -A / B.  Here A is the primary
    group's push at its base weights (scaled to sum to 1 where they are diluted) and B that of one unit of the added
    signal. NaN where A and B do not oppose each other: there is then no weight at which the sign changes.

    Args:
        pushes: [S, ...] push of one unit of each signal on the metric (a covariance, or a gap).
        weights: [S] base weights; the added signal's own entry is ignored.
        added: row of the added signal.
        renormalize: whether the others make room for it.
    """
    base = np.array(weights, dtype=float)
    base[added] = 0.0
    if renormalize and base.sum() > 0:
        base = base / base.sum()
    primary, extra = np.tensordot(base, pushes, axes=1), pushes[added]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = primary / (primary - extra) if renormalize else -primary / extra
    return np.where(primary * extra < 0, found, np.nan)


def best_of_n(log_ref: Array, reward: Array, n: int) -> Array:
    """Return log-probabilities [P, K] of the best of n draws from the reference, ties split in proportion to it.

    With F(v) the reference probability of a reward of at most v, a reward level v is best with probability
    F(v)^n - F(v-)^n, shared by the responses at that level. Exact; `log n - (n - 1)/n` only bounds its KL from above.

    Args:
        log_ref: [P, K].
        reward: [P, K].
        n: draws, at least 1.
    """
    ref = np.exp(log_ref)
    not_above = reward[:, None, :] <= reward[:, :, None]  # [P, k, j]: r_j <= r_k
    tied = reward[:, None, :] == reward[:, :, None]
    at_most = np.minimum(np.einsum("pkj,pj->pk", not_above, ref), 1.0)
    level = np.einsum("pkj,pj->pk", tied, ref)
    with np.errstate(divide="ignore", invalid="ignore"):
        # F(v)^n - F(v-)^n = F(v)^n (1 - (1 - level / F(v))^n), without a difference of nearly equal numbers.
        share = -np.expm1(n * np.log1p(-np.minimum(level / at_most, 1.0)))
        found = log_ref - np.log(level) + n * np.log(at_most) + np.log(share)
    return np.where(ref > 0, found, -np.inf)


def kl_divergence(log_policy: Array, log_ref: Array) -> Array:
    """Return KL(policy || ref) of each prompt, [P], in nats, from log-probabilities [P, K]; 0 log 0 counts as 0."""
    probs = np.exp(log_policy)
    with np.errstate(invalid="ignore"):
        return np.where(probs > 0, probs * (log_policy - log_ref), 0.0).sum(axis=1)


def tilt_shift(log_ref: Array, reward: Array, values: Array, kl_coef: float) -> Array:
    """Return E_pi*[values] - E_ref[values] of each prompt, [P], as a covariance under the reference.

        Cov_ref(values, exp(reward / kl_coef)) / E_ref[exp(reward / kl_coef)]

    (Shapira, Benade & Procaccia, arXiv 2602.01002, Theorem 1.) Its slope in 1/kl_coef at 0 is Cov_ref(values, reward).

    Args:
        log_ref: [P, K].
        reward: [P, K].
        values: [P, K].
        kl_coef: above 0.
    """
    ref = np.exp(log_ref)
    scaled = reward / kl_coef
    tilted = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    mean = (ref * tilted).sum(axis=1)
    centred = values - (ref * values).sum(axis=1, keepdims=True)
    return (ref * centred * tilted).sum(axis=1) / mean


def minimal_penalty(
    log_ref: Array, reward: Array, agreement: Array, kl_coef: float, target: npt.ArrayLike | None = None
) -> Array:
    """Return the smallest penalty on agreement [P] that keeps it from rising: lambda* of each prompt, in reward.

    Among all policies that agree at most as often as `target`, the one closest (in KL(policy || trained)) to the policy
    trained on `reward` is trained on  reward - lambda* agreement,  with

        lambda* = max(0, kl_coef (logit P_trained(agrees) - logit target)).

    (Shapira, Benade & Procaccia, arXiv 2602.01002, Theorem 6, where the target is P_ref(agrees).)

    Args:
        log_ref: [P, K].
        reward: [P, K].
        agreement: [P, K], 1 where the response agrees, else 0.
        kl_coef: above 0.
        target: [P] or one number in (0, 1); None: the reference policy's own.
    """
    if not np.isin(agreement, (0.0, 1.0)).all():
        raise ValueError("agreement must be 0 or 1: with degrees of it there is no closed form")
    trained = np.exp(tilt(log_ref, reward, kl_coef))

    def odds(probs: Array) -> Array:
        # Both sides are summed: 1 - P would lose all digits where agreement is nearly certain.
        return np.log((probs * agreement).sum(axis=1)) - np.log((probs * (1 - agreement)).sum(axis=1))

    with np.errstate(divide="ignore", invalid="ignore"):
        limit = odds(np.exp(log_ref)) if target is None else logit(np.asarray(target, dtype=float))
        excess = odds(trained) - limit
    # Where all candidates agree, or none does, training cannot change how often.
    return np.where(np.isnan(excess), 0.0, np.maximum(kl_coef * excess, 0.0))


def two_action_flow(ref_prob: float, gap: float, times: npt.ArrayLike) -> Array:
    """Return P(first action) [T] after gradient flow on two logits, for times in units of 1 / learning rate.

    With u = logit P the flow of E[reward] is  u' = 2 P (1 - P) gap = gap / (1 + cosh u),  so

        u + sinh u = u0 + sinh u0 + gap t.

    Args:
        ref_prob: P at time 0, in (0, 1).
        gap: reward of the first action minus that of the second.
        times: [T], at least 0.
    """
    start = float(logit(ref_prob))

    def solve(time: float) -> float:
        target = start + np.sinh(start) + gap * time
        bound = abs(target) + abs(start) + 1
        return float(brentq(lambda u: u + np.sinh(u) - target, -bound, bound, xtol=1e-14))

    return expit(np.array([solve(float(time)) for time in np.atleast_1d(np.asarray(times, dtype=float))]))
