"""Trainers' logs: what is read of TRL's trainer_state.json, and the prediction laid beside it."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_audit import ASK_CHAT, CHAT
from test_audit_output import SCHEMA, run

import sim
from sim.auditing.trainer_log import lay_beside, read_trainer_log
from sim.config import InputError, Mixture, Policy, Scores, Settings, Training

WEIGHTED = {"prompt_weight": "prompt_weight", "reference_prob": "reference_prob"}
LENGTH = 200.0  # tokens of an answer in the made-up log


def entry(step, kl=0.01, **means):
    logged = {f"rewards/{name}/mean": value for name, value in means.items()}
    spread = {f"rewards/{name}/std": 1.0 for name in means}
    return {"step": step, "epoch": 0.1, "kl": kl, "completions/mean_length": LENGTH, **logged, **spread}


def state_of(entries):
    return {"global_step": len(entries), "log_history": [*entries, {"step": len(entries), "train_runtime": 3.0}]}


@pytest.fixture
def logged(tmp_path):
    """A log that TRL's GRPO trainer would have written, of a simulated training on the shipped score table."""
    columns = {name: name for name in [*ASK_CHAT["signals"], "thumbs_up"]}
    world = Scores(path=str(CHAT), signals=columns, attributes={"sycophancy": "sycophancy"}, **WEIGHTED)
    mixture = Mixture(weights=ASK_CHAT["signals"] | {"thumbs_up": 0.3}, added="thumbs_up")
    data = sim.simulate(
        Settings(kl_coef=0.1, world=world, mixture=mixture, policy=Policy(kind="tabular"), training=Training(steps=60))
    ).isel(run=0)
    entries = [
        entry(int(at.step), float(at.kl) / LENGTH, **{name: float(at[f"rewards/{name}/raw"]) for name in columns})
        for at in (data.sel(step=step) for step in data.step)
    ]
    path = tmp_path / "checkpoint-60" / "trainer_state.json"
    path.parent.mkdir()
    path.write_text(json.dumps(state_of(entries)))
    return path


def test_a_trained_policy_follows_the_prediction(logged):
    # Natural gradient moves a tabular policy along the tilts, so at equal KL it is the audit's closed form.
    result = sim.audit(pd.read_csv(CHAT), **ASK_CHAT, **WEIGHTED, kl_coef=0.1, weight=0.3, resamples=100)
    section = lay_beside(result.report, read_trainer_log(logged))
    assert len(section["signals"]) == 4
    for row in section["signals"]:
        end = row["end"]
        assert end["kl"] == pytest.approx(result.report["metrics"]["kl"], rel=0.05)
        assert end["change"] == pytest.approx(end["predicted"], abs=0.002)
        assert end["low"] <= end["change"] <= end["high"]
        curve = row["predicted"]
        np.testing.assert_allclose(row["change"], np.interp(section["kl"], curve["kl"], curve["value"]), atol=0.002)
    weighted = np.array([row["weighted_change"] for row in section["signals"]])
    line = np.array([0.4 * 0.7, 0.3 * 0.7, 0.3 * 0.7, 0.3])
    means = np.array([row["change"] for row in section["signals"]])
    np.testing.assert_allclose(weighted, line[:, None] * means)


def test_command_lays_the_log_beside_the_prediction(logged, tmp_path):
    result = run(
        f"scores={CHAT}", "signals={correctness: 0.4, helpfulness: 0.3, model_spec: 0.3}", "add=thumbs_up",
        "attribute=sycophancy", "points=5", "resamples=100", f"out={tmp_path}/out", f"trainer_log={logged.parent}",
        "prompt_weight=prompt_weight", "reference_prob=reference_prob",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "out" / "audit.json").read_text())
    jsonschema.validate(report, SCHEMA)
    assert "What the trainer logged" in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "trainer.png").is_file()


def test_what_is_read(tmp_path):
    entries = [
        entry(1, 0.01, good=0.5) | {"rewards/step/mean": 1.0},
        entry(2, None, good=None) | {"rewards/step/mean": 2.0},
        {"step": 2, "eval_rewards/good/mean": 9.0, "eval_loss": 1.0},
        entry(3, 0.03, good=0.7) | {"rewards/step/mean": 3.0},
    ]
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps(state_of(entries)))
    table = read_trainer_log(tmp_path)
    assert table["step"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(table["kl"], [2.0, np.nan, 6.0])
    np.testing.assert_allclose(table["good"], [0.5, np.nan, 0.7])
    np.testing.assert_allclose(table["rewards/step/mean"], [1, 2, 3])
    np.testing.assert_allclose(read_trainer_log(path, "response")["kl"], [0.01, np.nan, 0.03])


def test_without_kl_the_log_is_shown_and_nothing_is_predicted(tmp_path):
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps(state_of([{"step": i, "rewards/vote/mean": 0.1 * i} for i in range(5)])))
    result = sim.audit(pd.read_csv(CHAT), **ASK_CHAT, points=3, resamples=100)
    section = lay_beside(result.report, read_trainer_log(path), {"thumbs_up": "vote"})
    assert np.isnan(section["signals"][0]["end"]["predicted"])
    assert section["signals"][0]["change"] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    result.report["trainer"] = section
    assert "trainer" in result.figures()
    jsonschema.validate(json.loads(result.to_json()), SCHEMA)


@pytest.mark.parametrize(
    ("content", "names", "message"),
    [
        ("{", None, "is not JSON"),
        ("[]", None, "has no log_history"),
        ('{"log_history": [1]}', None, "has no log_history"),
        ('{"log_history": [{"step": 1, "rewards/chosen": 1}]}', None, "no entry has rewards/NAME/mean"),
        ('{"log_history": [{"rewards/a/mean": 1}]}', None, "has no step"),
        ('{"log_history": [{"step": 1, "rewards/a/mean": 1}]}', None, "logs a, none of the signals"),
        ('{"log_history": [{"step": 1, "rewards/a/mean": 1}]}', {"thumbs": "a"}, "unknown signal 'thumbs'"),
        ('{"log_history": [{"step": 1, "rewards/a/mean": 1}]}', {"thumbs_up": "b"}, "unknown reward function 'b'"),
        ('{"log_history": [{"step": 1, "rewards/a/mean": 1}]}', "a", "log_names = a"),
    ],
)
def test_bad_logs_are_one_line(tmp_path, content, names, message):
    report = {
        "options": {"signals": {}, "add": "thumbs_up", "weight": 0.2, "renormalize": True},
        "signals": [{"signal": "thumbs_up"}],
        "predictions": [],
    }
    path = tmp_path / "trainer_state.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        lay_beside(report, read_trainer_log(path), names)
    assert "\n" not in str(caught.value)


def test_a_log_that_is_not_there():
    for path in ("nowhere", "a" * 300):
        with pytest.raises(InputError, match=f"trainer_log = {path}: cannot be read"):
            read_trainer_log(path)
    with pytest.raises(InputError, match="log_kl = word"):
        read_trainer_log("nowhere", "word")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["step", "kl", "rewards/a/mean"]), inner)
    ),
    max_leaves=8,
)


@given(JSON, st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_json_gives_a_log_or_one_line(tmp_path_factory, value, history):
    path = tmp_path_factory.mktemp("fuzz") / "trainer_state.json"
    path.write_text(json.dumps({"log_history": value} if history else value))
    try:
        assert "step" in read_trainer_log(Path(path))
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017
