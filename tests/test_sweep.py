"""Sweeps: the plan is Hydra's own, a batch is a serial run, and nothing that was done is lost."""

import errno
import itertools
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from test_mixture import SMALL

import sim
from experiments.app import CONFIGS, read_settings, to_settings
from experiments.train import main as _registers_config  # noqa: F401
from sim.config import Chat, InputError, walk, with_row, with_value
from sim.problem import metric_names, prepare
from sim.sweep import plan as planning
from sim.sweep.interrupt import resume_command
from sim.sweep.plan import flatten, make_plan
from sim.sweep.results import Store, open_sweep, run_ids
from sim.sweep.shards import Shard, cut, group_ids, load_shard, run_shard, save_shard

ROOT = Path(__file__).parent.parent
TINY = ["world.prompts=24", "world.responses=4", "training.steps=6", "training.record_every=3"]
GRID = ["mixture.weights.thumbs_up=0,0.2,0.4", "seed=0,1"]


# ---------------------------------------------------------------- plan


@pytest.fixture(scope="module")
def loader():
    with initialize_config_dir(CONFIGS, version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def plan(loader, jobs):
    def compose(overrides):
        return loader.load_configuration("config", overrides, run_mode=RunMode.RUN)

    def is_group(key):
        return bool(loader.get_group_options(key, None, "config", []))

    groups = make_plan(jobs, compose, read_settings, is_group, OverridesParser.create(config_loader=loader))
    planning.verify(groups, jobs, compose, read_settings)
    return groups, compose


CHOICES = [
    ["mixture.weights.thumbs_up=0", "mixture.weights.thumbs_up=0.25", "mixture.weights.thumbs_up=1e-3"],
    ["kl_coef=1", "kl_coef=0.3", "++kl_coef=0.2", "kl_coef=${mixture.weights.preference}"],
    ["seed=0", "seed=7"],
    ["memory.share=0.5", "memory.share=1", "world=fresh"],
    ["world.prompts=24", "world.topic_mix.task=0.9", "++world.topic_mix.task=0.2", "training=adam"],
    ["experiment=april", "experiment=no_appetite", "mixture=on_top", "training.dtype=float32"],
]


def random_jobs(count, seed):
    choose = random.Random(seed)
    return [[choose.choice(options) for options in choose.sample(CHOICES, choose.randint(1, 6))] for _ in range(count)]


def test_planned_settings_equal_hydras_own_composition(loader):
    jobs = random_jobs(60, seed=1)
    groups, compose = plan(loader, jobs)
    seen = set()
    for group in groups:
        for row, job in enumerate(group.jobs.tolist()):
            expected = to_settings(planning.without_hydra(compose(jobs[job])))
            assert with_row(group.settings, group.columns, row) == expected, jobs[job]
            seen.add(job)
    assert seen == set(range(60))


def test_identity_is_equal_exactly_where_settings_are(loader):
    jobs = random_jobs(60, seed=2)
    groups, _ = plan(loader, jobs)
    ids, texts = {}, {}
    for group in groups:
        for row, (job, own) in enumerate(zip(group.jobs.tolist(), group_ids(group), strict=True)):
            ids[job], texts[job] = (
                own,
                json.dumps(flatten(with_row(group.settings, group.columns, row)), sort_keys=True),
            )
    for one, other in itertools.combinations(range(60), 2):
        assert (ids[one] == ids[other]) == (texts[one] == texts[other])


HOW_NOT_WHAT = {"training.chunk", "training.engine"}  # how the work is done; numbers agree to rounding


def only_run(settings):
    columns = {key: np.array([value]) for key, value in planning.batched_values(settings).items()}
    return planning.Group(settings, columns, np.array([0]))


@pytest.mark.parametrize("name", [name for name, *_ in walk(sim.Settings())])
def test_a_setting_that_differs_is_another_run_and_what_is_not_batched_another_group(name):
    base = sim.Settings()
    value = next(held for key, _, held in walk(base) if key == name)
    kinds = {bool: lambda: not value, str: lambda: f"{value}x", dict: lambda: {**value, "another": 0.5}}
    other = with_value(base, name, kinds.get(type(value), lambda: value + 1)())
    assert (group_ids(only_run(other)) == group_ids(only_run(base))) == (name in HOW_NOT_WHAT)
    batched = name in planning.batched_values(base)
    assert (planning.shared_identity(other) == planning.shared_identity(base)) == batched


def test_mixtures_that_name_other_signals_are_groups_of_their_own(loader, tmp_path):
    """Each keeps its weights, and the sweep opens as one data set: a signal that is not named weighs nothing."""
    small = ["world.prompts=24", "world.responses=4", "training.steps=6"]
    jobs = [[*small, f"seed={s}", *more] for s in (0, 1) for more in ([], ["+mixture.weights.candor=0.1"])]
    groups, _ = plan(loader, jobs)
    assert [group.jobs.tolist() for group in groups] == [[0, 2], [1, 3]]
    store = started(tmp_path)
    for group in groups:
        for shard in cut(group, group_ids(group), np.ones(2, dtype=bool), 0, 10):
            run_shard(shard, store)
    data = open_sweep(tmp_path)
    assert data["mixture.weights.candor"].values.tolist() == [0, 0.1, 0, 0.1]
    assert np.isnan(data["rewards/candor/weighted"].values).all(axis=1).tolist() == [True, False, True, False]
    np.testing.assert_allclose(
        data["proxy_reward"][1], sim.simulate(with_row(groups[1].settings, groups[1].columns, 0))["proxy_reward"][0]
    )


def test_jobs_that_differ_in_batchable_numbers_are_one_group(loader):
    jobs = [
        [f"mixture.weights.thumbs_up={w}", f"kl_coef={k}", f"seed={s}"]
        for w in (0, 0.1)
        for k in (0.1, 1)
        for s in (0, 1)
    ]
    groups, _ = plan(loader, jobs)
    assert len(groups) == 1
    assert groups[0].columns["kl_coef"].tolist() == [0.1, 0.1, 1.0, 1.0] * 2
    shuffled, _ = plan(loader, [list(reversed(job)) for job in jobs])
    assert group_ids(groups[0]) == group_ids(shuffled[0])


def test_a_value_that_depends_on_a_swept_one_follows_it(loader):
    jobs = [[f"mixture.weights.thumbs_up={w}", "kl_coef=${mixture.weights.thumbs_up}"] for w in (0.1, 0.2, 0.3)]
    groups, _ = plan(loader, jobs)
    assert len(groups) == 1
    assert groups[0].columns["kl_coef"].tolist() == [0.1, 0.2, 0.3]


def test_jobs_that_never_settle_are_named_by_what_they_multiply_to(loader):
    """Neither number is wrong by itself, and what the base config multiplies to is nobody's."""
    jobs = [[f"training.learning_rate={rate}", f"kl_coef={kl}"] for rate, kl in ((30, 0.05), (30, 0.1), (1, 0.1))]
    with pytest.raises(InputError, match=r"kl_coef x training.learning_rate = 3: must be < 2.*\(job 1\)"):
        plan(loader, jobs)
    assert len(plan(loader, [["training.learning_rate=100", "kl_coef=0.01"]])[0]) == 1


def test_names_of_metrics_are_checked_before_anything_runs(loader):
    held = "+mixture.constraints.safety=0.9"
    for job, message in (
        (["metric=sycophancy/raet"], "metric: unknown metric 'sycophancy/raet'; did you mean 'sycophancy/rate'"),
        ([held, "+mixture.constraint_metrics.safety=sycophancy/raet"], "mixture.constraint_metrics.safety: unknown"),
    ):
        with pytest.raises(InputError, match=message):
            plan(loader, [job])
    assert len(plan(loader, [[held, "+mixture.constraint_metrics.safety=sycophancy/rate"]])[0]) == 1


@pytest.mark.parametrize("mix", [Chat().traffic_mix, {"advice": 0.7, "task": 0.3}, {"doubt": 1.0}])
def test_names_of_metrics_are_known_before_a_world_is_made(mix):
    settings = with_value(SMALL, "world.traffic_mix", mix)
    assert metric_names(settings) == list(prepare(settings, 3).metrics)


def test_every_problem_of_a_sweep_is_listed_at_once(loader):
    jobs = [
        ["kl_coef=-1"],
        ["kl_coef=0.1"],
        ["mixture.weights.thumbs_up=nan"],
        ["+mixture.wieghts.x=1"],
        ["world.prompts=2"],
    ]
    with pytest.raises(InputError) as caught:
        plan(loader, jobs[:3] + jobs[4:])
    text = str(caught.value)
    assert "kl_coef = -1.0: must be > 0  (job 0)" in text
    assert "mixture.weights.thumbs_up = nan: must be a finite number  (job 2)" in text
    assert "world.prompts = 2: must be >= 12  (job 3)" in text
    with pytest.raises(InputError, match="unknown key 'wieghts'"):
        plan(loader, jobs[3:4])


# ---------------------------------------------------------------- shards and results


def a_shard(runs=6, **changes):
    settings = SMALL
    for key, value in changes.items():
        settings = with_value(settings, key.replace("__", "."), value)
    columns = {
        **{key: np.full(runs, value) for key, value in planning.batched_values(settings).items()},
        "mixture.weights.thumbs_up": np.linspace(0, 0.5, runs),
        "seed": np.arange(runs) % 2,
    }
    return Shard(settings, columns, np.arange(runs), run_ids(flatten(settings), columns))


def test_stored_runs_equal_simulated_ones(tmp_path):
    shard, store = a_shard(), started(tmp_path)
    assert run_shard(shard, store) == 0
    stored = open_sweep(tmp_path)
    direct = sim.simulate(SMALL, {k: shard.columns[k] for k in ("mixture.weights.thumbs_up", "seed")})
    for name in ("sycophancy/rate", "true/quality", "kl", "proxy_reward", "rewards/safety/raw"):
        np.testing.assert_allclose(stored[name].values, direct[name].values, rtol=1e-12, atol=1e-13)
        assert stored[name].attrs == direct[name].attrs
    total = direct["ledger"].sum("interval").sel(cause="thumbs_up")
    np.testing.assert_allclose(stored["ledger/thumbs_up"].isel(step=-1), total, atol=1e-12)


def started(folder):
    store = Store(folder)
    store.write_manifest({"base": {}, "command": "test", "total": 6, "commit": "none"})
    return store


@pytest.mark.parametrize(("size", "workers"), [(6, 2), (1, 1), (4, 2)])
def test_results_do_not_depend_on_shards_or_workers(tmp_path, size, workers):
    """To rounding: narrower chunks make other sums. With the fused engine bit for bit (tests/test_fused.py)."""
    whole, store = a_shard(), started(tmp_path / "whole")
    run_shard(whole, store, workers=1)
    parts = started(tmp_path / "parts")
    group = planning.Group(whole.settings, whole.columns, whole.jobs)
    for shard in cut(group, whole.ids, np.ones(6, dtype=bool), 0, size):
        run_shard(shard, parts, workers=workers)
    one, other = open_sweep(tmp_path / "whole"), open_sweep(tmp_path / "parts")
    for name in one.data_vars:
        np.testing.assert_allclose(one[name].values, other[name].values, rtol=1e-12, atol=1e-13)


def test_a_shard_keeps_every_run_beside_its_own_identity():
    whole = a_shard(runs=7)
    group = planning.Group(whole.settings, whole.columns, whole.jobs)
    for shard in cut(group, whole.ids, np.arange(7) != 2, 0, 4):
        assert shard.ids == run_ids(flatten(shard.settings), shard.columns)
        assert shard.ids == [whole.ids[job] for job in shard.jobs]


def test_a_failing_run_fails_alone(tmp_path):
    shard, store = a_shard(training__steps=60), started(tmp_path)
    shard.columns["kl_coef"][3] = 9.0
    assert run_shard(shard, store) == 1
    data = open_sweep(tmp_path)
    assert data["status"].values.tolist() == ["COMPLETED"] * 3 + ["FAILED"] + ["COMPLETED"] * 2
    assert "diverged" in data["error"].values[3]
    assert np.isnan(data["kl"].values).all(axis=1).tolist() == [False] * 3 + [True] + [False] * 2


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("poison")])
def test_a_batch_that_raises_is_halved_until_the_culprit_stands_alone(tmp_path, monkeypatch, error):
    from sim import workers

    real = workers.run_batch

    def broken(settings, problem, table, cancelled):
        if 0.3 in np.round(table["mixture.weights.thumbs_up"], 6):
            raise error
        return real(settings, problem, table, cancelled)

    monkeypatch.setattr(workers, "run_batch", broken)
    assert run_shard(a_shard(), started(tmp_path)) == 1
    data = open_sweep(tmp_path)
    assert (data["status"].values == "FAILED").tolist() == [False, False, False, True, False, False]
    assert str(error) in data["error"].values[3]


def test_too_large_a_batch_is_halved_and_nothing_fails(tmp_path, monkeypatch):
    from sim import workers

    real = workers.run_batch

    def narrow(settings, problem, table, cancelled):
        if len(table["seed"]) > 1:
            raise MemoryError
        return real(settings, problem, table, cancelled)

    monkeypatch.setattr(workers, "run_batch", narrow)
    assert run_shard(a_shard(), started(tmp_path)) == 0


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, monkeypatch):
    store = started(tmp_path)
    run_shard(a_shard(), store)
    before = open_sweep(tmp_path)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot be written .No space left on device.; what was there is untouched"):
        run_shard(a_shard(), store)
    monkeypatch.undo()
    assert open_sweep(tmp_path).identical(before)
    assert not list(store.inner.glob(".*partial"))


def test_a_folder_without_a_sweep_is_named(tmp_path):
    with pytest.raises(InputError, match="no sweep in this folder"):
        open_sweep(tmp_path)
    started(tmp_path)
    with pytest.raises(InputError, match="no finished runs yet"):
        open_sweep(tmp_path)


def test_the_newest_result_of_a_run_counts(tmp_path):
    store, bad = started(tmp_path), a_shard(training__steps=60)
    ids = list(bad.ids)
    bad.columns["kl_coef"][:] = 9.0
    run_shard(bad._replace(ids=ids), store)
    assert set(open_sweep(tmp_path)["status"].values) == {"FAILED"}
    run_shard(a_shard(training__steps=60), store)
    data = open_sweep(tmp_path)
    assert data.sizes["run"] == 6
    assert set(data["status"].values) == {"COMPLETED"}


def test_groups_of_different_shape_open_as_one_data_set(tmp_path):
    store = started(tmp_path)
    run_shard(a_shard(), store)
    other = a_shard(training__steps=40)
    run_shard(other._replace(jobs=other.jobs + 6), store)
    data = open_sweep(tmp_path)
    assert data.sizes["run"] == 12
    assert data["training.steps"].values.tolist() == [20] * 6 + [40] * 6
    assert np.isnan(data["kl"].sel(step=40).values[:6]).all()


def test_shards_travel_as_json(tmp_path):
    shard = a_shard()
    save_shard(shard, tmp_path / "shards" / "0.json")
    back = load_shard(tmp_path / "shards" / "0.json")
    assert back.settings == shard.settings
    assert back.ids == shard.ids
    for key in shard.columns:
        np.testing.assert_array_equal(back.columns[key], shard.columns[key])


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_export_is_one_row_per_run_and_step(tmp_path, ending):
    run_shard(a_shard(), started(tmp_path))
    data = open_sweep(tmp_path)
    sim.export(data, tmp_path / f"table.{ending}")
    table = getattr(pd, f"read_{ending}")(tmp_path / f"table.{ending}")
    assert len(table) == data.sizes["run"] * data.sizes["step"]
    with pytest.raises(InputError, match="ending must be"):
        sim.export(data, tmp_path / "table.xls")


# ---------------------------------------------------------------- the command


def sweep(folder, *overrides, check=True, **options):
    command = [sys.executable, "-m", "experiments.train", "-m", *TINY, f"hydra.sweep.dir={folder}", *overrides]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, **options)
    assert not check or result.returncode == 0, result.stderr
    return result


def test_a_sweep_looks_like_hydras_own(tmp_path):
    ours, stock = tmp_path / "ours", tmp_path / "stock"
    sweep(ours, *GRID, "figures=false")
    sweep(stock, *GRID, "figures=false", "hydra/launcher=basic", "hydra/sweeper=basic")
    data = open_sweep(ours)
    for job in range(6):
        for name in ("config.yaml", "overrides.yaml"):
            mine = (ours / str(job) / ".hydra" / name).read_text()
            theirs = (stock / str(job) / ".hydra" / name).read_text()
            assert mine == theirs
        metrics = pd.read_csv(stock / str(job) / "metrics.csv")
        np.testing.assert_allclose(data["sycophancy/rate"].sel(run=job).values, metrics["sycophancy/rate"], rtol=1e-10)


def test_resume_skips_extends_and_refuses(tmp_path):
    sweep(tmp_path, *GRID)
    again = sweep(tmp_path, *GRID, check=False)
    assert again.returncode != 0
    assert "hydra.launcher.resume=true goes on with it" in again.stderr
    before = len(Store(tmp_path).parts())
    resumed = sweep(tmp_path, *GRID, "hydra.launcher.resume=true")
    assert "6 of 6 runs are complete already" in resumed.stderr
    assert len(Store(tmp_path).parts()) == before
    extended = sweep(tmp_path, "seed=1,2", GRID[0], "hydra.launcher.resume=true")
    assert "3 of 6 runs are complete already" in extended.stderr
    data = open_sweep(tmp_path)
    assert data.sizes["run"] == 9
    # Jobs 0 to 2 were complete under other numbers: each folder still holds its own run.
    for job, (seed, weight) in enumerate(itertools.product((1, 2), (0, 0.2, 0.4))):
        own = (data["seed"].values == seed) & (data["mixture.weights.thumbs_up"].values == weight)
        metrics = pd.read_csv(tmp_path / str(job) / "metrics.csv")
        expected = data["sycophancy/rate"].values[own][0]
        np.testing.assert_allclose(metrics["sycophancy/rate"], expected, rtol=1e-12)
    changed = sweep(tmp_path, *GRID, "memory.share=1", "hydra.launcher.resume=true", check=False)
    assert changed.returncode != 0
    assert "memory.share: 0.0 -> 1.0" in changed.stderr
    assert "Traceback" not in changed.stderr


def test_failed_runs_are_reported_and_tried_again(tmp_path):
    runs = ("kl_coef=0.05,50", "training.estimator=exact", "training.steps=40")
    result = sweep(tmp_path, *runs, check=False)
    assert result.returncode == 1
    assert "1 of 2 runs failed" in result.stderr
    assert "job 1 (" in result.stderr
    assert "diverged" in result.stderr
    again = sweep(tmp_path, *runs, "hydra.launcher.resume=true", check=False)
    assert "1 of 2 runs are complete already" in again.stderr


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    result = sweep(tmp_path / "sweep", *GRID, "memory.share=0,1", "hydra.launcher.dry_run=true")
    assert "plan: 12 runs in 2 groups, 0 complete already" in result.stdout
    assert "seed x 2" in result.stdout
    assert not (tmp_path / "sweep").exists()


def test_zipped_and_listed_sweeps(tmp_path):
    sweep(tmp_path / "zip", "seed=0,1,2", "kl_coef=0.1,0.2,0.3", "hydra.sweeper.zip=[[seed,kl_coef]]")
    zipped = open_sweep(tmp_path / "zip")
    assert list(zip(zipped["seed"].values, zipped["kl_coef"].values, strict=True)) == [(0, 0.1), (1, 0.2), (2, 0.3)]
    sweep(tmp_path / "list", "seed=0,1", "hydra.sweeper.list=[{kl_coef:0.1},{kl_coef:0.3}]")
    assert open_sweep(tmp_path / "list").sizes["run"] == 4
    uneven = sweep(
        tmp_path / "no", "seed=0,1", "kl_coef=0.1,0.2,0.3", "hydra.sweeper.zip=[[seed,kl_coef]]", check=False
    )
    assert "hydra.sweeper.zip: seed has 2 values, kl_coef has 3 values" in uneven.stderr


def test_bad_sweep_runs_nothing(tmp_path):
    result = sweep(tmp_path / "sweep", "kl_coef=0.1,-1", "mixture.weights.safety=0.1,nan", check=False)
    assert result.returncode == 1
    assert "kl_coef = -1.0: must be > 0" in result.stderr
    assert "mixture.weights.safety = nan: must be a finite number" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "sweep").exists()


LONG = [
    "training.steps=400",
    "mixture.weights.thumbs_up=range(0,0.6,0.005)",
    "seed=range(0,10)",
    "hydra.launcher.shard=40",
]


def start(folder, *overrides):
    command = [sys.executable, "-m", "experiments.train", "-m", *TINY, f"hydra.sweep.dir={folder}", *LONG, *overrides]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


@pytest.mark.slow
def test_ctrl_c_stops_within_two_seconds_and_says_how_to_go_on(tmp_path):
    process = start(tmp_path)
    while not Store(tmp_path).parts():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    _, message = process.communicate(timeout=20)
    assert time.monotonic() - asked < 2
    assert process.returncode == 130
    assert f"hydra.sweep.dir={tmp_path} hydra.launcher.resume=true" in message
    assert 0 < open_sweep(tmp_path).sizes["run"] < 1200


@pytest.mark.slow
def test_twenty_kills_and_resumes_equal_one_uninterrupted_sweep(tmp_path):
    """kill -9 at random moments (seed 3), mostly while parts are written; each time the sweep is resumed."""
    choose = random.Random(3)
    kills, folder = 0, tmp_path / "killed0"
    finished = []
    while kills < 20:
        process = start(folder, "hydra.launcher.resume=true")
        seen = len(Store(folder).parts())
        until = time.monotonic() + 60
        while process.poll() is None and len(Store(folder).parts()) == seen and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(choose.uniform(0, 0.6))
        if process.poll() is None:
            process.kill()
            kills += 1
        process.communicate()
        if Store(folder).exists() and process.returncode == 0:
            finished.append(folder)
            folder = tmp_path / f"killed{len(finished)}"
    last = start(folder, "hydra.launcher.resume=true")
    last.communicate()
    assert last.returncode == 0
    whole = start(tmp_path / "whole")
    whole.communicate()
    expected = open_sweep(tmp_path / "whole")
    for resumed in [*finished, folder]:
        data = open_sweep(resumed)
        assert data["id"].values.tolist() == expected["id"].values.tolist()
        for name in expected.data_vars:
            np.testing.assert_array_equal(data[name].values, expected[name].values)


def test_the_command_to_resume_with_survives_a_shell(monkeypatch):
    given = [
        "-m",
        "world.path=my file.csv",
        "kl_coef=0.1,0.2",
        "hydra.sweep.dir=old place",
        "hydra.launcher.resume=extend",
    ]
    monkeypatch.setattr("sys.argv", ["train.py", *given])
    words = shlex.split(resume_command(Path("new place")))
    assert words[-5:] == [*given[:3], "hydra.sweep.dir=new place", "hydra.launcher.resume=true"]
