"""Shards through Hydra's own launchers, Optuna in front: the same numbers, and no run lost with a node."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from sim.sweep.results import open_sweep

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
TINY = ["world.prompts=24", "world.responses=4", "training.record_every=3", "figures=false"]
ENVIRONMENT = os.environ | {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
}


def start(folder, *overrides):
    command = [sys.executable, "-m", "experiments.train", "-m", *TINY, f"hydra.sweep.dir={folder}", *overrides]
    return subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def sweep(folder, *overrides):
    process = start(folder, *overrides)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2000:]
    return output + errors


@pytest.mark.parametrize(
    ("launcher", "package", "training"),
    [
        ("joblib", "hydra_plugins.hydra_joblib_launcher", "natural"),
        ("joblib", "hydra_plugins.hydra_joblib_launcher", "fast"),
        ("submitit_local", "hydra_plugins.hydra_submitit_launcher", "natural"),
        ("ray", "hydra_plugins.hydra_ray_launcher", "natural"),
    ],
)
def test_shards_through_another_launcher_give_the_same_numbers(tmp_path, launcher, package, training):
    pytest.importorskip(package, reason=f"the extra for {launcher} is not installed")
    grid = [
        *([] if training == "natural" else [f"training={training}"]),
        "training.steps=6",
        "mixture.weights.thumbs_up=range(0,0.5,0.05)",
        "seed=0,1",
    ]
    sweep(tmp_path / "here", *grid)
    inner = f"+hydra/launcher@hydra.launcher.inner={launcher}"
    alone = ["+hydra.launcher.inner.ray.init.address=local"] if launcher == "ray" else []  # not another test's cluster
    sweep(tmp_path / "there", *grid, inner, "hydra.launcher.shard=7", *alone)
    here, there = open_sweep(tmp_path / "here"), open_sweep(tmp_path / "there")
    assert here["id"].values.tolist() == there["id"].values.tolist()
    for name in here.data_vars:
        if here.attrs["engine"] == "fused":
            np.testing.assert_array_equal(here[name].values, there[name].values)
        else:  # shards cut the batches elsewhere: the last bits of a matrix product may differ
            close = 1e-12 if training == "natural" else 5e-5
            np.testing.assert_allclose(here[name].values, there[name].values, rtol=close, atol=close / 10)


def test_optuna_asks_and_the_batch_answers(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="the extra optuna is not installed")
    sweep(
        tmp_path,
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=40",
        "hydra.sweeper.n_jobs=20",
        "hydra.launcher.job_dirs=none",
        "training.steps=20",
        "mixture.weights.thumbs_up=interval(0.0,0.5)",
        "signals.source.thumbs_up=oracle",  # so that in a world this small the rate rises with the weight
    )
    data = open_sweep(tmp_path)
    assert data["job"].values.tolist() == list(range(40))
    best = data["sycophancy/rate"].isel(step=-1)
    reported = OmegaConf.load(tmp_path / "optimization_results.yaml").best_value
    assert reported == pytest.approx(float(best.min()), abs=1e-12)
    # the rate rises with the weight, so the sampler's best weight is near 0
    assert float(data["mixture.weights.thumbs_up"][int(best.argmin("run"))]) < 0.1


def test_a_ray_cluster_that_loses_a_node_ends_with_every_run(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="the extra ray is not installed")
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER)
    command = [sys.executable, str(script), str(tmp_path / "sweep"), str(ROOT)]
    result = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=400, check=False
    )
    assert "lost a node" in result.stdout, result.stderr[-2000:]
    assert result.returncode == 0, result.stderr[-2000:]
    data = open_sweep(tmp_path / "sweep")
    assert data.sizes["run"] == 800
    assert set(data["status"].values) == {"COMPLETED"}


# Two nodes on loopback; the second is killed, ungracefully, while shards run on both.
CLUSTER = """
import subprocess, sys, time
from pathlib import Path
from ray.cluster_utils import Cluster

folder, root = Path(sys.argv[1]), sys.argv[2]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
sweep = subprocess.Popen([
    sys.executable, "-m", "experiments.train", "-m", "world.prompts=24", "world.responses=4", "training.steps=400",
    "training.record_every=100", "figures=false", f"hydra.sweep.dir={folder}",
    "mixture.weights.thumbs_up=range(0,0.398,0.005)", "seed=range(0,10)", "hydra.launcher.shard=20",
    "+hydra/launcher@hydra.launcher.inner=ray", f"+hydra.launcher.inner.ray.init.address={cluster.address}",
    "+hydra.launcher.inner.ray.init.object_store_memory=null",
], cwd=root)
while sweep.poll() is None and len(list((folder / "sweep").glob("part-*"))) < 4:
    time.sleep(0.05)
if sweep.poll() is None:
    cluster.remove_node(second, allow_graceful=False)
    print("lost a node after", len(list((folder / "sweep").glob("part-*"))), "of 40 shards", flush=True)
sys.exit(sweep.wait())
"""
