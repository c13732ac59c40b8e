"""The passes unpacked: every array has the sample itself in row 0 and the bootstrap draws below, [1 + B, ...].

So one line computes a number and its draws, and a ratio, a sum or a crossing of several numbers keeps what they share.
"""

from typing import Any, NamedTuple

import numpy as np

from sim.auditing.critical import percentiles
from sim.auditing.options import Audit
from sim.auditing.sample import Sample
from sim.auditing.scan import Scan
from sim.world.arrays import Array


class Plan(NamedTuple):
    """The mixtures and pressures that are looked at.

    weights: [W] of the added signal, the planned one among them.
    planned: its row.
    nominal: [W, S] effective weights of the mixtures.
    unit: [S] what each column is divided by before it is weighed.
    kl_coefs: [L] from weak to strong pressure, the planned one in the middle.
    rows: rows of the weights that are followed over all pressures.
    draws: [N] values of n.
    """

    weights: Array
    planned: int
    nominal: Array
    unit: Array
    kl_coefs: Array
    rows: list[int]
    draws: list[int]

    @property
    def lines(self) -> Array:
        """[W, S] weights in the units of the table's columns."""
        return self.nominal / self.unit

    @property
    def kl_coef(self) -> float:
        """The planned coefficient."""
        return float(self.kl_coefs[len(self.kl_coefs) // 2])


class Numbers(NamedTuple):
    """What was found, with what was asked. V values: S signals, then attributes; see `sim/auditing/measures.py`.

    mean: [1 + B, V] under the reference.
    cov: [1 + B, V, V] within prompts, under the reference.
    apart: [1 + B, S] pushes of signals scaled prompt by prompt.
    varies: [1 + B, S] share of prompts in which the signal varies.
    together: [1 + B, W] pushes of mixtures scaled prompt by prompt.
    shares: [1 + B, S] spread of signals in units of the planned mixture's, prompt by prompt.
    along: [1 + B, W, V + 3] under the tilt by each mixture at the planned kl_coef.
    pressed: [1 + B, rows, L, V + 3] over all pressures.
    best: [1 + B, W, N, V + 3] under best-of-n.
    tilted_cov: [1 + B, V, V] under the tilt by the primary mixture.
    changed: [1 + B, S] best-of-n choices that hang on a signal.
    penalty: [L] least penalties.
    excess: [1 + B, L, 2] change and variance of the first attribute under them.
    slices: column -> (share [G], pushes [G, S], draws [G, B, S]).
    prompt_pushes: [P, S] on the first attribute.
    shared: [1 + B, S] pushes on the first attribute of a policy with shared traits; None without features.
    """

    sample: Sample
    options: Audit
    plan: Plan
    mean: Array
    cov: Array
    apart: Array
    varies: Array
    together: Array
    shares: Array
    along: Array
    pressed: Array
    best: Array
    tilted_cov: Array
    changed: Array
    penalty: Array
    excess: Array
    slices: dict[str, tuple[Array, Array, Array]]
    prompt_pushes: Array
    shared: Array | None

    @property
    def signals(self) -> int:
        """S."""
        return len(self.plan.unit)

    @property
    def base(self) -> Array:
        """[S - 1] weights of the primary signals, as given."""
        return np.array(list(self.options.signals.values()), dtype=float)

    def found(self, values: Array) -> list[dict[str, float]]:
        """Return {value, low, high} of each column of [1 + B, M]."""
        flat = values.reshape(len(values), -1)
        level, prompts = self.options.level, len(self.sample.prompt_prob)
        return [estimate._asdict() for estimate in percentiles(flat[0], flat[1:], level, prompts)]


def cut(scanned: Scan, shapes: list[tuple[int, ...]]) -> list[Array]:
    """Return the columns of a pass as arrays [1 + B, *shape], in order."""
    stacked: Any = np.concatenate([scanned.point[None], scanned.draws])
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    if ends[-1] != stacked.shape[1]:
        raise ValueError(f"a pass of {stacked.shape[1]} columns does not have the shapes {shapes}")
    return [part.reshape(-1, *shape) for part, shape in zip(np.split(stacked, ends[:-1], axis=1), shapes, strict=True)]
