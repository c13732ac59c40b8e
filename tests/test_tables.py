"""The reader of score tables: every format and both of its users see the same prompts and the same numbers."""

import dataclasses
import datetime
import decimal
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bad_input import refusal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sim
from sim.auditing.options import Audit
from sim.auditing.sample import make_sample, wanted_columns
from sim.world.scores import make_scores
from sim.world.tables import formats, numbers
from sim.world.tables.reading import read_columns
from sim.world.tables.wanted import Wanted

NAMES = ("prompt_id", "response_id", "good", "votes", "harm")
ASK = {"signals": {"good": 1.0}, "add": "votes", "attribute": "harm"}
SCORES = sim.Scores(signals={"good": "good", "votes": "votes"}, attributes={"harm": "harm"})
WANTED = Wanted("prompt_id", "response_id", dict.fromkeys(NAMES[2:], "signals"))
QUICK = {"points": 3, "resamples": 100}
CASES = Path(__file__).parent.parent.parent / "shared" / "cases"


def rows_of(ids, answers=2):
    """Rows with a number of its own in every cell, prompt after prompt."""
    return [
        (name, f"r{k}", i + k / 7, 1 / (1 + i + k), float(k % 2)) for i, name in enumerate(ids) for k in range(answers)
    ]


def as_csv(rows, folder):
    text = pd.DataFrame([[str(value) for value in row] for row in rows], columns=NAMES)
    text.to_csv(folder / "scores.csv", index=False)
    return folder / "scores.csv"


def as_jsonl(rows, folder):
    lines = [json.dumps(dict(zip(NAMES, row, strict=True))) for row in rows]
    (folder / "scores.jsonl").write_text("\n".join(lines))
    return folder / "scores.jsonl"


def as_arrow(rows, _):
    """Identifiers of several kinds cannot share a column of Arrow: they are text there."""
    columns = dict(zip(NAMES, map(list, zip(*rows, strict=True)), strict=True))
    kinds = set(map(type, columns["prompt_id"])) - {type(None)}
    if len(kinds) > 1 or (kinds == {int} and max(columns["prompt_id"]) >= 2**63):
        columns["prompt_id"] = list(map(str, columns["prompt_id"]))
    return pa.table(columns)


def as_parquet(rows, folder):
    pq.write_table(as_arrow(rows, folder), folder / "scores.parquet")
    return folder / "scores.parquet"


def as_frame(rows, _):
    columns = dict(zip(NAMES, map(list, zip(*rows, strict=True)), strict=True))
    return pd.DataFrame(columns | {"prompt_id": pd.Series(columns["prompt_id"], dtype=object)})


WAYS = {"csv": as_csv, "jsonl": as_jsonl, "parquet": as_parquet, "frame": as_frame, "arrow": as_arrow}


def seen_by_both(source):
    """Return names, sizes and scores of the prompts as the simulator and as the audit read them."""
    world, signals = make_scores(SCORES, source)
    options = Audit(**ASK)
    sample = make_sample(read_columns(source, wanted_columns(options)), options)
    present = world.present
    scored = (signals["good"], signals["votes"], world.attributes["harm"])
    simulated = [
        world.prompts["id"].tolist(),
        present.sum(axis=1).tolist(),
        *(values[present].tolist() for values in scored),
    ]
    audited = [sample.ids.tolist(), np.diff(sample.start).tolist(), *sample.values.tolist()]
    return simulated, audited


# ---------------------------------------------------------------- identifiers


ALIKE = ["1", "01", "001", "1.0", "1.00", "1e0", "+1", " 1", "1 ", "1e3", "1000", "1000.0", "NA", "N/A", "nan", "NaN",
         "None", "null", "NULL", "True", "true", "-0", "0", str(2**63), str(2**63 + 1), str(2**64), "inf", "a,b",
         'say "x"', "\u00e9", "e\u0301", "x\ny", "=1+1", "'", ";"]  # fmt: skip
TEXTS = st.one_of(st.sampled_from(ALIKE), st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1))


@given(st.lists(TEXTS, min_size=1, max_size=12, unique=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_identifiers_of_text_are_as_written_in_every_format_and_for_both_users(tmp_path, ids):
    rows = rows_of(ids)
    for ending, write in WAYS.items():
        simulated, audited = seen_by_both(write(rows, tmp_path))
        assert simulated == audited, ending
        assert simulated[0] == ids, ending
        assert simulated[2] == [row[2] for row in rows], ending


MIXED = st.one_of(st.integers(0, 2**66), st.integers(-3, 3), st.floats(allow_nan=False, allow_infinity=False), TEXTS)


@given(
    st.one_of(
        *(
            st.lists(kind, min_size=1, max_size=10, unique_by=str)
            for kind in (MIXED, st.integers(0, 2**66), st.floats(allow_nan=False, allow_infinity=False))
        )
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_identifiers_of_any_kind_are_what_python_writes_of_them(tmp_path, ids):
    rows = rows_of(ids)
    for ending, write in WAYS.items():
        simulated, audited = seen_by_both(write(rows, tmp_path))
        assert simulated == audited, ending
        assert simulated[0] == [str(name) for name in ids], ending


@pytest.mark.parametrize("ending", WAYS)
@pytest.mark.parametrize("gone", [None, "", float("nan")])
def test_an_identifier_that_is_missing_is_refused_everywhere(ending, gone, tmp_path):
    ids = [1.5, gone, 2.5] if isinstance(gone, float) else ["a", gone, "c"]
    rows = [(gone if name is gone else name, *rest) for name, *rest in rows_of(ids)]
    if ending == "csv":
        rows = [("" if name is gone else name, *rest) for name, *rest in rows]
    source = WAYS[ending](rows, tmp_path)
    for refused in (refusal(make_scores, SCORES, source), refusal(sim.audit, source, **ASK, **QUICK)):
        assert "column 'prompt_id', row 3 is empty" in refused[0]


@pytest.mark.parametrize("odd", [[1], {"a": 1}, (1,), {1}, np.arange(2)])
def test_an_identifier_that_is_no_plain_value_is_refused(odd):
    frame = as_frame(rows_of("ab"), None)
    frame.at[2, "prompt_id"] = odd  # noqa: PD008
    assert refusal(sim.audit, frame, **ASK, **QUICK) == ["prompt: column 'prompt_id', row 3: must be text or a number"]


def test_identifiers_of_dates_categories_and_sizes_are_distinct():
    days = [datetime.date(2025, 4, day) for day in (1, 2)]
    for values in (days, pd.to_datetime(days), pd.Categorical(["x", "y"]), [decimal.Decimal("1.0"), decimal.Decimal(1)],
                   pd.array([1, 2], dtype="Int64"), np.array([1, 2], dtype=np.float16), [True, False]):  # fmt: skip
        frame = as_frame(rows_of("ab"), None).assign(prompt_id=np.repeat(values, 2))
        simulated, audited = seen_by_both(frame)
        assert simulated == audited
        assert simulated[1] == [2, 2]


# ---------------------------------------------------------------- numbers and missing values


FLOATS = st.floats(-1e9, 1e9)


@given(
    st.lists(st.tuples(FLOATS, st.one_of(FLOATS, st.integers(-(2**60), 2**60), st.booleans())), min_size=2, max_size=20)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_are_the_same_to_the_last_digit_in_every_format(tmp_path, cells):
    rows = [("p", f"r{k}", good, votes, float(k % 2)) for k, (good, votes) in enumerate(cells)]
    expected = [[float(row[place]) for row in rows] for place in (2, 3, 4)]
    for ending in ("csv", "jsonl", "frame"):
        simulated, audited = seen_by_both(WAYS[ending](rows, tmp_path))
        assert simulated[2:] == expected, ending
        assert audited[2:] == expected, ending
    as_text = [(*row[:2], *map(str, row[2:])) for row in rows]  # numbers and flags as text
    for write in WAYS.values():
        assert seen_by_both(write(as_text, tmp_path))[1][2:] == expected


WORDS = ["", "NA", "N/A", "n/a", "nan", "NaN", "null", "NULL", "None", "none", "<NA>", "#N/A", " na ", "-nan"]


@pytest.mark.parametrize("word", [None, float("nan"), *WORDS])
@pytest.mark.parametrize("ending", WAYS)
def test_missing_means_the_same_everywhere(ending, word, tmp_path):
    rows = [list(row) for row in rows_of("ab", answers=3)]
    rows[4][3] = word
    if isinstance(word, str) and ending in ("parquet", "arrow"):
        rows = [[*row[:3], str(row[3]), row[4]] for row in rows]
    if word is None and ending == "csv":
        rows[4][3] = ""
    source = WAYS[ending](rows, tmp_path)
    found = read_columns(source, WANTED).numbers["votes"]
    assert np.flatnonzero(np.isnan(found)).tolist() == [4]
    assert "column 'votes', row 5: missing (1 of 6 rows)" in refusal(sim.audit, source, **ASK, **QUICK)[0]
    signals = make_scores(SCORES, source)[1]  # a signal may lack scores while its weight is 0
    assert np.isnan(signals["votes"]).sum() == 1
    attribute = dataclasses.replace(SCORES, attributes={"votes": "votes"})
    assert "world.attributes.votes: column" not in refusal(make_scores, attribute, source)[0]
    assert "column 'votes', row 5: missing (1 of 6 rows)" in refusal(make_scores, attribute, source)[0]


@pytest.mark.parametrize("odd", [pd.NA, pd.NaT, np.ma.masked, np.float32("nan")])
def test_what_pandas_and_numpy_call_missing_is_missing(odd):
    frame = as_frame(rows_of("ab"), None).astype({"votes": object})
    frame.at[1, "votes"] = odd  # noqa: PD008
    assert np.isnan(read_columns(frame, WANTED).numbers["votes"]).tolist() == [False, True, False, False]


def test_masked_and_nullable_columns_keep_what_is_missing():
    values, gone = np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, False])
    columns = (
        np.ma.array(values, mask=gone),
        pd.array(values, dtype="Float64"),
        pd.Series(values, dtype="float64[pyarrow]"),
        pd.arrays.SparseArray(np.where(gone, np.nan, values)),
        pd.Series(np.where(gone, None, values)),
    )
    for column in columns:
        frame = as_frame(rows_of("ab"), None)
        frame["votes"] = column
        if not isinstance(column, np.ma.MaskedArray | pd.arrays.SparseArray):
            frame.loc[1, "votes"] = np.nan
        np.testing.assert_array_equal(read_columns(frame, WANTED).numbers["votes"], np.where(gone, np.nan, values))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.longdouble, np.int8, np.uint64, bool, "Int16", "boolean"])
def test_numbers_of_any_size_are_numbers(kind):
    frame = as_frame(rows_of("ab"), None).assign(votes=pd.array([0, 1, 1, 0]).astype(kind))
    assert read_columns(frame, WANTED).numbers["votes"].tolist() == [0, 1, 1, 0]


def other_columns():
    """Columns that are no numbers though their storage is: what they hold, and as what they are refused."""
    months = pd.period_range("2025-01", periods=4, freq="M")
    return {
        "period": (months, "period"),
        "timestamp": (months.to_timestamp(), "timestamp"),
        "duration": (pd.to_timedelta([1, 2, 3, 4], unit="s"), "duration"),
        "interval": (pd.interval_range(0, 4), "interval"),
        "list": (pa.array([[1.0]] * 4), "list"),
        "struct": (pa.array([{"a": 1.0}] * 4), "struct"),
        "binary": (pa.array([b"1"] * 4), "binary"),
        "time": (pa.array([1, 2, 3, 4], pa.time32("s")), "time"),
    }


@pytest.mark.parametrize("kind", other_columns())
def test_columns_that_are_no_numbers_are_refused_as_frame_arrow_and_parquet(kind, tmp_path):
    values, name = other_columns()[kind]
    base = as_frame(rows_of("ab"), None)
    table = pa.Table.from_pandas(base.assign(prompt_id=list("aabb"))).drop_columns(["votes"])
    table = table.append_column("votes", values if isinstance(values, pa.Array) else pa.array(pd.Series(values)))
    pq.write_table(table, tmp_path / "scores.parquet")
    sources = [table, tmp_path / "scores.parquet"]
    if not isinstance(values, pa.Array):
        sources.append(base.assign(votes=values))
    for source in sources:
        for refused in (refusal(make_scores, SCORES, source), refusal(sim.audit, source, **ASK, **QUICK)):
            assert "column 'votes' holds" in refused[0]
            assert name in refused[0]


def test_an_extension_that_nobody_loaded_is_refused_as_well(tmp_path):
    """Where pandas has not told Arrow of periods yet, a file with one shows whole numbers."""
    field = pa.field("votes", pa.int64(), metadata={"ARROW:extension:name": "pandas.period"})
    rest = pa.Table.from_pandas(as_frame(rows_of("ab"), None).assign(prompt_id=list("aabb"))).drop_columns(["votes"])
    pq.write_table(rest.append_column(field, pa.array([1, 2, 3, 4])), tmp_path / "scores.parquet")
    code = (
        "import sys, pyarrow.parquet as pq\nfrom sim.world.tables.formats import parquet_batches\n"
        "from sim.world.tables.wanted import Wanted\nfrom pathlib import Path\n"
        "wanted = Wanted('prompt_id', '', {'votes': 'add'})\n"
        "print(pq.read_schema(sys.argv[1]).field('votes').type)\n"
        "try:\n    list(parquet_batches(Path(sys.argv[1]), wanted))\nexcept ValueError as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "scores.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    assert done.stdout.splitlines()[-1] == "add: column 'votes' holds pandas.period, not numbers"


class Stream:
    """What hands out Arrow batches, as polars does: strings as views, in two batches."""

    def __init__(self, table):
        kinds = {"string": pa.string_view(), "large_string": pa.string_view()}
        schema = pa.schema([(field.name, kinds.get(str(field.type), field.type)) for field in table.schema])
        self.table = pa.concat_tables([table.slice(0, 3), table.slice(3)]).cast(schema)

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def test_whatever_hands_out_arrow_batches_is_a_table(tmp_path):
    table = as_arrow(rows_of("abc"), tmp_path)
    assert seen_by_both(Stream(table)) == seen_by_both(table)


def test_frames_are_read_in_batches_as_one_piece(monkeypatch):
    frame = as_frame(rows_of(["a", 1, "1.0", 2.5, "b"], answers=3), None)
    frame["votes"] = frame["votes"].astype(object)
    whole = seen_by_both(frame)
    monkeypatch.setattr("sim.world.tables.frames.ROWS", 4)
    assert seen_by_both(frame) == whole


def test_a_bad_cell_is_found_by_its_row_wherever_it_stands(tmp_path):
    for row in range(8):
        rows = [list(line) for line in rows_of("abcd")]
        rows[row][3] = "1,5x"
        for ending in ("csv", "jsonl", "frame"):
            source = WAYS[ending](rows, tmp_path)
            assert f"column 'votes', row {row + 1}: '1,5x' is not a number" in refusal(sim.audit, source, **ASK)[0]


# ---------------------------------------------------------------- CSV


def written(path, separator, decimal_sign):
    text = "\n".join(separator.join(str(cell).replace(".", decimal_sign) for cell in row) for row in rows_of("abc", 4))
    path.write_text(separator.join(NAMES) + "\n" + text + "\n")
    return path


@pytest.mark.parametrize(("word", "separator"), [(",", ","), (";", ";"), ("tab", "\t"), ("|", "|")])
@pytest.mark.parametrize("decimal_sign", [".", ","])
def test_separators_and_decimal_signs(word, separator, decimal_sign, tmp_path):
    if separator == decimal_sign:
        return
    plain = seen_by_both(written(tmp_path / "plain.csv", ",", "."))
    path = written(tmp_path / "scores.csv", separator, decimal_sign)
    if word != ",":
        for prefix, refused in (("world.", refusal(make_scores, SCORES, path)), ("", refusal(sim.audit, path, **ASK))):
            assert f"separated by '{word}': say \"{prefix}separator='{word}'\"" in refused[0]
    if decimal_sign == ",":
        world = dataclasses.replace(SCORES, separator=word)
        for prefix, refused in (
            ("world.", refusal(make_scores, world, path)), ("", refusal(sim.audit, path, **ASK, separator=word))
        ):  # fmt: skip
            assert f"is not a number; where commas are decimal signs, say \"{prefix}decimal=','\"" in refused[0]
    options = {"separator": word, "decimal": decimal_sign}
    world, signals = make_scores(dataclasses.replace(SCORES, **options), path)
    assert signals["good"][world.present].tolist() == plain[0][2]
    options = Audit(**ASK, **options)
    assert make_sample(read_columns(path, wanted_columns(options)), options).values.tolist() == plain[1][2:]


def test_a_point_among_decimal_commas_is_refused():
    """1.234 may be a thousand and more, or one and a quarter."""
    frame = as_frame(rows_of("ab"), None).assign(votes=["1,5", "1.234", "2", "3"])
    assert "row 2: '1.234' is not a number" in refusal(sim.audit, frame, **ASK, decimal=",")[0]


def test_a_header_is_read_as_arrow_reads_it(tmp_path):
    path = tmp_path / "scores.csv"
    header = '"prompt_id",response_id,"a ""b"", c","two\nlines",good,votes,harm'
    path.write_bytes(b"\xef\xbb\xbf\n" + header.encode() + b"\np,r0,1,2,3,4,0\np,r1,1,2,4,3,1\n")
    assert seen_by_both(path)[0] == [["p"], [2], [3.0, 4.0], [4.0, 3.0], [0.0, 1.0]]


def test_a_wrong_name_in_a_long_header_is_named(tmp_path):
    """Read with another separator, the header is one cell, longer than Python's reader of CSV takes."""
    path = tmp_path / "scores.csv"
    path.write_text(",".join([*(f"column_{n}" for n in range(20_000)), *NAMES]) + "\n")
    assert refusal(sim.audit, path, **(ASK | {"add": "vote"}))[0].endswith(
        "unknown column 'vote'; did you mean 'votes'?"
    )


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_too_many_columns_are_refused_by_their_number(ending, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "MOST_COLUMNS", 8)
    for more in (3, 4):
        frame = pd.DataFrame(rows_of("ab"), columns=NAMES).assign(**{f"more{n}": 0 for n in range(more)})
        path = tmp_path / f"scores.{ending}"
        frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
        if more == 3:
            assert seen_by_both(path)[0][0] == ["a", "b"]
        else:
            assert "the table has 9 columns, more than 8" in refusal(sim.audit, path, **ASK)[0]


def test_columns_that_are_not_wanted_take_no_memory(tmp_path):
    """90,000 of them, 9 kB each, were 800 MB; names and lines of text are 40."""
    path = tmp_path / "scores.csv"
    count = 90_000
    lines = [",".join([*NAMES, *(f"c{n}" for n in range(count))])]
    lines += [",".join(map(str, row)) + ",1" * count for row in rows_of("ab")]
    path.write_text("\n".join(lines))
    code = (
        "import resource, sys\nfrom sim.world.tables.reading import read_columns\n"
        "from sim.world.tables.wanted import Wanted\n"
        "wanted = Wanted('prompt_id', 'response_id', dict.fromkeys(['good', 'votes', 'harm'], 'x'))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert len(read_columns(sys.argv[1], wanted).numbers) == 3\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    assert int(done.stdout) < 200_000  # kB


# ---------------------------------------------------------------- JSON Lines


def test_json_lines_with_late_keys_and_mixed_kinds_are_read_as_the_csv_of_the_same_data(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "BLOCK", 200)  # the late key is in none of the first blocks
    rows = rows_of([2**63 + 5, 2**63 + 6, "x", 7, "07"], answers=4)
    objects = [dict(zip(NAMES, row, strict=True)) for row in rows]
    for number, row in enumerate(objects):
        row["good"] = str(row["good"]) if number % 3 else row["good"]
        row["response_id"] = number % 4 if number % 2 else row["response_id"]
        if number < 6:
            del row["votes"]
        elif number % 5 == 0:
            objects[number] = dict(reversed(row.items()))
    path = tmp_path / "scores.jsonl"
    path.write_bytes(b"\xef\xbb\xbf\n" + "\n\n".join(map(json.dumps, objects)).encode())
    frame = pd.DataFrame([[str(row.get(name, "")) for name in NAMES] for row in objects], columns=NAMES)
    frame.to_csv(tmp_path / "scores.csv", index=False)
    one, two = (sim.audit(tmp_path / f"scores.{ending}", **ASK, **QUICK, missing="drop_response").report
                for ending in ("jsonl", "csv"))  # fmt: skip
    assert json.dumps(one) == json.dumps(two)  # NaN included
    assert one["sample"]["dropped_responses"] == 6
    assert seen_by_both_ids(tmp_path / "scores.jsonl") == [str(2**63 + 5), str(2**63 + 6), "x", "7", "07"]


def seen_by_both_ids(path):
    return make_scores(dataclasses.replace(SCORES, signals={"good": "good"}), path)[0].prompts["id"].tolist()


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases in shared/cases are not here")
def test_the_case_of_late_keys_equals_its_csv(tmp_path):
    source = CASES / "scores_late_key.jsonl"
    names = ("prompt_id", "response_id", "helpful", "agrees", "thumbs")
    objects = [json.loads(line) for line in source.read_text(encoding="utf-8-sig").splitlines()]
    frame = pd.DataFrame([[str(row.get(name, "")) for name in names] for row in objects], columns=names)
    frame.to_csv(tmp_path / "scores.csv", index=False)
    ask = {"signals": {"helpful": 1.0}, "add": "thumbs", "attribute": "agrees", "missing": "drop_response"}
    one, two = (sim.audit(path, **ask, **QUICK).report for path in (source, tmp_path / "scores.csv"))
    assert json.dumps(one) == json.dumps(two)


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases in shared/cases are not here")
def test_the_case_of_semicolons_equals_its_plain_form():
    ask = {"signals": {"helpful": 1.0}, "add": "thumbs", "attribute": "agrees"} | QUICK
    found = sim.audit(CASES / "scores_semicolon.csv", **ask, separator=";", decimal=",").report
    expected = sim.audit(CASES / "scores_long.csv", **ask).report
    assert json.dumps(found | {"options": None}) == json.dumps(expected | {"options": None})
    assert "separator=';'" in refusal(sim.audit, CASES / "scores_semicolon.csv", **ask)[0]


def test_a_key_that_no_line_has_is_an_unknown_column_and_a_late_one_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "BLOCK", 200)  # several blocks
    path = as_jsonl(rows_of("abcdef", answers=3), tmp_path)
    for name in NAMES[:4]:
        option = {"prompt_id": {"prompt": "prompt_ids"}, "response_id": {"response": "response_ids"},
                  "good": {"signals": {"goods": 1.0}}, "votes": {"add": "vote"}}[name]  # fmt: skip
        assert f"did you mean '{name}'?" in refusal(sim.audit, path, **(ASK | option))[0]
    lines = path.read_text().splitlines()
    path.write_text("\n".join(['{"harm": 1}', *lines]))
    assert refusal(sim.audit, path, **ASK)[0].endswith("prompt: column 'prompt_id', row 1 is empty")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"x": ' + "[" * 5000 + "]" * 5000 + "}", "line 2: nested too deep"),
        ('{"x": ' + '{"a":' * 100_000 + "1" + "}" * 100_001, "line 2: nested too deep"),
        ('{"prompt_id": 1', "line 2: Expecting ',' delimiter"),
        ('{"prompt_id": ' + "9" * 5000 + "}", "line 2: Exceeds the limit"),
        ("[1, 2]", "line 2: every line must be an object"),
        ('{"prompt_id": "\\ud800"}', "row 2: is not text"),
    ],
)
def test_lines_of_json_that_cannot_be_are_named(content, message, tmp_path):
    path = tmp_path / "scores.jsonl"
    path.write_text('{"prompt_id": "p", "response_id": "r", "good": 1, "votes": 1, "harm": 1}\n' + content)
    for refused in (refusal(make_scores, SCORES, path), refusal(sim.audit, path, **ASK)):
        assert len(refused) == 1
        assert message in refused[0]


def test_a_line_that_never_ends_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "LONGEST", 1000)
    path = tmp_path / "scores.jsonl"
    path.write_text("[" + "{}," * 1000)
    assert "a line is longer than 1,000 characters" in refusal(sim.audit, path, **ASK)[0]


# ---------------------------------------------------------------- files that are none


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_path_that_cannot_be_opened_is_named(ending, tmp_path):
    for name in ("a" * 300, "a/" * 3000 + "b"):
        path = f"{tmp_path}/{name}.{ending}"
        for field, refused in (
            ("world.path", refusal(make_scores, dataclasses.replace(SCORES, path=path))),
            ("scores", refusal(sim.audit, path, **ASK)),
        ):
            assert refused[0].startswith(f"{field} = {path[:300]}")
            assert "cannot be opened (File name too long)" in refused[0]
    assert "no such file" in refusal(sim.audit, f"{tmp_path}/a\0b.{ending}", **ASK)[0]


def test_the_words_for_missing_are_those_of_pandas():
    from pandas._libs.parsers import STR_NA_VALUES

    assert {word.lower() for word in STR_NA_VALUES} == set(numbers.MISSING)
