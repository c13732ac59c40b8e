"""What is to be learned: settings and a seed become one world with its reference policy, signals and metrics."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sim.analysis.metrics import Metric, attribute_metrics, chat_metrics
from sim.config import Chat, InputError, Scores, Settings, unknown_name
from sim.rewards.signals import SIGNALS, score
from sim.training.finetune import fine_tune
from sim.world.arrays import Array, World
from sim.world.chat import make_chat
from sim.world.users import TOPIC_NAMES


class Problem(NamedTuple):
    """What is to be learned: one world with its reference policy, signals and metrics.

    splits: name -> World, with the reference policy in place.
    signals: split -> name -> [P, K], for every split that a policy may be trained on.
    metrics: name -> Metric.
    headline: the metric whose drift is attributed.
    """

    splits: dict[str, World]
    signals: dict[str, dict[str, Array]]
    metrics: dict[str, Metric]
    headline: str


def prepare(settings: Settings, seed: int) -> Problem:
    """Return the problem that the settings describe under one seed."""
    unknown = name_problems(settings)
    if unknown:
        raise InputError("\n".join(unknown))
    if isinstance(settings.world, Chat):
        splits = make_chat(settings.world, settings.users, settings.memory, seed)
        splits = fine_tune(splits, settings.policy.finetune_sharpness, settings.policy.finetune_ridge)
        signals = {
            name: score(world, settings.signals, settings.users, settings.memory) for name, world in splits.items()
        }
        metrics = chat_metrics(splits)
    elif isinstance(settings.world, Scores):
        from sim.world.scores import make_scores, read_table, resample_prompts  # loads pandas

        world, scored = make_scores(settings.world, read_table(settings.world.path))
        splits = {"train": resample_prompts(world, seed) if settings.world.resample else world}
        signals, metrics = {"train": scored}, attribute_metrics(world)
    else:
        raise InputError(f"world: expected Chat or Scores, got {type(settings.world).__name__}")
    headline = settings.metric or next(iter(metrics))
    if headline not in metrics:
        raise InputError(f"metric: {unknown_name('metric', headline, list(metrics))}")
    return Problem(splits, signals, metrics, headline)


def name_problems(settings: Settings) -> list[str]:
    """Return one line for each name in the settings that the world does not know; see `sim.config.problems`."""
    world = settings.world
    found = []
    if isinstance(world, Chat):
        for mix in ("topic_mix", "traffic_mix"):
            found += _unknown(f"world.{mix}", "topic", getattr(world, mix), TOPIC_NAMES)
        for table in ("spec_coverage", "verifiable"):
            found += _unknown(f"signals.{table}", "topic", getattr(settings.signals, table), TOPIC_NAMES)
    known = list(SIGNALS) if isinstance(world, Chat) else list(world.signals)
    return found + _unknown("mixture.weights", "signal", settings.mixture.weights, known)


def _unknown(field: str, kind: str, names: Iterable[str], known: Sequence[str]) -> list[str]:
    return [f"{field}.{name}: {unknown_name(kind, name, list(known))}" for name in names if name not in known]
