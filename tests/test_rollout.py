"""The rollout: every state x every event, dates, common random numbers, monitors."""

import dataclasses

import numpy as np
import pytest

from sim import rng
from sim.config import Chat, InputError, Settings, Training, Users
from sim.launch.exposure import in_force, live_through, patch_shifts, patched
from sim.launch.models import train_models
from sim.launch.monitors import NAMES, alarm_hours, area_under_roc, cusum, roc, threshold, watch, watched_rates
from sim.launch.readings import Draws
from sim.launch.rollout import (
    EVENTS,
    STATES,
    Event,
    next_state,
    no_launch,
    planned_events,
    rollout_clock,
    run_clock,
)
from sim.launch.settings import Lived, Monitors, Rollout

ALLOWED = {
    "planned": {"start": "ramping"},
    "ramping": {"pause": "paused", "complete": "live", "patch": "ramping", "rollback": "rolling_back"},
    "paused": {"resume": "ramping", "patch": "paused", "rollback": "rolling_back"},
    "live": {"patch": "live", "rollback": "rolling_back"},
    "rolling_back": {"patch": "rolling_back", "restored": "rolled_back"},
    "rolled_back": {},
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_every_state_and_every_event(state, event):
    if event in ALLOWED[state]:
        assert next_state(state, event) == ALLOWED[state][event]
    else:
        with pytest.raises(InputError, match=f"rollout.{event} = Sun: not possible while {state}"):
            next_state(state, event, "Sun")


def test_unknown_event_is_named():
    with pytest.raises(InputError, match="unknown event 'explode'"):
        next_state("live", "explode")


def clock(*events, ramp=4, back=4, last=30):
    return run_clock([Event(*event) for event in events], ramp_hours=ramp, rollback_hours=back, first=-2, last=last)


def test_ramp_and_rollback_are_even():
    found = clock((0, "start"), (10, "rollback"))
    assert found.share[2:7].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.share[12:17].tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert [event.kind for event in found.log] == ["start", "complete", "rollback", "restored"]


def test_a_pause_holds_the_share_and_the_ramp_goes_on_after_it():
    found = clock((0, "start"), (2, "pause"), (8, "resume"))
    assert found.share[4:11].tolist() == [0.5] * 7
    assert found.log[-1] == Event(10, "complete")


def test_rollback_during_a_pause_falls_from_the_share_that_was_reached():
    found = clock((0, "start"), (2, "pause"), (5, "rollback"))
    assert found.share[7:12].tolist() == [0.5, 0.375, 0.25, 0.125, 0]
    assert STATES[found.state[-1]] == "rolled_back"


def test_a_second_patch_takes_the_place_of_the_first():
    found = clock((0, "start"), (3, "patch"), (6, "patch"))
    assert found.patches[[4, 5, 8]].tolist() == [0, 1, 2]


@pytest.mark.parametrize("event", ["start", "resume", "pause", "rollback"])
def test_no_ramp_while_rolling_back(event):
    with pytest.raises(InputError, match=f"rollout.{event} = hour 12: not possible while rolling_back"):
        clock((0, "start"), (10, "rollback"), (12, event))


def test_patch_while_rolling_back_and_none_after():
    assert clock((0, "start"), (10, "rollback"), (11, "patch")).patches[-1] == 1
    with pytest.raises(InputError, match=r"rollout.patch = hour 20: not possible while rolled_back"):
        clock((0, "start"), (10, "rollback"), (20, "patch"))


def test_published_dates_give_the_published_order():
    found = rollout_clock(Rollout())
    assert [event.kind for event in found.log] == ["start", "complete", "patch", "rollback", "restored"]
    assert found.log[-1].hour - found.log[-2].hour == 24


BAD = [
    ({"complete": "2025-04-23 10:00"}, "rollout.complete = 2025-04-23 10:00: must be after rollout.start"),
    ({"end": "2025-04-24 10:00"}, "rollout.end = 2025-04-24 10:00: must be after rollout.start"),
    ({"patch": "2025-04-23 10:00"}, "rollout.patch = 2025-04-23 10:00: comes before rollout.start"),
    ({"patch": "Sunday"}, "rollout.patch = Sunday: must be a date and hour such as"),
    ({"start": "2025-04-24 10:30"}, "rollout.start = 2025-04-24 10:30: the clock is hourly"),
    ({"patch": "2025-04-29 20:00"}, "rollout.patch = Tue 29 Apr 20:00: not possible while rolled_back"),
    (
        {"pause": "2025-04-25 10:00", "resume": "2025-04-24 20:00"},
        "rollout.resume = Thu 24 Apr 20:00: not possible while ramping",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_dates_are_one_clear_line(changes, message):
    with pytest.raises(InputError) as caught:
        rollout_clock(Rollout(**changes))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_with_monitors_the_published_answers_are_not_scheduled():
    assert [event.kind for event in planned_events(Rollout(respond="monitors"))] == ["start"]
    found = rollout_clock(Rollout(respond="monitors"), alarm=5)
    assert [(event.kind, event.hour) for event in found.log if event.kind != "complete"] == [
        ("start", 0), ("patch", 11), ("rollback", 17), ("restored", 41)
    ]  # fmt: skip


SMALL = Settings(world=Chat(prompts=60, responses=8), training=Training(ledger=False))
ROLLOUT = Rollout(users=300, follow_days=10)


@pytest.fixture(scope="module")
def models():
    deployed, _ = train_models(SMALL, {}, 0)
    candidate, _ = train_models(SMALL, {"mixture.weights.thumbs_up": np.array([0.5])}, 0)
    return in_force(deployed, candidate, [-1.0, 2.0])


def lives(models, events, users=300):
    when = run_clock(events, ramp_hours=10, rollback_hours=10, first=-24, last=240)
    return live_through(models, when, dataclasses.replace(ROLLOUT, users=users), Lived(), Monitors(), 0), when


def test_adding_a_user_changes_nothing_for_the_others(models):
    before, _ = lives(models, [Event(0, "start")])
    after, _ = lives(models, [Event(0, "start")], users=301)
    for name, values in before.by_user.items():
        np.testing.assert_array_equal(values, after.by_user[name][:300])


def test_adding_an_event_changes_nothing_before_it(models):
    before, when = lives(models, [Event(0, "start")])
    after, _ = lives(models, [Event(0, "start"), Event(50, "patch")])
    earlier = when.hours < 50
    for name, values in before.counts.items():
        np.testing.assert_array_equal(values[:, earlier], after.counts[name][:, earlier])
    assert any((values != after.counts[name]).any() for name, values in before.counts.items())


def test_an_event_that_changes_nothing_changes_nothing(models):
    """A patch of no effect, and a launch of the deployed model itself."""
    same = [models[0], models[0], patched(models[0], 0.0)]
    quiet, when = lives(same, [Event(0, "start"), Event(50, "patch")])
    none = live_through(same, no_launch(when), dataclasses.replace(ROLLOUT, users=300), Lived(), Monitors(), 0)
    for name, values in quiet.by_user.items():
        np.testing.assert_array_equal(values, none.by_user[name])


def test_users_live_what_the_policy_does(models):
    """The share of sycophantic answers before the launch is the deployed model's, within 4 SE."""
    found, _ = lives(models, [], users=2000)
    view = models[0].views["traffic"]
    exact = view.prompt_prob @ (models[0].probs["traffic"][0] * view.attributes["sycophancy"]).sum(axis=1)
    answers = found.counts["answers"].sum()
    assert abs(found.counts["sycophantic"].sum() / answers - exact) < 4 * np.sqrt(exact * (1 - exact) / answers) + 0.01
    assert found.touched.tolist() == [0, 0]
    assert found.users.sum() == 2000


def test_trust_is_lost_only_after_users_find_out(models):
    """A model that always misleads: nobody is lost in the first days, fewer come back after a week."""
    view = models[0].views["traffic"]
    worst = np.zeros_like(models[0].probs["traffic"])
    worst[0, np.arange(60), (view.attributes["sycophancy"] - 0.1 * view.attributes["stance_taking"]).argmax(axis=1)] = 1
    bad = models[0]._replace(probs={**models[0].probs, "traffic": worst})
    launch, when = lives([models[0], bad], [Event(0, "start")], users=2000)
    stay = live_through(
        [models[0], bad], no_launch(when), dataclasses.replace(ROLLOUT, users=2000), Lived(), Monitors(), 0
    )
    change = (launch.around - stay.around).mean(axis=0)
    assert change[(when.hours > 168 + 24)].mean() < change[(when.hours > 24) & (when.hours < 144)].mean() - 0.02


def test_users_find_out_after_the_days_that_are_set(models):
    """What cost trust on the first day costs visits from the fourth on, and none before."""
    when = run_clock([Event(0, "start")], ramp_hours=1, rollback_hours=1, first=0, last=120)
    around = [
        live_through(models, when, ROLLOUT, Lived(finds_out_days=3, trust_loss=loss), Monitors(), 0).around
        for loss in (0.0, 50.0)
    ]
    np.testing.assert_array_equal(around[0][:, :72], around[1][:, :72])
    assert (around[1][:, 72:96] < around[0][:, 72:96]).any()


def test_empty_user_group_is_one_clear_line():
    nobody = dataclasses.replace(SMALL, users=Users(vulnerable_share=0.0))
    deployed, _ = train_models(nobody, {}, 0)
    with pytest.raises(InputError, match="the user group 'vulnerable' has no prompts"):
        live_through([deployed, deployed], rollout_clock(ROLLOUT), ROLLOUT, Lived(), Monitors(), 0)
    deployed, _ = train_models(SMALL, {}, 0)
    few = dataclasses.replace(ROLLOUT, users=1)
    with pytest.raises(InputError, match=r"rollout.users = 1: the user group '\w+' is empty"):
        live_through([deployed, deployed], rollout_clock(few), few, Lived(), Monitors(), 0)


def test_patch_shifts_are_the_same_whatever_else_happens():
    first = patch_shifts(Rollout(), 1, 3)
    assert patch_shifts(Rollout(), 3, 3)[:1] == first
    many = np.array([patch_shifts(Rollout(), 1, seed)[0] for seed in range(2000)])
    assert abs(many.mean() + 1) < 4 * 0.75 / np.sqrt(2000)
    assert 0.05 < (many > 0).mean() < 0.13  # P(N(-1, 0.75) > 0) = 0.091


def test_cusum_has_the_false_alarm_rate_it_was_set_for():
    """Time to the first alarm without cause: 400 hours on average, within 15 % (Siegmund's approximation)."""
    h = threshold(0.25, 400)
    noise = rng.stream(0, "tests", "cusum").standard_normal((1500, 4000))
    over = cusum(noise, 0.25) > h
    first = np.where(over.any(axis=1), over.argmax(axis=1), 4000)
    assert abs(first.mean() / 400 - 1) < 0.15


def test_cusum_is_its_recursion():
    z = rng.stream(0, "tests", "recursion").standard_normal((1, 50))
    s, expected = 0.0, []
    for value in z[0]:
        s = max(0.0, s + value - 0.25)
        expected.append(s)
    np.testing.assert_allclose(cusum(z.copy(), 0.25)[0], expected, atol=1e-12)


def test_monitors_see_what_changes(models):
    """Endorsing doubles: the probes give the alarm, votes (which rise) do not; without probes there is no data."""
    rates = np.stack([watched_rates(model, Monitors())[:, 0] for model in models], axis=1)
    served = np.repeat(rates[:, [0]], 120, axis=1)
    served[:, 72:] = rates[:, [1]]
    found = watch(rates[:, :1], served[:, None], 72, Monitors(), Draws(0, ("a",)))
    hours = dict(zip(NAMES, alarm_hours(found, 72)[:, 0], strict=True))
    assert hours["probes"] < 12
    assert np.isnan(hours["votes"])
    blind = watch(rates[:, :1], served[:, None], 72, Monitors(probes=0), Draws(0, ("a",)))
    assert np.isnan(blind.rate[2]).all()
    assert np.isnan(alarm_hours(blind, 72)[2]).all()


def test_an_alarm_measures_from_the_hours_before_the_launch():
    """Thumbs-down rise from 0.30 to 0.31; every later hour adds the rise in standard errors, less the slack."""
    served = np.full((3, 1, 30), 0.30)
    served[..., 20:] = 0.31
    how = Monitors(answers_per_hour=10**8, wander=0.0)
    found = watch(np.full((3, 1), 0.30), served, 20, how, Draws(0, ("a",)))
    rise = 0.01 / np.sqrt(0.3 * 0.7 / 10**7)
    assert found.score[0, 0, -1] == pytest.approx(10 * (rise - how.slack), rel=0.05)


def test_roc_by_hand():
    scores, bad = np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, False, True, False])
    false, true = roc(scores, bad)
    assert false.tolist() == [0, 0, 0.5, 1]
    assert true.tolist() == [0, 0.5, 1, 1]
    assert area_under_roc(scores, bad) == pytest.approx(np.trapezoid(true, false))
    assert np.isnan(area_under_roc(scores, np.ones(4, dtype=bool)))
