"""The page's numbers are the core's, its sliders are settings, and its charts are where the numbers say."""

import dataclasses
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from experiments.app import CONFIGS, to_settings
from experiments.drift import Drift
from experiments.page import charts, gates, panels
from experiments.page.numbers import GRID, numbers, weights_of
from experiments.page.sliders import MAX_WEIGHT, SLIDERS, WORLDS, command_of, settings_of
from sim.config import InputError, Settings, Training, walk
from sim.launch.process import named_gates
from sim.pipeline import simulate
from sim.plots.style import ADDED, COLOURS, NEUTRAL, PENALTY

MOVED = {"weight": 0.5, "kl_coef": 0.1, "appetite": 1.0, "memory": 0.7, "freshness": 1.0, "coverage": 2.0}
MOVED |= {"vulnerable": 0.4}
KEYS = {
    "weight": "mixture.weights",
    "kl_coef": "kl_coef",
    "appetite": "users.appetite",
    "memory": "memory.share",
    "freshness": "world.freshness",
    "coverage": "signals.spec_coverage",
    "vulnerable": "users.vulnerable_share",
}
EXTREMES = [
    {name: getattr(slider, end) for name, slider in SLIDERS.items()} | flipped
    for end in ("low", "high")
    for flipped in ({}, {"kl_coef": 0.01}, {"kl_coef": 0.15}, {"coverage": 0.0}, {"appetite": 1.5, "weight": 0.6})
]


@pytest.fixture(scope="module")
def at_start():
    return numbers({})


def on_all_worlds(settings, **changes):
    """The data set of the page's runs by way of the public entry, run axis in the order (world, weight)."""
    settings = dataclasses.replace(settings, **changes)
    weights = weights_of(settings)
    columns = {
        "mixture.weights.thumbs_up": np.tile(weights, WORLDS),
        "seed": np.repeat(np.arange(WORLDS), len(weights)),
    }
    return simulate(settings, columns)


def mean_over_worlds(values):
    return values.reshape(WORLDS, len(GRID) + 1, -1).mean(axis=0)


def test_every_slider_starts_at_the_default_of_its_setting_but_the_weight():
    leaves = {name: value for name, _, value in walk(Settings())}
    for name, key in KEYS.items():
        if name not in ("weight", "coverage"):
            assert SLIDERS[name].start == leaves[key]
    assert settings_of({}).signals.spec_coverage == leaves["signals.spec_coverage"]


@pytest.mark.parametrize("name", SLIDERS)
def test_a_slider_changes_its_own_setting_and_no_other(name):
    before, after = ({key: value for key, _, value in walk(settings_of(v))} for v in ({}, {name: MOVED[name]}))
    assert [key for key in before if before[key] != after[key]] == [KEYS[name]]


def test_a_grader_cannot_cover_more_than_all():
    assert settings_of({"coverage": 4.0}).signals.spec_coverage["emotional"] == pytest.approx(0.4)
    assert settings_of({"coverage": 4.0}).signals.spec_coverage["task"] == 1.0


@pytest.mark.parametrize(
    ("values", "message"),
    [({"wieght": 0.1}, "did you mean 'weight'"), ({"weight": 0.7}, "sliders.weight = 0.7: must be from 0 to 0.6")],
)
def test_what_is_no_position_of_a_slider_is_one_clear_line(values, message):
    with pytest.raises(InputError, match=message):
        numbers(values)


@pytest.mark.parametrize("values", [{}, MOVED], ids=["start", "moved"])
def test_the_numbers_are_those_of_simulate(values):
    found, data = numbers(values), on_all_worlds(settings_of(values))
    rate = mean_over_worlds(data["sycophancy/rate"].values)
    np.testing.assert_allclose(found.rate, rate[:-1, -1], rtol=1e-9)
    np.testing.assert_allclose(found.chosen_rate, rate[-1, -1], rtol=1e-9)
    np.testing.assert_allclose(found.reference, rate[:, 0], rtol=1e-9)
    for name, shown in (("true/quality", found.quality), ("proxy_reward", found.proxy)):
        values = mean_over_worlds(data[name].values)
        np.testing.assert_allclose(shown, values - values[:, :1], rtol=1e-9, atol=1e-12)
    lines = data["ledger"].sum("interval").transpose("run", "cause").values
    lines = lines.reshape(WORLDS, len(GRID) + 1, -1).mean(axis=0)
    assert list(found.causes) == data["cause"].values.tolist()
    np.testing.assert_allclose(list(found.causes.values()), lines[-1], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("values", [{}, MOVED], ids=["start", "moved"])
def test_the_causes_sum_to_the_change_and_the_check_holds_where_the_rate_fell(values):
    found = numbers(values)
    assert sum(found.causes.values()) == pytest.approx(found.chosen_rate - found.reference, abs=1e-12)
    np.testing.assert_array_equal(found.strength > 1, found.rate < found.reference)
    inside = np.interp(found.critical, GRID, found.rate)
    assert inside == pytest.approx(found.reference, abs=1e-9)


@pytest.mark.parametrize("values", [{}, {"kl_coef": 0.01, "appetite": 1.5, "weight": 0.6}, {"kl_coef": 0.15}], ids=str)
def test_sixteen_long_steps_end_where_the_default_training_does(values):
    """Within 0.005 of the rate, half a percentage point, of the default's 100 steps."""
    plain = Training(ledger=False, record_every=Training().steps)
    data = on_all_worlds(settings_of(values), training=plain)
    expected = mean_over_worlds(data["sycophancy/rate"].values)[:-1, -1]
    np.testing.assert_allclose(numbers(values).rate, expected, atol=0.005)


def test_the_command_on_the_page_is_the_same_settings():
    for values in ({}, MOVED):
        with initialize_config_dir(CONFIGS, version_base="1.3"):
            overrides = command_of(values).removeprefix("python -m experiments.drift ").split()
            made = to_settings(compose("drift", overrides=overrides))
        expected = settings_of(values)
        for name in ("kl_coef", "world", "users", "memory", "training"):
            assert getattr(made, name) == getattr(expected, name), name
        assert made.signals.spec_coverage == pytest.approx(expected.signals.spec_coverage)
        assert isinstance(made, Drift)
        assert (made.seeds, made.points, made.max_weight) == (WORLDS, len(GRID), MAX_WEIGHT)
        used = [name for name in ("thumbs_up", "preference") if made.signals.source[name] == "oracle"]
        assert used == ["thumbs_up", "preference"]


@pytest.mark.slow
@pytest.mark.parametrize("values", EXTREMES, ids=range(len(EXTREMES)))
def test_training_converges_at_the_ends_of_the_sliders(values):
    found = numbers(values)
    assert np.isfinite(found.rate).all()
    assert (found.rate >= 0).all()
    assert (found.rate <= 1).all()
    data = on_all_worlds(settings_of(values))  # raises for a run that diverged
    assert float(data["objective"].diff("step").min()) > -1e-6
    assert "nan" not in panels.page("", "", {}, panels.NEVER, found).replace('data-value="nan"', "")


def test_each_answer_is_right_somewhere(at_start):
    rising = at_start._replace(reference=0.3, rate=np.linspace(0.2, 0.6, len(GRID)))
    right = [panels.answer_of(rising._replace(critical=weight)) for weight in (0.05, 0.15, 0.25, 0.5)]
    assert right == ["0 to 0.1", "0.1 to 0.2", "0.2 to 0.3", "0.3 to 0.6"]
    assert panels.answer_of(rising._replace(critical=math.nan, reference=0.9)) == panels.NEVER
    assert panels.answer_of(rising._replace(critical=math.nan, reference=0.1)) == panels.ALREADY
    assert "You were right" in panels.verdict(at_start, panels.answer_of(at_start))
    assert "You were right" not in panels.verdict(at_start, panels.ALREADY)


def test_nothing_is_given_away_before_it_is_revealed(at_start):
    page = panels.page("", "", {}, "0.1 to 0.2", None)
    assert f"{at_start.critical:.2f}" not in page
    assert "<polyline" not in page
    assert 'id="numbers"' not in page


def test_numbers_land_where_the_axes_say():
    frame = charts.Frame((0, 2), (0.1, 10), log=True)
    assert frame.across(0) == charts.LEFT
    assert frame.across(2) == charts.WIDTH - charts.RIGHT
    assert frame.up(0.1) == charts.HEIGHT - charts.BOTTOM
    assert frame.up(10) == charts.TOP
    assert frame.up(1) == pytest.approx((frame.up(0.1) + frame.up(10)) / 2)
    assert frame.up(math.inf) == charts.TOP
    assert charts.ticks(0, 0.6) == pytest.approx([0, 0.2, 0.4, 0.6])
    low, high = charts.padded([-0.03, 0.11], 0.1)
    assert low <= -0.03
    assert high >= 0.11


@pytest.mark.parametrize("values", [{}, MOVED, {"weight": 0.0}, {"weight": 0.6}], ids=["start", "moved", "0", "0.6"])
def test_charts_are_well_formed_and_stay_inside_their_frame(values):
    found = numbers(values)
    drawings = [panels.drift_chart(found, "0.1 to 0.2"), panels.hidden_chart(), panels.ledger_chart(found)]
    drawings += [panels.strength_chart(found), panels.quality_chart(found)]
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        _, _, width, height = map(float, root.get("viewBox").split())
        for item in root.iter():
            for name, most in (("x", width), ("x1", width), ("x2", width), ("y", height), ("y1", height)):
                assert 0 <= float(item.get(name, 0)) <= most
            for point in item.get("points", "").split():
                across, down = map(float, point.split(","))
                assert charts.LEFT - 0.1 <= across <= width
                assert 0 <= down <= height
        assert root.get("aria-label")


def test_the_colours_are_those_that_colour_blind_readers_tell_apart(at_start):
    page = panels.page("", "", {}, "0.1 to 0.2", at_start)
    known = {*COLOURS, ADDED, NEUTRAL, PENALTY, charts.INK, charts.SOFT, charts.GRID_LINE, "#fff"}
    assert set(re.findall(r"#[0-9a-fA-F]{3,6}(?=\")", page)) <= known


def test_every_gate_has_its_row_and_every_process_its_column():
    for review in gates.reviews():
        assert set(named_gates(review)) == set(gates.CHECKS)
        assert review.name in gates.TITLES
    made = gates.panel({"weight": 0.3})
    assert made.count("<tr id=") == len(gates.CHECKS)
    ElementTree.fromstring(made)


def test_a_check_that_nobody_made_says_nothing():
    april, improved = (gates.verdicts(decision) for decision in gates.decisions({}).values())
    assert {name for name, verdict in april.items() if verdict.word == gates.NOT_ASKED} == {
        "sycophancy", "overcorrection", "model_spec", "alpha",
    }  # fmt: skip
    assert [name for name, verdict in april.items() if verdict.advice] == ["spot_checks", "usage"]
    for verdict in (*april.values(), *improved.values()):
        assert math.isnan(verdict.effect) == (verdict.word in (gates.NOT_ASKED, gates.NOT_REACHED))


def test_sycophancy_evals_stop_what_the_process_of_april_launches():
    """At the page's start the rate is up by a fifth in the reviewed world; the improved process asks."""
    april, improved = gates.decisions({}).values()
    assert april.launched[0]
    assert not improved.launched[0]
    assert gates.verdicts(improved)["red_team"].word == gates.NOT_REACHED
    assert gates.outcome(improved) == "Blocked after 1 day: sycophancy evals"
