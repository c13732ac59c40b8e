"""World: the frozen arrays that every other room reads.

One `World` is one set of prompts with K candidate responses each. A simulation has several of them, named splits:

* `finetune`   prompts with written answers, from which the reference policy is fitted
* `train`      prompts of reinforcement learning
* `probe`      sycophancy probes in mirrored pairs: the user right in one, wrong in the other
* `benchmark`  prompts without a user stance, as offline benchmarks are
* `traffic`    what users really send

A world of scored responses has the single split `train`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# Log-probability of a candidate that does not exist (ragged K). Finite, so that no product with it is NaN.
ABSENT = -1e4


@dataclass(frozen=True, eq=False)
class World:
    """P prompts with K candidate responses each.

    Args:
        prompt_prob: [P] probability of each prompt, sums to 1.
        features: [P, K, D] what the policy can act on.
        log_ref: [P, K] log-probability of each response under the reference policy.
        attributes: name -> [P, K] what the responses are like.
        prompts: name -> [P] (or [P, ...], as a user's taste in styles) what the prompts and their users are like.
        true_quality: [P, K] what the designers want; nothing that is trained reads it. None where nobody knows.

    Raises:
        ValueError: for an array whose shape is another, naming it.
    """

    prompt_prob: Array
    features: Array
    log_ref: Array
    attributes: Mapping[str, Array]
    prompts: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    true_quality: Array | None = None

    def __post_init__(self) -> None:
        """Check the shapes and make every array read-only."""
        shape = self.features.shape[:2]
        if self.log_ref.shape != shape or self.prompt_prob.shape != shape[:1]:
            raise ValueError(f"features {shape}, log_ref {self.log_ref.shape} and prompt_prob disagree")
        matrices = {"features": self.features, "log_ref": self.log_ref, **self.attributes}
        for name, array in (matrices | {"true_quality": self.true_quality}).items():
            if array is not None and array.shape[:2] != shape:
                raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
        everything = [self.prompt_prob, *matrices.values(), *self.prompts.values(), self.true_quality]
        for held in everything:
            if held is not None:
                held.flags.writeable = False

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """[P, K] true where the candidate exists."""
        return self.log_ref > ABSENT / 2

    def with_reference(self, log_ref: Array) -> "World":
        """Return the same world under another reference policy."""
        return replace(self, log_ref=log_ref)


def normalize_log(logits: Array) -> Array:
    """Return log-probabilities [P, K] from logits [P, K]: logits - log sum_k exp(logits)."""
    top = logits.max(axis=1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
