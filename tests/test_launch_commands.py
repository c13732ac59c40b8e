"""The commands about launches as a user runs them."""

from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from experiments.app import CONFIGS, to_settings
from experiments.incident import Incident, changes_of
from experiments.mainline import MainlineRun
from experiments.review import ReviewRun
from sim.config import Training
from tests.test_commands import run

SMALL = ["world.prompts=60", "world.responses=6", "training.steps=10"]
FEW = ["rollout.users=200", "rollout.follow_days=2", "reviews=3"]


def composed(name, *overrides):
    with initialize_config_dir(CONFIGS, version_base="1.3"):
        return to_settings(compose(name, overrides=list(overrides)))


def test_default_configs_are_the_defaults_of_the_dataclasses():
    made = composed("incident", "~experiment")
    assert made == Incident()
    made = composed("review", "training=natural")
    assert made == ReviewRun()
    made = composed("mainline", "training=natural")
    assert made == MainlineRun()
    assert composed("review").training == composed("mainline").training != Training()


@pytest.mark.parametrize("path", sorted(Path(CONFIGS).glob("rollout/*.yaml")), ids=lambda path: path.stem)
def test_every_rollout_composes(path):
    composed("incident", f"rollout={path.stem}")


def test_either_process_may_take_either_place():
    made = composed("incident", "review@before=improved", "review@after=april_2025")
    assert (made.before.name, made.after.name) == ("improved", "april_2025")


def test_the_update_is_taken_apart_into_its_changes():
    changes = changes_of(composed("incident"))
    assert list(changes) == ["nothing", "votes", "memory", "fresher data", "all together"]
    plain, whole = changes["nothing"], changes["all together"]
    assert (plain.memory.share, plain.world.freshness, plain.mixture.weights["thumbs_up"]) == (0, 0, 0)
    assert (whole.memory.share, whole.world.freshness) == (1, 1)
    assert changes["votes"].mixture.weights["thumbs_up"] == whole.mixture.weights["thumbs_up"] > 0


def test_incident_writes_one_self_contained_page(tmp_path):
    result = run("incident", *SMALL, *FEW, f"out={tmp_path}/out")
    assert result.returncode == 0, result.stderr
    assert "incident: 100%" in result.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 6
    assert page.count("<table>") == 4
    assert "python -m experiments.incident" in page
    assert "http" not in page.replace("http-equiv", "")
    lives = pd.read_csv(tmp_path / "out" / "lives.csv")
    assert set(lives["replay"]) == {"as it happened", "probes acted on", "no launch"}
    before = lives[lives["hour"] < 0].groupby("replay")["answers"].sum()
    assert (before == before.iloc[0]).all()  # the same users ask the same before anything is decided


def test_an_override_is_on_the_page(tmp_path):
    strict = [
        "before.gates.votes.margin=0",
        "before.gates.sycophancy.role=blocking",
        "before.gates.sycophancy.margin=0",
    ]
    told = ["override_by=launch committee", "override_reason=users like it"]
    result = run("incident", *SMALL, *FEW, *strict, *told, f"out={tmp_path}/out")
    assert result.returncode == 0, result.stderr
    assert "launches after" in result.stdout
    assert "override by launch committee: users like it" in (tmp_path / "out" / "report.html").read_text()


def test_review_writes_figures_tables_and_a_page(tmp_path):
    result = run("review", *SMALL, "bundles.candidates=16", "bundles.worlds=2", f"out={tmp_path}/out")
    assert result.returncode == 0, result.stderr
    assert "updates: 100%" in result.stderr
    updates = pd.read_csv(tmp_path / "out" / "updates.csv")
    assert len(updates) == 16
    for name in ("errors", "caught", "cost", "power", "monitors"):
        assert (tmp_path / "out" / f"{name}.svg").is_file()
    assert (tmp_path / "out" / "report.html").read_text().count("data:image/png;base64,") == 5


def test_mainline_writes_its_table_and_figure(tmp_path):
    result = run("mainline", *SMALL, "worlds=2", "updates=2", f"out={tmp_path}/out")
    assert result.returncode == 0, result.stderr
    assert "mainlines: 100%" in result.stderr
    table = pd.read_csv(tmp_path / "out" / "mainline.csv")
    assert len(table) == 2 * 2 * 3
    stayed = table[~table["launched"]]
    assert (stayed["rate"] != stayed["offered"]).all()
    assert (tmp_path / "out" / "mainline.svg").is_file()


BAD = {
    "unknown metric": (
        ["before.gates.votes.metric=launch/vots"],
        "before.gates.votes.metric: unknown metric 'launch/vots'",
    ),
    "margin's sign": (["after.gates.sycophancy.margin=-0.03"], "after.gates.sycophancy.margin = -0.03: must be >= 0"),
    "no such role": (["before.gates.votes.role=loud"], "before.gates.votes.role = loud: must be one of blocking"),
    "empty group": (["users.vulnerable_share=0"], "the user group 'vulnerable' has no prompts"),
    "ends before it starts": (
        ["rollout.end=2025-04-20 10:00"],
        "rollout.end = 2025-04-20 10:00: must be after rollout.start",
    ),
    "events out of order": (
        ["rollout.rollback=2025-04-25 10:00"],
        "rollout.patch = Sun 27 Apr 20:00: not possible while rolled_back",
    ),
    "no date": (["rollout.start=soon"], "rollout.start = soon: must be a date and hour"),
    "override without a reason": (["override_by=me"], "override.reason: must not be empty"),
    "nothing blocks": (
        [f"before.gates.{gate}.role=advisory" for gate in ("offline", "safety", "red_team", "votes", "preference")],
        "before.gates: no gate is blocking",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_line(name, tmp_path):
    overrides, message = BAD[name]
    result = run("incident", *SMALL, *FEW, f"out={tmp_path}/out", *overrides)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.rglob("*.*"))


def test_a_score_table_has_no_users_to_launch_to(tmp_path):
    result = run("review", "experiment=own_scores", "training=natural", f"out={tmp_path}/out")
    assert result.returncode != 0
    assert "world: a launch needs users, so world must be chat" in result.stderr
    assert "Traceback" not in result.stderr


def test_two_processes_of_one_name_are_refused(tmp_path):
    result = run("review", *SMALL, "review@after=april_2025", f"out={tmp_path}/out")
    assert result.returncode != 0
    assert "after.name = april_2025: must differ from before.name" in result.stderr
