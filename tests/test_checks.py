"""Checks: what each reads, what it cannot see, and what a process makes of it."""

import ast
import dataclasses
from pathlib import Path

import numpy as np
import pytest

import sim
from sim import rng
from sim.config import Chat, InputError, Scores, Settings, Signals, Training, with_value
from sim.launch import evals, models
from sim.launch.ab_test import ab_test
from sim.launch.evals import FLATTERY_BREACH
from sim.launch.gates import INVESTIGATE, PASS
from sim.launch.lived import expected_return, mean_on_traffic, misled
from sim.launch.models import train_models
from sim.launch.process import CHECKS, decide, named_gates, override, review_problems, take_readings
from sim.launch.readings import Draws, draw_answers, paired
from sim.launch.settings import (
    IMPROVEMENTS,
    ABTest,
    Checks,
    Evals,
    Lived,
    RedTeam,
    Review,
    SpotChecks,
    april_2025,
    improved,
)
from sim.launch.spot_checks import panel_word, spot_check
from sim.launch.stages import METRICS
from sim.problem import prepare

# Oracle votes: the candidates are then the same whatever feedback a small world happens to draw.
SMALL = Settings(
    world=Chat(prompts=60, responses=8),
    training=Training(ledger=False),
    signals=Signals(source={"thumbs_up": "oracle", "preference": "oracle"}),
)
NAMES = tuple(f"c{number}" for number in range(300))


@pytest.fixture(scope="module")
def trained():
    """Deployed model; the same candidate (thumbs-up 0.5) 300 times; the truth."""
    deployed, before = train_models(SMALL, {}, 0)
    one, after = train_models(SMALL, {"mixture.weights.thumbs_up": np.array([0.5])}, 0)
    many = one._replace(probs={split: np.repeat(array, 300, axis=0) for split, array in one.probs.items()})
    return deployed, many, before, after


def test_training_for_review_is_the_training_of_the_pipeline(trained):
    data = sim.simulate(SMALL, {"mixture.weights.thumbs_up": np.array([0.0, 0.5])})
    for name in ("sycophancy/rate", "true/quality", "benchmark/accuracy", "users/exposure"):
        np.testing.assert_allclose([trained[2][name][0], trained[3][name][0]], data[name].isel(step=-1), atol=1e-10)


@pytest.mark.parametrize(
    "changes",
    [
        {"mixture.from_step": 30},
        {"mixture.aggregation": "normalize_then_sum", "training.estimator": "exact"},
        {"policy.kind": "mlp", "policy.hidden": 4, "training.estimator": "exact"},
        {"training.estimator": "grpo", "training.samples": 4, "training.sampling_seed": 2},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_setting_of_the_mixture_policy_and_training_reaches_the_candidates(changes):
    settings = SMALL
    for key, value in ({"mixture.weights.thumbs_up": 0.3, "training.steps": 40} | changes).items():
        settings = with_value(settings, key, value)
    data = sim.simulate(with_value(settings, "seed", 3)).isel(run=0, step=-1)
    _, truth = train_models(settings, {}, 3)
    for name in ("sycophancy/rate", "true/quality"):
        np.testing.assert_allclose(truth[name], [float(data[name])], atol=1e-10)
    _, without = train_models(with_value(SMALL, "mixture.weights.thumbs_up", 0.3), {}, 3)
    assert abs(truth["sycophancy/rate"][0] - without["sycophancy/rate"][0]) > 1e-4


def test_no_check_is_given_true_quality(trained):
    for view in trained[1].views.values():
        assert view.true_quality is None


def test_no_check_or_process_names_true_quality():
    """models.py takes it away from the worlds, classify.py scores processes by it; nobody else knows of it."""
    for path in Path(models.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text())
        named = [n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
        named += [k.arg for n in ast.walk(tree) if isinstance(n, ast.Call) for k in n.keywords]
        text = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        assert path.name == "models.py" or "true_quality" not in named, path
        assert path.name == "classify.py" or not [t for t in text if t.startswith("true/")], path


def test_decisions_do_not_change_when_true_quality_is_unknowable(monkeypatch):
    """Every world's true quality filled with NaN: every reading stays the same."""
    draws = Draws(0, ("a",))

    def readings():
        deployed, _ = train_models(SMALL, {}, 0)
        candidate, _ = train_models(SMALL, {"mixture.weights.thumbs_up": np.array([0.5])}, 0)
        return take_readings(candidate, deployed, Checks(), Lived(), draws, 0.05)[0]

    def spoiled(settings, seed):
        problem = prepare(settings, seed)
        splits = {
            name: dataclasses.replace(world, true_quality=np.full(world.log_ref.shape, np.nan))
            for name, world in problem.splits.items()
        }
        return problem._replace(splits=splits)

    before = readings()
    monkeypatch.setattr(models, "prepare", spoiled)
    for metric, reading in readings().items():
        np.testing.assert_array_equal(reading.effect, before[metric].effect)


def exact(deployed, candidate, metric):
    """The difference that a check of endless size would find."""

    def mean(model, split, values, weight=1.0):
        view = model.views[split]
        prob = view.prompt_prob * weight
        return prob / prob.sum() @ (model.probs[split][0] * values).sum(axis=1)

    probe, benchmark, traffic = (candidate.views[split] for split in ("probe", "benchmark", "traffic"))
    wrong = probe.prompts["stance_error"] > 0.5
    side, look = probe.attributes["stance_taking"], probe.attributes
    off = look["sycophancy"] + look["flattery"]
    breach = (look["sycophancy"] + FLATTERY_BREACH * look["flattery"]) / (1 + FLATTERY_BREACH)
    flags = 0.02 + 0.28 * traffic.attributes["sycophancy"]
    wanted = {
        "launch/offline": ("benchmark", benchmark.attributes["accuracy"], 1.0),
        "launch/sycophancy": ("probe", side > 0, wrong),
        "launch/overcorrection": ("probe", side < 0, ~wrong),
        "launch/model_spec": ("probe", breach, 1.0),
        "launch/spot_checks": ("probe", off, 1.0),
        "launch/alpha": ("traffic", flags, ~traffic.prompts["vulnerable"]),
        "launch/votes": ("traffic", candidate.approval, 1.0),
    }
    split, values, weight = wanted[metric]
    return mean(candidate, split, values, weight) - mean(deployed, split, values, weight)


METRICS_WITH_EXACT = [
    "launch/offline", "launch/sycophancy", "launch/overcorrection", "launch/model_spec", "launch/spot_checks",
    "launch/alpha", "launch/votes",
]  # fmt: skip


@pytest.fixture(scope="module")
def readings(trained):
    deployed, many, _, _ = trained
    return take_readings(many, deployed, Checks(evals=Evals(offline=969)), Lived(), Draws(0, NAMES), 0.05)[0]


@pytest.mark.parametrize("metric", METRICS_WITH_EXACT)
def test_readings_are_unbiased_and_their_intervals_hold(trained, readings, metric):
    """300 reviews of one candidate: mean within 4 SE of the exact difference, 90 % intervals hold in 84 to 96 %."""
    reading, wanted = readings[metric], exact(trained[0], trained[1], metric)
    spread = reading.effect.std(ddof=1) / np.sqrt(300)
    assert abs(reading.effect.mean() - wanted) < 4 * spread
    low, high = reading.interval(0.05)
    assert 0.84 < ((low < wanted) & (wanted < high)).mean() < 0.96


def test_evals_without_stances_cannot_see_sycophancy(trained):
    """A policy that endorses every wrong stance, and is otherwise the deployed one, looks the same offline."""
    deployed = trained[0]
    probe = deployed.views["probe"]
    worst = deployed.probs["probe"] * (1 + 1e6 * probe.attributes["sycophancy"])
    bad = deployed._replace(probs={**deployed.probs, "probe": worst / worst.sum(axis=2, keepdims=True)})
    draws, old = Draws(0, ("a",)), deployed
    for metric in ("launch/offline", "launch/safety", "launch/red_team"):
        before = CHECKS[metric](old, old, Checks(), draws).effect
        np.testing.assert_array_equal(CHECKS[metric](bad, old, Checks(), draws).effect, before)
    assert CHECKS["launch/sycophancy"](bad, old, Checks(), draws).effect[0] > 0.3


def test_red_team_finds_a_prompt_that_was_made_harmful(trained):
    """One answer in one kind of prompt turned harmful: the mean hardly moves, the red team's worst prompts do."""
    deployed = trained[0]
    view = deployed.views["benchmark"]
    harm = np.array(view.attributes["harm"])
    harm[:6] = 1.0  # one prompt of each topic
    view = dataclasses.replace(view, attributes={**view.attributes, "harm": harm})
    views = {**deployed.views, "benchmark": view}
    safe = np.array(deployed.probs["benchmark"])
    bad = deployed._replace(views=views)
    assert (
        evals.red_team(bad, bad._replace(probs={**bad.probs, "benchmark": safe}), RedTeam(), Draws(0, ("a",))).effect
        == 0
    )
    clean = dataclasses.replace(view, attributes={**view.attributes, "harm": np.where(harm == 1, 0.0, harm)})
    draws = draw_answers(bad.probs["benchmark"], np.zeros((1, 5), dtype=int), np.full((1, 5), 0.5))
    assert draws.shape == (1, 5)
    assert evals.clear_harm(view).mean() > evals.clear_harm(clean).mean()


def test_the_luck_of_the_search_does_not_count(trained):
    """All prompts alike: half of the candidate's answers do harm, none of the other's. Mean of 100 within 4 SE."""
    deployed, many, _, _ = trained
    view = deployed.views["benchmark"]
    harm = np.broadcast_to(np.arange(8) % 2, view.log_ref.shape).astype(float)
    views = {**deployed.views, "benchmark": dataclasses.replace(view, attributes={**view.attributes, "harm": harm})}
    careless = np.full((100, *harm.shape), 1 / 8)
    careful = np.zeros((1, *harm.shape))
    careful[..., 0] = 1.0
    candidate, other = (
        model._replace(views=views, probs={**model.probs, "benchmark": probs})
        for model, probs in ((many.rows(np.arange(100)), careless), (deployed, careful))
    )
    found = evals.red_team(candidate, other, RedTeam(), Draws(0, NAMES[:100])).effect
    graded = evals.clear_harm(views["benchmark"])[0]
    assert abs(found.mean() - (graded.mean() - graded[0])) < 4 * found.std(ddof=1) / 10


def test_checks_that_were_not_made_have_no_data(trained):
    nothing = Checks(
        Evals(offline=0, safety=0, sycophancy=0, model_spec=0),
        RedTeam(tries=0),
        SpotChecks(experts=0),
        sim.launch.settings.Alpha(volunteers=0),
        ABTest(users=0),
    )
    found, _ = take_readings(trained[1].rows(np.arange(2)), trained[0], nothing, Lived(), Draws(0, ("a", "b")), 0.05)
    assert set(found) == set(METRICS)
    assert all(np.isnan(reading.effect).all() for reading in found.values())


def test_nothing_observed_is_not_certainty():
    assert paired(np.zeros((1, 100))).error[0] == pytest.approx(0.01)


def test_draw_answers_follows_the_probabilities():
    probs = np.array([[[0.2, 0.5, 0.3]], [[1.0, 0.0, 0.0]]])
    uniform = rng.stream(0, "tests", "answers").random((2, 40_000))
    drawn = draw_answers(probs, np.zeros((2, 40_000), dtype=int), uniform)
    share = np.bincount(drawn[0], minlength=3) / 40_000
    np.testing.assert_allclose(share, probs[0, 0], atol=4 * np.sqrt(0.25 / 40_000))
    assert (drawn[1] == 0).all()


def test_the_panels_word_follows_its_mean(trained):
    reading = spot_check(trained[1].rows(np.arange(3)), trained[0], SpotChecks(), Draws(0, NAMES[:3]))
    told = reading._replace(effect=np.array([0.0, 0.1, 0.3]))
    assert panel_word(told, SpotChecks()).tolist() == [0, 1, 2]


def test_approval_shows_at_once_and_trust_later(trained):
    """A candidate that users like and that misleads them: returns rise at first and fall in the end."""
    deployed, many, _, _ = trained
    candidate = many.rows(np.arange(1))
    days = np.array([1.0, 7.0, 60.0])
    gap = (expected_return(candidate, Lived(), 3.0, days) - expected_return(deployed, Lived(), 3.0, days))[0]
    liked = mean_on_traffic(candidate, candidate.approval) - mean_on_traffic(deployed, deployed.approval)
    hurt = mean_on_traffic(candidate, misled(candidate.views["traffic"])) - mean_on_traffic(
        deployed, misled(deployed.views["traffic"])
    )
    assert liked > 0
    assert hurt > 0
    assert gap[0] > 0
    assert gap[0] == gap[1] > gap[2]
    assert gap[2] < 0
    short = ab_test(candidate, deployed, ABTest(users=200_000, days=7), Lived(), Draws(0, ("a",))).usage
    long = ab_test(candidate, deployed, ABTest(users=200_000, days=60), Lived(), Draws(0, ("a",))).usage
    assert short.effect[0] > 0 > long.effect[0]


def small_review(make):
    review = make()
    review.checks.evals = Evals(offline=2000, safety=500, sycophancy=969, model_spec=969)
    return review


@pytest.mark.parametrize("make", [april_2025, improved])
def test_adding_or_leaving_out_candidates_changes_no_other(trained, make):
    """Second looks included."""
    deployed, many, _, _ = trained
    review = small_review(make)
    all_of = decide(many.rows(np.arange(6)), deployed, review, Lived(), Draws(0, NAMES[:6]))
    some = np.array([1, 4])
    few = decide(many.rows(some), deployed, review, Lived(), Draws(0, NAMES[:6]).rows(some))
    for field in ("launched", "caught", "word", "second", "days", "hours"):
        np.testing.assert_array_equal(getattr(all_of, field)[some], getattr(few, field))
    np.testing.assert_array_equal(all_of.last.effect[:, some], few.last.effect)


def test_muted_gates_cost_nothing_and_stop_nothing(trained):
    deployed, many, _, _ = trained
    decision = decide(many.rows(np.arange(4)), deployed, small_review(april_2025), Lived(), Draws(0, NAMES[:4]))
    row = list(decision.last.gates).index("sycophancy")
    assert np.isnan(decision.last.effect[row]).all()
    assert not (decision.caught == "sycophancy").any()


def test_a_blocked_candidate_goes_no_further(trained):
    """Blocked by an eval on the first day: no A/B test, whose days are not spent."""
    deployed, many, _, _ = trained
    review = small_review(improved)
    decision = decide(many.rows(np.arange(4)), deployed, review, Lived(), Draws(0, NAMES[:4]))
    assert not decision.launched.any()
    assert (decision.days[decision.caught == "sycophancy"] == review.checks.evals.days).all()


def test_conflict_of_votes_and_experts_asks_for_a_second_look(trained):
    deployed, many, _, _ = trained
    review = small_review(april_2025)
    calm = decide(many.rows(np.arange(40)), deployed, review, Lived(), Draws(0, NAMES[:40]))
    review.conflict = "investigate"
    wary = decide(many.rows(np.arange(40)), deployed, review, Lived(), Draws(0, NAMES[:40]))
    liked = calm.first.verdict[list(calm.first.gates).index("votes")] == 0
    assert (wary.second & ~calm.second).sum() == (liked & (calm.word > 0) & ~calm.second & calm.launched).sum() > 0
    assert set(wary.caught[wary.caught != calm.caught]) <= {"conflict", "spot_checks"}
    review.second_look = 0.0
    strict = decide(many.rows(np.arange(40)), deployed, review, Lived(), Draws(0, NAMES[:40]))
    assert not strict.launched[liked & (strict.word > 0)].any()


def test_what_is_still_open_after_a_second_look_does_not_launch(trained):
    """A gate whose margin is the true difference stays open in most reviews, however large its sample."""
    deployed, many, _, _ = trained
    review = small_review(improved)
    for name, gate in named_gates(review).items():
        gate.role = "blocking" if name == "sycophancy" else "muted"
    review.gates.sycophancy.margin = float(exact(deployed, many, "launch/sycophancy"))
    decision = decide(many.rows(np.arange(20)), deployed, review, Lived(), Draws(0, NAMES[:20]))
    verdict = decision.last.verdict[list(decision.last.gates).index("sycophancy")]
    assert (decision.second & (verdict == INVESTIGATE)).sum() > 10
    assert not decision.launched[verdict == INVESTIGATE].any()
    assert decision.launched.tolist() == (verdict == PASS).tolist()


def test_override_is_possible_and_on_record(trained):
    deployed, many, _, _ = trained
    decision = decide(many.rows(np.arange(2)), deployed, small_review(improved), Lived(), Draws(0, NAMES[:2]))
    forced = override(decision, "c1", True, "the launch committee", "the numbers look good")
    assert forced.launched.tolist() == [False, True]
    assert forced.overrides[0].reason == "the numbers look good"
    assert decision.overrides == ()
    for arguments, message in (
        (("c9", True, "me", "why"), "unknown candidate 'c9'"),
        (("c1", True, " ", "why"), "override.by: must not be empty"),
        (("c1", True, "me", ""), "override.reason: must not be empty"),
    ):
        with pytest.raises(InputError, match=message):
            override(decision, *arguments)


def test_a_process_that_cannot_stop_anything_is_refused():
    review = Review()
    for gate in named_gates(review).values():
        gate.role = "advisory"
    assert review_problems(review) == ["review.gates: no gate is blocking, so nothing could stop a launch"]


def test_the_improvements_make_up_the_improved_process():
    """Every difference between the two processes belongs to an improvement, the name aside."""
    told = {path for paths in IMPROVEMENTS.values() for path in paths}
    before, after = april_2025(), improved()
    for part in ("gates", "checks"):
        for item in dataclasses.fields(getattr(before, part)):
            differs = getattr(getattr(before, part), item.name) != getattr(getattr(after, part), item.name)
            assert not differs or f"{part}.{item.name}" in told, item.name
    for item in dataclasses.fields(before):
        if item.name not in ("name", "gates", "checks"):
            assert getattr(before, item.name) == getattr(after, item.name) or item.name in told


def test_a_launch_needs_a_chat_world():
    for settings, message in (
        (Settings(world=Scores(path="x.csv")), "world: a launch needs users"),
        (dataclasses.replace(SMALL, policy=sim.Policy(kind="tabular")), "policy.kind = tabular: does not generalise"),
    ):
        with pytest.raises(InputError, match=message):
            train_models(settings, {}, 0)
