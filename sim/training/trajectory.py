"""What training leaves behind, whichever engine did it."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.world.arrays import Array

ADAM_BETAS, ADAM_EPSILON = (0.9, 0.999), 1e-8  # Kingma & Ba 2015


class Trajectory(NamedTuple):
    """The parameters at the recorded steps.

    steps: [T] the recorded steps, 0 first.
    theta: [T, D, R] the parameters at each recorded step; 0 is the reference policy.
    moved: [T - 1, C, D, R] how far each cause moved the parameters between two recorded steps; None without ledger.
        Causes are the signals, the KL penalty and, where responses are sampled, the sampling noise. Summed over
        causes it is the difference of theta.
    weights: [T, S, R] the weights of the update that led to each recorded step (of the first update, for step 0);
        None where they do not change.
    """

    steps: npt.NDArray[np.int64]
    theta: Array
    moved: Array | None
    weights: Array | None = None


class Cancelled(Exception):  # noqa: N818
    """Training was called off, by Ctrl-C or because another part failed."""


def recorded(steps: int, every: int) -> npt.NDArray[np.int64]:
    """Return the steps that are recorded, [T]: 0, each multiple of `every`, and the last."""
    return np.unique(np.append(np.arange(0, steps + 1, every), steps))
