"""Engines: what carries out training and measuring. torch does all there is; the fused kernel does one case faster.

An engine is four functions that agree on a policy object of their own. Their numbers agree to the rounding of float32
(`tests/test_fused.py` states how far), and those of one engine on one machine are the same bits every time.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from sim.config import InputError


class EngineError(InputError):
    """The engine that was asked for cannot be had: no fault of a single run."""


class Engine(NamedTuple):
    """The functions of one engine; `sim/training/train.py` documents their arguments.

    name: "torch" or "fused".
    """

    name: str
    make_policy: Callable[..., Any]
    train: Callable[..., Any]
    policy_means: Callable[..., Any]
    kl_and_entropy: Callable[..., Any]


def pick(wanted: str, applies: bool, responses: int, size: int) -> Engine:
    """Return the engine for K responses and D features.

    Args:
        wanted: "torch", "fused" (or an error), or "auto": fused where it applies and can be compiled, else torch.
        applies: whether the training is one that the fused kernel does.
        responses: K.
        size: D.

    Raises:
        EngineError: fused is wanted and cannot be had.
    """
    if wanted == "torch" or (wanted == "auto" and not applies):
        return _torch()
    found = _fused(responses, size)
    if isinstance(found, Engine):
        return found
    if wanted == "fused":
        raise EngineError(f"training.engine = fused: {found}")
    _warn_once(f"training.engine = auto: the fused kernel is not available ({found}); torch trains instead")
    return _torch()


@functools.cache
def _torch() -> Engine:
    from sim.training import policies, train  # a second to load: only where it trains

    return Engine("torch", policies.make_policy, train.train, train.policy_means, train.kl_and_entropy)


@functools.cache
def _fused(responses: int, size: int) -> Engine | str:
    """Return the fused engine, or why there is none."""
    from sim.training import fused
    from sim.training.compiled import Unavailable

    try:
        fused.Kernel(responses, size)
    except Unavailable as error:
        return str(error)
    return Engine("fused", fused.make_policy, fused.train, fused.policy_means, fused.kl_and_entropy)


@functools.cache
def _warn_once(line: str) -> None:
    logging.getLogger(__name__).warning(line)
