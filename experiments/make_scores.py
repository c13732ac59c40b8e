"""QUESTION: what does a score table look like? Writes the one that ships with the project.

    python -m experiments.make_scores out=experiments/data/chat_scores.csv

Sixty prompts with eight responses each, sampled from the reference policy of the default chat world, scored by its
signals and judged for two attributes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.app import command
from sim import rng
from sim.config import Settings, knob
from sim.plots.report import write_whole
from sim.problem import prepare

COLUMNS = ("correctness", "helpfulness", "model_spec", "thumbs_up")


@dataclass
class MakeScores(Settings):
    """One world to sample from, and where to write."""

    responses: int = knob(8, "sampled responses per prompt", low=2)
    out: str = knob("experiments/data/chat_scores.csv", "file to write")


def score_table(settings: MakeScores) -> pd.DataFrame:
    """Return the table, long form, from the traffic split: prompts drawn by their probability, distinct responses."""
    problem = prepare(settings, settings.seed)
    world, signals = problem.splits["traffic"], problem.signals["traffic"]
    random = rng.stream(settings.seed, "make_scores")
    prompts = random.choice(len(world.prompt_prob), size=len(world.prompt_prob), p=world.prompt_prob)
    rows = []
    for number, prompt in enumerate(prompts):
        chosen = random.choice(
            world.log_ref.shape[1], settings.responses, replace=False, p=np.exp(world.log_ref[prompt])
        )
        for answer, response in enumerate(chosen):
            row: dict[str, Any] = {"prompt_id": f"p{number:03d}", "response_id": f"r{answer}"}
            row |= {name: round(float(signals[name][prompt, response]), 4) for name in COLUMNS}
            row |= {n: round(float(world.attributes[n][prompt, response]), 4) for n in ("sycophancy", "flattery")}
            rows.append(row)
    return pd.DataFrame(rows)


@command("make_scores", MakeScores)
def main(settings: MakeScores) -> None:
    """Write the table."""
    table = score_table(settings)
    write_whole(Path(settings.out), table.to_csv(index=False))
    print(f"{settings.out}: {len(table)} rows")


if __name__ == "__main__":
    main()
