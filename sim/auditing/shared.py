"""The push of each signal for a policy that acts on shared traits, not on each prompt's answers one by one.

The rest of the audit lets every prompt's answers be reweighed freely, as a tabular policy would: it says what the
candidates allow. A real policy generalises: where it cannot tell two prompts apart it moves both alike, and then the
drift of an attribute may even have the other sign. Given columns of what the policy can act on, the first-order push of
signal i is  grad(attribute) . F^+ . g_i  as in `sim.analysis.critical_weight.local_pushes`; here its three parts are
means over prompts, so that it streams and is bootstrapped like everything else.
"""

import numpy as np

from sim.analysis.critical_weight import RIDGE
from sim.auditing.measures import moments
from sim.auditing.numbers import cut
from sim.auditing.sample import Block, Sample
from sim.auditing.scan import scan
from sim.world.arrays import Array


def shared_pushes(
    sample: Sample, features: list[int], signals: int, attribute: int, resamples: int, seed: int
) -> Array:
    """Return the push of one unit of each signal on an attribute under a log-linear policy, [1 + B, S].

    Args:
        sample: what is audited.
        features: [D] rows of its values that the policy can act on.
        signals: S, the first rows.
        attribute: row of the attribute.
        resamples: B.
        seed: of the bootstrap.
    """
    rows = [*features, *range(signals), attribute]
    size = len(features)

    def measure(block: Block) -> Array:
        _, cov = moments(block.values[rows], block.log_ref)
        return cov[:, :size].reshape(len(block.place), -1)

    found = scan(sample, measure, size * len(rows), resamples, seed)
    parts = cut(found, [(size, len(rows))])[0]
    fisher, pull, slope = parts[..., :size], parts[..., size:-1], parts[..., -1]
    scale = np.sqrt(np.einsum("bdd->bd", fisher))
    scale = np.where(scale > 0, scale, 1.0)  # so that the ridge means the same in any unit
    even = fisher / (scale[:, :, None] * scale[:, None, :]) + RIDGE * np.eye(size)
    direction = np.linalg.solve(even, pull / scale[..., None])
    return np.einsum("bd,bds->bs", slope / scale, direction)
