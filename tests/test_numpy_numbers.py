"""Numbers of NumPy are numbers: wherever one of Python's is accepted, with the same results, identities and texts."""

import dataclasses
import json

import numpy as np
import pytest
from bad_input import refusal
from hypothesis import given
from hypothesis import strategies as st
from test_audit import ASK, QUICK, random_table

import sim
from sim.auditing.options import Audit, check_audit
from sim.checks import check, plain
from sim.config import walk
from sim.derived import batched_values
from sim.pipeline import batch_table, simulate_problem
from sim.sweep.plan import flatten
from sim.sweep.results import run_ids
from sim.variants import simulate_variants

SMALL = sim.Settings(world=sim.Chat(prompts=12, responses=3), training=sim.Training(steps=2))
WHOLE = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint64, np.intc, np.array)
FRACTIONS = (np.float16, np.float32, np.float64, np.longdouble, np.array)


def in_numpy(value, whole=np.int64, fraction=np.float64):
    """Return a setting's value as NumPy has it."""
    if isinstance(value, dict):
        return {key: in_numpy(entry, whole, fraction) for key, entry in value.items()}
    if dataclasses.is_dataclass(value):
        entries = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
        return dataclasses.replace(value, **{name: in_numpy(entry, whole, fraction) for name, entry in entries.items()})
    kinds = {bool: np.bool_, int: whole, float: fraction, str: np.str_}
    return kinds[type(value)](value)


def written(settings):
    """Return what a run is known by: its settings as JSON, their kinds, and its identity."""
    columns = {key: np.array([value]) for key, value in batched_values(settings).items()}
    kinds = [type(value) for value in flatten(settings).values()]
    return json.dumps(dataclasses.asdict(settings)), kinds, run_ids(flatten(settings), columns), str(settings)


@pytest.mark.parametrize("whole", [np.int32, np.int64, np.array])
@pytest.mark.parametrize("fraction", [np.float64, np.longdouble, np.array])
def test_settings_in_numpy_are_the_same_settings(whole, fraction):
    settings = check(in_numpy(SMALL, whole, fraction))
    assert settings == SMALL
    assert written(settings) == written(SMALL)
    assert all(type(value) in (bool, int, float, str, dict) for _, _, value in walk(settings))


def test_everything_that_takes_settings_takes_numpy():
    odd = in_numpy(SMALL)
    one, two = sim.simulate(SMALL, workers=2), sim.simulate(odd, workers=np.int64(2))
    assert one.identical(two)
    assert simulate_problem(odd)[1].headline == simulate_problem(SMALL)[1].headline
    for seed in (np.int64(3), np.uint8(3), np.array(3)):
        for given_settings in (SMALL, odd):
            problem = sim.prepare(given_settings, seed)
            expected = sim.prepare(SMALL, 3)
            np.testing.assert_array_equal(problem.splits["train"].log_ref, expected.splits["train"].log_ref)
    variants = [{"kl_coef": 0.1}, {"training.steps": 3}]
    found, expected = (simulate_variants(its, asked, np.arange(2)) for its, asked in (
        (odd, [{key: in_numpy(value) for key, value in variant.items()} for variant in variants]), (SMALL, variants)
    ))  # fmt: skip
    assert all(one.identical(two) for one, two in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", WHOLE)
def test_whole_numbers_of_any_size(kind):
    settings = dataclasses.replace(SMALL, seed=kind(7))
    assert type(check(settings).seed) is int
    assert check(settings).seed == 7
    assert check(dataclasses.replace(SMALL, kl_coef=kind(1))).kl_coef == 1


@pytest.mark.parametrize("kind", FRACTIONS)
def test_fractions_of_any_size(kind):
    found = check(dataclasses.replace(SMALL, kl_coef=kind(0.1)))
    assert type(found.kl_coef) is float
    assert found.kl_coef == float(kind(0.1))
    refused = refusal(check, dataclasses.replace(SMALL, seed=kind(1.0)))
    assert refused == ["seed = 1.0: must be a whole number"]


@pytest.mark.parametrize(
    "odd",
    [np.timedelta64(5), np.datetime64("2025-04-25"), np.ma.masked, np.array([3]), np.array([[3]]), np.bool_(True),
     np.complex128(3), np.array(None), np.ma.array(3, mask=False), np.void(b"3"), np.str_("3"), np.int64(2**60)],
)  # fmt: skip
def test_what_is_no_number_is_refused_as_ever(odd):
    for name in ("seed", "kl_coef"):
        assert refusal(sim.simulate, dataclasses.replace(SMALL, **{name: odd}))[0].startswith(f"{name} = ")
    assert refusal(sim.prepare, SMALL, odd)[0].startswith("seed = ")
    if odd.tolist() not in (None, 2**60):  # no number of workers; and more than there are cores
        assert refusal(sim.simulate, SMALL, workers=odd)[0].startswith("workers = ")


@given(
    st.one_of(st.booleans(), st.integers(-(2**62), 2**62), st.floats(), st.text(st.characters(exclude_characters="\0")))
)
def test_plain_gives_back_the_python_value(value):
    for made in (in_numpy(value), np.array(value), value):
        found = plain({"key": made})["key"]
        assert type(found) is type(value)
        assert found == value or value != value


def test_settings_without_numpy_are_the_ones_given():
    assert plain(SMALL) is SMALL


def test_an_audit_takes_numpy_and_writes_json():
    table = random_table(prompts=20)
    ask = (
        ASK | QUICK | {"kl_coef": 0.1, "weight": 0.25, "level": 0.9, "seed": 3, "renormalize": True, "max_weight": 1.0}
    )
    expected = sim.audit(table, **ask).report
    found = sim.audit(
        table, **{name: value if isinstance(value, list) else in_numpy(value) for name, value in ask.items()}
    )
    assert json.dumps(found.report) == json.dumps(expected)
    assert check_audit(Audit(**ASK, seed=np.int32(1))).seed == 1


def test_columns_in_numpy_are_columns_of_64_bit_numbers():
    for whole in (np.int8, np.uint16, np.uint64, np.int64):
        for fraction in (np.float16, np.float32, np.float64, np.longdouble):
            table = batch_table(SMALL, {"seed": np.array([1, 2], whole), "kl_coef": np.array([0.5, 1], fraction)})
            assert (table["seed"].dtype, table["kl_coef"].dtype) == (np.int64, np.float64)
            assert run_ids(flatten(SMALL), table) == run_ids(
                flatten(SMALL), batch_table(SMALL, {"seed": [1, 2], "kl_coef": [0.5, 1.0]})
            )
    assert "must be at most" in refusal(batch_table, SMALL, {"seed": np.array([2**64 - 1], np.uint64)})[0]


def test_a_masked_column_is_refused():
    masked = np.ma.array([0.1, 0.2], mask=[False, True])
    assert refusal(sim.simulate, SMALL, {"kl_coef": masked}) == [
        "columns: kl_coef has masked values; every run needs its own"
    ]
    assert batch_table(SMALL, {"kl_coef": np.ma.array([0.1, 0.2])})["kl_coef"].tolist() == [0.1, 0.2]
