"""A review and its rollout as tables: what each gate said, what happened when, what users lived through."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sim.launch.exposure import GROUPS
from sim.launch.gates import VERDICTS
from sim.launch.process import Decision
from sim.launch.replay import Replay
from sim.launch.rollout import date_text
from sim.launch.settings import Rollout


def gate_rows(decision: Decision) -> list[list[str]]:
    """Return the gate table of one candidate, header first."""
    judged = decision.last
    rows = [["gate", "role", "test", "better", "margin", "effect", "90 % interval", "n", "p of alarm", "first look",
             "verdict"]]  # fmt: skip
    for row, (name, gate) in enumerate(judged.gates.items()):
        muted = gate.role == "muted"
        nothing = "not made" if muted else "no data"
        known = np.isfinite(judged.effect[row, 0])
        rows.append([
            name.replace("_", " "), gate.role, gate.test, gate.direction, f"{gate.margin:+g}",
            f"{judged.effect[row, 0]:+.4f}" if known else nothing,
            f"{judged.low[row, 0]:+.4f} to {judged.high[row, 0]:+.4f}" if known else "",
            f"{judged.size[row, 0]:,.0f}" if known else "",
            f"{judged.alarm[row, 0]:.3f} ({judged.correction})" if known else "",
            "" if muted else VERDICTS[decision.first.verdict[row, 0]],
            "" if muted else VERDICTS[judged.verdict[row, 0]],
        ])  # fmt: skip
    return rows


def event_rows(replays: Mapping[str, Replay], rollout: Rollout) -> list[list[str]]:
    """Return the events of each replay, header first."""
    rows = [["replay", "when", "event"]]
    for name, one in replays.items():
        rows += [[name, date_text(rollout, event.hour), event.kind] for event in one.clock.log]
    return rows


def lives_table(replays: Mapping[str, Replay]) -> pd.DataFrame:
    """Return a row per replay, user group and hour."""
    parts = [
        pd.DataFrame({name: values[row] for name, values in one.lives.counts.items()}).assign(
            replay=label, group=group, hour=one.lives.hours, around=one.lives.around[row]
        )
        for label, one in replays.items()
        for row, group in enumerate(GROUPS)
    ]
    return pd.concat(parts)
