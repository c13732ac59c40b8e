"""What the audit writes: the gate, the JSON report and its schema, the page, and nothing that a name could make run."""

import json
import subprocess
import sys

import jsonschema
import numpy as np
import pandas as pd
import pytest
from test_audit import ASK, ASK_CHAT, CHAT, QUICK, ROOT, random_table, sample_of

import sim
from sim.auditing.gate import judge, parse, parse_all
from sim.auditing.result import METRICS
from sim.auditing.run import measure_all
from sim.config import InputError

SCHEMA = json.loads((ROOT / "docs" / "audit.schema.json").read_text())


def test_conditions_are_parsed_and_nothing_is_evaluated():
    assert parse(" critical_weight < 0.2 ") == ("critical_weight", "<", 0.2)
    assert [c.comparison for c in parse_all("drift>=0,kl>1e-3")] == [">=", ">"]
    assert parse_all(["a<1", "b>inf"])[1].bound == np.inf
    assert parse_all(None) == []
    for bad in (
        "critical_weight",
        "<0.2",
        "drift>1 or True",
        "__import__('os')<1",
        "drift=1",
        "drift<nan",
        "drift<<1",
        "",
    ):
        with pytest.raises(InputError, match="fail_on"):
            parse(bad)
    with pytest.raises(InputError, match="fail_on"):
        parse_all(3)


def test_unknown_metrics_are_told_before_the_work_and_unknown_numbers_fail():
    with pytest.raises(InputError, match=r"unknown metric 'critical_wieght'; did you mean 'critical_weight'"):
        sim.audit("nowhere.csv", **ASK, fail_on="critical_wieght<0.2")
    verdicts = judge(parse_all("drift>1,push<0,kl>2"), {"drift": 2.0, "push": None, "kl": 1.0})
    assert [verdict.failed for verdict in verdicts] == [True, True, False]
    assert judge(parse_all("drift<0.2"), {"drift": np.inf})[0].failed is False
    result = sim.audit(random_table(), **ASK, **QUICK, fail_on="critical_weight<=1,kl>100")
    assert [verdict.failed for verdict in result.verdicts] == [True, False]
    assert result.failed


# ---------------------------------------------------------------- what is written


def test_report_follows_its_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for ask in (
        {},
        {"slices": "topic", "features": ["a", "b"], "scale": "std"},
        {"renormalize": False, "max_weight": 2.0},
    ):
        result = sim.audit(random_table(), **ASK, **QUICK, **ask, fail_on="drift>1")
        report = json.loads(result.to_json())
        jsonschema.validate(report, SCHEMA)
        assert set(report["metrics"]) == set(METRICS)
        assert report["gate"] == [{"condition": "drift>1", "value": report["metrics"]["drift"], "failed": False}]


def test_three_lines_of_python(tmp_path):
    frame = pd.read_csv(CHAT)
    result = sim.audit(frame, **ASK_CHAT, prompt_weight="prompt_weight", reference_prob="reference_prob")
    result.to_json(tmp_path / "audit.json")
    assert "critical weight of thumbs_up" in str(result)
    jsonschema.validate(json.loads((tmp_path / "audit.json").read_text()), SCHEMA)
    assert set(result.to_dataframe()["column"]) == {*ASK_CHAT["signals"], "thumbs_up", "sycophancy", "flattery"}
    assert set(result.figures()) == {"pushes", "pressure", "rewards", "influence"}


def test_measuring_leaves_the_sample_alone():
    sample, options = sample_of(random_table())
    before = sample.values.copy()
    measure_all(sample, options)
    np.testing.assert_array_equal(sample.values, before)


def run(*overrides, cwd=ROOT):
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "experiments.audit", *map(str, overrides)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_command_writes_page_figures_and_json_and_the_gate_has_its_own_exit_code(tmp_path):
    asked = [
        f"scores={CHAT}", "signals={correctness: 0.4, helpfulness: 0.3, model_spec: 0.3}", "add=thumbs_up", "points=5",
        "attribute=[sycophancy,flattery]", "resamples=100", f"out={tmp_path}/out",
    ]  # fmt: skip
    result = run(*asked, "fail_on=[critical_weight<0.9,kl>50]")
    assert result.returncode == 3, result.stderr
    assert "gate: critical_weight<0.9  FAILED" in result.stdout
    assert "gate: kl>50  passed" in result.stdout
    out = tmp_path / "out"
    report = json.loads((out / "audit.json").read_text())
    jsonschema.validate(report, SCHEMA)
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "Who holds sycophancy in check" in page
    assert len(pd.read_csv(out / "predictions.csv")) == 6 * len(report["predictions"])
    passed = run(*asked, "fail_on=critical_weight<0.001")
    assert passed.returncode == 0, passed.stderr
    wrong = run(*asked, "fail_on=critical_wait<0.9")
    assert wrong.returncode == 1
    assert "unknown metric 'critical_wait'" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_hostile_names_are_harmless_on_the_page_and_in_csv(tmp_path):
    evil = '=HYPERLINK("http://x")<script>alert(1)</script>$\\frac$'
    table = random_table(prompts=12).rename(columns={"c": "=cmd|' /C calc'!A0", "harm": "@<img src=x>$_$"})
    table["prompt_id"] = table["prompt_id"].replace("p0", evil)
    table["topic"] = table["topic"].replace("x", f"+{evil}")
    table.to_parquet(tmp_path / "scores.parquet")
    (tmp_path / "ask.py").write_text(
        "from experiments.audit import AuditCommand, write\nimport sim, sys\nfrom pathlib import Path\n"
        "result = sim.audit(sys.argv[1], signals={'a': .6, 'b': .4}, add=sys.argv[2], attribute=sys.argv[3],\n"
        "    slices='topic', resamples=100, points=3)\n"
        "write(result, Path(sys.argv[4]))\n"
    )
    (tmp_path / "out").mkdir()
    names = ["=cmd|' /C calc'!A0", "@<img src=x>$_$"]
    command = [
        sys.executable,
        "-c",
        (tmp_path / "ask.py").read_text(),
        tmp_path / "scores.parquet",
        *names,
        tmp_path / "out",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page
    written = pd.read_csv(tmp_path / "out" / "predictions.csv", dtype=str)
    cells = [*written.columns, *written.to_numpy(dtype=str).ravel()]
    harmful = [
        cell for cell in cells if cell.startswith(("=", "+", "@")) or (cell.startswith("-") and not _is_number(cell))
    ]
    assert harmful == []


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True
