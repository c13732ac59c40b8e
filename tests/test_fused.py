"""The fused engine does what torch does, to the rounding of float32, and says so where it cannot."""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_core import random_problem
from test_mixture import SMALL
from test_sweep import a_shard, started

import sim
from sim.checks import problems
from sim.config import with_value
from sim.sweep.plan import Group
from sim.sweep.results import open_sweep
from sim.sweep.shards import cut, run_shard, run_shards
from sim.training import compiled, engines, fused
from sim.training import policies as torch_policies
from sim.training import train as torch_train
from sim.training.trajectory import Cancelled

ROOT = Path(__file__).parent.parent
THETA, MEANS = 2e-5, 2e-6  # how far parameters near 1 may differ, and means of numbers near 1


def _why_not():
    try:
        fused.Kernel(4, 3)
    except compiled.Unavailable as error:
        return str(error)
    return ""


needs_kernel = pytest.mark.skipif(bool(_why_not()), reason=f"no fused kernel: {_why_not()}")
FAST = sim.Training(
    estimator="exact", optimizer="adam", learning_rate=0.05, steps=40, record_every=7, dtype="float32", ledger=False
)


def fast(engine, **changes):
    found = with_value(SMALL, "training", with_value(FAST, "engine", engine))
    for key, value in changes.items():
        found = with_value(found, key.replace("__", "."), value)
    return found


def both(world, *rest, **options):
    options = {"estimator": "exact"} | options
    ours = fused.train(fused.FusedPolicy(world), *rest, **options)
    theirs = torch_train.train(torch_policies.make_policy("loglinear", world, "float32"), *rest, **options)
    return ours, theirs


@needs_kernel
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("runs", "prompts", "responses", "size"),
    [(1, 1, 2, 1), (5, 12, 4, 3), (16, 9, 16, 13), (37, 20, 17, 24), (33, 300, 3, 30), (3, 6, 50, 100)],
)
def test_fused_equals_torch(optimizer, runs, prompts, responses, size):
    *problem, rate = random_problem(runs=runs, prompts=prompts, responses=responses, size=size)
    # Adam divides by the gradient's own size: with long steps it magnifies rounding, in torch as here.
    rate = rate * {"sgd": 1, "adam": 0.2}[optimizer]
    ours, theirs = both(*problem, rate, steps=50, record_every=7, optimizer=optimizer)
    assert ours.steps.tolist() == theirs.steps.tolist() == [0, 7, 14, 21, 28, 35, 42, 49, 50]
    assert np.abs(theirs.theta[-1]).max() > 0.05
    np.testing.assert_allclose(ours.theta, theirs.theta, atol=THETA)


@needs_kernel
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000), runs=st.integers(1, 40), steps=st.integers(1, 12), every=st.integers(1, 12)
)  # fmt: skip
def test_any_recording_and_number_of_runs(seed, runs, steps, every):
    problem = random_problem(runs=runs, seed=seed, prompts=7, responses=4, size=3)
    ours, theirs = both(*problem, steps=steps, record_every=every)
    assert ours.steps.tolist() == theirs.steps.tolist()
    np.testing.assert_allclose(ours.theta, theirs.theta, atol=THETA)


@needs_kernel
def test_measures_equal_torch():
    world, signals, weights, kl_coef, rate = random_problem(runs=21, prompts=400, responses=9, size=5)
    ours, _ = both(world, signals, weights, kl_coef, rate, steps=60, record_every=20)
    values = signals * world.prompt_prob[:, None]
    mine, theirs = fused.FusedPolicy(world), torch_policies.make_policy("loglinear", world, "float64")
    means, expected = fused.policy_means(mine, ours.theta, values), torch_train.policy_means(theirs, ours.theta, values)
    np.testing.assert_allclose(means, expected, atol=MEANS)
    pair, wanted = (
        engine.kl_and_entropy(policy, ours.theta, world.prompt_prob)
        for engine, policy in ((fused, mine), (torch_train, theirs))
    )
    assert wanted[0][-1].max() > 0.01
    for found, right in zip(pair, wanted, strict=True):
        np.testing.assert_allclose(found, right, atol=MEANS)


@needs_kernel
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_does_not_depend_on_its_batch(optimizer):
    """Bit for bit: runs are lanes that never meet."""
    world, signals, weights, kl_coef, rate = random_problem(runs=70, prompts=20, responses=8, size=6)
    policy, options = fused.FusedPolicy(world), {"steps": 30, "optimizer": optimizer}
    together = fused.train(policy, signals, weights, kl_coef, rate, **options).theta
    for part in (slice(0, 1), slice(3, 40), slice(37, 70)):
        alone = fused.train(policy, signals, weights[:, part], kl_coef[part], rate[part], **options).theta
        np.testing.assert_array_equal(together[..., part], alone)
        for measure in (fused.policy_means, fused.kl_and_entropy):
            values = signals if measure is fused.policy_means else world.prompt_prob
            np.testing.assert_array_equal(
                np.array(measure(policy, together, values))[..., part], np.array(measure(policy, alone, values))
            )


@needs_kernel
def test_slices_change_nothing(monkeypatch):
    problem = random_problem(runs=40, prompts=6, responses=4, size=3)
    whole = both(*problem, steps=9, record_every=2, optimizer="adam")[0]
    monkeypatch.setattr(fused, "SLICE", 1)
    np.testing.assert_array_equal(both(*problem, steps=9, record_every=2, optimizer="adam")[0].theta, whole.theta)


@needs_kernel
def test_is_called_off_between_slices(monkeypatch):
    world, *rest = random_problem(runs=40, prompts=6, responses=4, size=3)
    monkeypatch.setattr(fused, "SLICE", 1)
    asked = iter([False] * 5 + [True])
    with pytest.raises(Cancelled):
        fused.train(fused.FusedPolicy(world), *rest, steps=9, cancelled=lambda: next(asked))
    assert next(asked, None) is None


@needs_kernel
def test_a_long_training_is_called_off_within_two_seconds():
    world, signals, weights, kl_coef, rate = random_problem(runs=64, prompts=3000, responses=32, size=24)
    policy, stop = fused.FusedPolicy(world), threading.Event()
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(Cancelled):
        fused.train(policy, signals, weights, kl_coef, rate, steps=1_000_000, cancelled=stop.is_set)


@needs_kernel
@pytest.mark.parametrize("broken", ["weight", "rate"])
def test_what_is_not_finite_stays_in_its_run(broken):
    world, signals, weights, kl_coef, rate = random_problem(runs=20, prompts=20, responses=8, size=6)
    policy = fused.FusedPolicy(world)
    clean = fused.train(policy, signals, weights, kl_coef, rate, steps=10).theta
    (weights[0] if broken == "weight" else rate)[5] = np.nan
    found = fused.train(policy, signals, weights, kl_coef, rate, steps=10).theta
    kl, entropy = fused.kl_and_entropy(policy, found, world.prompt_prob)
    others = np.arange(20) != 5
    np.testing.assert_array_equal(found[..., others], clean[..., others])
    for values in (found[1:, :, 5], kl[1:, 5], entropy[1:, 5], fused.policy_means(policy, found, signals)[1:, :, 5]):
        assert np.isnan(values).all()
    assert np.isfinite(kl[:, others]).all()


@needs_kernel
def test_simulated_runs_equal_those_of_torch():
    columns = {"mixture.weights.thumbs_up": np.linspace(0, 0.6, 19), "seed": np.arange(19) % 3}
    ours, theirs = (sim.simulate(fast(engine), columns) for engine in ("fused", "torch"))
    assert (ours.attrs["engine"], theirs.attrs["engine"]) == ("fused", "torch")
    for name in theirs.data_vars:
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-5, err_msg=name)


@needs_kernel
@pytest.mark.parametrize(("size", "workers"), [(6, 2), (1, 1), (4, 3)])
def test_a_sweep_gives_the_same_bits_however_it_is_cut(tmp_path, size, workers):
    """Shards follow one another without a break; whoever ends one writes it."""
    shard = a_shard(runs=17)
    settings = fast("fused")
    whole = shard._replace(settings=settings)
    run_shard(whole, started(tmp_path / "whole"), workers=1)
    parts = started(tmp_path / "parts")
    cuts = cut(Group(settings, whole.columns, whole.jobs), whole.ids, np.ones(17, dtype=bool), 0, size)
    assert list(run_shards(cuts, parts, workers=workers)) == [0] * -(-17 // size)
    assert len(parts.parts()) == -(-17 // size)
    one, other = open_sweep(tmp_path / "whole"), open_sweep(tmp_path / "parts")
    assert one.attrs["engine"] == "fused"
    for name in one.data_vars:
        np.testing.assert_array_equal(one[name], other[name])


@needs_kernel
def test_a_run_that_diverges_is_reported_as_torch_does():
    bad = [{"kl_coef": [0.1, 1e12]}, {"training.learning_rate": [0.1, 1e30]}]
    for columns in bad:
        said = []
        for engine in ("fused", "torch"):
            with pytest.raises(sim.InputError) as caught:
                sim.simulate(fast(engine, training__optimizer="sgd"), columns)
            said.append(str(caught.value).partition(" at step")[0])
        assert said[0] == said[1]
        assert "run 1 failed: diverged" in said[0]


@pytest.mark.parametrize(
    ("key", "value", "need"),
    [
        ("policy.kind", "tabular", "policy.kind = loglinear"),
        ("training.estimator", "natural", "training.estimator = exact"),
        ("training.dtype", "float64", "training.dtype = float32"),
        ("training.ledger", True, "training.ledger = false"),
    ],
)
def test_is_refused_where_it_does_not_apply_and_left_aside_by_auto(key, value, need):
    # sgd, since the natural gradient refuses adam for a reason of its own
    refused = with_value(fast("fused", training__optimizer="sgd"), key, value)
    assert problems(refused) == [f"training.engine = fused: needs {need}"]
    auto = with_value(refused, "training.engine", "auto")
    assert sim.simulate(auto).attrs["engine"] == "torch"


@pytest.fixture
def without_compiler(monkeypatch, tmp_path):
    """No g++, and nothing compiled before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    caches = (compiled.load, engines._fused, engines._warn_once)
    for cache in caches:
        cache.cache_clear()
    yield tmp_path
    for cache in caches:
        cache.cache_clear()


@pytest.mark.usefixtures("without_compiler")
def test_without_a_compiler_auto_trains_with_torch_and_says_so_once(caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert sim.simulate(fast("auto")).attrs["engine"] == "torch"
    assert [record.getMessage() for record in caplog.records] == [
        "training.engine = auto: the fused kernel is not available (g++ is not installed); torch trains instead"
    ]


@pytest.mark.usefixtures("without_compiler")
def test_without_a_compiler_fused_is_one_clear_line(tmp_path):
    message = r"^training.engine = fused: g\+\+ is not installed$"
    with pytest.raises(sim.InputError, match=message):
        sim.simulate(fast("fused"))
    # and no fault of the runs: a sweep stops at once instead of failing one by one
    store = started(tmp_path / "sweep")
    with pytest.raises(sim.InputError, match=message):
        run_shard(a_shard()._replace(settings=fast("fused")), store)
    assert not store.parts()


def test_nothing_is_loaded_from_a_folder_that_others_may_write(without_compiler):
    (without_compiler / "thumbscale").mkdir()
    (without_compiler / "thumbscale").chmod(0o777)
    with pytest.raises(sim.InputError, match="others may write there, so nothing is loaded from it"):
        sim.simulate(fast("fused"))


@needs_kernel
def test_many_processes_may_compile_at_once(tmp_path):
    code = "from sim.training.fused import Kernel; print(Kernel(4, 3).lanes)"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    started = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert len({process.communicate()[0] for process in started}) == 1
    assert all(process.returncode == 0 for process in started)
    assert [path.suffix for path in (tmp_path / "thumbscale").iterdir()] == [".so"]


@needs_kernel
@pytest.mark.parametrize("flag", ["-mno-avx512f", "-march=x86-64"])
def test_narrower_vectors_give_the_same_training(monkeypatch, tmp_path, flag):
    """The kernel is written in vectors of any width, and holds without AVX-512 and without AVX."""
    if compiled.platform.machine() not in compiled.X86:
        pytest.skip("flags of x86")
    *problem, rate = random_problem(runs=21, prompts=12, responses=16, size=13)
    problem = (*problem, rate * 0.2)
    wide, _ = both(*problem, steps=30, optimizer="adam")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiled, "FLAGS", (*compiled.FLAGS, flag))
    compiled.load.cache_clear()
    assert fused.Kernel(16, 13).lanes < 16
    narrow, _ = both(*problem, steps=30, optimizer="adam")
    compiled.load.cache_clear()
    np.testing.assert_allclose(narrow.theta, wide.theta, atol=THETA)


@needs_kernel
def test_a_sweep_records_its_engine_and_goes_on_under_another(tmp_path):
    def sweep(*overrides):
        base = ["world.prompts=24", "world.responses=4", "training=fast", "training.steps=6", "figures=false"]
        grid = ["mixture.weights.thumbs_up=0,0.2,0.4", "hydra.launcher.job_dirs=none", f"hydra.sweep.dir={tmp_path}"]
        command = [sys.executable, "-m", "experiments.train", "-m", *base, *grid, *overrides]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)

    sweep("seed=0")
    assert open_sweep(tmp_path).attrs["engine"] == "fused"
    resumed = sweep("seed=0,1", "training.engine=torch", "hydra.launcher.resume=true")
    assert "3 of 6 runs are complete already" in resumed.stderr
    data = open_sweep(tmp_path)
    assert data.sizes["run"] == 6
    assert data.attrs["engine"] == "fused, torch"
