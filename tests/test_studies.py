"""The studies as a user runs them: what they write, and one clear line for what they cannot use."""

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from test_commands import run

from experiments.app import CONFIGS, to_settings
from experiments.interactions import Interactions
from experiments.mitigations import Mitigations
from experiments.overoptimization import ARMS, Overoptimization

SMALL = ["world.prompts=24", "world.responses=4", "training.steps=10", "seeds=3"]


def overoptimization():
    expected = Overoptimization(kl_coef=1e-6)
    expected.world.prompts, expected.world.responses, expected.world.freshness = 100, 64, 1.0
    expected.memory.share, expected.mixture.weights["thumbs_up"] = 1.0, 1.0
    expected.training.ledger, expected.training.record_every = False, 1
    return expected


def mitigations():
    expected = Mitigations()
    expected.world.freshness, expected.memory.share, expected.mixture.weights["thumbs_up"] = 1.0, 1.0, 0.3
    return expected


STUDIES = {"mitigations": mitigations, "interactions": Interactions, "overoptimization": overoptimization}


@pytest.mark.parametrize("name", STUDIES)
def test_default_configs_are_the_defaults_of_the_dataclasses(name):
    with initialize_config_dir(CONFIGS, version_base="1.3"):
        assert to_settings(compose(name)) == STUDIES[name]()


def test_interactions_writes_figures_tables_and_a_report(tmp_path):
    result = run("interactions", *SMALL, "+factors.strong='kl_coef=0.02 users.appetite=1'", f"out={tmp_path}/out")
    assert result.returncode == 0, result.stderr
    assert "training: 100%" in result.stderr
    assert "beyond the sum of single effects" in result.stdout
    table = pd.read_csv(tmp_path / "out" / "combinations.csv")
    assert table[["thumbs up", "memory", "fresher data", "strong"]].drop_duplicates().shape == (16, 4)
    terms = pd.read_csv(tmp_path / "out" / "terms.csv")
    assert terms.groupby("metric").size().eq(15).all()
    rate = terms[terms["metric"] == "sycophancy/rate"]
    gain = table["sycophancy/rate"].iloc[-1] - table["sycophancy/rate"].iloc[0]
    assert rate.loc[rate["order"] == 1, "index"].sum() == pytest.approx(gain, abs=1e-9)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3


def test_interactions_runs_on_the_shipped_score_table(tmp_path):
    factors = ["~factors.thumbs_up", "~factors.memory", "~factors.fresher_data", "+factors.leash='kl_coef=0.02'"]
    more = ["+factors.votes='mixture.weights.thumbs_up=0.4'", "training.steps=30", "seeds=3", f"out={tmp_path}/out"]
    result = run("interactions", "experiment=own_scores", *factors, *more)
    assert result.returncode == 0, result.stderr
    assert len(pd.read_csv(tmp_path / "out" / "combinations.csv")) == 4


def test_overoptimization_writes_figures_tables_and_a_report(tmp_path):
    kept = ("best_of_n", "KL_penalty", "natural_tabular", "natural_less_variance", "GRPO")
    fewer = [f"~arms.{name}" for name in ARMS if name not in kept]
    result = run(
        "overoptimization", "world.prompts=24", "world.responses=8", "seeds=3", "training.steps=40",
        "arms.GRPO='training.estimator=grpo training.learning_rate=0.5'", *fewer, f"out={tmp_path}/out",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "true quality turns under" in result.stdout
    curves = pd.read_csv(tmp_path / "out" / "curves.csv")
    assert curves["arm"].unique().tolist() == [
        "best of n",
        "KL penalty",
        "natural tabular",
        "natural less variance",
        "GRPO",
    ]
    assert (curves["proxy"] > 0).all()
    assert curves.loc[curves["arm"] == "best of n", "value"].tolist() == [2, 4, 8, 16, 32, 64, 128, 256]
    assert len(pd.read_csv(tmp_path / "out" / "fits.csv")) == 5
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2


def test_overoptimization_runs_on_the_shipped_score_table(tmp_path):
    arms = [f"~arms.{name}" for name in ARMS if name not in ("best_of_n", "KL_penalty", "natural_tabular")]
    more = ["memory.share=0", "gold=attributes/flattery", "seeds=3", "training.steps=20", f"out={tmp_path}/out"]
    result = run("overoptimization", "experiment=own_scores", *arms, *more)
    assert result.returncode == 0, result.stderr
    assert len(pd.read_csv(tmp_path / "out" / "fits.csv")) == 3


def test_mitigations_writes_figures_tables_and_a_report(tmp_path):
    result = run("mitigations", *SMALL, "mixture.from_step=2", "~arms.votes_late", f"out={tmp_path}/out")
    assert result.returncode == 0, result.stderr
    assert "votes' benefit" in result.stdout
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert {"minimal penalty", "early stopping", "probe constraint"} < set(scores["arm"])
    assert scores["hypervolume"].is_monotonic_decreasing
    frontiers = pd.read_csv(tmp_path / "out" / "frontiers.csv")
    assert frontiers.groupby("arm")["pareto"].any().all()
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2


BAD = {
    "score table": (
        ["mitigations", "experiment=own_scores", "memory.share=0"],
        "nobody knows the true quality of a score table",
    ),
    "two swept keys": (
        ["overoptimization", "arms.PPO='kl_coef=0.1,0.2 training.learning_rate=1,2'"],
        "arms.PPO: one key can have",
    ),
    "unknown arm key": (["overoptimization", "arms.PPO='training.clp=1'"], "did you mean 'training.clip'"),
    "unknown gold": (["overoptimization", *SMALL, "gold=true/qualty"], "did you mean 'true/quality'"),
    "unknown key": (["interactions", "factors.memory='memory.shar=1'"], "factors.memory: unknown key 'memory.shar'"),
    "misspelt option": (["interactions", "factor.memory='memory.share=1'"], "factor"),
    "output is a file": (["interactions", "out=README.md"], "README.md: cannot write a folder there"),
    "multirun": (["interactions", "-m", "kl_coef=0.1,0.2"], "experiments.interactions is a sweep already"),
    "one seed": (["interactions", "seeds=1"], "seeds = 1: must be >= 2"),
    "diverging": (["interactions", *SMALL, "kl_coef=50", "training.estimator=exact"], "diverged: the objective"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_line(name, tmp_path):
    (module, *overrides), message = BAD[name]
    out = [] if any(text.startswith("out=") for text in overrides) else [f"out={tmp_path}/out"]
    result = run(module, *overrides, *out)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.rglob("*.*"))
