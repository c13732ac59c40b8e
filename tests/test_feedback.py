"""Votes and comparisons: what each knob does, and that it does nothing else."""

import dataclasses

import numpy as np
import pytest
from scipy.special import expit

import sim
from sim import rng
from sim.checks import problems
from sim.config import Chat, Feedback, Memory, Settings, Signals, Users, with_value
from sim.problem import name_problems, prepare
from sim.rewards.feedback import compare_pairs, counted, flipped, leave_votes, vote_probabilities
from sim.rewards.learned import learn_preference, learn_votes, score
from sim.rewards.reward_models import fit_logistic
from sim.rewards.signals import rater_logit
from sim.world.arrays import World, normalize_log
from sim.world.chat import AGREEMENT_FEATURES
from sim.world.users import vote_logit

SMALL = Settings(world=Chat(prompts=60, responses=6))
ORACLES = dict.fromkeys(("thumbs_up", "preference"), "oracle")


def chat(split="traffic", **changes):
    return prepare(dataclasses.replace(SMALL, **changes), 0).splits[split]


def votes(feedback=None, world=None, users=None, log_policy=None, seed=0):
    world = world or chat()
    logit = vote_logit(world, users or Users(), Memory())
    return leave_votes(world, world.log_ref if log_policy is None else log_policy, logit, feedback or Feedback(), seed)


def pairs(seed=0, world=None, log_policy=None, **knobs):
    world = world or chat("train")
    policy = world.log_ref if log_policy is None else log_policy
    return compare_pairs(world, policy, rater_logit(world, Signals()), Feedback(**knobs), seed)


def test_answers_shown_follow_prompt_and_policy():
    """200,000 answers: every count within 5 SE of its expectation."""
    world = chat()
    shown = votes(Feedback(answers=200_000), world).shown
    expected = 200_000 * world.prompt_prob[:, None] * np.exp(world.log_ref)
    assert shown.sum() == 200_000
    assert (np.abs(shown - expected) <= 5 * np.sqrt(expected) + 1).all()


def test_the_deployed_policy_decides_what_is_shown():
    world = chat()
    only_last = normalize_log(np.where(np.arange(6) == 5, 0.0, -1e3) + np.zeros((60, 1)))
    shown = votes(world=world, log_policy=only_last).shown
    assert shown[:, 5].sum() == Feedback().answers


def test_votes_match_their_probabilities():
    """One million answers: totals of votes and thumbs-up within 4 SE."""
    world = chat()
    feedback = Feedback(answers=1_000_000)
    found = votes(feedback, world)
    probability, up = vote_probabilities(vote_logit(world, Users(), Memory()), feedback)
    weight = world.prompt_prob[:, None] * np.exp(world.log_ref) * 1_000_000
    for counts, expected in ((found.up, weight * probability * up), (found.down, weight * probability * (1 - up))):
        assert abs(counts.sum() - expected.sum()) < 4 * np.sqrt(expected.sum())


@pytest.mark.parametrize("n", [0, 1, 500])
def test_first_answers_do_not_depend_on_how_many_follow(n):
    """Counts of fewer answers never exceed those of more, and the first pairs are the same."""
    few, many = votes(Feedback(answers=n)), votes(Feedback(answers=5_000))
    assert few.shown.sum() == n
    for one, other in zip(few, many, strict=True):
        assert (one <= other).all()
    for one, other in zip(pairs(comparisons=n), pairs(comparisons=5_000), strict=True):
        np.testing.assert_array_equal(one, other[:n])


def test_participation_and_intensity_move_no_answer_and_only_add_voters():
    base, keen, strong = (votes(Feedback(**k)) for k in ({}, {"participation": 0.2}, {"intensity": 2.0}))
    for more in (keen, strong):
        np.testing.assert_array_equal(base.shown, more.shown)
        assert (base.up <= more.up).all()
        assert (base.down <= more.down).all()
        assert more.up.sum() + more.down.sum() > base.up.sum() + base.down.sum()


@pytest.mark.parametrize(("participation", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_nobody_or_everybody_votes(participation, share):
    found = votes(Feedback(participation=participation))
    np.testing.assert_array_equal(found.up + found.down, share * found.shown)


def test_whoever_feels_anything_votes_at_endless_intensity():
    votes, _ = vote_probabilities(np.array([[0.1, -3.0, 0.0]]), Feedback(intensity=1e5, participation=0.05))
    np.testing.assert_allclose(votes, [[1.0, 1.0, 0.05]])


def test_without_intensity_everybody_votes_alike():
    probability, _ = vote_probabilities(np.array([[-3.0, 0.0, 3.0]]), Feedback(intensity=0.0))
    np.testing.assert_allclose(probability, 0.05)
    felt, _ = vote_probabilities(np.array([[-3.0, 0.0, 3.0]]), Feedback(intensity=1.0))
    assert felt[0, 0] == felt[0, 2] > felt[0, 1] == pytest.approx(0.05)
    np.testing.assert_allclose(felt[0, 0] / (1 - felt[0, 0]), 0.05 / 0.95 * np.exp(3.0))


def test_noise_flips_votes_and_moves_no_voter():
    """The same votes are cast; the share that changes is the noise, within 4 SE."""
    clean, noisy = votes(Feedback(vote_noise=0.0, participation=1.0)), votes(Feedback(vote_noise=0.2, participation=1))
    np.testing.assert_array_equal(clean.up + clean.down, noisy.up + noisy.down)
    drop, cast = clean.up.sum() - noisy.up.sum(), clean.shown.sum()
    expected = 0.2 * (clean.up.sum() - clean.down.sum())
    assert abs(drop - expected) < 4 * np.sqrt(0.2 * 0.8 * cast)


def test_noise_of_one_half_leaves_nothing_to_learn():
    np.testing.assert_allclose(flipped(np.array([0.0, 0.3, 1.0]), 0.5), 0.5)
    np.testing.assert_allclose(flipped(np.array([0.0, 0.3, 1.0]), 0.0), [0.0, 0.3, 1.0])


def test_appetite_moves_no_answer_and_no_voter_at_zero_intensity():
    world, flat = chat(), Feedback(intensity=0.0)
    with_appetite, without = votes(flat, world), votes(flat, world, Users(appetite=0.0))
    np.testing.assert_array_equal(with_appetite.shown, without.shown)
    np.testing.assert_array_equal(with_appetite.up + with_appetite.down, without.up + without.down)
    assert (with_appetite.up != without.up).any()


def test_each_question_and_seed_has_its_own_draws():
    world = chat()
    logit = vote_logit(world, Users(), Memory())
    asked = [
        leave_votes(world, world.log_ref, logit, Feedback(), 0, name).shown for name in ("thumbs_up", "satisfaction")
    ]
    assert (asked[0] != asked[1]).any()
    assert (votes(seed=1).shown != votes(seed=0).shown).any()


def test_which_votes_are_counted():
    found = votes()
    for which, positive, total in (
        ("both", found.up, found.up + found.down),
        ("up", found.up, found.shown),
        ("down", found.shown - found.down, found.shown),
    ):
        np.testing.assert_array_equal(counted(found, which)[0], positive)
        np.testing.assert_array_equal(counted(found, which)[1], total)


def test_pairs_are_distinct_and_follow_the_policy():
    """400,000 pairs on one prompt: each ordered pair within 5 SE of pi_i pi_j / (1 - pi_i)."""
    policy = np.array([0.5, 0.3, 0.15, 0.05])
    world = World(np.ones(1), np.zeros((1, 4, 1)), np.log(policy)[None], {})
    found = compare_pairs(world, world.log_ref, np.zeros((1, 4)), Feedback(comparisons=400_000), 0)
    assert (found.first != found.second).all()
    seen = np.zeros((4, 4))
    np.add.at(seen, (found.first, found.second), 1)
    expected = 400_000 * policy[:, None] * policy / (1 - policy[:, None]) * (1 - np.eye(4))
    assert (np.abs(seen - expected) <= 5 * np.sqrt(expected)).all()


def test_a_policy_with_one_answer_gives_no_pairs():
    one = normalize_log(np.where(np.arange(6) == 2, 0.0, -1e3) + np.zeros((60, 1)))
    assert len(pairs(log_policy=one).prompt) == 0


def test_raters_prefer_by_bradley_terry():
    """Two responses with logits 0.7 apart, 100,000 pairs, within 4 SE; noise pulls the share towards one half."""
    world = World(np.ones(1), np.zeros((1, 2, 1)), np.log([[0.6, 0.4]]), {})
    for noise in (0.0, 0.1, 0.5):
        found = compare_pairs(
            world, world.log_ref, np.array([[0.7, 0.0]]), Feedback(comparisons=100_000, rater_noise=noise), 0
        )
        better = np.where(found.first == 0, found.first_won, ~found.first_won).mean()
        assert better == pytest.approx(flipped(expit(0.7), noise), abs=4 * 0.5 / np.sqrt(100_000))


def test_rater_noise_moves_no_pair():
    clean, noisy = pairs(rater_noise=0.0), pairs(rater_noise=0.2)
    np.testing.assert_array_equal(clean.first, noisy.first)
    np.testing.assert_array_equal(clean.second, noisy.second)
    changed = (clean.first_won != noisy.first_won).mean()
    assert changed == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / len(clean.prompt)))


def test_learned_votes_close_in_on_the_fit_to_infinitely_many():
    """Squared distance falls about as 1/n: by more than 8 from 20,000 answers to 16 times as many, over 12 seeds."""
    world, feedback = chat(), Feedback(held_out=0.0)
    logit = vote_logit(world, Users(), Memory())
    probability, up = vote_probabilities(logit, feedback)
    expected = 1e9 * world.prompt_prob[:, None] * np.exp(world.log_ref) * probability  # of a billion answers
    features = world.features.reshape(up.size, -1)
    best, _ = fit_logistic(features, (expected * up).reshape(1, -1), expected.reshape(1, -1), 0.0)

    def distance(answers):
        knobs = dataclasses.replace(feedback, answers=answers)
        models = [learn_votes(world, world.log_ref, logit, knobs, seed) for seed in range(12)]
        return np.mean([((features @ (m.coefficients[0] - best[0])) ** 2).mean() for m in models])

    assert distance(20_000) > 8 * distance(320_000)


def test_learned_signals_approach_the_oracles():
    """With many answers they rank probe answers alike (correlation above 0.7; users also see what fits them), and the
    gap between endorsing and challenging is the oracle's times the 0.9 that 5 % label noise leaves."""
    many = dataclasses.replace(SMALL, feedback=Feedback(answers=1_000_000, comparisons=100_000))
    learned, oracle = prepare(many, 0), prepare(with_value(SMALL, "signals.source", ORACLES), 0)
    side = learned.splits["probe"].attributes["stance_taking"]
    for name in ("thumbs_up", "preference"):
        one, other = (problem.signals["probe"][name] for problem in (learned, oracle))
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.7
    gaps = [
        problem.signals["probe"]["thumbs_up"][side > 0].mean() - problem.signals["probe"]["thumbs_up"][side < 0].mean()
        for problem in (learned, oracle)
    ]
    assert gaps[0] == pytest.approx(0.9 * gaps[1], abs=0.06)


def test_oracle_sources_fit_nothing():
    assert prepare(with_value(SMALL, "signals.source", ORACLES), 0).reports == {}
    assert set(prepare(SMALL, 0).reports) == {"thumbs_up", "preference"}


def test_only_what_the_model_sees_is_learned():
    """Users whose stance is hidden and who differ only in it get the same scores."""
    world = chat()
    model = learn_votes(world, world.log_ref, vote_logit(world, Users(), Memory()), Feedback(), 0)
    flipped_world = dataclasses.replace(
        world, attributes={**world.attributes, "stance_taking": -world.attributes["stance_taking"]}
    )
    np.testing.assert_array_equal(score(world, model, Feedback()), score(flipped_world, model, Feedback()))


def agreement_weight(feedback, seeds, **changes):
    """Mean over seeds of the learned log-odds of endorsing against challenging."""
    found = []
    for seed in seeds:
        world = prepare(dataclasses.replace(SMALL, **changes), seed).splits["traffic"]
        users = changes.get("users", Users())
        model = learn_votes(world, world.log_ref, vote_logit(world, users, Memory()), feedback, seed)
        found.append(model.coefficients.mean(axis=0)[0] - model.coefficients.mean(axis=0)[1])
    return np.array(found)


MANY = Feedback(answers=200_000)


def test_null_without_appetite_the_learned_weight_on_agreement_is_zero():
    """24 seeds, within 3 SE of 0; with the default appetite it is above 0.5 by more than 3 SE."""
    null = agreement_weight(MANY, range(24), users=Users(appetite=0.0))
    assert abs(null.mean()) < 3 * null.std(ddof=1) / np.sqrt(24)
    full = agreement_weight(MANY, range(24))
    assert full.mean() - 3 * full.std(ddof=1) / np.sqrt(24) > 0.5


def test_null_noise_without_bias_only_attenuates():
    """Vote noise makes the weight on agreement smaller, never of the other sign; one half makes it 0 within 3 SE."""
    clean, noisy, deaf = (
        agreement_weight(dataclasses.replace(MANY, vote_noise=noise), range(24)) for noise in (0.0, 0.2, 0.5)
    )
    assert 0.3 * clean.mean() < noisy.mean() < 0.8 * clean.mean()
    assert abs(deaf.mean()) < 3 * deaf.std(ddof=1) / np.sqrt(24)


@pytest.mark.parametrize("which", ["up", "down"])
def test_one_kind_of_vote_is_enough_to_learn_agreement(which):
    """24 seeds, above 0 by 3 SE; the signal is centred on the deployed policy."""
    found = agreement_weight(dataclasses.replace(MANY, counted=which), range(24))
    assert found.mean() > 3 * found.std(ddof=1) / np.sqrt(24)
    world = chat()
    feedback = Feedback(counted=which)
    model = learn_votes(world, world.log_ref, vote_logit(world, Users(), Memory()), feedback, 0)
    mean = (world.prompt_prob[:, None] * np.exp(world.log_ref) * score(world, model, feedback)).sum()
    assert mean == pytest.approx(0, abs=1e-12)


def test_intensity_brings_in_votes_of_those_who_feel_strongly():
    """More informative votes per answer: the share of thumbs-up against everything shown spreads more."""
    world = chat()
    logit = vote_logit(world, Users(), Memory())
    for low, high in ((0.0, 1.0), (1.0, 2.0)):
        spread = [np.ptp(np.multiply(*vote_probabilities(logit, Feedback(intensity=i)))) for i in (low, high)]
        assert spread[0] < spread[1]


def test_removing_agreement_keeps_the_rest_of_the_votes():
    """Fitted with agreement, scored without: the other coefficients are those of the full fit."""
    world = chat()
    logit = vote_logit(world, Users(), Memory())
    full, removed = (learn_votes(world, world.log_ref, logit, Feedback(remove_agreement=r), 0) for r in (False, True))
    assert full.coefficients[0, AGREEMENT_FEATURES].any()
    assert not removed.coefficients[0, AGREEMENT_FEATURES].any()
    rest = slice(AGREEMENT_FEATURES.stop, None)
    np.testing.assert_array_equal(full.coefficients[0, rest], removed.coefficients[0, rest])


def test_ensembles_are_more_careful_than_one_model():
    """Worst case lies below the mean everywhere, mean minus variance between penalties; the first member is kept."""
    world = chat()
    logit = vote_logit(world, Users(), Memory())
    knobs = Feedback(members=5)
    model = learn_votes(world, world.log_ref, logit, knobs, 0)
    assert model.coefficients.shape == (5, world.features.shape[2])
    mean, worst, careful, bold = (
        score(world, model, dataclasses.replace(knobs, combine=how, variance_penalty=penalty))
        for how, penalty in (("mean", 0.5), ("worst", 0.5), ("mean_minus_variance", 5.0), ("mean_minus_variance", 0.0))
    )
    assert (worst < mean).all()
    assert (careful < mean).all()
    np.testing.assert_allclose(bold, mean)
    two = learn_votes(world, world.log_ref, logit, Feedback(members=2), 0)
    np.testing.assert_allclose(two.coefficients, model.coefficients[:2], atol=1e-8)


def test_held_out_share_is_kept_from_the_fit_and_reported():
    world = chat()
    logit = vote_logit(world, Users(), Memory())
    none, some = (learn_votes(world, world.log_ref, logit, Feedback(held_out=h), 0).report for h in (0.0, 0.3))
    assert none["held_out"] == 0
    assert np.isnan(none["auc"])
    assert some["fitted_on"] + some["held_out"] == none["fitted_on"]
    assert 0.5 < some["auc"] < 1


def test_what_is_held_out_teaches_nothing():
    """Users of the held-out prompts who vote the other way round change the report and not one coefficient."""
    world, knobs = chat(), Feedback(held_out=0.3)
    logit = vote_logit(world, Users(), Memory())
    kept = rng.stream(0, "feedback", "thumbs_up", "held_out").random(len(logit)) < 0.3
    one, other = (
        learn_votes(world, world.log_ref, np.where(kept[:, None], sign * logit, logit), knobs, 0) for sign in (1, -1)
    )
    np.testing.assert_array_equal(one.coefficients, other.coefficients)
    assert other.report["auc"] < 0.5 < one.report["auc"]


def test_more_comparisons_make_a_better_reward_model():
    """Held-out AUC averaged over 8 seeds rises with the number of comparisons, and with less noise."""

    def auc(**knobs):
        found = []
        for seed in range(8):
            world = prepare(SMALL, seed).splits["train"]
            logit = rater_logit(world, Signals())
            found.append(learn_preference(world, world.log_ref, logit, Feedback(**knobs), seed).report["auc"])
        return np.mean(found)

    assert auc(comparisons=200) < auc(comparisons=20_000)
    assert auc(comparisons=20_000, rater_noise=0.3) < auc(comparisons=20_000, rater_noise=0.0)


def test_no_feedback_at_all_gives_a_constant_signal():
    for key, name in (("feedback.answers", "thumbs_up"), ("feedback.comparisons", "preference")):
        problem = prepare(with_value(SMALL, key, 0), 0)
        np.testing.assert_allclose(problem.signals["train"][name], 0.5)
        assert problem.reports[name]["fitted_on"] == 0


def test_signals_are_probabilities():
    for scored in prepare(SMALL, 0).signals.values():
        for values in scored.values():
            assert (values >= 0).all()
            assert (values <= 1).all()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("signals.source", {"thumbs_upp": "oracle"}, "unknown learned signal 'thumbs_upp'; did you mean 'thumbs_up'"),
        ("signals.source", {"thumbs_up": "guess"}, "signals.source.thumbs_up = guess: must be one of learned, oracle"),
        ("feedback.vote_noise", 0.6, "feedback.vote_noise = 0.6: must be <= 0.5"),
        ("feedback.answers", 1.5, "feedback.answers = 1.5: must be a whole number"),
        ("feedback.counted", "side", "must be one of both, up, down"),
        ("feedback.combine", "worst", "feedback.combine = worst: one member has nothing to combine"),
        ("feedback.variance_penalty", 1.0, "has no effect unless feedback.combine is mean_minus_variance"),
    ],
)
def test_bad_knobs_are_named(key, value, message):
    settings = with_value(Settings(), key, value)
    assert any(message in line for line in problems(settings) + name_problems(settings))


def test_feedback_has_no_effect_on_a_score_table():
    settings = Settings(world=sim.Scores(path="x.csv"), feedback=Feedback(answers=5))
    assert any(line.startswith("feedback: has no effect on a score table") for line in problems(settings))
