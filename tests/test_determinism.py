"""Same seed, same numbers: across calls, processes, chunks, workers, threads, shards and the order of runs.

Bit for bit wherever the same sums are made in the same order. Torch's matrix products add in another order where a
batch is cut elsewhere; those agree to `ROUNDING`. The fused kernel gives a run the same bits in any batch.
"""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from conftest import random_world
from test_fused import needs_kernel

import sim
from sim.auditing import scan
from sim.config import Chat, Scores, Settings, Training, with_value
from sim.launch.classify import draw_bundles, review_world
from sim.launch.mainline import creeping, mainline
from sim.launch.models import train_models
from sim.launch.replay import replay
from sim.launch.settings import Bundles, Lived, Monitors, Rollout, april_2025, improved
from sim.problem import prepare
from sim.validation.small import Way, sampled_ends
from sim.variants import simulate_variants

ROOT = Path(__file__).parent.parent
CHAT_SCORES = str(ROOT / "experiments" / "data" / "chat_scores.csv")
VOTES = "mixture.weights.thumbs_up"
# Relative, by the precision of training; of what is near 0, a hundredth of it absolute. Seen: 2e-13 and 5e-6.
ROUNDING = {"float64": 1e-11, "float32": 5e-5}
SMALL = Settings(world=Chat(prompts=24, responses=6), training=Training(steps=12, record_every=4))
COLUMNS = {VOTES: np.linspace(0, 0.5, 12), "seed": np.arange(12) % 2, "kl_coef": np.linspace(0.08, 0.12, 12)}


def changed(base=SMALL, **keys):
    for key, value in keys.items():
        base = with_value(base, key.replace("__", "."), value)
    return base


DRAWN = {"training__optimizer": "adam", "training__learning_rate": 0.05, "training__prompts_per_step": 10}
WAYS = {
    "natural": changed(),
    "exact": changed(training__estimator="exact", training__optimizer="adam", training__learning_rate=0.05),
    "single precision": changed(training__dtype="float32", training__ledger=False),
    "tabular": changed(policy__kind="tabular"),
    "mlp": changed(
        policy__kind="mlp", training__estimator="exact", training__optimizer="adam", training__learning_rate=0.05
    ),
    "grpo's scaling": changed(training__estimator="exact", mixture__scale_rewards="group"),
    "changing weights": changed(
        mixture__from_step=3, mixture__ramp_steps=4, mixture__constraints={"safety": 0.9}, mixture__multiplier_rate=1.0
    ),
    "reinforce": changed(training__estimator="reinforce", **DRAWN),
    "rloo": changed(training__estimator="rloo", **DRAWN),
    "grpo": changed(training__estimator="grpo", training__epochs=2, training__kl_estimator="k3", **DRAWN),
    "ppo": changed(training__estimator="ppo", training__epochs=3, **DRAWN),
    "an ensemble of reward models": changed(feedback__members=4, feedback__combine="worst"),
    "closed form": changed(policy__kind="tabular", training__estimator="closed_form", training__ledger=False),
    "best of n": changed(policy__kind="tabular", training__estimator="best_of_n", training__ledger=False),
    "score table": Settings(
        world=Scores(
            path=CHAT_SCORES,
            signals={name: name for name in ("correctness", "helpfulness", "model_spec", "thumbs_up")},
            attributes={"sycophancy": "sycophancy"},
        ),
        mixture=sim.Mixture({"correctness": 0.4, "helpfulness": 0.3, "model_spec": 0.3, "thumbs_up": 0.2}),
        training=SMALL.training,
    ),
    "fused": changed(
        training__estimator="exact", training__optimizer="adam", training__learning_rate=0.05,
        training__dtype="float32", training__ledger=False, training__engine="fused",
    ),
}  # fmt: skip
EVERY_WAY = [pytest.param(name, marks=needs_kernel if name == "fused" else ()) for name in WAYS]


def trained(settings, columns=COLUMNS, **options):
    return sim.simulate(settings, columns, **options)


def some_updates(count):
    """Reviewed updates of one world, both processes and the monitors."""
    base = changed(training__ledger=False)
    rows = draw_bundles(Bundles(candidates=count, worlds=1), base)
    processes = {"april": april_2025(), "improved": improved()}
    return review_world(base, rows, processes, Lived(), Rollout(), Monitors())


def incident():
    deployed, before = train_models(SMALL, {}, 0)
    candidate, after = train_models(SMALL, {VOTES: np.array([0.5])}, 0)
    how = Rollout(users=200, follow_days=2, respond="monitors")
    return before, after, replay(deployed, candidate, True, how, Lived(), Monitors(), 0)


def audited():
    ask = {"signals": ["correctness", "helpfulness"], "add": "thumbs_up", "attribute": ["sycophancy", "flattery"]}
    found = sim.audit(CHAT_SCORES, **ask, points=3, resamples=100)
    return found.report, found.draws


def variants():
    changes = [{}, {"memory.share": 1.0, VOTES: 0.3}, {"kl_coef": 0.2}, {"training.steps": 8}]
    return simulate_variants(changed(training__ledger=False), changes, np.arange(2))


STUDIES = {
    "world": lambda: prepare(SMALL, 3),
    "review": lambda: some_updates(6),
    "incident": incident,
    "mainline": lambda: mainline(changed(training__ledger=False), creeping(0.4, 2), improved(), Lived(), 0),
    "audit": audited,
    "variants": variants,
    "validation": lambda: sim.validate(["V7", "V9", "V11"]),
    "validation, sampled": lambda: sampled_ends(
        random_world(prompts=1, responses=3), np.ones((1, 1, 3)) * np.arange(3), np.ones((1, 1)), np.ones(1),
        Way("tabular", "rloo"), steps=100,
    ),
}  # fmt: skip


def fingerprint(found):
    """Return a hash of every number and word in what was found, in order."""
    content = hashlib.sha256()
    _feed(content.update, found)
    return content.hexdigest()


def _feed(update, found):
    if isinstance(found, xr.Dataset):
        found = {str(name): variable.values for name, variable in found.variables.items()}
    elif isinstance(found, pd.DataFrame):
        found = {str(name): found[name].to_numpy() for name in found}
    elif dataclasses.is_dataclass(found):
        found = vars(found)
    if isinstance(found, dict) or hasattr(found, "items"):
        for key, value in found.items():
            update(f"{key}:".encode())
            _feed(update, value)
    elif isinstance(found, list | tuple):
        for value in found:
            _feed(update, value)
    elif isinstance(found, np.ndarray) and found.dtype != object:
        update(f"{found.dtype}{found.shape}".encode())
        update(np.ascontiguousarray(found).tobytes())
    elif isinstance(found, np.ndarray):
        _feed(update, found.tolist())
    elif found is None or isinstance(found, str | bool | int | float | np.generic):
        update(repr(found).encode())
    else:
        raise TypeError(f"no numbers in a {type(found).__name__}")


def assert_same_bits(one, other):
    for name in one.data_vars:
        np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=name)


def assert_same(one, other, settings):
    """The same to rounding; of the fused kernel, and where nothing is trained, bit for bit."""
    if settings.training.engine == "fused":
        assert_same_bits(one, other)
        return
    close = ROUNDING[settings.training.dtype]
    for name in one.data_vars:
        np.testing.assert_allclose(one[name].values, other[name].values, rtol=close, atol=close / 100, err_msg=name)


# ---------------------------------------------------------------- calls and processes


@pytest.mark.parametrize("name", EVERY_WAY)
def test_two_trainings_give_the_same_bits(name):
    one, other = (trained(WAYS[name]) for _ in range(2))
    assert fingerprint(one) == fingerprint(other)
    assert float(np.ptp(one[one.attrs["headline"]].values)) > 1e-4


@pytest.mark.parametrize("name", STUDIES)
def test_two_studies_give_the_same_bits(name):
    one, other = (fingerprint(STUDIES[name]()) for _ in range(2))
    assert one == other


def test_a_fingerprint_sees_the_last_bit():
    numbers = np.linspace(0, 1, 5)
    assert fingerprint({"a": numbers}) == fingerprint({"a": numbers.copy()})
    assert fingerprint({"a": numbers}) != fingerprint({"a": np.nextafter(numbers, 2)})
    assert fingerprint({"a": numbers}) != fingerprint({"b": numbers})


@pytest.mark.slow
def test_two_processes_give_the_same_bits():
    """With other hash seeds, so that nothing hangs on the order of a set."""
    found = []
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
        result = subprocess.run(
            [sys.executable, __file__], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr[-2000:]
        found.append(json.loads(result.stdout))
    assert found[0] == found[1]
    assert len(found[0]) >= len(WAYS) + len(STUDIES) - 1


# ---------------------------------------------------------------- how the work is cut


@pytest.mark.parametrize("chunk", [1, 5])
@pytest.mark.parametrize("name", EVERY_WAY)
def test_chunks_change_nothing(name, chunk):
    whole = trained(changed(WAYS[name], training__chunk=64))
    assert_same(trained(changed(WAYS[name], training__chunk=chunk)), whole, WAYS[name])


@pytest.mark.parametrize("name", EVERY_WAY)
def test_workers_change_nothing(name):
    """Bit for bit where chunks are given; left to itself a chunk is as wide as leaves no worker idle."""
    settings = changed(WAYS[name], training__chunk=4)
    one, two, five = (trained(settings, workers=count) for count in (1, 2, 5))
    assert_same_bits(one, two)
    assert_same_bits(one, five)
    assert_same(trained(WAYS[name], workers=1), trained(WAYS[name], workers=3), WAYS[name])


@pytest.mark.parametrize("name", EVERY_WAY)
def test_the_order_of_runs_changes_nothing(name):
    order = np.random.default_rng(0).permutation(12)
    mixed = trained(WAYS[name], {key: values[order] for key, values in COLUMNS.items()})
    assert_same(mixed, trained(WAYS[name]).isel(run=order), WAYS[name])


def test_the_order_of_keys_changes_nothing():
    assert_same_bits(trained(SMALL, dict(reversed(COLUMNS.items()))), trained(SMALL))
    weights = dict(reversed(SMALL.mixture.weights.items()))
    backwards = trained(changed(mixture=dataclasses.replace(SMALL.mixture, weights=weights)))
    assert_same(backwards.sel(cause=trained(SMALL)["cause"]), trained(SMALL), SMALL)


@pytest.mark.parametrize("name", ["natural", "exact", "mlp", "grpo", "ppo", "single precision"])
def test_threads_of_torch_change_nothing(name):
    one = trained(WAYS[name])
    torch.set_num_threads(2)
    try:
        two = trained(WAYS[name])
    finally:
        torch.set_num_threads(1)
    assert_same(two, one, WAYS[name])


def test_threads_of_the_audit_change_nothing(monkeypatch):
    """Three chunks of prompts, added up in their own order whoever is done first."""
    random = np.random.default_rng(0)
    prompts = np.repeat(np.arange(2 * scan.CHUNK + 100), 3)
    scores = {name: random.standard_normal(len(prompts)) for name in ("a", "b", "harm")}
    table = pd.DataFrame({"prompt_id": prompts, "response_id": np.arange(len(prompts)), **scores})
    found = []
    for cores in (1, 4):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        result = sim.audit(table, signals={"a": 1.0}, add="b", attribute="harm", points=3, resamples=100)
        found.append(fingerprint((result.report, result.draws)))
    assert found[0] == found[1]


# ---------------------------------------------------------------- who else is there


def test_runs_of_other_sampling_seeds_draw_for_themselves():
    columns = {VOTES: [0.1, 0.1, 0.3, 0.3], "training.sampling_seed": [0, 1, 1, 0]}
    together = trained(WAYS["rloo"], columns)
    for run in range(4):
        alone = trained(WAYS["rloo"], {key: values[run : run + 1] for key, values in columns.items()})
        assert_same(together.isel(run=[run]), alone, WAYS["rloo"])
    assert float(abs(together["kl"][0] - together["kl"][1]).max()) > 1e-6


def test_a_variant_does_not_depend_on_the_others():
    base = changed(training__ledger=False)
    together = variants()
    alone = simulate_variants(base, [{"memory.share": 1.0, VOTES: 0.3}], np.arange(2))[0]
    assert_same_bits(together[1], alone)


def test_a_review_does_not_depend_on_how_many_updates_are_judged():
    few, many = some_updates(4), some_updates(9)
    for name in few:
        if few[name].dtype == float:
            np.testing.assert_allclose(few[name], many[name].iloc[:4], rtol=1e-9, atol=1e-12, err_msg=name)
        else:
            assert few[name].tolist() == many[name].iloc[:4].tolist(), name


def test_a_case_of_the_validation_does_not_depend_on_the_others():
    alone = sim.validate(["V11"])
    together = [check for check in sim.validate(["V9", "V11", "V7"]) if check.case == "V11"]
    assert fingerprint(alone) == fingerprint(together)


if __name__ == "__main__":
    skipped = ["fused"] if needs_kernel.args[0] else []
    work = {name: lambda way=way: trained(way) for name, way in WAYS.items() if name not in skipped} | STUDIES
    print(json.dumps({name: fingerprint(task()) for name, task in work.items()}))
