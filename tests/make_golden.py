"""The headline numbers of quick versions of the experiments: `make golden` writes them, tests/test_golden.py compares.

Each command runs as a user runs it, in a small world with few seeds. What it prints is kept, a line a line: that is
what the docs quote. Two lines agree if their words do and each number is within TOLERANCE units of its last digit.
"""

import json
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from test_commands import run
from tqdm import tqdm

GOLDEN = Path(__file__).parent / "golden" / "headlines.json"
TOLERANCE = 1.01  # units of the last digit that is shown: another processor may round the other way
ADVICE = "look why; if it is meant to move, run `make golden` and mark the CHANGELOG entry [numbers]"
NUMBER = re.compile(r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?%?")
PATHS = ("report: ", "figure: ")

WORLD = ["world.prompts=100", "world.responses=6", "training.steps=40"]
AUDIT = ["signals={correctness: 0.4, helpfulness: 0.3, model_spec: 0.3}", "add=thumbs_up", "attribute=sycophancy"]
QUICK = {
    "train": [*WORLD, "mixture.weights.thumbs_up=0.3", "memory.share=1", "figures=false"],
    "drift": [*WORLD, "points=5", "seeds=4"],
    "interactions": [*WORLD, "seeds=4"],
    "targeting": [*WORLD],
    "overoptimization": [*WORLD, "seeds=3", "~arms.exact_plain", "~arms.exact_Adam", "~arms.PPO", "~arms.REINFORCE"],
    "mitigations": [*WORLD, "seeds=3", "~arms.ensemble_mean", "~arms.ensemble_less_variance", "~arms.votes_late"],
    "incident": [*WORLD, "rollout.users=500", "rollout.follow_days=2", "reviews=10"],
    "review": ["world.prompts=100", "world.responses=6", "bundles.candidates=32", "bundles.worlds=2"],
    "mainline": ["world.prompts=100", "world.responses=6", "worlds=2", "updates=3"],
    "audit": ["scores=experiments/data/chat_scores.csv", *AUDIT],
}


def printed(name: str, folder: Path) -> list[str]:
    """Return the lines that a quick version of a command prints, without those that name a path."""
    out = folder / name
    where = f"hydra.run.dir={out}" if name == "train" else f"out={out}"
    result = run(name, *QUICK[name], where)
    if result.returncode:
        raise RuntimeError(f"experiments.{name}: {result.stderr}")
    lines = (" ".join(line.replace(str(out), "").split()) for line in result.stdout.splitlines())
    return [line for line in lines if line and not line.startswith(PATHS)]


def moved(before: list[str], after: list[str]) -> list[str]:
    """Return what moved, a line each: words that changed, or numbers farther apart than the tolerance."""
    if len(before) != len(after):
        return [f"{len(before)} lines -> {len(after)} lines", *(f"  now: {line}" for line in after)]
    return [f"  was: {old}\n  now: {new}" for old, new in zip(before, after, strict=True) if not same(old, new)]


def same(old: str, new: str) -> bool:
    """Whether two lines agree."""
    if NUMBER.sub("#", old) != NUMBER.sub("#", new):
        return False
    pairs = zip(NUMBER.findall(old), NUMBER.findall(new), strict=True)
    return all(abs(value(a) - value(b)) <= TOLERANCE * max(unit(a), unit(b)) for a, b in pairs)


def value(text: str) -> float:
    """Return the number."""
    return float(text.replace(",", "").rstrip("%"))


def unit(text: str) -> float:
    """Return one unit of the last digit; a whole number that is no percentage is a count, and has to be the same."""
    mantissa, _, exponent = text.rstrip("%").partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 10.0 ** (int(exponent or 0) - decimals) if decimals or text.endswith("%") else 0.0


def main() -> None:
    """Run every quick version, write the file, and say what moved."""
    before = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        jobs = pool.map(lambda name: printed(name, Path(folder)), QUICK)
        found = dict(zip(QUICK, tqdm(jobs, total=len(QUICK), unit="experiment"), strict=True))
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    for name, lines in found.items():
        for line in moved(before.get(name, []), lines):
            print(f"{name}\n{line}")


if __name__ == "__main__":
    main()
