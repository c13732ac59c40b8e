"""What follows from settings alone: which runs may share a batch, and what kind of training it is."""

from typing import Any

from sim.config import Mixture, Settings


def batched_values(settings: Settings) -> dict[str, Any]:
    """Return the settings that may differ between the runs of a batch, by dotted key."""
    return {
        "seed": settings.seed,
        "kl_coef": settings.kl_coef,
        "training.learning_rate": settings.training.learning_rate,
        "training.sampling_seed": settings.training.sampling_seed,
        **{f"mixture.weights.{name}": weight for name, weight in settings.mixture.weights.items()},
        **{f"mixture.constraints.{name}": held for name, held in settings.mixture.constraints.items()},
    }


def scheduled(mixture: Mixture) -> bool:
    """Return whether the added signal's weight changes over the steps."""
    return bool(mixture.from_step or mixture.ramp_steps or mixture.until_step)


def normalized(mixture: Mixture) -> bool:
    """Return whether rewards are divided by their spread at every step."""
    return (mixture.aggregation, mixture.scale_rewards) != ("sum_then_normalize", "none")


def fixed_objective(settings: Settings) -> bool:
    """Return whether training climbs one exact objective that never changes; a step can then only raise it."""
    mixture, exact = settings.mixture, ("exact", "natural", "closed_form")
    changing = mixture.constraints or scheduled(mixture) or normalized(mixture)
    return settings.training.estimator in exact and not changing


def outside_fused(settings: Settings) -> list[str]:
    """Return what the fused engine needs that these settings are not; empty where it applies."""
    training = settings.training
    needs = {
        "policy.kind = loglinear": settings.policy.kind == "loglinear",
        "training.estimator = exact": training.estimator == "exact",
        "training.dtype = float32": training.dtype == "float32",
        "training.ledger = false": not training.ledger,
        "a mixture without schedule, constraints or normalisation": fixed_objective(settings),
    }
    return [need for need, met in needs.items() if not met]
