"""QUESTION: would another review, or another response, have kept the update of April 2025 from users?

    python -m experiments.incident
    python -m experiments.incident mixture.weights.thumbs_up=0.2 before.gates.spot_checks.role=blocking

Trains the update (votes, memory, fresher data), reviews it as in April 2025, launches it, lives through Thursday 24 to
Tuesday 29 April, and replays the days with each improvement alone and with all, on the same random draws. Expect: the
A/B test prefers the update, April's process launches it, sycophancy evals alone block it, and probes of the live model
raise the alarm days before the published response.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from experiments.app import command
from experiments.launch import process_problems, register_launch
from experiments.studies import publish
from sim.config import Chat, InputError, Settings, knob, with_value
from sim.launch.exposure import GROUPS
from sim.launch.models import Model, train_models
from sim.launch.monitors import NAMES, alarm_hours
from sim.launch.process import Decision, decide, override
from sim.launch.readings import Draws
from sim.launch.replay import Replay, launch_shares, replay, totals, variants
from sim.launch.rollout import date_text, hour_of
from sim.launch.settings import Lived, Monitors, Review, Rollout, improved
from sim.launch.spot_checks import WORDS
from sim.launch.tables import event_rows, gate_rows, lives_table
from sim.pipeline import simulate
from sim.plots.incident import changes_figure, exposure_figure, launch_figure, timeline_figure, trust_figure
from sim.plots.report import writable
from sim.plots.run import ledger_figure

CAPTIONS = {
    "timeline": "The days: events, what was served, what monitors would have shown. Days are published, hours not.",
    "launch": "Each process reviews the same update many times, with fresh luck in its checks each time.",
    "exposure": "What users met, with the launch and without. The same users ask the same things in every replay.",
    "trust": "Approval shows at once; that one was misled shows days later. In the end everybody is on the old model.",
    "changes": "Training the deployed model (nothing), each change alone, and the whole update.",
    "ledger": "Why the update's sycophancy rate moved in training: what each signal added, cumulative.",
}
HAPPENED, ACTED, NEVER = "as it happened", "probes acted on", "no launch"


@dataclass
class Incident(Settings):
    """The update, the two processes, the rollout and its users."""

    before: Review = field(default_factory=Review)
    after: Review = field(default_factory=improved)
    lived: Lived = field(default_factory=Lived)
    rollout: Rollout = field(default_factory=Rollout)
    monitors: Monitors = field(default_factory=Monitors)
    world: Any = field(default_factory=lambda: Chat(prompts=600))
    reviews: int = knob(100, "times that each process reviews the update", low=1)
    override_by: str = knob("", "who launches in spite of the review; empty: nobody")
    override_reason: str = knob("", "why; goes on record")
    out: str = knob("results/incident", "folder for the figures, the page and the tables")


register_launch()


@command("incident", Incident)
def main(settings: Incident) -> None:
    """Train, review, launch, live through the days, replay; write the page."""
    problems = process_problems({"before": settings.before, "after": settings.after}, settings.rollout)
    if not isinstance(settings.world, Chat):
        problems.append("world: a launch needs users, so world must be chat")
    if problems:
        raise InputError(*problems)
    writable(settings.out)
    changes, reviews = changes_of(settings), variants(settings.before, settings.after)
    runs: dict[str, xr.Dataset] = {}
    shares: dict[str, tuple[float, float, float, int]] = {}
    with tqdm(total=len(changes) + len(reviews) + 1, desc="incident", unit="step") as bar:
        for name, changed in changes.items():
            runs[name] = simulate(changed).isel(run=0)
            bar.update()
        deployed, _ = train_models(changes["nothing"], {}, settings.seed)
        candidate, _ = train_models(changes["all together"], {}, settings.seed)
        decisions = decide_both(settings, candidate, deployed)
        many = Draws(settings.seed, tuple(f"update/{number}" for number in range(settings.reviews)))
        for name, review in reviews.items():
            shares |= launch_shares({name: review}, candidate, deployed, settings.lived, many)
            bar.update()
        launched = bool(decisions[settings.before.name].launched[0])
        replays = replay_all(settings, deployed, candidate, launched)
        bar.update()

    figures = {
        "timeline": timeline_figure(replays, settings.rollout),
        "launch": launch_figure(shares),
        "exposure": exposure_figure(replays, NEVER, settings.rollout),
        "trust": trust_figure(replays, NEVER, settings.lived.finds_out_days),
        "changes": changes_figure(runs),
        "ledger": ledger_figure(runs["all together"]),
    }
    pictures = [(figure, name, CAPTIONS[name]) for name, figure in figures.items()]
    shown = [(f"Gates: {name}", gate_rows(decision)) for name, decision in decisions.items()]
    shown.append(("What happened", event_rows(replays, settings.rollout)))
    question = (__doc__ or "").splitlines()[0]
    headlines = headline_numbers(settings, decisions, replays, runs)
    tables = {"lives": lives_table(replays)}
    publish(settings, "incident", "Thumbscale: the incident", question, headlines, pictures, tables, shown)


def decide_both(settings: Incident, candidate: Model, deployed: Model) -> dict[str, Decision]:
    """Return the decision of each process by its name, the first one overridden where the settings say so."""
    draws, first = Draws(settings.seed, ("update",)), settings.before.name
    found = {
        review.name: decide(candidate, deployed, review, settings.lived, draws)
        for review in (settings.before, settings.after)
    }
    if settings.override_by or settings.override_reason:
        found[first] = override(found[first], "update", True, settings.override_by, settings.override_reason)
    return found


def changes_of(settings: Incident) -> dict[str, Settings]:
    """Return the settings without the update's changes, with each alone, and with all."""
    plain = Settings(**{item.name: getattr(settings, item.name) for item in dataclasses.fields(Settings)})
    votes = f"mixture.weights.{settings.mixture.added}"
    whole = {
        "votes": (votes, settings.mixture.weights[settings.mixture.added]),
        "memory": ("memory.share", settings.memory.share),
        "fresher data": ("world.freshness", settings.world.freshness),
    }
    nothing = plain
    for key, _ in whole.values():
        nothing = with_value(nothing, key, 0.0)
    alone = {name: with_value(nothing, key, value) for name, (key, value) in whole.items()}
    return {"nothing": nothing, **alone, "all together": plain}


def replay_all(settings: Incident, deployed: Model, candidate: Model, launched: bool) -> dict[str, Replay]:
    """Return the days as they happened, with the probes' alarm acted on, and without a launch."""

    def lived(launch: bool, **changes: str) -> Replay:
        rollout = dataclasses.replace(settings.rollout, **changes)  # type: ignore[arg-type]
        return replay(deployed, candidate, launch, rollout, settings.lived, settings.monitors, settings.seed)

    return {
        HAPPENED: lived(launched),
        ACTED: lived(launched, respond="monitors", monitor="probes"),
        NEVER: lived(False),
    }


def headline_numbers(
    settings: Incident, decisions: Mapping[str, Decision], replays: Mapping[str, Replay], runs: Mapping[str, xr.Dataset]
) -> dict[str, str]:
    """Return the numbers that the docs quote, as text."""
    found = {}
    for name, run in runs.items():
        metric = run[run.attrs["headline"]]
        quality = run["true/quality"]
        found[f"trained with {name}"] = (
            f"{metric.long_name} {float(metric[0]):.3f} -> {float(metric[-1]):.3f}, "
            f"true quality {float(quality[0]):.3f} -> {float(quality[-1]):.3f}"
        )
    for name, decision in decisions.items():
        caught = str(decision.caught[0])
        outcome = "launches" if decision.launched[0] else f"blocks (stopped by {caught.replace('_', ' ')})"
        notes = "".join(f"; override by {one.by}: {one.reason}" for one in decision.overrides)
        found[f"review {name}"] = (
            f"{outcome} after {decision.days[0]:.0f} days and {decision.hours[0]:.0f} person-hours; "
            f"experts say '{WORDS[decision.word[0]]}'{notes}"
        )
    end = hour_of(settings.rollout, "end")
    still = totals(replays[NEVER].lives, 0, end)
    for name in (HAPPENED, ACTED):
        sums, lives = totals(replays[name].lives, 0, end), replays[name].lives
        more = sums["sycophantic"].sum() / sums["answers"].sum() - still["sycophantic"].sum() / still["answers"].sum()
        met = float((lives.touched * lives.users).sum() / lives.users.sum())
        found[f"{name}"] = f"{met:.2f} of users met the update; sycophantic answers {1000 * more:+.2f} per 1,000"
    if settings.rollout.patch and replays[HAPPENED].clock.log:
        patch = hour_of(settings.rollout, "patch")
        pair = [totals(replays[name].lives, 0, patch) for name in (HAPPENED, NEVER)]
        rates = [sums["sycophantic"] / sums["answers"] for sums in pair]
        for row, group in enumerate(GROUPS):
            found[f"until the patch, {group}"] = (
                f"sycophantic answers {1000 * rates[1][row]:.1f} -> {1000 * rates[0][row]:.1f} per 1,000"
            )
    main = replays[HAPPENED]
    for name, hour in zip(NAMES, alarm_hours(main.watched, settings.monitors.baseline_hours)[:, 0], strict=True):
        text = "no alarm" if np.isnan(hour) else date_text(settings.rollout, int(hour))
        found[f"monitor {name}"] = text
    if main.shifts:
        found["patch"] = f"{main.shifts[0]:+.2f} log-odds of endorsing"
    return found


if __name__ == "__main__":
    main()
