"""QUESTION: what does a score table look like? Writes the one that ships with the project.

    python -m experiments.make_scores out=experiments/data/chat_scores.csv

Sixty prompts of the default chat world's traffic with all their eight candidate responses, scored by its signals and
judged for two attributes, with the optional columns for the reference probability and the prompt's weight.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.app import command
from sim.config import InputError, Settings, knob
from sim.plots.report import write_whole
from sim.problem import prepare

SIGNAL_COLUMNS = ("correctness", "helpfulness", "model_spec", "thumbs_up")
ATTRIBUTE_COLUMNS = ("sycophancy", "flattery")


@dataclass
class MakeScores(Settings):
    """One world to take the answers from, and where to write."""

    out: str = knob("experiments/data/chat_scores.csv", "file to write")


def score_table(settings: MakeScores) -> pd.DataFrame:
    """Return the table, long form: a row per prompt and response."""
    problem = prepare(settings, settings.seed)
    world, signals = problem.splits["traffic"], problem.signals["traffic"]
    prompts, responses = world.log_ref.shape
    columns: dict[str, Any] = {
        "prompt_id": np.repeat([f"p{number:03d}" for number in range(prompts)], responses),
        "response_id": np.tile([f"r{number}" for number in range(responses)], prompts),
        "prompt_weight": np.repeat(world.prompt_prob, responses),
        "reference_prob": np.exp(world.log_ref).ravel(),
    }
    columns |= {name: signals[name].ravel() for name in SIGNAL_COLUMNS}
    columns |= {name: world.attributes[name].ravel() for name in ATTRIBUTE_COLUMNS}
    return pd.DataFrame(columns).round(6)


@command("make_scores", MakeScores)
def main(settings: MakeScores) -> None:
    """Write the table."""
    table = score_table(settings)
    try:
        write_whole(Path(settings.out), table.to_csv(index=False))
    except OSError as error:
        raise InputError(f"out = {settings.out}: cannot be written ({error.strerror or error})") from None
    print(f"{settings.out}: {len(table)} rows")


if __name__ == "__main__":
    main()
