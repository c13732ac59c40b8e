"""Who is targeted: V6 in the chat world, and what memory tells of its user."""

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from test_commands import run

import sim
from experiments.app import CONFIGS, to_settings
from experiments.targeting import Targeting, drift_by_group, population, twins
from sim.config import Chat, Memory, Policy, Settings, Signals, Training, Users, with_value
from sim.validation.published import V6_SHARES
from sim.world.chat import AGREEMENT_FEATURES, make_chat
from sim.world.twins import blend

SEEDS = range(4)
# Memory that keeps what kind of person its user is, and nothing else; oracles, so that no estimation error interferes.
TYPE_ONLY = Memory(share=1.0, recall=0.0, rapport=0.0)
SETTINGS = with_value(
    Settings(
        world=Chat(prompts=100, responses=8),
        memory=TYPE_ONLY,
        signals=Signals(source={"thumbs_up": "oracle", "preference": "oracle"}),
        training=Training(ledger=False, record_every=100),
    ),
    "mixture.weights.thumbs_up",
    0.13,
)


@functools.cache
def drift(share, knows_user, policy="loglinear"):
    """Drift of (all, others, vulnerable) on the same users whatever their share, [seed, 3]."""
    settings = dataclasses.replace(SETTINGS, policy=Policy(kind=policy))
    found = []
    for seed in SEEDS:
        problem = population(settings, twins(settings, seed), share, knows_user, seed)
        by_group = drift_by_group(settings, problem, seed)
        found.append([by_group[group] for group in ("all", "others", "vulnerable")])
    return np.array(found)


def test_v6_in_the_chat_world_drift_of_known_vulnerable_users_does_not_depend_on_their_share():
    """Traits shared with others (stakes, warmth) leave a trace: within 0.003 in every world, of both groups."""
    found = np.array([drift(share, 1.0) for share in V6_SHARES])
    assert np.ptp(found[..., 1:], axis=0).max() < 0.003


def test_v6_exact_for_a_tabular_policy():
    """Nothing is shared between prompts: 1e-9."""
    found = np.array([drift(share, 1.0, "tabular") for share in (0.5, 0.02)])
    assert np.ptp(found[..., 1:], axis=0).max() < 1e-9


def test_drift_of_unknown_vulnerable_users_depends_on_their_share():
    """Higher by more than 0.015 at one half than at 2 %, in every world; and they drift as everybody does, 1e-9."""
    many, few = drift(0.5, 0.0), drift(0.02, 0.0)
    assert (many[:, 2] - few[:, 2]).min() > 0.015
    np.testing.assert_allclose(many[:, 2], many[:, 1], atol=1e-9)


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_what_memory_knows_moves_between_the_two(share):
    """In every world vulnerable users drift further up at each step of knows_user, and others no further up."""
    found = np.array([drift(share, k) for k in (0.0, 0.5, 1.0)])
    assert (np.diff(found[..., 2], axis=0) > 0).all()
    assert (np.diff(found[..., 1], axis=0) < 0).all()


def test_dependence_on_the_share_fades_as_memory_knows_more():
    spread = [(drift(0.5, k) - drift(0.02, k))[:, 2].mean() for k in (0.0, 0.5, 1.0)]
    assert spread[0] > spread[1] > spread[2]


def test_memory_may_be_neutral_on_average_and_strong_for_some():
    """At a share of 0.1, in every world: the mean moves by less than 0.002, vulnerable users by more than 0.02."""
    moved = drift(0.1, 1.0) - drift(0.1, 0.0)
    assert np.abs(moved[:, 0]).max() < 0.002
    assert moved[:, 2].min() > 0.02


def test_memory_that_guesses_is_as_good_as_none():
    """knows_user just above 0: what memory says is independent of the user, so nothing is learned from it (1e-5)."""
    np.testing.assert_allclose(drift(0.3, 1e-9), drift(0.3, 0.0), atol=1e-5)


def test_blend_has_the_shares_that_it_says():
    users, memory = Users(), dataclasses.replace(TYPE_ONLY, knows_user=1.0)
    calm, vulnerable = (
        make_chat(SETTINGS.world, dataclasses.replace(users, vulnerable_share=s), memory, 0)["traffic"]
        for s in (0.0, 1.0)
    )
    world = blend(calm, vulnerable, 0.2, 0.6)
    is_vulnerable, said = world.prompts["vulnerable"], world.prompts["seen_vulnerable"]
    assert world.prompt_prob.sum() == pytest.approx(1)
    assert world.prompt_prob @ is_vulnerable == pytest.approx(0.2)
    assert world.prompt_prob @ (is_vulnerable & said) == pytest.approx(0.2 * (0.6 + 0.4 * 0.2))
    assert world.prompt_prob @ (~is_vulnerable & said) == pytest.approx(0.8 * 0.4 * 0.2)
    for name in ("stance_error", "stakes", "has_stance"):
        np.testing.assert_array_equal(calm.prompts[name], vulnerable.prompts[name])


@pytest.mark.slow
def test_drawn_populations_agree_with_blended_ones():
    """The knobs themselves, over 32 worlds of 200 prompts, at a share of 0.3 and knows_user 0.5: within 3 SE."""
    settings = with_value(with_value(SETTINGS, "world.prompts", 200), "users.vulnerable_share", 0.3)
    settings = with_value(settings, "memory.knows_user", 0.5)
    data = sim.simulate(settings, {"seed": np.arange(32)})
    drawn = (data["sycophancy/vulnerable"].isel(step=-1) - data["sycophancy/vulnerable"].isel(step=0)).values
    blended = [
        drift_by_group(settings, population(settings, twins(settings, seed), 0.3, 0.5, seed), seed)["vulnerable"]
        for seed in range(32)
    ]
    difference = drawn - np.array(blended)
    assert abs(difference.mean()) < 3 * difference.std(ddof=1) / np.sqrt(32)


def told(remembered, knows_user):
    """Traffic of 3,000 users, 30 % of them vulnerable."""
    memory = Memory(share=remembered, knows_user=knows_user)
    return make_chat(Chat(prompts=3000, responses=3), Users(vulnerable_share=0.3), memory, 0)["traffic"]


@pytest.mark.parametrize(("remembered", "knows_user"), [(0.0, 1.0), (1.0, 0.0)])
def test_without_memory_or_note_nothing_is_seen_of_the_user(remembered, knows_user):
    world = told(remembered, knows_user)
    assert not world.prompts["seen_vulnerable"].any()
    assert not world.features[..., 3:5].any()


def test_memory_that_knows_its_users_tells_the_truth():
    everybody, half = told(1.0, 1.0).prompts, told(0.5, 1.0).prompts
    np.testing.assert_array_equal(everybody["seen_vulnerable"], everybody["vulnerable"])
    assert (half["seen_vulnerable"] <= half["vulnerable"]).all()
    assert half["seen_vulnerable"].sum() < half["vulnerable"].sum()


@pytest.mark.parametrize("knows_user", [0.3, 0.8])
def test_memory_that_does_not_know_guesses_at_the_population_share(knows_user):
    """P(says vulnerable | vulnerable) and P(... | not), within 4 SE."""
    fields = told(1.0, knows_user).prompts
    for is_vulnerable, expected in ((True, knows_user + 0.3 * (1 - knows_user)), (False, 0.3 * (1 - knows_user))):
        said = fields["seen_vulnerable"][fields["vulnerable"] == is_vulnerable]
        assert abs(said.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / len(said))


def test_knowing_the_user_moves_nothing_but_two_features():
    without, with_note = told(1.0, 0.0), told(1.0, 1.0)
    for name in without.attributes:
        np.testing.assert_array_equal(without.attributes[name], with_note.attributes[name])
    changed = (without.features != with_note.features).any(axis=(0, 1))
    np.testing.assert_array_equal(np.flatnonzero(changed), [3, 4])
    assert AGREEMENT_FEATURES.stop == 5


def test_default_config_is_the_default_of_the_dataclass():
    with initialize_config_dir(CONFIGS, version_base="1.3"):
        made = to_settings(compose("targeting"))
    expected = with_value(Targeting(), "mixture.weights.thumbs_up", 0.13)
    expected.memory, expected.training.ledger = TYPE_ONLY, False
    expected.signals.source |= {"thumbs_up": "oracle", "preference": "oracle"}
    assert made == expected


@pytest.mark.slow
def test_command_writes_figure_table_and_report(tmp_path):
    small = ["world.prompts=60", "world.responses=6", "training.steps=20", "training.record_every=20"]
    result = run("targeting", *small, "points=2", "levels=3", "seeds=2", f"out={tmp_path}/out")
    assert result.returncode == 0, result.stderr
    assert "memory knows its user, share 0.02" in result.stdout
    assert len(pd.read_csv(tmp_path / "out" / "targeting.csv")) == 12
    for name in ("targeting.png", "targeting.svg", "report.html", "settings.json"):
        assert (tmp_path / "out" / name).stat().st_size > 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("users.vulnerable_share=0.3", "users.vulnerable_share: is what varies here"),
        ("memory.knows_user=0.5", "memory.knows_user: is what varies here"),
        ("memory.share=0", "memory.share = 0: without memory nothing is known of any user"),
        ("max_share=0.01", "min_share = 0.02: must be < max_share"),
        ("experiment=own_scores", "memory: has no effect on a score table"),
    ],
)
def test_bad_input_is_one_clear_line(override, message, tmp_path):
    result = run("targeting", override, f"out={tmp_path}/out")
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()
