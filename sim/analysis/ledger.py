"""The drift ledger: why a metric moved, split by cause.

Between two recorded steps the parameters move by  sum_c moved_c  (one cause c per signal, one for the KL penalty), so

    change of the metric = sum_c  grad(metric)(theta at the start) . moved_c  +  remainder,

exactly. The remainder is of second order in the move: summed over a training of fixed length it shrinks linearly with
the step size. Under the natural gradient, on the prompts that are trained on, the line of signal i is
learning_rate * w_i * Cov_policy(r_i, metric).
"""

import numpy as np

from sim.training.policies import Policy
from sim.training.train import Trajectory, mean_gradient
from sim.world.arrays import Array


def attribute_drift(policy: Policy, trajectory: Trajectory, values: Array, observed: Array) -> Array:
    """Return the ledger [T - 1, C + 1, R]: signals, KL penalty, remainder; it sums over causes to the observed change.

    Args:
        policy: on the split of the metric.
        trajectory: trained with `ledger=True`.
        values: [P, K] of the metric (`Metric.values`).
        observed: [T, R] the metric at the recorded steps.
    """
    if trajectory.moved is None:
        raise ValueError("the ledger needs a trajectory that was trained with ledger=True")
    lines = []
    for theta, moved, change in zip(trajectory.theta, trajectory.moved, np.diff(observed, axis=0), strict=False):
        by_cause = np.einsum("dr,cdr->cr", mean_gradient(policy, theta, values), moved)
        lines.append(np.concatenate([by_cause, (change - by_cause.sum(axis=0))[None]]))
    return np.array(lines)


def check_strength(totals: Array, added: int, signals: int) -> Array:
    """Return  - (sum of the primary signals' lines) / (line of the added signal), [R].

    Above 1 the primary group holds the metric in check, below 1 it does not; infinite where the added signal does not
    push the metric up at all. The KL line is left out: it pulls back to the reference from either side.

    Args:
        totals: [C, R] ledger lines summed over steps, signals first.
        added: row of the added signal.
        signals: how many of the rows are signals.
    """
    primary = np.delete(totals[:signals], added, axis=0).sum(axis=0)
    push = totals[added]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(push > 0, -primary / push, np.inf)
