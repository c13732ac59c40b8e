"""QUESTION: how long does one run take in TRL and in Stable-Baselines3, and how many runs do we train meanwhile?

    pip install 'thumbscale[peers]'
    python -m benchmarks.peers.trainers

One run is 200 updates with 64 prompts, 8 samples each and 16 responses to choose from. TRL trains a GPT-2 of one layer
and width 32 whose completions are one of 16 tokens; Stable-Baselines3 a network of one hidden layer of 32 on 64
environments of one step. Ours is the log-linear policy with 24 features. So the size of the problem is the same and
the policy is not: a peer's time is mostly its machinery, which serves models where that does not matter. Adam and a KL
penalty (TRL), Adam and an entropy bonus (Stable-Baselines3), both with one update a sample. Each peer may use all cores
for its tensors or one, whichever is faster in this call. Expect thousands of our runs to one of TRL's and
hundreds to one of Stable-Baselines3's.
"""

import argparse
import importlib.metadata
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.estimators import PROMPTS, RESPONSES, SAMPLES, STEPS, estimator, seconds, work_of
from benchmarks.peers import sb3_toy, trl_toy
from sim import rng

WARM_UP = 5  # steps before the clock starts, for what is loaded on first use


def trl_run(steps: int, folder: Path) -> Callable[[], object]:
    """Return a function that trains GRPO in TRL once; making the trainer is not part of it."""
    reward = rng.stream(1, "benchmark").random((PROMPTS, RESPONSES))
    names = trl_toy.prompt_names(PROMPTS, RESPONSES)
    model = trl_toy.small_model(folder, RESPONSES, prompt_length=len(names[0].split()))
    trainer = trl_toy.make_trainer(
        model, names, [trl_toy.by_token(reward)], group=SAMPLES, beta=0.1, scale_rewards="none", learning_rate=1e-3,
        max_steps=steps,
    )  # fmt: skip
    return lambda: trainer.train()


def sb3_run(steps: int, _: Path) -> Callable[[], object]:
    """Return a function that trains PPO in Stable-Baselines3 once; making it is not part of it."""
    reward = rng.stream(1, "benchmark").random((PROMPTS, RESPONSES))
    ppo = sb3_toy.make_ppo(reward, SAMPLES, hidden=(32,), seed=0, ent_coef=0.1, n_epochs=1, learning_rate=1e-3)
    return lambda: ppo.learn(steps * PROMPTS * SAMPLES)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--runs", type=int, default=512, help="of ours, trained together")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    peers = [
        ("TRL GRPO", "trl", trl_toy.available(), trl_run),
        ("Stable-Baselines3 PPO", "stable-baselines3", sb3_toy.available(), sb3_run),
    ]
    named = ["torch", *(package for _, package, here, _ in peers if here)]
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in named))
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f}, best of {arguments.rounds} rounds")
    for name, package, here, _ in peers:
        if not here:
            print(f"{name} is left out: pip install {package}")
    ours = {
        "grpo": work_of(estimator("grpo", optimizer="adam"), arguments.runs, cores),
        "ppo": work_of(estimator("ppo", optimizer="adam"), arguments.runs, cores),
        "grpo, one run alone": work_of(estimator("grpo", optimizer="adam"), 1, 1),
    }
    times: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        for name, _package, here, make in peers:
            for threads in {1, cores} if here else ():
                torch.set_num_threads(threads)
                with tempfile.TemporaryDirectory() as folder:
                    make(WARM_UP, Path(folder))()
                    times.setdefault(name, []).append(seconds(make(STEPS, Path(folder))))
        torch.set_num_threads(1)
        for name, work in ours.items():
            runs = 1 if "alone" in name else arguments.runs
            times.setdefault(f"ours, {name}", []).append(seconds(work) / runs)
    fastest = {name: float(np.min(found)) for name, found in times.items()}
    print(f"\n{'one run':32s} {'seconds':>9s} {'runs/s':>9s} {'/ ours, grpo':>13s}")
    for name, took in fastest.items():
        print(f"{name:32s} {took:9.4f} {1 / took:9.2f} {took / fastest['ours, grpo']:13.1f}")


if __name__ == "__main__":
    main()
