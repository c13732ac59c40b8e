"""Bad settings and bad arguments of the Python API: one line a problem, which names the field, and nothing is run."""

import math
from datetime import UTC, datetime

import pandas as pd
import pytest
import xarray as xr
from bad_input import HUGE, NOT_FINITE, OTHER, SHARED_TEXT, refusal, tried, wrong
from hypothesis import strategies as st
from test_audit import ASK, QUICK, random_table

import sim
from experiments.drift import Drift
from experiments.incident import Incident
from experiments.interactions import Interactions
from experiments.launch import process_problems
from experiments.mainline import MainlineRun
from experiments.make_scores import MakeScores
from experiments.mitigations import Mitigations
from experiments.overoptimization import Overoptimization
from experiments.review import ReviewRun
from experiments.targeting import Targeting
from experiments.train import Train
from sim.auditing.options import Audit
from sim.checks import check
from sim.config import walk, with_value
from sim.launch.settings import Review, Rollout
from sim.pipeline import batch_table
from sim.rewards.signals import SIGNALS
from sim.world.users import TOPIC_NAMES

TABLE = sim.Settings(
    world=sim.Scores(path="scores.csv", signals={"good": "good"}, attributes={"long": "length"}),
    mixture=sim.Mixture(weights={"good": 1.0}, added="good"),
)
COMMANDS = (
    Train, Drift, MakeScores, Interactions, Overoptimization, Mitigations, Targeting, Incident, ReviewRun, MainlineRun
)  # fmt: skip


def one_wrong(settings, names):
    """Return (name of a knob, a value that it cannot take)."""
    leaves = {name: (item, value) for name, item, value in walk(settings) if name in names}
    return st.one_of([st.tuples(st.just(name), wrong(*leaf)) for name, leaf in leaves.items()])


def named(lines, name):
    assert any(line.startswith((f"{name} = ", f"{name}.", f"{name}:")) for line in lines), (name, lines)


@pytest.mark.parametrize("base", [sim.Settings(), TABLE], ids=["chat", "scores"])
def test_every_wrong_setting_is_named_by_every_function_that_takes_settings(base):
    def refused(bad):
        settings = with_value(base, *bad)
        lines = refusal(sim.simulate, settings)
        named(lines, bad[0])
        assert sorted(refusal(sim.prepare, settings, 0)) == sorted(lines)

    assert tried(refused, one_wrong(base, {name for name, _, _ in walk(base)}), 800) > 700


def test_every_wrong_option_of_every_command_is_named():
    everywhere = {name for name, _, _ in walk(sim.Settings())}
    for command in COMMANDS:
        settings, own = command(), {name for name, _, _ in walk(command()) if name not in everywhere}
        everywhere |= own

        def refused(bad, settings=settings):
            named(refusal(check, with_value(settings, *bad)), bad[0])

        assert not own or tried(refused, one_wrong(settings, own), 3 * len(own)) > 2 * len(own), command


def test_a_group_of_another_kind_is_named():
    kinds = st.one_of(OTHER, SHARED_TEXT, st.integers(), st.sampled_from([sim.Users(), sim.Chat, {}, Review()]))
    groups = ["world", "memory", "signals", "feedback", "mixture", "policy", "training"]

    def refused(bad):
        named(refusal(sim.simulate, with_value(sim.Settings(), *bad)), bad[0])

    assert tried(refused, st.tuples(st.sampled_from(groups), kinds), 100) > 80


def test_settings_of_another_kind_are_refused():
    def refused(bad):
        assert refusal(sim.simulate, bad) == refusal(sim.prepare, bad, 0)

    assert (
        tried(refused, st.one_of(OTHER, SHARED_TEXT, st.just({}), st.just(sim.Chat()), st.just(sim.Settings)), 40) > 25
    )


NAMES = {
    "mixture.weights": 1.0, "mixture.constraints": 0.5, "mixture.constraint_metrics": "kl", "world.topic_mix": 1.0,
    "world.traffic_mix": 1.0, "signals.source": "oracle", "signals.spec_coverage": 1.0, "signals.verifiable": 0.5,
}  # fmt: skip


def test_a_name_that_no_world_knows_is_named():
    base = {name: value for name, _, value in walk(sim.Settings()) if name in NAMES}

    def refused(bad):
        key, name = bad
        lines = refusal(sim.simulate, with_value(sim.Settings(), key, base[key] | {name: NAMES[key]}))
        assert any(line.startswith(f"{key}.") for line in lines), lines

    known = {*SIGNALS, *TOPIC_NAMES}  # Hypothesis tries words of the source, too
    words = SHARED_TEXT.filter(lambda text: text not in known)
    assert tried(refused, st.tuples(st.sampled_from(sorted(NAMES)), words), 200) > 150


NUMBERS = st.lists(st.floats(0.1, 1.0), min_size=1, max_size=3)
BAD_COLUMNS = st.one_of(
    OTHER,
    SHARED_TEXT,
    st.dictionaries(SHARED_TEXT, NUMBERS, min_size=1, max_size=2),
    st.dictionaries(st.sampled_from([1, None, b"x"]), NUMBERS, min_size=1, max_size=1),
    st.fixed_dictionaries({"kl_coef": st.lists(st.floats(max_value=0.0), min_size=1, max_size=3)}),
    st.fixed_dictionaries({"kl_coef": st.lists(NOT_FINITE, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"seed": st.lists(HUGE, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"seed": st.lists(st.floats(0.1, 0.9), min_size=1, max_size=3)}),
    st.fixed_dictionaries({"seed": st.lists(st.integers(max_value=-1), min_size=1, max_size=3)}),
    st.fixed_dictionaries({"mixture.weights.thumbs_up": st.lists(st.floats(1.001, 9.0), min_size=1, max_size=3)}),
    st.fixed_dictionaries({"mixture.weights.thumbs_up": st.one_of(OTHER, SHARED_TEXT, st.lists(SHARED_TEXT))}),
    st.fixed_dictionaries({"seed": st.just([0, 1]), "kl_coef": st.lists(st.just(0.1), min_size=3, max_size=20)}),
    st.fixed_dictionaries({"kl_coef": st.lists(st.lists(st.floats(0, 1), max_size=2), min_size=1, max_size=3)}),
)


def test_columns_that_cannot_be_are_named():
    def refused(bad):
        lines = refusal(sim.simulate, sim.Settings(), bad)
        known = ("columns:", "seed = ", "kl_coef = ", "mixture.weights.thumbs_up = ")
        assert all(line.startswith(known) for line in lines), lines

    # An empty mapping is no columns, which is fine.
    assert tried(refused, BAD_COLUMNS.filter(lambda columns: columns not in ({}, None)), 400) > 300


def test_whole_numbers_in_columns_stay_what_they_are():
    table = batch_table(sim.Settings(), {"seed": [0, 2**53], "kl_coef": [1, 1]})
    assert table["seed"].tolist() == [0, 2**53]


def test_seeds_and_workers_that_cannot_be_are_named():
    numbers = st.one_of(OTHER.filter(lambda n: n is not None), SHARED_TEXT, st.booleans(), st.floats(), HUGE)

    def refused(bad):
        assert refusal(sim.prepare, sim.Settings(), bad)[0].startswith("seed = ")
        if not isinstance(bad, int) or bad < 1 or bad is True:
            assert refusal(sim.simulate, sim.Settings(), workers=bad)[0].startswith("workers = ")

    assert tried(refused, st.one_of(numbers, st.integers(max_value=-1)), 100) > 80


DATES = [name for name, item, _ in walk(Rollout()) if item.metadata["unit"].startswith("date")]
PROCESSES = {"before": Review(), "after": Review()}


def test_dates_that_are_none_are_named():
    zoned = st.datetimes(timezones=st.just(UTC)).map(str)
    uneven = st.datetimes(min_value=datetime(2025, 5, 1)).filter(lambda date: date.minute or date.second).map(str)
    words = st.one_of(st.text(min_size=1, max_size=16), zoned, uneven)

    def refused(bad):
        lines = process_problems(PROCESSES, with_value(Rollout(), *bad))
        assert len(lines) == 1
        assert lines[0].startswith("rollout.")

    assert tried(refused, st.tuples(st.sampled_from(DATES), words), 200) > 150


def test_gates_on_no_reading_are_named():
    names = [name for name, _, _ in walk(Review()) if name.startswith("gates.") and name.endswith(".metric")]

    def refused(bad):
        lines = process_problems({"before": with_value(Review(), *bad), "after": Review()}, Rollout())
        assert any(line.startswith(f"before.{bad[0].removesuffix('.metric')}") for line in lines), lines

    assert tried(refused, st.tuples(st.sampled_from(names), SHARED_TEXT), 60) > 40


DATA = xr.Dataset({"kl": (("run", "step"), [[0.0, 0.1]])})
AUDIT = random_table(prompts=4)
FREE = {"signals": [1, "a", {1: 1.0}, {"a": None}, {"a": -1}], "attribute": [1, {}, [1]], "slices": [1, {}, [None]],
        "features": [1, {}, [None]], "kl": [0, -1, "x", True], "kl_coef": [0.0, -1, [], math.nan]}  # fmt: skip


def test_every_wrong_option_of_an_audit_is_named():
    typed = {name for name, _, _ in walk(Audit())} - set(FREE)
    odd = [
        st.tuples(st.just(name), st.sampled_from([*values, 2**200, -(2**9000), object, b"x"]))
        for name, values in FREE.items()
    ]

    def refused(bad):
        lines = refusal(sim.audit, AUDIT, **(ASK | QUICK | dict([bad])))
        assert any(line.startswith((f"{bad[0]} = ", f"{bad[0]}:", f"{bad[0]}.")) for line in lines), lines

    assert tried(refused, st.one_of(one_wrong(Audit(), typed), *odd), 500) > 400


def test_what_is_no_table_and_no_condition_is_refused():
    def no_table(bad):
        assert refusal(sim.audit, bad, **ASK)

    def no_condition(bad):
        assert refusal(sim.audit, AUDIT, fail_on=bad, **ASK)[0].startswith("fail_on")

    tables = st.one_of(OTHER, SHARED_TEXT, st.integers(), st.just(pd.DataFrame()), st.builds(dict))
    assert tried(no_table, tables, 100) > 60
    conditions = st.one_of(st.text(min_size=1), st.integers(), st.lists(st.one_of(SHARED_TEXT, st.none()), min_size=1))
    assert tried(no_condition, conditions, 100) > 80


def test_cases_that_are_none_are_named():
    cases = st.one_of(
        st.integers(), st.floats(), st.text(min_size=1), st.lists(st.one_of(OTHER, SHARED_TEXT), min_size=1)
    )

    def refused(bad):
        assert refusal(sim.validate, bad)[0].startswith("cases")

    assert tried(refused, cases, 100) > 80


def test_paths_that_are_none_are_named(tmp_path):
    paths = st.one_of(OTHER, st.integers(), st.text(max_size=300).filter(lambda text: text not in (".", "")))

    def refused(bad):
        assert refusal(sim.open_sweep, bad)
        assert refusal(sim.export, DATA, bad)

    assert tried(refused, paths, 100) > 80
    assert list(tmp_path.iterdir()) == []
