"""Score tables: what is read, and one clear line for what cannot be."""

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sim
from sim.config import InputError, Scores
from sim.derived import batched_values
from sim.sweep.plan import flatten
from sim.sweep.results import Store, run_ids
from sim.sweep.shards import Shard, run_shards
from sim.world.scores import make_scores, resample_prompts
from sim.world.tables.reading import read_columns

COLUMNS = Scores(path="x.csv", signals={"good": "good", "short": "-length"}, attributes={"length": "length"})


def table(**changes):
    columns = {
        "prompt_id": ["a", "a", "b", "b", "b"],
        "response_id": ["1", "2", "1", "2", "3"],
        "good": [0.1, 0.9, 0.2, 0.3, 0.4],
        "length": [1.0, 2.0, 3.0, 4.0, 5.0],
    }
    return pd.DataFrame(columns | changes)


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_formats_read_the_same(tmp_path, ending):
    path = tmp_path / f"scores.{ending}"
    write = {
        "csv": lambda: table().to_csv(path, index=False),
        "parquet": lambda: table().to_parquet(path),
        "jsonl": lambda: table().to_json(path, orient="records", lines=True),
    }
    write[ending]()
    world, signals = make_scores(COLUMNS, path)
    np.testing.assert_array_equal(signals["short"], [[-1, -2, 0], [-3, -4, -5]])
    np.testing.assert_array_equal(world.attributes["length"], [[1, 2, 0], [3, 4, 5]])


def test_ragged_prompts_give_no_weight_to_absent_responses():
    world, _ = make_scores(COLUMNS, table())
    np.testing.assert_array_equal(world.present, [[True, True, False], [True, True, True]])
    np.testing.assert_allclose(np.exp(world.log_ref), [[0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]])


def test_row_order_does_not_matter_within_the_table():
    shuffled = table().iloc[[4, 0, 3, 1, 2]]
    world, signals = make_scores(COLUMNS, shuffled)
    prompt = list(world.prompts["id"]).index("b")
    assert sorted(signals["good"][prompt]) == [0.2, 0.3, 0.4]


def test_reference_probability_and_prompt_weight():
    settings = Scores(
        path="x.csv", signals={"good": "good"}, attributes={"length": "length"}, reference_prob="p", prompt_weight="w"
    )
    world, _ = make_scores(settings, table(p=[1, 3, 1, 1, 2], w=[1, 1, 3, 3, 3]))
    np.testing.assert_allclose(np.exp(world.log_ref), [[0.25, 0.75, 0], [0.25, 0.25, 0.5]])
    np.testing.assert_allclose(world.prompt_prob, [0.25, 0.75])


def test_responses_need_no_names():
    unnamed = dataclasses.replace(COLUMNS, response="")
    world, _ = make_scores(unnamed, table(response_id=["1"] * 5))
    np.testing.assert_array_equal(world.log_ref, make_scores(COLUMNS, table())[0].log_ref)


def test_resampling_prompts_is_a_bootstrap_draw():
    world, _ = make_scores(COLUMNS, table())
    draws = np.array([resample_prompts(world, seed).prompt_prob for seed in range(50)])
    assert set(np.unique(draws)) == {0.0, 0.5, 1.0}


def test_resampled_prompts_keep_their_weights():
    """Of two prompts drawn once each, one still counts three times as much; a draw of one alone is that one."""
    weighted = dataclasses.replace(COLUMNS, prompt_weight="w")
    world, _ = make_scores(weighted, table(w=[1, 1, 3, 3, 3]))
    draws = np.array([resample_prompts(world, seed).prompt_prob for seed in range(50)])
    assert set(np.unique(draws)) == {0.0, 0.25, 0.75, 1.0}


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        ({"prompt": "promt_id"}, {}, r"world.prompt: unknown column 'promt_id'; did you mean 'prompt_id'"),
        ({"signals": {"good": "goood"}}, {}, r"world.signals.good: unknown column 'goood'; did you mean 'good'"),
        ({"attributes": {"length": "size"}}, {}, r"world.attributes.length: unknown column 'size'"),
        ({"signals": {}}, {}, "world.signals: name at least one"),
        ({"attributes": {}}, {}, "world.attributes: name at least one"),
        (
            {},
            {"response_id": ["1", "1", "1", "2", "3"]},
            "row 2: prompt 'a' has the same response as in row 1; .*world.resp",
        ),
        ({}, {"good": [0.1, "high", 0.2, 0.3, 0.4]}, r"column 'good', row 2: 'high' is not a number"),
        ({}, {"good": [np.nan] * 5}, "column 'good' has no number in it"),
        ({}, {"length": [1, 2, np.nan, 4, 5]}, "column 'length', row 3: missing"),
        ({}, {"length": [1, 2, np.inf, 4, 5]}, "column 'length', row 3: inf is not finite"),
        ({}, {"prompt_id": ["a", "b", "c", "d", "e"]}, "every prompt has one response"),
        ({}, {"prompt_id": ["a", None, "b", "b", "b"]}, "world.prompt: column 'prompt_id', row 2 is empty"),
        ({"reference_prob": "good"}, {"good": [0.0, 1, 1, 1, 1]}, r"world.reference_prob: row 1: 0.0 must be > 0"),
        ({"prompt_weight": "good"}, {}, r"world.prompt_weight: row 2: differs"),
    ],
)
def test_bad_table_is_named(settings, changes, message):
    chosen = {"path": "x.csv", "signals": COLUMNS.signals, "attributes": COLUMNS.attributes} | settings
    with pytest.raises(InputError, match=message):
        make_scores(Scores(**chosen), table(**changes))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("scores.txt", "x", "the ending must be one of"),
        ("scores.csv", "", "the file is empty"),
        ("scores.csv", "prompt_id,response_id,good,length\n", "no rows"),
        ("scores.parquet", "not parquet", "cannot be read as parquet"),
        ("scores.jsonl", "{broken", "cannot be read as jsonl"),
    ],
)
def test_bad_file_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=f"^world.path = {path}: .*{message}"):
        make_scores(COLUMNS, path)


def test_missing_file_is_named():
    with pytest.raises(InputError, match=r"world.path = nowhere.csv: no such file"):
        make_scores(dataclasses.replace(COLUMNS, path="nowhere.csv"))


@given(st.binary(max_size=300), st.sampled_from([".csv", ".jsonl", ".parquet"]))
def test_any_bytes_give_a_table_or_one_line(tmp_path_factory, content, ending):
    path = tmp_path_factory.mktemp("fuzz") / f"scores{ending}"
    path.write_bytes(content)
    try:
        make_scores(COLUMNS, path)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017


# ---------------------------------------------------------------- how often a table is read


@pytest.fixture
def reads(monkeypatch):
    """Return the list of files that were read; reading takes a while, so that threads would meet."""
    found = []

    def slowly(source, *rest):
        found.append(source)
        time.sleep(0.2)
        return read_columns(source, *rest)

    monkeypatch.setattr("sim.world.scores.read_columns", slowly)
    return found


def score_settings(path, **training):
    path.parent.mkdir(exist_ok=True)
    table().to_csv(path, index=False)
    return sim.Settings(
        world=dataclasses.replace(COLUMNS, path=str(path)),
        mixture=sim.Mixture(weights={"good": 0.5, "short": 0.5}, added="short"),
        policy=sim.Policy(kind="tabular"),
        training=sim.Training(steps=2, **training),
    )


@pytest.mark.parametrize("chunk", [0, 1])
def test_a_table_of_many_runs_is_read_once_on_however_many_threads(tmp_path, reads, chunk):
    settings = score_settings(tmp_path / "scores.csv", chunk=chunk)
    sim.simulate(settings, {"seed": np.arange(12), "kl_coef": np.linspace(0.1, 1, 12)}, workers=6)
    assert len(reads) == 1


def test_a_sweep_reads_a_table_once_and_again_when_it_has_changed(tmp_path, reads):
    settings = score_settings(tmp_path / "scores.csv")
    columns = {key: np.full(8, value) for key, value in batched_values(settings).items()} | {"seed": np.arange(8)}
    ids = run_ids(flatten(settings), columns)
    store = Store(tmp_path)
    store.write_manifest({"base": {}, "command": "test", "total": 8, "commit": "none"})
    shards = [
        Shard(settings, {key: values[rows] for key, values in columns.items()}, rows, [ids[row] for row in rows])
        for rows in np.arange(8).reshape(4, 2)
    ]
    assert sum(run_shards(shards, store, workers=4)) == 0
    assert len(reads) == 1
    table(good=[0.5, 0.9, 0.2, 0.3, 0.45]).to_csv(tmp_path / "scores.csv", index=False)
    assert sum(run_shards(shards[:1], store, workers=4)) == 0
    assert len(reads) == 2


def test_threads_that_prepare_the_same_table_at_once_read_it_once(tmp_path, reads):
    settings = score_settings(tmp_path / "scores.csv")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: sim.prepare(settings, seed), range(16)))
    assert len(reads) == 1
