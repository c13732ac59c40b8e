"""What simulated users live through, hour by hour, under a rollout.

Every user has a fixed place in every random stream, and every hour has streams of its own, keyed by (seed, "rollout",
what, hour). Whatever is decided about a launch, the same users are awake, ask the same kind of thing and have the same
luck; adding a user adds a place at the end. So replays differ in what was changed, and in nothing else.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim import rng
from sim.config import InputError
from sim.launch.lived import misled, return_probability
from sim.launch.models import Model
from sim.launch.monitors import complaint_rates
from sim.launch.rollout import Clock
from sim.launch.settings import Lived, Monitors, Rollout
from sim.world.arrays import Array

GROUPS = ("vulnerable", "others")
COUNTS = ("answers", "sycophantic", "misled", "votes", "thumbs_up", "complaints")
DAY_SHAPE = 0.6  # how much livelier the afternoon is than the average hour (assumption)


class Lives(NamedTuple):
    """What users lived through.

    hours: [H] hours from the start of the rollout.
    counts: name -> [G, H] sums over a group's users: answers, sycophantic answers, stakes on which users were misled,
        votes, thumbs-up, complaints.
    around: [G, H] share of the group that came back that day.
    users: [G] users of each group.
    touched: [G] share of users who met the candidate at all.
    exposed_days: [G] mean number of days on which a user got a sycophantic answer.
    by_user: name -> [users] sums over all hours.
    """

    hours: npt.NDArray[np.int64]
    counts: dict[str, Array]
    around: Array
    users: Array
    touched: Array
    exposed_days: Array
    by_user: dict[str, Array]


class Served(NamedTuple):
    """J policies that may be in force: the deployed model, the candidate, and the candidate after each patch.

    edges: [J, P, K] cumulative probabilities of the answers.
    approval: [J, P, K] probability of a thumbs-up, given a vote.
    """

    edges: Array
    approval: Array


def patched(model: Model, shift: float) -> Model:
    """Return the policies with `shift` log-odds added to endorsing a stance that the model can see."""
    probs = {}
    for split, view in model.views.items():
        endorses = (view.attributes["stance_taking"] > 0) & view.prompts["visible"][:, None]
        tilted = model.probs[split] * np.exp(shift * endorses)
        probs[split] = tilted / tilted.sum(axis=2, keepdims=True)
    return model._replace(probs=probs)


def patch_shifts(settings: Rollout, patches: int, seed: int) -> list[float]:
    """Return what each patch adds to the log-odds of endorsing; written in haste, one may backfire."""
    return [
        settings.patch_mean + settings.patch_spread * rng.stream(seed, "rollout", "patch", number).standard_normal()
        for number in range(1, patches + 1)
    ]


def in_force(deployed: Model, candidate: Model, shifts: Sequence[float]) -> list[Model]:
    """Return the J models that may be in force."""
    return [deployed, candidate, *(patched(candidate, shift) for shift in shifts)]


def live_through(
    models: Sequence[Model], clock: Clock, settings: Rollout, lived: Lived, monitors: Monitors, seed: int
) -> Lives:
    """Return what `settings.users` users live through.

    Args:
        models: the J models that may be in force, one policy each (`in_force`).
        clock: of the rollout.
        settings: users and how much they ask.
        lived: approval now, trust later.
        monitors: for the complaints.
        seed: of the rollout.

    Raises:
        InputError: for a user group without users or without prompts.
    """
    view = models[0].views["traffic"]
    served = Served(
        np.stack([model.probs["traffic"][0].cumsum(axis=1) for model in models]),
        np.stack([model.approval for model in models]),
    )
    group, prompt_edges = user_groups(models[0], settings.users, seed)
    wrong, stakes = view.attributes["sycophancy"], misled(view)
    complaint = complaint_rates(view, monitors)
    users, hours = settings.users, len(clock.hours)
    counts = {name: np.zeros((len(GROUPS), hours)) for name in COUNTS}
    around = np.zeros((len(GROUPS), hours))
    size = np.bincount(group, minlength=len(GROUPS)).astype(float)
    place = rng.stream(seed, "rollout", "ramp").random(users)
    approval = np.full(
        users, float(np.sum(view.prompt_prob[:, None] * models[0].probs["traffic"][0] * served.approval[0]))
    )
    memory = 1 / (lived.recent_days * settings.chats_per_day)
    days = (clock.hours - clock.hours[0]) // 24
    by_user = {name: np.zeros(users) for name in COUNTS}
    misled_on = np.zeros((users, int(days[-1]) + 1))
    exposed = np.zeros_like(misled_on, dtype=bool)
    touched = np.zeros(users, dtype=bool)
    here = np.ones(users, dtype=bool)
    for at, hour in enumerate(clock.hours.tolist()):
        if at % 24 == 0:
            known = int(np.floor(days[at] - lived.finds_out_days))
            found_out = misled_on[:, : max(known + 1, 0)].sum(axis=1)
            here = _uniform(seed, "returns", hour, users) < return_probability(approval, found_out, lived)
        around[:, at] = np.bincount(group, here, minlength=len(GROUPS)) / size
        asks = here & (_uniform(seed, "asks", hour, users) < _activity(settings, hour))
        who = np.flatnonzero(asks)
        which = np.where(place[who] < clock.share[at], 1 + clock.patches[at], 0)
        prompt = _prompts(prompt_edges, group[who], _uniform(seed, "prompt", hour, users)[who])
        edges = served.edges[which, prompt]
        answer = (_uniform(seed, "answer", hour, users)[who, None] > edges[:, :-1]).sum(axis=1)
        liked = served.approval[which, prompt, answer]
        voted = _uniform(seed, "votes", hour, users)[who] < settings.vote_share
        found = {
            "answers": np.ones(len(who)),
            "sycophantic": wrong[prompt, answer],
            "misled": stakes[prompt, answer],
            "votes": voted,
            "thumbs_up": voted & (_uniform(seed, "thumbs", hour, users)[who] < liked),
            "complaints": _uniform(seed, "complaints", hour, users)[who] < complaint[prompt, answer],
        }
        for name, values in found.items():
            counts[name][:, at] = np.bincount(group[who], values, minlength=len(GROUPS))
            by_user[name][who] += values
        approval[who] += memory * (liked - approval[who])
        misled_on[who, days[at]] += found["misled"]
        exposed[who, days[at]] |= found["sycophantic"] > 0
        touched[who[which > 0]] = True
    return Lives(
        clock.hours,
        counts,
        around,
        size,
        np.bincount(group, touched, minlength=len(GROUPS)) / size,
        np.bincount(group, exposed.sum(axis=1), minlength=len(GROUPS)) / size,
        by_user,
    )


def user_groups(model: Model, users: int, seed: int) -> tuple[npt.NDArray[np.int64], Array]:
    """Return each user's group, [users] an index into `GROUPS`, and the cumulative prompt probabilities [G, P]."""
    view = model.views["traffic"]
    vulnerable = view.prompts["vulnerable"]
    weight = np.stack([view.prompt_prob * vulnerable, view.prompt_prob * ~vulnerable])
    share = weight.sum(axis=1)
    for name, value in zip(GROUPS, share, strict=True):
        if value <= 0:
            raise InputError(f"users.vulnerable_share: the user group '{name}' has no prompts in this world's traffic")
    group = (rng.stream(seed, "rollout", "group").random(users) >= share[0]).astype(np.int64)
    for row, name in enumerate(GROUPS):
        if not (group == row).any():
            raise InputError(f"rollout.users = {users}: the user group '{name}' is empty; simulate more users")
    return group, weight.cumsum(axis=1) / share[:, None]


def _prompts(edges: Array, group: npt.NDArray[np.int64], uniform: Array) -> npt.NDArray[np.int64]:
    """Return the prompt of each asking user, from the prompts of the user's group."""
    found = np.zeros(len(group), dtype=np.int64)
    for row in range(len(edges)):
        mine = group == row
        found[mine] = np.searchsorted(edges[row], uniform[mine] * edges[row, -1], side="right")
    return np.minimum(found, edges.shape[1] - 1)


def _activity(settings: Rollout, hour: int) -> float:
    """Return P(asks in this hour | around today): chats_per_day over a day, more in the afternoon."""
    return float(min(settings.chats_per_day / 24 * (1 + DAY_SHAPE * np.sin(2 * np.pi * hour / 24)), 1.0))


def _uniform(seed: int, what: str, hour: int, users: int) -> Array:
    return rng.stream(seed, "rollout", what, hour).random(users)
