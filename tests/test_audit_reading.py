"""What the audit reads: missing scores, bad tables, and any bytes at all."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_audit import ASK, QUICK, direct, random_table

import sim
from sim.config import InputError


def with_gaps():
    table = random_table(prompts=30, answers=(4, 7))
    table.loc[[2, 3, 40], "c"] = np.nan
    table.loc[2, "harm"] = np.nan
    return table


def test_missing_scores_are_refused_unless_the_user_chose():
    with pytest.raises(InputError, match=r"column 'c', row 3: missing \(3 of \d+ rows\)"):
        sim.audit(with_gaps(), **ASK, **QUICK)


@pytest.mark.parametrize("missing", ["drop_response", "drop_prompt"])
def test_dropping_is_counted_and_equals_a_table_without_them(missing):
    table = with_gaps()
    gone = table[["c", "harm"]].isna().any(axis=1)
    if missing == "drop_prompt":
        gone = table["prompt_id"].isin(table.loc[gone, "prompt_id"])
    found = sim.audit(table, **ASK, missing=missing, **QUICK).report
    same = sim.audit(table[~gone], **ASK, **QUICK).report
    assert found["sample"]["dropped_responses"] == gone.sum()
    assert found["sample"]["dropped_prompts"] == (2 if missing == "drop_prompt" else 0)
    assert found["metrics"]["critical_weight"] == pytest.approx(same["metrics"]["critical_weight"], abs=1e-12)
    assert any("lack a score" in warning for warning in found["warnings"])
    assert "left out" in str(sim.audit(table, **ASK, missing=missing, **QUICK))


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_formats_read_the_same(tmp_path, ending):
    table, path = random_table(), tmp_path / f"scores.{ending}"
    table["c"] = table["c"] > 0  # true and false are scores, too
    {"csv": lambda p: table.to_csv(p, index=False), "parquet": table.to_parquet}.get(
        ending, lambda p: table.to_json(p, orient="records", lines=True, double_precision=15)
    )(path)
    one, two = (sim.audit(source, **ASK, slices="topic", **QUICK).report["metrics"] for source in (path, table))
    assert one == pytest.approx(two, rel=1e-9, nan_ok=True)


def changed(**columns):
    return random_table(prompts=6).assign(**columns)


@pytest.mark.parametrize(
    ("table", "ask", "message"),
    [
        (changed(), {"add": "d"}, "add: unknown column 'd'"),
        (changed(), {"signals": {"aa": 1.0}}, "signals: unknown column 'aa'"),
        (changed(), {"attribute": "harms"}, "attribute: unknown column 'harms'; did you mean 'harm'"),
        (changed(), {"prompt": "id"}, "prompt: unknown column 'id'"),
        (changed(), {"slices": "a"}, "slices: column 'a', row 2: differs within the prompt"),
        (changed(c="high"), {}, "add: column 'c', row 1: 'high' is not a number"),
        (changed(c=np.inf), {}, "add: column 'c', row 1: inf is not finite"),
        (changed(c=1e200), {}, "column 'c', row 1: 1e.200 is too large"),
        (changed(c=np.nan), {}, "column 'c' has no number in it"),
        (changed(c=pd.Timestamp("2025-04-25")), {}, "add: column 'c' holds timestamp"),
        (changed(response_id=0), {}, "row 2: prompt 'p0' has the same response as in row 1"),
        (changed(prompt_id=None), {}, "prompt: column 'prompt_id', row 1 is empty"),
        (changed(prompt_id=range(len(changed()))), {}, "every prompt has one response"),
        (changed(harm=1.0), {}, "attribute: 'harm' is the same for all answers"),
        (changed(a=0.0, b=0.0), {}, "every answer of a prompt has the same mixed score"),
        (changed(prob=0.0), {"reference_prob": "prob"}, "reference_prob: row 1: 0.0 must be > 0"),
        (changed(), {"prompt_weight": "a"}, "prompt_weight"),
        (changed(), {"signals": {}}, "signals: has to be given"),
        (changed(), {"signals": {"a": -1.0}}, "signals.a = -1.0: must be >= 0"),
        (changed(), {"signals": {"a": 0.0}}, "signals: at least one needs a weight above 0"),
        (changed(), {"add": "a"}, "add = a: is already among the signals"),
        (changed(), {"kl": 0.1, "kl_coef": 0.1}, "kl, kl_coef: give one of them"),
        (changed(), {"kl": float("nan")}, "kl = nan: must be a finite number"),
        (changed(), {"weight": 2.0}, "weight = 2.0: must be <= max_weight"),
        (changed(), {"max_weight": 2.0}, "max_weight = 2.0: must be <= 1 to renormalize"),
        (changed(), {"missing": "ignore"}, "missing = ignore: must be one of refuse"),
        (changed(), {"scale": "max"}, "scale = max: must be one of none, std"),
        (changed(), {"resamples": 1}, "resamples = 1: must be >= 100"),
        (changed(), {"points": 2.5}, "points = 2.5: must be a whole number"),
        (changed(), {"level": 1.5}, "level = 1.5: must be <= 0.999"),
        (changed(), {"renormalize": "yes"}, "renormalize = yes: must be true or false"),
        (changed(), {"kl_coeff": 1}, "unknown option 'kl_coeff'"),
        ("nowhere.csv", {}, "scores = nowhere.csv: no such file"),
        ([1, 2], {}, "frame: expected a path"),
    ],
)
def test_bad_input_is_one_line_that_names_it(table, ask, message):
    with pytest.raises(InputError, match=message) as caught:
        sim.audit(table, **(ASK | ask))
    assert "\n" not in str(caught.value)


HEADER = "prompt_id,response_id,a,b,c,harm\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", "a", "the ending must be one of"),
        ("x.csv", "", "the file is empty"),
        ("x.csv", HEADER, "no rows"),
        ("x.csv", HEADER + "p,0,1,2,3\n", "cannot be read as csv"),
        ("x.csv", HEADER + "p,0,1,2,3,4\np,1,1,high,3,4\n", "column 'b', row 2: 'high' is not a number"),
        ("x.csv", HEADER.replace("b,", "c,") + "p,0,1,2,3,4\n", "unknown column 'b'"),
        ("x.csv", "prompt_id,response_id,a,b,c,c,harm\np,0,1,2,3,4,5\n", "2 columns named 'c'"),
        ("x.parquet", "not parquet", "cannot be read as parquet"),
        ("x.jsonl", "{broken", "cannot be read as jsonl"),
        ("x.jsonl", "[1, 2]\n", "every line must be an object"),
        (
            "x.jsonl",
            '{"prompt_id": [1], "response_id": 1, "a": 1, "b": 1, "c": 1, "harm": 1}\n',
            "must be text or a number",
        ),
    ],
)
def test_bad_file_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        sim.audit(tmp_path / name, **ASK)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200), st.sampled_from([".csv", ".jsonl", ".parquet"]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_a_report_or_one_line(tmp_path_factory, content, ending, headed):
    path = tmp_path_factory.mktemp("fuzz") / f"scores{ending}"
    path.write_bytes((HEADER.encode() if headed and ending == ".csv" else b"") + content)
    try:
        sim.audit(path, **ASK, **QUICK)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017


NASTY = st.sampled_from(
    ["p", "q", "=1+1", "<b>", "NA", "nan", "null", "1", "1.0", " p", "a,b", 'say "x"', "\u00e9", "x\ny"]
)
GOOD = ["0", "1", "0.5", "-2", "1e3"]
POOLS = [GOOD, [*GOOD, ""], [*GOOD, *GOOD, "nan", "high", "inf", "True", "1_0", "0x1"]]
ROWS = st.sampled_from(POOLS).flatmap(
    lambda pool: st.lists(st.tuples(NASTY, *[st.sampled_from(pool)] * 4), min_size=6, max_size=24)
)


@given(ROWS, st.sampled_from(["drop_response", "refuse"]))
@example(
    [tuple("p0000")] * 3 + [("p", "0", "0", "0", "1e3"), ("p", "0", "1e3", "0", "0"), ("p", "1e3", "0", "1e3", "1")],
    "refuse",
)
@settings(max_examples=150, deadline=None)
def test_a_csv_is_answered_as_numpy_would_or_refused(tmp_path_factory, rows, missing):
    path = tmp_path_factory.mktemp("fuzz") / "scores.csv"
    table = pd.DataFrame(rows, columns=["prompt_id", "a", "b", "c", "harm"])
    table.to_csv(path, index=False)
    try:
        found = sim.audit(path, **ASK, missing=missing, response="", kl_coef=1.0, **QUICK).report
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    read_as = {"": np.nan, "nan": np.nan, "0": 0.0, "1": 1.0, "0.5": 0.5, "-2": -2.0, "1e3": 1e3, "True": 1.0}
    columns = ["a", "b", "c", "harm"]
    for name in columns:  # anything else must have been refused
        assert set(table[name]) <= set(read_as)
        table[name] = table[name].map(read_as)
    gone = table[columns].isna().any(axis=1)
    assert missing == "drop_response" or not gone.any()
    kept = table[~gone].assign(prob=1.0, share=1.0)
    assert found["sample"]["responses"] == len(kept)
    assert found["sample"]["prompts"] == kept["prompt_id"].nunique()
    cov = direct(kept, weighted=False)
    for row in found["signals"]:
        assert row["push"]["harm"]["value"] == pytest.approx(cov.loc[row["signal"], "harm"], rel=1e-9, abs=1e-9)
