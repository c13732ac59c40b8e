"""Where TRL's and Stable-Baselines3's trainers settle, where ours do, and the closed forms for both.

One problem for all: every prompt has the same eight responses, rewards and reference, so prompts are independent runs.
Standard errors come from their spread; margins are 4 standard errors plus .001, and at most .02.
"""

import numpy as np
import pytest

from benchmarks.peers import sb3_toy, trl_toy
from sim import rng
from sim.training import theory
from sim.training.policies import make_policy
from sim.training.sampled import Sampling
from sim.training.train import policy_log_probs, train
from sim.world.arrays import World, normalize_log

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs, about each other
REWARD = np.array([1.0, 0.6, 0.3, 0.0, -0.2, 0.8, -0.5, 0.1])
REF = np.array([0.05, 0.1, 0.2, 0.3, 0.15, 0.05, 0.1, 0.05])
UNIFORM = np.full(8, 1 / 8)
KL_COEF, GROUP = 0.5, 8
# A group's own mean shortens the reward's gradient by (G - 1) / G, and not that of a loss that stands beside it.
BESIDE = KL_COEF * GROUP / (GROUP - 1)


def tilt(ref, kl_coef):
    return np.exp(theory.tilt(np.log(ref)[None], REWARD[None], kl_coef))[0]


def k3_point(ref, kl_coef):
    return np.exp(theory.k3_fixed_point(np.log(ref)[None], REWARD[None], kl_coef))[0]


def assert_settled(found, expected, name):
    """The mean over independent rows [runs, K] is within 4 standard errors and .001 of what is expected.

    The .001 is for the last of the way: with the penalty in the reward, advantages and their noise vanish at the end.
    """
    off, error = found.mean(axis=0) - expected, found.std(axis=0, ddof=1) / np.sqrt(len(found))
    assert (np.abs(off) < np.minimum(4 * error + 0.001, 0.02)).all(), (name, off, error)


def ours(estimator, ref, kl_coef, rate, steps, tail, runs=64, **sampling):
    """Return our probabilities [runs, K], each averaged over the last updates of SGD."""
    log_ref = np.tile(np.log(ref), (runs, 1))
    policy = make_policy("tabular", World(np.full(runs, 1 / runs), np.zeros((*log_ref.shape, 1)), log_ref, {}))
    path = train(
        policy, np.tile(REWARD, (1, runs, 1)), np.ones((1, 1)), np.array([kl_coef]), np.array([rate * runs]),
        steps=steps, estimator=estimator, sampling=Sampling(prompts=0, samples=GROUP, **sampling),
    )  # fmt: skip
    return np.mean([np.exp(policy_log_probs(policy, theta))[..., 0] for theta in path.theta[-tail:]], axis=0)


class TestK3FixedPoint:
    def test_is_where_the_expected_gradient_vanishes(self):
        random = rng.stream(0, "tests", "k3")
        log_ref, reward = normalize_log(random.standard_normal((50, 6))), random.standard_normal((50, 6))
        for kl_coef in (0.01, 0.5, 20.0):
            probs = np.exp(theory.k3_fixed_point(log_ref, reward, kl_coef))
            np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-12)
            climb = probs * (reward - (probs * reward).sum(axis=1, keepdims=True))
            np.testing.assert_allclose(climb + kl_coef * (np.exp(log_ref) - probs), 0, atol=1e-12)

    def test_no_policy_nearby_does_better(self):
        random = rng.stream(1, "tests", "k3")
        best = k3_point(REF, KL_COEF)

        def objective(probs):
            return probs @ REWARD - KL_COEF * (REF * (np.log(REF) - np.log(probs))).sum(axis=-1)

        others = np.exp(normalize_log(np.log(best) + 0.05 * random.standard_normal((1000, 8))))
        assert (objective(others) < objective(best)).all()

    def test_is_the_tilt_to_first_order_in_small_pressure(self):
        np.testing.assert_allclose(k3_point(REF, 1e4), tilt(REF, 1e4), atol=1e-8)
        assert np.abs(k3_point(REF, KL_COEF) - tilt(REF, KL_COEF)).max() > 0.03

    def test_constant_reward_leaves_the_reference(self):
        found = theory.k3_fixed_point(np.log(REF)[None], np.full((1, 8), 0.3), KL_COEF)
        np.testing.assert_allclose(np.exp(found), REF[None], atol=1e-14)


@pytest.mark.skipif(not trl_toy.available(), reason="trl is missing: pip install 'thumbscale[peers]'")
@pytest.mark.slow
class TestTrl:
    """8 runs of 150 updates of SGD with 16 samples each, at a step size that falls to 0; the last 40 are averaged."""

    def theirs(self, folder, kind="GRPO", **settings):
        runs, groups, steps = 8, 2, 150
        names = trl_toy.prompt_names(runs, len(REF)) * groups
        trainer = trl_toy.make_trainer(
            trl_toy.tabular_model(folder, np.tile(np.log(REF), (runs, 1))), names,
            [trl_toy.by_token(np.tile(REWARD, (len(names), 1)))], kind=kind, only_head=True, group=GROUP, optim="sgd",
            learning_rate=8.0 * runs, lr_scheduler_type="linear", max_steps=steps, beta=KL_COEF, **settings,
        )  # fmt: skip
        logits = trl_toy.train_head(trainer)[-40:]
        return np.mean([np.exp(normalize_log(table)) for table in logits], axis=0)

    def test_grpo_with_k3_as_a_loss(self, tmp_path):
        expected = k3_point(REF, BESIDE)
        theirs = self.theirs(tmp_path, scale_rewards="none", use_bias_correction_kl=False)
        assert_settled(theirs, expected, "TRL")
        assert_settled(ours("grpo", REF, KL_COEF, 1.0, 600, 400, kl_estimator="k3"), expected, "ours")

    def test_grpo_with_the_default_penalty(self, tmp_path):
        """Its slope is k1's, beside the advantage; ours has k1 inside, where the group's mean shortens it as well."""
        theirs = self.theirs(tmp_path, scale_rewards="none")
        assert_settled(theirs, tilt(REF, BESIDE), "TRL")
        assert_settled(ours("grpo", REF, BESIDE, 1.0, 600, 400), tilt(REF, BESIDE), "ours")

    def test_rloo(self, tmp_path):
        theirs = self.theirs(tmp_path, kind="RLOO")
        assert_settled(theirs, tilt(REF, KL_COEF), "TRL")
        assert_settled(ours("rloo", REF, KL_COEF, 1.0, 600, 400), tilt(REF, KL_COEF), "ours")


@pytest.mark.skipif(not sb3_toy.available(), reason="stable-baselines3 is missing: pip install 'thumbscale[peers]'")
@pytest.mark.slow
def test_ppo_of_sb3():
    """An entropy bonus is a KL penalty to the uniform policy: softmax(reward / ent_coef).

    16 runs of 60 rollouts of 128 samples, 4 updates of Adam on each, at a step size that falls to 0.
    """
    ppo = sb3_toy.make_ppo(
        np.tile(REWARD, (16, 1)), 128, seed=0, ent_coef=KL_COEF, normalize_advantage=False, n_epochs=4,
        learning_rate=lambda left: 0.1 * left,
    )  # fmt: skip
    ppo.learn(16 * 128 * 60)
    expected = tilt(UNIFORM, KL_COEF)
    np.testing.assert_allclose(expected, np.exp(REWARD / KL_COEF) / np.exp(REWARD / KL_COEF).sum())
    assert_settled(sb3_toy.policy_probs(ppo), expected, "Stable-Baselines3")
    assert_settled(ours("ppo", UNIFORM, KL_COEF, 0.5, 600, 400, epochs=2), expected, "ours")
