"""The commands as a user runs them: what they write, and one clear line for what they cannot use."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from experiments.app import CONFIGS, to_settings
from experiments.drift import Drift
from experiments.make_scores import MakeScores, score_table
from experiments.train import Train
from sim.world.users import TOPICS

ROOT = Path(__file__).parent.parent
JUDGES = ROOT.parent / "shared" / "data" / "judge_scores.csv"
SMALL = ["world.prompts=24", "world.responses=4", "training.steps=10"]


def run(module, *overrides, cwd=ROOT):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::RuntimeWarning"}
    command = [sys.executable, "-m", f"experiments.{module}", *map(str, overrides)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def test_a_score_table_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    result = run("make_scores", "world.prompts=12", f"out={tmp_path}/file/scores.csv")
    assert result.returncode == 1
    assert "out = " in result.stderr
    assert "cannot be written" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_run_prepares_its_world_once(tmp_path):
    """The reports of its reward models are those of the world that it was trained in."""
    code = (
        "import sys, sim.problem\nreal, count = sim.problem.learn_signals, []\n"
        "sim.problem.learn_signals = lambda *given: [count.append(1), real(*given)][1]\n"
        "from experiments.train import main\nmain()\nprint(len(count), 'prepared')\n"
    )
    command = [sys.executable, "-c", code, *SMALL, "figures=false", f"hydra.run.dir={tmp_path}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=True)
    assert done.stdout.splitlines()[-1] == "1 prepared"
    assert "reward model thumbs_up" in done.stdout
    assert (tmp_path / "reward_models.csv").is_file()


@pytest.mark.parametrize(("config", "schema"), [("config", Train), ("drift", Drift), ("make_scores", MakeScores)])
def test_default_configs_are_the_defaults_of_the_dataclasses(config, schema):
    with initialize_config_dir(CONFIGS, version_base="1.3"):
        made = to_settings(compose(config))
    expected = schema()
    if schema is MakeScores:
        expected.world.prompts, expected.world.responses = 60, 8
        expected.signals.source |= {"thumbs_up": "oracle", "preference": "oracle"}
    assert made == expected


ELSEWHERE = ("rollout",)  # groups that experiments.drift does not have: tests/test_launch_commands.py
VARIANTS = sorted(path for path in Path(CONFIGS).glob("*/*.yaml") if path.parent.name not in ELSEWHERE)


@pytest.mark.parametrize("path", VARIANTS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_variant_composes(path):
    with initialize_config_dir(CONFIGS, version_base="1.3"):
        needs = ["policy=tabular"] if path.stem in ("closed_form", "best_of_n") else []
        to_settings(compose("drift", overrides=[f"{path.parent.name}={path.stem}", *needs]))


def test_train_writes_its_run_folder(tmp_path):
    result = run("train", *SMALL, "mixture.weights.thumbs_up=0.3", "memory.share=1", f"hydra.run.dir={tmp_path}/run")
    assert result.returncode == 0, result.stderr
    assert "sycophancy rate: " in result.stdout
    metrics = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert metrics["step"].tolist() == [0, 2, 4, 6, 8, 10]
    assert (tmp_path / "run" / ".hydra" / "config.yaml").is_file()
    for name in ("metrics.png", "metrics.svg", "ledger.png", "ledger.csv"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    assert pd.read_csv(tmp_path / "run" / "reward_models.csv")["signal"].tolist() == ["preference", "thumbs_up"]
    assert result.stdout.count("reward model ") == 2


def test_stock_hydra_sweep_makes_a_folder_a_job(tmp_path):
    oracle = "signals.source.thumbs_up=oracle"  # from 24 users anything may be learned
    result = run("train", "-m", *SMALL, oracle, "mixture.weights.thumbs_up=0,0.3", f"hydra.sweep.dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    finals = [pd.read_csv(tmp_path / job / "metrics.csv")["sycophancy/rate"].iloc[-1] for job in "01"]
    assert finals[0] < finals[1]


def test_drift_writes_figures_tables_and_a_self_contained_report(tmp_path):
    result = run("drift", *SMALL, "points=5", "seeds=3", f"out={tmp_path}/out")
    assert result.returncode == 0, result.stderr
    assert "critical weight, trained" in result.stdout
    assert "training: 100%" in result.stderr
    assert len(pd.read_csv(tmp_path / "out" / "final.csv")) == 15
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "python -m experiments.drift" in page
    for name in ("drift", "ledger", "check_strength", "quality"):
        assert (tmp_path / "out" / f"{name}.svg").is_file()


def test_drift_runs_on_the_shipped_score_table(tmp_path):
    result = run("drift", "experiment=own_scores", "points=7", "seeds=5", "training.steps=30", f"out={tmp_path}/out")
    assert result.returncode == 0, result.stderr
    assert "sycophancy at thumbs_up = 0.6" in result.stdout


@pytest.mark.skipif(not JUDGES.is_file(), reason="the judge scores in shared/data are not here")
def test_drift_runs_on_real_judge_scores(tmp_path):
    arguments = ["world=scores", f"world.path={JUDGES}", "experiment=judge_scores", "points=5", "seeds=2"]
    result = run("drift", *arguments, "training.steps=40", f"out={tmp_path}/out")
    assert result.returncode == 0, result.stderr
    assert "log chars at judge_gpt4 = 0.6" in result.stdout
    assert len(pd.read_csv(tmp_path / "out" / "final.csv")) == 10


def test_shipped_score_table_is_what_make_scores_makes():
    with initialize_config_dir(CONFIGS, version_base="1.3"):
        made = score_table(to_settings(compose("make_scores")))
    shipped = pd.read_csv(ROOT / "experiments" / "data" / "chat_scores.csv")
    pd.testing.assert_frame_equal(made.reset_index(drop=True), shipped, check_exact=False, atol=2e-6)


SCORES_PRESET = ["experiment=own_scores"]
SCORES = ["experiment=own_scores", "points=3", "seeds=1", "training.steps=5"]
BAD = {
    "misspelt weight": (["mixture.weights.thumbs_upp=0.3"], "thumbs_upp"),
    "added misspelt weight": (
        ["+mixture.weights.thumbs_upp=0.3"],
        "unknown signal 'thumbs_upp'; did you mean 'thumbs_up'",
    ),
    "misspelt key": (["mixture.wieghts.thumbs_up=0.3"], "wieghts"),
    "added misspelt group": (["+mixture.wieghts.thumbs_up=0.3"], "wieghts"),
    "added misspelt top key": (["+kl_coeff=0.3"], "kl_coeff"),
    "wrong type": (["kl_coef=strong"], "kl_coef"),
    "negative kl_coef": (["kl_coef=-0.1"], "kl_coef = -0.1: must be > 0"),
    "negative weight": (["mixture.weights.safety=-0.1"], "mixture.weights.safety = -0.1: must be >= 0"),
    "nan": (["kl_coef=nan"], "kl_coef = nan: must be a finite number"),
    "unknown preset": (["experiment=nothing"], "nothing"),
    "unknown topic": (["+world.topic_mix.sprots=1"], "unknown topic 'sprots'"),
    "missing score file": ([*SCORES, "world.path=nowhere.csv"], "world.path = nowhere.csv: no such file"),
    "unknown column": ([*SCORES, "world.signals.correctness=corectness"], "did you mean 'correctness'"),
    "no path": (["world=scores", "mixture=empty"], "world.path: needs the path"),
    "diverging": (
        ["kl_coef=50", "points=3", "seeds=1", "training.estimator=exact"],
        "diverged: the objective ended below",
    ),
    "never settling": (["kl_coef=3"], "kl_coef x training.learning_rate = 3: must be < 2"),
    "output is a file": (["out=README.md"], "README.md: cannot write a folder there"),
    "no ledger": (["training.ledger=false"], "experiments.drift draws the ledger"),
    "metric without prompts": (
        ["metric=sycophancy/vulnerable", "users.vulnerable_share=0"],
        "a mean over prompts of which",
    ),
    "dead setting": ([*SCORES_PRESET, "users.appetite=1"], "users: has no effect on a score table"),
    "nothing to probe": ([f"world.traffic_mix.{t}=0" for t in TOPICS if t != "task"], "so there is nothing to probe"),
    "weight above 1": (["max_weight=2"], "max_weight = 2.0: must be <= 1"),
    "the weight that is swept": (["mixture.weights.thumbs_up=0.3"], "experiments.drift varies it itself"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_line(name, tmp_path):
    overrides, message = BAD[name]
    result = run("drift", f"out={tmp_path}/out", *overrides)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.rglob("*.*"))


def corrupt(source, target, how):
    table = pd.read_csv(source)
    if how == "empty":
        target.write_text("")
        return
    if how == "duplicated":
        table = pd.concat([table, table.iloc[[3]]])
    if how == "non-numeric":
        table["helpfulness"] = table["helpfulness"].astype(object)
        table.loc[4, "helpfulness"] = "high"
    if how == "all NaN":
        table["helpfulness"] = float("nan")
    if how == "one NaN":
        table.loc[4, "helpfulness"] = float("nan")
    table.to_csv(target, index=False)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("empty", "the file is empty"),
        ("duplicated", "row 481: prompt 'p000' has the same response as in row 4"),
        ("non-numeric", "column 'helpfulness', row 5: 'high' is not a number"),
        ("all NaN", "column 'helpfulness' has no number in it"),
        ("one NaN", "signal 'helpfulness' has a weight but is not finite (prompt 0, response 4)"),
    ],
)
def test_bad_score_table_is_one_clear_line(how, message, tmp_path):
    target = tmp_path / "scores.csv"
    corrupt(ROOT / "experiments" / "data" / "chat_scores.csv", target, how)
    result = run("drift", *SCORES, f"world.path={target}", f"out={tmp_path}/out")
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not list((tmp_path / "out").rglob("*"))


def test_a_failing_job_does_not_leave_half_a_run(tmp_path):
    result = run("train", *SMALL, "kl_coef=-1", f"hydra.run.dir={tmp_path}/run")
    assert result.returncode != 0
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".hydra"]  # what was asked, and no results
