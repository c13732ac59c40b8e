"""Small problems trained to their end, in every way that fits: what the families share."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.config import SAMPLED
from sim.training.advantages import Normalization
from sim.training.policies import make_policy
from sim.training.sampled import Sampling
from sim.training.train import policy_log_probs, train
from sim.world.arrays import Array, World

REPLICAS = 20  # of a sampled run: as many worlds side by side, each with numbers of its own
SAMPLED_BAND = 0.02  # of a rate from sampled training (3-validation: V1a)
LEFT = 2e-4  # how far sampled training may still be from its end: its noise dies out there, and the error with it


class Way(NamedTuple):
    """A way of training.

    policy: "tabular" | "loglinear" | "mlp".
    estimator: as of `train`.
    optimizer: "sgd" | "adam".
    """

    policy: str
    estimator: str
    optimizer: str = "sgd"

    @property
    def name(self) -> str:
        """What tables call it."""
        if self.estimator in ("natural", "exact"):
            adam = ", Adam" if self.optimizer == "adam" else ""
            return f"{'natural' if self.estimator == 'natural' else 'exact'} gradient{adam}, {self.policy}"
        return f"sampled {self.estimator}, {self.policy}"


EXPECTED = (
    Way("tabular", "natural"),
    Way("loglinear", "natural"),
    Way("tabular", "exact"),
    Way("loglinear", "exact"),
    Way("mlp", "exact"),
)
ADAM = (Way("tabular", "exact", "adam"), Way("loglinear", "exact", "adam"))
ADAM_BAND = 1e-5  # at a constant rate Adam never quite settles; on an MLP it may stay 1e-3 away
DRAWN = (Way("tabular", "rloo"), Way("loglinear", "rloo"))
EVERY_DRAWN = (*(Way(policy, name) for name in SAMPLED for policy in ("tabular", "loglinear")), Way("mlp", "rloo"))


def small_world(
    ref_probs: npt.ArrayLike, features: npt.ArrayLike | None = None, prompt_prob: npt.ArrayLike | None = None
) -> World:
    """Return a world from reference probabilities alone.

    Args:
        ref_probs: [P, K], or [K] for one prompt.
        features: [P, K, D]; None: one for each response but the last, so that a log-linear policy can do anything.
        prompt_prob: [P]; None: all alike.
    """
    log_ref = np.log(np.atleast_2d(np.asarray(ref_probs, dtype=float)))
    prompts, responses = log_ref.shape
    traits = (
        np.tile(np.eye(responses)[:, :-1], (prompts, 1, 1)) if features is None else np.array(features, dtype=float)
    )
    prob = np.full(prompts, 1 / prompts) if prompt_prob is None else np.array(prompt_prob, dtype=float)
    return World(prob, traits, log_ref, {})


def ends(world: World, signals: Array, weights: Array, kl_coef: Array, way: Way) -> Array:
    """Return the probabilities [P, K, R] at the end of training on expected gradients.

    Args:
        world: small.
        signals: [S, P, K].
        weights: [S, R].
        kl_coef: [R].
        way: whose estimator is "natural" or "exact".
    """
    policy, steps = make_policy(way.policy, world), 8000
    # The curvature of the optimum is at most kl_coef / 2 per logit; an MLP has many parameters to a logit.
    rate = (0.5 if way.policy == "mlp" else 2.0) / kl_coef
    if way.estimator == "natural":
        rate, steps = 0.5 / kl_coef, 60  # a step goes rate x kl_coef of the way that is left: 60 halvings
    elif way.optimizer == "adam":
        rate = np.full(len(kl_coef), 0.01)
    path = train(
        policy, signals, weights, kl_coef, rate,
        steps=steps, record_every=steps, estimator=way.estimator, optimizer=way.optimizer,
    )  # fmt: skip
    return np.exp(policy_log_probs(policy, path.theta[-1]))


def side_by_side(world: World) -> World:
    """Return N copies of a world in one, each with traits, and so with parameters and random numbers, of its own."""
    prompts, responses, traits = world.features.shape
    features = np.zeros((REPLICAS, prompts, responses, REPLICAS, traits))
    features[range(REPLICAS), :, :, range(REPLICAS)] = world.features
    return World(
        np.tile(world.prompt_prob, REPLICAS) / REPLICAS,
        features.reshape(REPLICAS * prompts, responses, -1),
        np.tile(world.log_ref, (REPLICAS, 1)),
        {},
    )


def sampled_ends(
    world: World,
    signals: Array,
    weights: Array,
    kl_coef: Array,
    way: Way,
    steps: int = 2000,
    seed: int = 0,
    normalization: Normalization | None = None,
) -> Array:
    """Return the probabilities [N, P, K, R] at the end of N sampled trainings, averaged over their last tenth.

    The N replicas are worlds side by side in one; an MLP shares its units over prompts, so its replicas are trained one
    after the other, in fewer steps.

    Args:
        world: small; every prompt is drawn at every step.
        signals: [S, P, K].
        weights: [S, R].
        kl_coef: [R].
        way: sampled.
        steps: updates.
        seed: of the random numbers.
        normalization: of rewards; None: none.
    """
    rate = np.minimum(1.0, 0.5 / kl_coef)

    def last_tenth(on: World, scored: Array, rate: Array, steps: int, seed: int) -> Array:
        policy = make_policy(way.policy, on)
        path = train(
            policy, scored, weights, kl_coef, rate,
            steps=steps, record_every=10, estimator=way.estimator, optimizer=way.optimizer,
            sampling=Sampling(seed=seed, prompts=0, samples=32), normalization=normalization,
        )  # fmt: skip
        return np.mean([np.exp(policy_log_probs(policy, theta)) for theta in path.theta[-steps // 100 :]], axis=0)

    if way.policy == "mlp":  # many parameters to a logit: a smaller rate goes as far
        return np.stack([last_tenth(world, signals, 0.15 * rate, steps // 4, seed + each) for each in range(REPLICAS)])
    tiled = np.tile(signals, (1, REPLICAS, 1))
    found = last_tenth(side_by_side(world), tiled, rate * REPLICAS, steps, seed)
    return found.reshape(REPLICAS, *world.log_ref.shape, -1)
