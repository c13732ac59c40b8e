"""The drift ledger: why a metric moved, split by cause.

Between two recorded steps the parameters move by  sum_c moved_c  (one cause c per signal, one for the KL penalty), so

    change of the metric = sum_c  grad(metric)(theta at the start) . moved_c  +  remainder,

exactly. The remainder is of second order in the move: summed over a training of fixed length (learning rate times
steps) and a fixed number of steps between records, it shrinks linearly with the step size. For a tabular policy under
the natural gradient the line of signal i over one step is learning_rate * w_i * Cov_policy(r_i, metric).
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sim.training.trajectory import Trajectory
from sim.world.arrays import Array

if TYPE_CHECKING:
    from sim.training.policies import Policy  # loads torch: a sweep without ledgers may not need it


def attribute_drift(policy: "Policy", trajectory: Trajectory, values: Array, observed: Array) -> Array:
    """Return the ledger [T - 1, C + 1, R]: signals, KL penalty, remainder; it sums over causes to the observed change.

    Args:
        policy: on the split of the metric.
        trajectory: trained with `ledger=True`.
        values: [P, K] of the metric (`Metric.values`).
        observed: [T, R] the metric at the recorded steps.
    """
    from sim.training.train import mean_gradient

    if trajectory.moved is None:
        raise ValueError("the ledger needs a trajectory that was trained with ledger=True")
    lines = []
    for theta, moved, change in zip(trajectory.theta, trajectory.moved, np.diff(observed, axis=0), strict=False):
        by_cause = np.einsum("dr,cdr->cr", mean_gradient(policy, theta, values), moved)
        lines.append(np.concatenate([by_cause, (change - by_cause.sum(axis=0))[None]]))
    return np.array(lines)


def check_strength(totals: Array, primary: npt.NDArray[np.intp]) -> Array:
    """Return  - (sum of the primary signals' lines) / (sum of all other lines), [R].

    The lines sum to the observed change, so it is above 1 exactly where the metric fell: the primary group held it in
    check. Where the others do not push the metric up there is no such ratio: it is infinite if the metric fell, 1 if it
    stayed and 0 if it rose. Training on near the optimum draws it towards 1, since the pushes then balance.

    Args:
        totals: [C, R] ledger lines summed over steps.
        primary: rows of the primary signals.
    """
    mine = totals[primary].sum(axis=0)
    others = totals.sum(axis=0) - mine
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(others > 0, -mine / others, _without_ratio(mine + others))


def _without_ratio(change: Array) -> Array:
    return np.where(change < 0, np.inf, np.where(change > 0, 0.0, 1.0))
