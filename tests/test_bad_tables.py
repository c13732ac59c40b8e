"""Score tables that are damaged or nonsense, for the audit and for world=scores: one line that names file and place."""

import math

import pandas as pd
import pytest
from bad_input import LONGEST, refusal, tried
from hypothesis import strategies as st
from test_audit import ASK, QUICK, random_table

import sim
from sim.auditing.trainer_log import read_trainer_log
from sim.config import InputError
from sim.problem import prepare

ASKED = ASK | QUICK | {"reference_prob": "prob", "prompt_weight": "share"}
ENDINGS = ("csv", "parquet", "jsonl")
SCORES, IDS, CHECKED = ("a", "b", "c"), ("prompt_id", "response_id"), ("harm", "prob", "share")
GOOD = random_table(prompts=6).drop(columns="topic")


def settings_of(path):
    world = sim.Scores(
        path=str(path), signals={name: name for name in SCORES}, attributes={"harm": "harm"}, reference_prob="prob",
        prompt_weight="share",
    )  # fmt: skip
    return sim.Settings(world=world, mixture=sim.Mixture(weights=dict.fromkeys(SCORES, 0.3), added="c"))


def audit(path):
    return sim.audit(path, **ASKED).report["metrics"]


def world(path):
    problem = prepare(settings_of(path), 0)
    arrays = [*problem.signals["train"].values(), problem.splits["train"].log_ref, problem.splits["train"].prompt_prob]
    return [array.tolist() for array in arrays]


READERS = {"scores": audit, "world.path": world}


def save(table, path):
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_json(path, orient="records", lines=True)


def both_refuse(path, *names):
    for field, read in READERS.items():
        line = refusal(read, path)
        assert len(line) == 1
        assert line[0].startswith(f"{field} = {path}: "), line
        assert not names or any(name in line[0] for name in names), line


WORDS = st.text("xyzäß?=<> ", min_size=2, max_size=8).filter(lambda text: text.strip())
NO_NUMBER = st.one_of(WORDS, st.sampled_from(["1e400", "--1", "1,5", "0x1g", "=1+1", "<b>", "12%"]))
TOO_LARGE = st.floats(1e101, 1e300)
ROW = st.integers(0, len(GOOD) - 1)


def bad_cells():
    """Return (column, row, a value that the column cannot hold)."""
    numbers = st.tuples(st.sampled_from([*SCORES, *CHECKED]), ROW, st.one_of(NO_NUMBER, TOO_LARGE))
    gone = st.tuples(st.sampled_from(CHECKED), ROW, st.sampled_from([math.nan, math.inf, -math.inf, None]))
    below = st.tuples(st.sampled_from(["prob", "share"]), ROW, st.floats(-1e9, -1e-9))
    other = st.tuples(st.just("share"), ROW, st.floats(1.5, 1e9))
    return st.one_of(numbers, gone, below, other, st.tuples(st.sampled_from(IDS), ROW, st.none()))


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_cell_that_cannot_be_is_named(ending, tmp_path):
    def check(bad):
        column, row, value = bad
        table = GOOD.astype(object)
        table.loc[row, column] = value
        path = tmp_path / f"scores.{ending}"
        save(table, path)
        both_refuse(path, column, "weight" if column == "share" else column)

    assert tried(check, bad_cells(), 120) > 100


def test_a_cell_of_a_frame_that_cannot_be_is_named():
    odd = st.tuples(
        st.sampled_from([*SCORES, *CHECKED]), ROW,
        st.one_of(NO_NUMBER, TOO_LARGE, st.sampled_from([[1], {"_target_": "os.system"}, b"x", 1j, object, 10**400])),
    )  # fmt: skip

    def check(bad):
        column, row, value = bad
        table = GOOD.astype(object)
        table.at[row, column] = value  # noqa: PD008
        assert f"column '{column}'" in refusal(sim.audit, table, **ASKED)[0]

    assert tried(check, odd, 120) > 100


@pytest.mark.parametrize("ending", ENDINGS)
def test_columns_and_rows_that_are_missing_or_twice_are_named(ending, tmp_path):
    path = tmp_path / f"scores.{ending}"
    for column in GOOD.columns:
        save(GOOD.drop(columns=column), path)
        both_refuse(path, f"unknown column '{column}'")
    for row in range(0, len(GOOD), 3):
        save(pd.concat([GOOD, GOOD.iloc[[row]]]), path)
        both_refuse(path, f"row {len(GOOD) + 1}: prompt")
    save(GOOD.drop_duplicates("prompt_id"), path)
    both_refuse(path, "every prompt has one response")
    save(GOOD.iloc[:0], path)
    both_refuse(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_ends_anywhere_is_named_or_is_a_shorter_table(ending, tmp_path):
    path, cut_off = tmp_path / f"scores.{ending}", tmp_path / f"cut.{ending}"
    save(GOOD, path)
    content = path.read_bytes()

    def check(bad):
        cut_off.write_bytes(content[: int(bad * len(content))])
        for field, read in READERS.items():
            try:
                read(cut_off)
            except InputError as error:
                assert str(error).startswith(f"{field} = {cut_off}: ")  # noqa: PT017
            else:  # all its lines have all their cells: nothing in the file tells that there were more
                assert ending != "parquet"
                last = cut_off.read_text().splitlines()[-1]
                assert last.count(",") == GOOD.shape[1] - 1

    assert tried(check, st.floats(0, 0.9999), 80) > 60


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_of_other_bytes_is_read_as_data_or_named(ending, tmp_path):
    path, changed = tmp_path / f"scores.{ending}", tmp_path / f"other.{ending}"
    save(GOOD, path)
    content = path.read_bytes()

    def check(bad):
        place, junk = bad
        at = int(place * len(content))
        changed.write_bytes(content[:at] + junk + content[at + len(junk) :])
        for read in READERS.values():
            try:
                read(changed)
            except InputError as error:
                assert "\n" not in str(error)  # noqa: PT017
                assert len(str(error)) < LONGEST  # noqa: PT017
                assert str(changed) in str(error)  # noqa: PT017

    assert tried(check, st.tuples(st.floats(0, 0.99), st.binary(min_size=1, max_size=4)), 80) > 60


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_is_none_is_named(ending, tmp_path):
    path = tmp_path / f"scores.{ending}"
    both_refuse(path, "no such file")
    path.mkdir()
    both_refuse(path, "no such file")
    path.rmdir()
    save(GOOD, path)
    path.write_bytes(path.read_bytes().decode("latin-1").encode("utf-16"))
    both_refuse(path)
    (tmp_path / "scores.tsv").write_text("a\tb\n")
    both_refuse(tmp_path / "scores.tsv", "the ending must be one of")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=4,
)
ENTRY = st.dictionaries(st.sampled_from(["step", "kl", "rewards/a/mean", "eval_kl", "completions/mean_length"]), JSON)


def test_trainer_logs_that_are_none_are_named(tmp_path):
    import json

    path = tmp_path / "trainer_state.json"

    def check(bad):
        path.write_text(bad if isinstance(bad, str) else json.dumps(bad))
        try:
            table = read_trainer_log(path)
        except InputError as error:
            assert str(error).startswith(f"trainer_log = {path}: ")  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert table["step"].notna().all()

    logs = st.lists(ENTRY, max_size=4).map(lambda entries: {"log_history": entries})
    assert tried(check, st.one_of(JSON, logs, st.text(max_size=20)), 150) > 110
