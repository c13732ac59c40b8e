"""Saved sweeps that are damaged, in part or on purpose: named, or proved harmless; never a wrong number."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bad_input import refusal, tried
from hypothesis import strategies as st
from test_sweep import a_shard, started

from sim.config import InputError
from sim.sweep.parts import checksum, part_meta, read_part
from sim.sweep.plan import Group
from sim.sweep.rerun import stored_run
from sim.sweep.results import Store, open_sweep
from sim.sweep.shards import cut, load_shard, run_shard, save_shard

FRACTION = st.floats(0, 0.999)
BITS = st.integers(1, 255)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=4,
)
CALL = {"_target_": "os.system", "_args_": ["true"]}
PICKLE = b"cos\nsystem\n(S'true'\ntR."


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "whole"
    shard, store = a_shard(training__steps=6), started(folder)
    for part in cut(Group(shard.settings, shard.columns, shard.jobs), shard.ids, np.ones(6, dtype=bool), 0, 3):
        run_shard(part, store, workers=1)
    return folder


def damaged(sweep, change):
    """Return a copy of the sweep after `change(folder with the files)`."""
    copy = sweep.with_name("damaged")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(sweep, copy)
    change(copy / "sweep")
    return copy


def told_or_harmless(sweep, change):
    """Read a damaged sweep in every way: each names the file, or gives what the whole sweep gives."""
    whole, copy = open_sweep(sweep), damaged(sweep, change)
    names = [path.name for path in [*(sweep / "sweep").iterdir(), *(copy / "sweep").iterdir()]]
    for read, expected in (
        (lambda: open_sweep(copy), whole),
        (lambda: stored_run(copy, 1), stored_run(sweep, 1)),
        (lambda: Store(copy).statuses(), Store(sweep).statuses()),
        (lambda: Store(copy).returns(), Store(sweep).returns()),
        (lambda: Store(copy).manifest(), Store(sweep).manifest()),
    ):
        try:
            found = read()
        except InputError as error:
            assert any(name in str(error) for name in names), error  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
        else:
            if hasattr(found, "identical"):
                assert found.identical(expected)
            elif isinstance(found, dict):  # a manifest whose checksum has lost its name has one key more
                assert found.items() >= expected.items()
            else:
                assert found == expected


def test_flipped_bits_anywhere_are_named_or_harmless(sweep):
    def check(bad):
        place, fraction, bits = bad

        def flip(folder):
            path = sorted(folder.iterdir())[place]
            content = bytearray(path.read_bytes())
            content[int(fraction * len(content))] ^= bits
            path.write_bytes(content)

        told_or_harmless(sweep, flip)

    assert tried(check, st.tuples(st.integers(0, 2), FRACTION, BITS), 150) > 120


def test_files_that_end_anywhere_are_named(sweep):
    def check(bad):
        place, fraction = bad

        def cut_off(folder):
            path = sorted(folder.iterdir())[place]
            path.write_bytes(path.read_bytes()[: int(fraction * path.stat().st_size)])

        copy = damaged(sweep, cut_off)
        name = sorted((copy / "sweep").iterdir())[place].name
        assert any(name in line for line in refusal(open_sweep, copy))

    assert tried(check, st.tuples(st.integers(0, 2), FRACTION), 80) > 60


def test_other_contents_are_named(sweep):
    contents = st.one_of(st.binary(max_size=40), JSON.map(json.dumps).map(str.encode), st.sampled_from([PICKLE, b""]))

    def check(bad):
        place, content = bad

        def replace(folder):
            sorted(folder.iterdir())[place].write_bytes(content)

        copy = damaged(sweep, replace)
        assert any(sorted((copy / "sweep").iterdir())[place].name in line for line in refusal(open_sweep, copy))

    assert tried(check, st.tuples(st.integers(0, 2), contents), 120) > 90


def test_swapped_and_copied_parts_are_named(sweep):
    def swap(folder):
        one, two = sorted(folder.glob("part*"))
        content = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(content)

    def copy(folder):
        one, two = sorted(folder.glob("part*"))
        two.write_bytes(one.read_bytes())

    for change in (swap, copy):
        assert "corrupt" in refusal(open_sweep, damaged(sweep, change))[0]
        told_or_harmless(sweep, change)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_file_that_is_gone_leaves_the_others_as_they_were(sweep, place):
    copy = damaged(sweep, lambda folder: sorted(folder.iterdir())[place].unlink())
    if place == 0:
        assert "no sweep in this folder" in refusal(open_sweep, copy)[0]
        return
    data = open_sweep(copy)
    assert data.sizes["run"] == 3
    assert data.attrs["total"] == 6
    assert data.equals(open_sweep(sweep).sel(run=data["run"].values))


META = ("settings", "steps", "labels", "headline", "added", "engine", "")


def resaved(folder, change):
    """Change the first part as somebody would who means to: its checksum is right again."""
    path = sorted(folder.glob("part*"))[0]
    sink = pa.BufferOutputStream()
    pq.write_table(change(pq.read_table(path)), sink)
    content = sink.getvalue().to_pybytes()
    path.unlink()
    path.with_name(f"{path.stem.rpartition('-')[0]}-{checksum(content)}.parquet").write_bytes(content)


def readable_or_named(copy):
    """Whatever a part claims, it is read as data or refused by name; nothing else can happen."""
    for read in (lambda: open_sweep(copy), lambda: stored_run(copy, 1), lambda: Store(copy).returns()):
        try:
            read()
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_parts_that_lie_about_themselves_are_read_as_data_or_named(sweep):
    def check(bad):
        key, value = bad

        def lie(table):
            meta = json.loads(table.schema.metadata[b"thumbscale"])
            told = meta | {key: value} if key else value
            return table.replace_schema_metadata({"thumbscale": json.dumps(told)})

        readable_or_named(damaged(sweep, lambda folder: resaved(folder, lie)))

    steps = st.lists(st.integers(0, 6), min_size=3, max_size=5)  # of the right number, but twice or out of order
    values = st.one_of(JSON, steps, st.just(CALL), st.just({"kl_coef": CALL}), st.just({"world.kind": "os"}))
    assert tried(check, st.tuples(st.sampled_from(META), values), 150) > 110


def test_columns_that_are_of_another_kind_are_read_as_data_or_named(sweep):
    columns = pq.read_table(Store(sweep).parts()[0]).column_names
    cells = st.one_of(
        st.lists(st.integers(-9, 2**60), min_size=3, max_size=3), st.lists(st.text(max_size=4), min_size=3, max_size=3),
        st.lists(st.one_of(st.none(), st.floats()), min_size=3, max_size=3), st.just([None] * 3), st.just([b"x"] * 3),
        st.just([[1.0, 2.0]] * 3), st.just([CALL] * 3), st.none(),
    )  # fmt: skip

    def check(bad):
        name, values = bad

        def change(table):
            if values is None:
                return table.drop_columns([name])
            return table.set_column(table.column_names.index(name), name, pa.array(values))

        readable_or_named(damaged(sweep, lambda folder: resaved(folder, change)))

    assert tried(check, st.tuples(st.sampled_from(columns), cells), 150) > 110


def test_manifests_that_are_none_are_named(sweep):
    def check(bad):
        copy = damaged(sweep, lambda folder: (folder / "manifest.json").write_text(json.dumps(bad)))
        assert "manifest.json" in refusal(Store(copy).manifest)[0]

    whole = Store(sweep).manifest()
    changed = st.tuples(st.sampled_from(sorted(whole)), JSON).map(
        lambda pair: whole | {"checksum": "0", pair[0]: pair[1]}
    )
    assert tried(check, st.one_of(JSON, changed, st.just(CALL)), 80) > 60


def test_groups_with_other_settings_open_as_one_data_set(tmp_path):
    store, shard = started(tmp_path), a_shard(training__steps=6)
    held = a_shard(training__steps=6, mixture__constraints={"model_spec": 0.5})
    run_shard(shard, store)
    run_shard(held._replace(jobs=held.jobs + 6), store)
    data = open_sweep(tmp_path)
    assert data.sizes["run"] == 12
    assert np.isnan(data["mixture.constraints.model_spec"].values[:6]).all()
    assert (data["mixture.constraints.model_spec"].values[6:] == 0.5).all()


def test_runs_that_failed_before_training_do_not_hide_the_others(tmp_path, monkeypatch):
    from sim import workers

    store, shard = started(tmp_path), a_shard(training__steps=6)
    with monkeypatch.context() as broken:
        broken.setattr(workers, "run_batch", lambda *_: 1 / 0)
        assert run_shard(shard, store) == 6
    assert set(open_sweep(tmp_path)["status"].values) == {"FAILED"}
    run_shard(shard._replace(jobs=shard.jobs), store)
    data = open_sweep(tmp_path)
    assert set(data["status"].values) == {"COMPLETED"}
    assert np.isfinite(data["kl"].values).all()
    assert part_meta(read_part(store.parts()[0]), store.parts()[0])["labels"] == {}


def test_damaged_shards_of_a_cluster_are_named(tmp_path):
    path = tmp_path / "0.json"
    save_shard(a_shard(), path)
    whole = json.loads(path.read_text())

    def check(bad):
        key, value = bad
        path.write_text(json.dumps(whole | {key: value} if key else value))
        assert refusal(load_shard, path)

    keys = ("settings", "columns", "")
    odd = JSON.filter(lambda value: value != {})
    assert tried(check, st.tuples(st.sampled_from(keys), odd), 60) > 40
