"""What is to be learned: settings and a seed become one world with its reference policy, signals and metrics."""

import dataclasses
import functools
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from sim.analysis.metrics import Metric, attribute_metrics, chat_metrics
from sim.checks import check
from sim.config import Chat, InputError, Memory, Scores, Settings, Users, unknown_name, with_value
from sim.rewards.learned import Reports, learn_signals
from sim.rewards.signals import LEARNED, SIGNALS, score
from sim.training.finetune import fine_tune
from sim.world.arrays import Array, World
from sim.world.chat import make_chat
from sim.world.users import TOPIC_NAMES, TOPICS


class Problem(NamedTuple):
    """What is to be learned: one world with its reference policy, signals and metrics.

    splits: name -> World, with the reference policy in place.
    signals: split -> name -> [P, K], for every split that a policy may be trained on.
    metrics: name -> Metric.
    headline: the metric whose drift is attributed.
    reports: learned signal -> how its reward model did on held-out data (`sim.rewards.reward_models.report`).
    """

    splits: dict[str, World]
    signals: dict[str, dict[str, Array]]
    metrics: dict[str, Metric]
    headline: str
    reports: Reports = MappingProxyType({})


def prepare(settings: Settings, seed: int) -> Problem:
    """Return the problem that the settings describe under one seed.

    Signals of the mixture that people give are learned; those outside it stay oracles, since no run reads them.

    Raises:
        InputError: naming every setting that is out of range or unknown, a bad score table, or a headline without a
            value.
    """
    settings = check(settings)
    return make_problem(settings, check(with_value(settings, "seed", seed)).seed)


def make_problem(settings: Settings, seed: int) -> Problem:
    """Return the same for settings that were checked, or that a table of runs will change (`table_problems`)."""
    unknown = name_problems(settings)
    if unknown:
        raise InputError(*unknown)
    if isinstance(settings.world, Chat):
        splits = make_chat(settings.world, settings.users, settings.memory, seed)
        return chat_problem(
            settings, fine_tune(splits, settings.policy.finetune_sharpness, settings.policy.finetune_ridge), seed
        )
    world, scored = _score_table(settings.world)
    if seed:
        from sim.world.scores import resample_prompts

        world = resample_prompts(world, seed)
    metrics = attribute_metrics(world)
    return Problem({"train": world}, {"train": dict(scored)}, metrics, _headline(settings.metric, metrics))


def train_shape(settings: Settings) -> tuple[int, int]:
    """Return how many prompts a policy is trained on, and how many responses each has, without making the world."""
    if isinstance(settings.world, Chat):
        return settings.world.prompts, settings.world.responses
    prompts, responses = _score_table(settings.world)[0].log_ref.shape
    return prompts, responses


def chat_problem(settings: Settings, splits: dict[str, World], seed: int) -> Problem:
    """Return the problem of a chat world whose splits have their reference policy already."""
    eyes = (settings.signals, settings.users, settings.memory)
    learned, reports = learn_signals(splits, settings.mixture.weights, *eyes, settings.feedback, seed)
    signals = {split: score(world, *eyes) | learned[split] for split, world in splits.items()}
    metrics = chat_metrics(splits)
    return Problem(splits, signals, metrics, _headline(settings.metric, metrics), reports)


def _headline(name: str, metrics: Mapping[str, Metric]) -> str:
    """Return the metric to attribute, the first where none is named; or raise `InputError` where it has no value."""
    headline = name or next(iter(metrics))
    if not np.isfinite(metrics[headline].values).all():
        raise InputError(f"metric: '{headline}' is a mean over prompts of which this world has none")
    return headline


def _score_table(scores: Scores) -> tuple[World, dict[str, Array]]:
    """Return the world and signals of a score table; a sweep reads the file once, and again if it changes."""
    with _READING:  # the cache alone would let two threads that miss it read the file at once
        return _read_scores(json.dumps(dataclasses.asdict(scores)), _stamp(scores.path))


_READING = threading.Lock()


@functools.lru_cache(maxsize=2)
def _read_scores(settings: str, _stamp: tuple[int, int]) -> tuple[World, dict[str, Array]]:
    from sim.world.scores import make_scores  # loads pandas

    return make_scores(Scores(**json.loads(settings)))


def _stamp(path: str) -> tuple[int, int]:
    """Return when a file was written, in ns, and its size in bytes; zeros where it cannot be looked at."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return 0, 0
    return found.st_mtime_ns, found.st_size


def name_problems(settings: Settings) -> list[str]:
    """Return one line for each name in the settings that the world does not know; see `sim.checks.problems`."""
    world = settings.world
    found = []
    if isinstance(world, Chat):
        for mix in ("topic_mix", "traffic_mix"):
            found += _unknown(f"world.{mix}", "topic", getattr(world, mix), TOPIC_NAMES)
        for table in ("spec_coverage", "verifiable"):
            shares = getattr(settings.signals, table)
            found += _unknown(f"signals.{table}", "topic", shares, TOPIC_NAMES)
            found += [
                f"signals.{table}: the topic '{topic}' is missing" for topic in TOPIC_NAMES if topic not in shares
            ]
        found += _unknown("signals.source", "learned signal", settings.signals.source, LEARNED)
        for mix in ("topic_mix", "traffic_mix"):
            if not any(getattr(world, mix).values()):
                found.append(f"world.{mix}: at least one topic needs a share above 0")
        if not any(share and TOPICS[topic].stance for topic, share in world.traffic_mix.items() if topic in TOPICS):
            found.append("world.traffic_mix: no topic on which users take a stance, so there is nothing to probe")
    known = list(SIGNALS) if isinstance(world, Chat) else list(world.signals)
    found += _unknown("mixture.weights", "signal", settings.mixture.weights, known)
    return found or _metric_problems(settings)


def _metric_problems(settings: Settings) -> list[str]:
    held = settings.mixture.constraint_metrics
    if not (settings.metric or held):
        return []
    known = metric_names(settings)
    found = [f"metric: {unknown_name('metric', settings.metric, known)}"] if settings.metric not in ("", *known) else []
    for signal, name in held.items():
        if name not in known:
            found.append(f"mixture.constraint_metrics.{signal}: {unknown_name('metric', name, known)}")
    return found


def metric_names(settings: Settings) -> list[str]:
    """Return the names of the metrics that a world of these settings will have, before it is made."""
    world = settings.world
    if isinstance(world, Chat):
        # Which topics are asked about decides; the smallest chat world of those has a pair of probes for each.
        asked = {topic: 1.0 for topic, share in world.traffic_mix.items() if share > 0}
        return list(chat_metrics(make_chat(Chat(prompts=12, responses=2, traffic_mix=asked), Users(), Memory(), 0)))
    return [f"attributes/{name}" for name in world.attributes]


def _unknown(field: str, kind: str, names: Iterable[str], known: Sequence[str]) -> list[str]:
    return [f"{field}.{name}: {unknown_name(kind, name, list(known))}" for name in names if name not in known]
