"""Candidate and deployed models as their checkers meet them, and the truth about them, which no check is given.

A `Model` holds R policies: the probabilities of their answers by split, in worlds that have had `true_quality` taken
away. The truth about the same policies is a separate table.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from sim.config import UNTRAINED, Chat, InputError, Settings, with_value
from sim.pipeline import batch_table
from sim.problem import Problem, prepare
from sim.recipe import ingredients, policy_options, training_options
from sim.training.policies import Policy, make_policy
from sim.training.train import policy_log_probs, train
from sim.world.arrays import Array, World
from sim.world.users import vote_logit

SPLITS = ("probe", "benchmark", "traffic")
Truth = dict[str, Array]


class Model(NamedTuple):
    """R policies in one world.

    views: split -> World without `true_quality`.
    probs: split -> [R, P, K] probabilities of the answers.
    feeling: [P, K] log-odds that the user of a traffic prompt, when voting, leaves a thumbs-up.
    """

    views: Mapping[str, World]
    probs: Mapping[str, Array]
    feeling: Array

    @property
    def approval(self) -> Array:
        """[P, K] probability of a thumbs-up, given a vote, on traffic."""
        return np.asarray(expit(self.feeling))

    @property
    def runs(self) -> int:
        """R."""
        return len(self.probs["traffic"])

    def rows(self, rows: npt.NDArray[np.int64]) -> "Model":
        """Return some of the policies."""
        return self._replace(probs={split: array[rows] for split, array in self.probs.items()})


def blind(splits: Mapping[str, World]) -> dict[str, World]:
    """Return the splits that checks may see, without `true_quality`."""
    return {name: dataclasses.replace(splits[name], true_quality=None) for name in SPLITS}


def train_models(
    settings: Settings,
    columns: Mapping[str, Array],
    seed: int,
    amend: Callable[[Problem], Problem] = lambda problem: problem,
) -> tuple[Model, Truth]:
    """Train R policies on one world and return them with the truth about them.

    Args:
        settings: what they share; must be a chat world and a policy that generalises over prompts.
        columns: "mixture.weights.NAME" and "kl_coef" -> [R]; what is missing is as in the settings.
        seed: of the world.
        amend: changes the problem before training, such as where the votes come from (`sim/launch/mainline.py`).
    """
    _need_chat(settings)
    problem = amend(prepare(settings, seed))
    # Nobody looks at the way there: no ledger, and the end alone is recorded.
    plain, last = with_value(settings, "seed", seed), settings.training.steps
    plain = with_value(with_value(plain, "training.ledger", False), "training.record_every", last)
    table = batch_table(plain, columns)
    parts = ingredients(plain, problem, table)
    policies = {split: _policy(plain, world, seed) for split, world in problem.splits.items() if split != "finetune"}
    path = train(
        policies["train"],
        parts.signals["train"],
        parts.weights,
        table["kl_coef"],
        table["training.learning_rate"],
        **training_options(plain, problem, table, parts, policies, "train"),
    )
    theta = path.theta[-1]
    if not np.isfinite(theta).all():
        raise InputError("training diverged; lower training.learning_rate")
    probs = {split: _probs(policies[split], theta) for split in SPLITS}
    feeling = vote_logit(problem.splits["traffic"], settings.users, settings.memory)
    return Model(blind(problem.splits), probs, feeling), truth(problem, probs)


def truth(problem: Problem, probs: Mapping[str, Array]) -> Truth:
    """Return the exact metrics of policies, name -> [R], true quality and the reference's rate among them.

    Args:
        problem: whose metrics they are.
        probs: split -> [R, P, K] probabilities of the answers.
    """
    found: Truth = {}
    for split in SPLITS:
        world = problem.splits[split]
        for name, metric in problem.metrics.items():
            if metric.split == split:
                found[name] = np.einsum("p,rpk,pk->r", world.prompt_prob, probs[split], metric.values, optimize=True)
                if name == "sycophancy/rate":
                    start = np.einsum("p,pk,pk", world.prompt_prob, np.exp(world.log_ref), metric.values)
                    found["reference/rate"] = np.full(len(found[name]), start)
    return found


def _policy(settings: Settings, world: World, seed: int) -> Policy:
    return make_policy(settings.policy.kind, world, settings.training.dtype, **policy_options(settings, seed))


def _probs(policy: Policy, theta: Array) -> Array:
    """Return [R, P, K]."""
    return np.ascontiguousarray(np.exp(policy_log_probs(policy, theta)).transpose(2, 0, 1))


def _need_chat(settings: Settings) -> None:
    if not isinstance(settings.world, Chat):
        raise InputError("world: a launch needs users, so world must be chat")
    if settings.policy.kind == "tabular":
        raise InputError("policy.kind = tabular: does not generalise to users' prompts; use loglinear")
    if settings.training.estimator in UNTRAINED:
        raise InputError(f"training.estimator = {settings.training.estimator}: needs policy.kind = tabular")
