"""The chat world: what a change moves, and what it must leave alone."""

import itertools

import numpy as np
import pytest

from sim import rng
from sim.config import Chat, InputError, Memory, Signals, Users
from sim.rewards.signals import SIGNALS, score
from sim.training.finetune import fine_tune
from sim.world.arrays import World
from sim.world.chat import SPLITS, make_chat
from sim.world.users import TOPIC_NAMES, TOPICS, topic_weights

SMALL = Chat(prompts=60, responses=8)


def splits(chat=SMALL, users=None, memory=None, seed=0):
    return make_chat(chat, users or Users(), memory or Memory(), seed)


def same(one: World, other: World, *names):
    return all(np.array_equal(one.attributes[name], other.attributes[name]) for name in names or one.attributes)


def test_every_split_is_there_with_normalised_weights():
    made = splits()
    assert tuple(made) == SPLITS
    for world in made.values():
        assert world.prompt_prob.sum() == pytest.approx(1)
        assert world.features.shape[:2] == world.log_ref.shape == (60, 8)
        assert all(np.isfinite(a).all() for a in world.attributes.values())


def test_arrays_are_frozen():
    with pytest.raises(ValueError, match="read-only"):
        splits()["train"].features[0, 0, 0] = 1


def test_same_seed_same_world_and_another_seed_another():
    assert same(splits()["train"], splits()["train"])
    assert not same(splits()["train"], splits(seed=1)["train"])


def test_fresher_data_moves_prompt_weights_only():
    stale, fresh = splits(), splits(Chat(prompts=60, responses=8, freshness=1.0))
    assert same(stale["train"], fresh["train"])
    np.testing.assert_array_equal(stale["train"].features, fresh["train"].features)
    assert not np.allclose(stale["train"].prompt_prob, fresh["train"].prompt_prob)
    np.testing.assert_allclose(fresh["train"].prompt_prob, fresh["traffic"].prompt_prob)
    personal = np.isin(
        np.asarray(fresh["train"].prompts["topic"]), [TOPIC_NAMES.index(t) for t in ("emotional", "doubt")]
    )
    assert fresh["train"].prompt_prob[personal].sum() > stale["train"].prompt_prob[personal].sum()


def test_memory_moves_what_the_model_sees_and_no_answer():
    without, full = splits(), splits(memory=Memory(share=1.0, recall=1.0))
    assert same(without["train"], full["train"])
    seen, seen_with = (np.asarray(w["train"].prompts["visible"]) for w in (without, full))
    assert (seen <= seen_with).all()
    assert (seen < seen_with).any()
    np.testing.assert_array_equal(seen_with, full["train"].prompts["has_stance"])


def test_memory_that_recalls_nothing_changes_nothing():
    without, blank = splits(), splits(memory=Memory(share=1.0, recall=0.0))
    np.testing.assert_array_equal(without["train"].features, blank["train"].features)


def test_more_recall_only_adds_users():
    """One recalled user more moves no other user's draw."""
    some, more = (splits(memory=Memory(share=1.0, recall=r))["train"].prompts["recalled"] for r in (0.3, 0.7))
    assert (np.asarray(some) <= np.asarray(more)).all()


def test_the_policy_cannot_tell_sides_of_a_stance_that_it_does_not_see():
    world = splits()["train"]
    hidden = np.asarray(world.prompts["has_stance"]) & ~np.asarray(world.prompts["visible"])
    assert hidden.any()
    assert (world.attributes["stance_taking"][hidden] != 0).any()
    assert not world.features[hidden][..., :3].any()  # endorse, challenge, endorse x stakes


def test_probes_are_mirrored_pairs():
    probe = splits()["probe"]
    half = len(probe.prompt_prob) // 2
    error = np.asarray(probe.prompts["stance_error"], dtype=float)
    assert (error[:half] > 0.5).all()
    np.testing.assert_allclose(error[:half] + error[half:], 1)
    for name in ("stance_taking", "helpfulness", "warmth", "personal_fit"):
        np.testing.assert_array_equal(probe.attributes[name][:half], probe.attributes[name][half:])
    endorses = probe.attributes["stance_taking"][:half] > 0
    assert (probe.attributes["accuracy"][:half] < probe.attributes["accuracy"][half:])[endorses].all()


def test_benchmark_has_no_stances_and_tasks_have_none():
    made = splits()
    assert not made["benchmark"].attributes["stance_taking"].any()
    task = np.asarray(made["traffic"].prompts["topic"]) == 0
    assert not made["traffic"].attributes["stance_taking"][task].any()


def test_topic_shares_follow_the_mix():
    world = splits()["traffic"]
    shares = np.bincount(np.asarray(world.prompts["topic"]), weights=world.prompt_prob, minlength=len(TOPICS))
    np.testing.assert_allclose(shares, topic_weights(Chat().traffic_mix, "traffic_mix"))


def test_topic_shares_follow_the_mix_where_topics_have_unequal_numbers_of_prompts():
    world = splits(Chat(prompts=20))["traffic"]
    topics = np.asarray(world.prompts["topic"])
    assert len(np.unique(np.bincount(topics))) == 2
    shares = np.bincount(topics, weights=world.prompt_prob, minlength=len(TOPICS))
    np.testing.assert_allclose(shares, topic_weights(Chat().traffic_mix, "traffic_mix"))


def test_every_split_has_users_and_answers_of_its_own():
    made = splits()
    for one, other in itertools.combinations(("finetune", "train", "traffic"), 2):
        for name in ("stance_error", "stakes", "has_stance", "vulnerable", "taste"):
            assert (made[one].prompts[name] != made[other].prompts[name]).any(), (one, other, name)
        for name in made[one].attributes:
            assert (made[one].attributes[name] != made[other].attributes[name]).any(), (one, other, name)


@pytest.mark.parametrize(("mix", "message"), [({"tsak": 1.0}, "did you mean 'task'"), ({}, "at least one topic")])
def test_bad_topic_mix_is_named(mix, message):
    with pytest.raises(InputError, match=message):
        splits(Chat(prompts=60, topic_mix=mix))


def test_true_quality_charges_for_sycophancy_by_severity():
    cheap, dear = (splits(Chat(prompts=60, severity=s))["traffic"] for s in (0.0, 4.0))
    wrong = cheap.attributes["sycophancy"] > 0
    assert (dear.true_quality[wrong] < cheap.true_quality[wrong]).all()


def test_no_signal_reads_the_true_quality():
    """Corrupt it: nothing that is trained on may move."""
    world = splits()["train"]
    blind = World(
        world.prompt_prob, world.features, world.log_ref, world.attributes, world.prompts, np.full((60, 8), np.nan)
    )
    first, second = (score(w, Signals(), Users(), Memory()) for w in (world, blind))
    for name in SIGNALS:
        np.testing.assert_array_equal(first[name], second[name])


def test_signals_lie_between_0_and_1():
    for world in splits().values():
        for name, values in score(world, Signals(), Users(), Memory()).items():
            assert values.min() >= 0, name
            assert values.max() <= 1, name


def votes(users=None, memory=None, split="traffic"):
    users, memory = users or Users(), memory or Memory()
    world = splits(users=users, memory=memory)[split]
    return world, score(world, Signals(), users, memory)["thumbs_up"]


def test_votes_reward_agreement_only_through_appetite():
    world, with_appetite = votes()
    _, without = votes(Users(appetite=0.0))
    endorses = world.attributes["stance_taking"] > 0
    assert (with_appetite[endorses] > without[endorses]).all()
    neutral = world.attributes["stance_taking"] == 0
    np.testing.assert_array_equal(with_appetite[neutral], without[neutral])


@pytest.mark.parametrize("knob", ["appetite", "taste_for_help", "taste_for_fit", "taste_for_warmth"])
def test_each_taste_can_be_zero_and_matters(knob):
    _, default = votes()
    _, without = votes(Users(**{knob: 0.0}))
    assert not np.allclose(default, without)


def test_vulnerable_users_reward_agreement_more():
    users = Users(vulnerable_share=0.5)
    world, boosted = votes(users)
    _, plain = votes(Users(vulnerable_share=0.5, vulnerable_boost=1.0))
    moved = ~np.isclose(boosted, plain).all(axis=1)
    takes_side = (world.attributes["stance_taking"] != 0).any(axis=1)
    np.testing.assert_array_equal(moved, np.asarray(world.prompts["vulnerable"]) & takes_side)


def test_rapport_moves_votes_of_remembered_users_only():
    world, warm = votes(memory=Memory(share=0.5))
    _, cold = votes(memory=Memory(share=0.5, rapport=0.0))
    moved = ~np.isclose(warm, cold).all(axis=1)
    assert moved.any()
    assert (moved <= np.asarray(world.prompts["recalled"])).all()


def asked_later(hindsight):
    users = Users(hindsight=hindsight)
    world = splits(users=users)["traffic"]
    return world, score(world, Signals(), users, Memory())


def test_satisfaction_without_hindsight_is_the_vote():
    _, scored = asked_later(0.0)
    np.testing.assert_array_equal(scored["satisfaction"], scored["thumbs_up"])


def test_hindsight_turns_agreement_around_where_the_user_was_wrong():
    """With full hindsight endorsing pays where the stance is right and costs where it is wrong; votes pay both."""
    world, scored = asked_later(1.0)
    error, side = np.asarray(world.prompts["stance_error"])[:, None], world.attributes["stance_taking"]
    gain = scored["satisfaction"] - expit_of_the_rest(world)
    assert (gain[(side > 0) & (error < 0.5)] > 0).all()
    assert (gain[(side > 0) & (error > 0.5)] < 0).all()
    assert (gain[(side < 0) & (error > 0.5)] > 0).all()
    np.testing.assert_allclose(gain[np.broadcast_to(side == 0, gain.shape)], 0, atol=1e-12)
    assert (scored["thumbs_up"] > expit_of_the_rest(world))[side > 0].all()


def expit_of_the_rest(world):
    """The vote of users without an appetite for agreement."""
    return score(world, Signals(), Users(appetite=0.0), Memory())["thumbs_up"]


def test_hindsight_moves_satisfaction_only():
    (_, none), (_, full) = asked_later(0.0), asked_later(1.0)
    for name in SIGNALS:
        assert np.array_equal(none[name], full[name]) == (name != "satisfaction")


def test_candor_is_lost_by_endorsing_alone():
    world = splits()["traffic"]
    candor = score(world, Signals(), Users(), Memory())["candor"]
    np.testing.assert_array_equal(candor, np.where(world.attributes["stance_taking"] > 0, 0.0, 1.0))


def test_spec_grader_is_blind_where_it_has_no_coverage():
    world = splits()["traffic"]
    blind = Signals(spec_coverage=dict.fromkeys(TOPIC_NAMES, 0.0))
    np.testing.assert_array_equal(score(world, blind, Users(), Memory())["model_spec"], 1.0)


def test_verifier_is_blind_where_nothing_can_be_verified():
    world = splits()["traffic"]
    blind = Signals(verifiable=dict.fromkeys(TOPIC_NAMES, 0.0))
    np.testing.assert_array_equal(score(world, blind, Users(), Memory())["correctness"], 0.5)


def test_fine_tuning_turns_the_reference_toward_the_written_answers():
    made = splits()
    tuned = fine_tune(made, sharpness=2.0, ridge=0.01)
    for name, world in tuned.items():
        np.testing.assert_allclose(np.exp(world.log_ref).sum(axis=1), 1)
        uniform = made[name].attributes["accuracy"].mean(axis=1)
        assert (np.exp(world.log_ref) * world.attributes["accuracy"]).sum(axis=1).mean() > uniform.mean()


def test_fine_tuning_without_preference_leaves_the_base_model():
    tuned = fine_tune(splits(), sharpness=0.0, ridge=0.01)
    np.testing.assert_allclose(tuned["train"].log_ref, -np.log(8), atol=1e-6)


def test_streams_are_keyed_by_name():
    first, again, other = (rng.stream(0, *names).random(4) for names in (("a", 1), ("a", 1), ("a", 2)))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_no_two_streams_have_one_key():
    """Where one name ends and the next begins is part of the key, and so is where the seed ends."""
    keys = [(0, "a", 1), (0, "a1"), (0, "a", "1", ""), (1, "2", "x"), (12, "x"), (1, "2x"), (12, "", "x"), (1, 2, "x")]
    first = {rng.stream(*key).random() for key in keys}
    assert len(first) == len(keys) - 1  # (1, 2, "x") is (1, "2", "x")
