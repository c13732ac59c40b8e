"""The audit against what training does: random chat worlds whose answers were sampled from the reference policy."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

import sim
from sim import rng
from sim.analysis.critical_weight import local_pushes
from sim.auditing.critical import mixture_lines, turning_point, turning_weight
from sim.config import Chat, Memory, Settings, Users
from sim.problem import prepare
from sim.training.policies import make_policy
from sim.training.theory import tilt_shift
from sim.training.train import policy_log_probs, train

SIGNALS = ["correctness", "helpfulness", "model_spec", "safety", "preference"]
ADDED = "thumbs_up"


class Case(NamedTuple):
    """A random world, a random mixture, and how hard it is trained on."""

    world: sim.World
    signals: np.ndarray  # [S, P, K], the added one last
    base: np.ndarray  # [S - 1]
    weight: float
    kl_coef: float


def random_case(seed, prompts=120, responses=16):
    random = rng.stream(seed, "tests", "audit", "case")
    settings = Settings(
        world=Chat(prompts=prompts, responses=responses, freshness=random.random()),
        users=Users(appetite=random.uniform(0, 1), vulnerable_share=random.uniform(0, 0.5)),
        memory=Memory(share=random.random()),
    )
    problem = prepare(settings, seed)
    stacked = np.stack([problem.signals["train"][name] for name in [*SIGNALS, ADDED]])
    base = random.dirichlet(np.ones(len(SIGNALS)))
    return Case(problem.splits["train"], stacked, base, random.uniform(0, 0.6), 10 ** random.uniform(-1.5, -0.5))


def sampled_table(case, seed, prompts=None, answers=16):
    """Return a table of answers drawn from the reference; with `prompts`, of prompts drawn from the world as well."""
    random = rng.stream(seed, "tests", "audit", "answers")
    world = case.world
    rows = np.arange(len(world.prompt_prob))
    if prompts is not None:
        rows = random.choice(rows, size=prompts, p=world.prompt_prob)
    reach = np.exp(world.log_ref[rows]).cumsum(axis=1)
    chosen = (random.random((len(rows), answers, 1)) > reach[:, None, :]).sum(axis=2).clip(max=reach.shape[1] - 1)
    take = (rows[:, None], chosen)
    columns = {name: scores[take].ravel() for name, scores in zip([*SIGNALS, ADDED], case.signals, strict=True)}
    return pd.DataFrame(
        {
            "prompt_id": np.repeat(np.arange(len(rows)), answers),
            "response_id": np.tile(np.arange(answers), len(rows)),
            "weight": np.repeat(world.prompt_prob[rows] if prompts is None else np.ones(len(rows)), answers),
            "sycophancy": world.attributes["sycophancy"][take].ravel(),
            **columns,
            **{f"trait_{d}": world.features[..., d][take].ravel() for d in range(world.features.shape[2])},
        }
    )


def audit_case(case, table, **options):
    traits = [name for name in table if name.startswith("trait_")]
    ask = {"features": traits, "points": 3, "max_weight": 1.0, "resamples": 200, "prompt_weight": "weight"} | options
    signals = dict(zip(SIGNALS, map(float, case.base), strict=True))
    return sim.audit(
        table, signals=signals, add=ADDED, attribute="sycophancy", weight=case.weight, kl_coef=case.kl_coef, **ask
    )


def trained_drifts(case):
    """Return the change of sycophancy after training: of a log-linear policy, and of a tabular one (closed form)."""
    line = mixture_lines(case.base, case.weight, True)[0]
    values, prob = case.world.attributes["sycophancy"], case.world.prompt_prob
    reward = np.tensordot(line, case.signals, axes=1)
    policy = make_policy("loglinear", case.world)
    rate = np.array([0.3 / case.kl_coef])
    path = train(policy, case.signals, line[:, None], np.array([case.kl_coef]), rate, steps=40, record_every=40)
    probs = np.exp(policy_log_probs(policy, path.theta[-1]))[..., 0]
    loglinear = float(prob @ ((probs - np.exp(case.world.log_ref)) * values).sum(axis=1))
    return loglinear, float(prob @ tilt_shift(case.world.log_ref, reward, values, case.kl_coef))


def sign_record(seeds):
    """Return a row per world: what the audit predicts for both kinds of policy, and what both did."""
    rows = []
    for seed in seeds:
        case = random_case(seed)
        found = audit_case(case, sampled_table(case, seed)).report["metrics"]
        told = {
            f"{name}{end}": found[f"{name}{end}"] for name in ("drift", "push_shared") for end in ("", "_low", "_high")
        }
        loglinear, tabular = trained_drifts(case)
        rows.append(told | {"loglinear": loglinear, "tabular": tabular})
    return pd.DataFrame(rows)


def calls_and_hits(record, predicted, happened):
    """Return the share of worlds outside the dead zone (the interval contains 0), and how many of them are right."""
    called = (record[f"{predicted}_low"] > 0) | (record[f"{predicted}_high"] < 0)
    return called.mean(), (np.sign(record[predicted]) == np.sign(record[happened]))[called].mean()


@pytest.mark.parametrize("worlds", [12, pytest.param(500, marks=pytest.mark.slow)])
def test_the_sign_of_the_drift_is_predicted_in_random_chat_worlds(worlds):
    # Dead zone: the audit's own 90 % interval contains 0. Measured over 500 worlds: see docs/audit.md.
    record = sign_record(range(1, worlds + 1))
    for predicted, happened in (("drift", "tabular"), ("push_shared", "loglinear")):
        called, right = calls_and_hits(record, predicted, happened)
        assert called >= 0.4 if worlds == 500 else called > 0
        assert right >= 0.95


def true_critical_weights(case):
    """Return the population's critical weights: at the reference, and of the tabular optimum at the case's kl_coef."""
    world, values = case.world, case.world.attributes["sycophancy"]
    pushes, _ = local_pushes(world, case.signals, world, values, policy="tabular")
    weights = np.linspace(0, 1, 101)
    drift = [
        world.prompt_prob @ tilt_shift(world.log_ref, np.tensordot(line, case.signals, axes=1), values, case.kl_coef)
        for line in mixture_lines(case.base, weights, True)
    ]
    return float(turning_weight(pushes, case.base, True)), float(turning_point(weights, np.array(drift)))


def coverage(worlds, samples, prompts=300):
    """Return how often the intervals for both critical weights hold the population's, [2], over fresh samples."""
    held = []
    for seed in worlds:
        case = random_case(1000 + seed, prompts=2000)._replace(weight=0.2)
        true = true_critical_weights(case)
        for draw in range(samples):
            table = sampled_table(case, 1000 * seed + draw, prompts)
            found = audit_case(case, table, points=21, seed=draw).report["metrics"]
            names = ("critical_weight", "critical_weight_trained")
            held.append([found[f"{n}_low"] <= t <= found[f"{n}_high"] for n, t in zip(names, true, strict=True)])
    return np.mean(held, axis=0)


@pytest.mark.slow
def test_the_critical_weight_lies_in_its_interval_at_the_stated_rate():
    # 200 samples: the standard error of a coverage of 0.9 is 0.02.
    reference, _ = coverage(range(20), 10)
    assert 0.85 <= reference <= 0.95
