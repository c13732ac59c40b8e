"""Our estimators beside trainers that nobody here wrote: TRL's GRPO and RLOO, Stable-Baselines3's PPO.

The same advantages on the same numbers, and the same updates on the same samples: the peer draws, both train on what
it drew. Fixed points are in test_peer_fixed_points.py; what the peers compute, line by line, in docs/peers.md.
"""

import numpy as np
import pytest
import torch

from benchmarks.peers import sb3_toy, trl_toy
from sim import rng
from sim.training.advantages import Normalization, advantages
from sim.training.policies import make_policy
from sim.training.sampled import SampledGradient, Sampling
from sim.world.arrays import World, normalize_log

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs, about each other
needs_trl = pytest.mark.skipif(not trl_toy.available(), reason="trl is missing: pip install 'thumbscale[peers]'")
needs_sb3 = pytest.mark.skipif(
    not sb3_toy.available(), reason="stable-baselines3 is missing: pip install 'thumbscale[peers]'"
)
PROMPTS, RESPONSES, GROUP = 4, 8, 8


@needs_trl
class TestAdvantagesOfTrl:
    WEIGHTS = (0.5, 0.3, 1.2)

    def numbers(self):
        """Rewards [P, S, G] of unlike spread; those of the last prompt are all the same."""
        random = rng.stream(0, "tests", "peers", "advantages")
        rewards = random.standard_normal((PROMPTS, 3, GROUP)) * [[1.0], [3.0], [0.2]]
        rewards[-1] = 0.5
        return rewards

    def theirs(self, folder, rewards, **settings):
        """Return TRL's advantages [P, G] for rewards [P, S, G]."""
        prompts, signals, group = rewards.shape
        model = trl_toy.tabular_model(folder, np.zeros((prompts, RESPONSES)))

        def told(signal):
            def answer(row, **_):
                assert row == [prompt for prompt in range(prompts) for _ in range(group)]
                return rewards[:, signal].ravel().tolist()

            return answer

        names = trl_toy.prompt_names(prompts, RESPONSES)
        functions = [told(signal) for signal in range(signals)]
        trainer = trl_toy.make_trainer(model, names, functions, group=group, max_steps=1, **settings)
        trainer.train()
        return np.array(trainer._logs["advantages"]).reshape(prompts, group)

    def ours(self, rewards, weights, aggregation, scale):
        group = rewards.shape[2]
        chosen = torch.full((len(rewards), group, 1), 1 / group, dtype=torch.float64)
        column = torch.tensor(weights, dtype=torch.float64)[:, None]
        found = advantages(torch.as_tensor(rewards), chosen, column, Normalization(aggregation, scale), group=group)
        return found[..., 0].numpy()

    @pytest.mark.parametrize("scale", ["group", "batch", "none"])
    def test_sum_then_normalize_gives_the_same_numbers(self, tmp_path, scale):
        rewards = self.numbers()
        theirs = self.theirs(tmp_path, rewards, reward_weights=list(self.WEIGHTS), scale_rewards=scale)
        ours = self.ours(rewards, self.WEIGHTS, "sum_then_normalize", scale)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        np.testing.assert_allclose(ours[-1], 0.0, atol=1e-10)

    @pytest.mark.parametrize("scale", ["group", "batch", "none"])
    def test_normalize_then_sum_is_scaled_over_the_batch_whatever_the_word(self, tmp_path, scale):
        """TRL leaves `scale_rewards` aside here; ours does the same where it says "batch"."""
        rewards, settings = self.numbers(), {"multi_objective_aggregation": "normalize_then_sum"}
        theirs = self.theirs(tmp_path, rewards, reward_weights=list(self.WEIGHTS), scale_rewards=scale, **settings)
        np.testing.assert_allclose(self.ours(rewards, self.WEIGHTS, "normalize_then_sum", "batch"), theirs, atol=1e-5)

    def test_v10_sums_that_normalisation_cannot_tell_apart(self, tmp_path):
        """GDPO (arXiv 2601.05242): summed rewards (0, 1), (0, 2), (1, 2) get one advantage, unless normalised first."""
        rewards = np.array([[[0, 1], [0, 0]], [[0, 1], [0, 1]], [[0, 1], [1, 1]]], dtype=float)
        theirs = self.theirs(tmp_path, rewards, scale_rewards="group")
        np.testing.assert_allclose(theirs, [[-0.7071, 0.7071]] * 3, atol=1e-3)
        ours = self.ours(rewards, (1.0, 1.0), "sum_then_normalize", "group")
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        ours = self.ours(rewards, (1.0, 1.0), "normalize_then_sum", "none")
        np.testing.assert_allclose(ours, [[-0.7071, 0.7071], [-1.4142, 1.4142], [-0.7071, 0.7071]], atol=1e-3)


class OnePass:
    """One sample that a peer drew from a table of logits: what it drew, and where its updates went.

    ref: [P, K] log-probabilities.
    start: [P, K] logits minus ref at the start.
    reward: [P, K].
    counts: [P, K] responses drawn.
    path: [updates + 1, P, K] the peer's logits.
    """

    def __init__(self, *names):
        random = rng.stream(0, "tests", "peers", *names)
        ref, self.start, self.reward = random.standard_normal((3, PROMPTS, RESPONSES))
        self.ref, self.counts = normalize_log(ref), np.zeros((PROMPTS, RESPONSES))
        self.path = np.empty(0)

    def clips(self, path):
        """Whether a drawn response had left the clipping range before the last update."""
        ratio = np.exp(normalize_log(path[-2]) - normalize_log(path[0]))
        return bool((np.abs(ratio - 1)[self.counts > 0] > 0.2).any())

    def ours(self, rate, *, kl_coef=0.0, scale="none", estimator="grpo", kl_estimator="k1", epochs=1, values=None):
        """Return our logits [epochs + 1, P, K] after each update on these samples."""
        world = World(np.full(PROMPTS, 1 / PROMPTS), np.zeros((*self.ref.shape, 1)), self.ref, {})
        policy = make_policy("tabular", world)
        sampling = Sampling(prompts=0, samples=int(self.counts[0].sum()), epochs=epochs, kl_estimator=kl_estimator)
        gradient = SampledGradient(
            policy, torch.as_tensor(self.reward.reshape(1, -1)), torch.tensor([kl_coef], dtype=torch.float64),
            Normalization(scale_rewards=scale), estimator, sampling,
        )  # fmt: skip
        gradient.weigh(torch.ones(1, 1, dtype=torch.float64))
        gradient._counts = lambda: torch.as_tensor(self.counts)[..., None]
        if values is not None:
            gradient._expected[:, 0, 0] = torch.as_tensor(values)
        path = [torch.as_tensor(self.start).reshape(-1, 1)]
        gradient.draw(path[0])
        for _ in range(epochs):
            path.append(path[-1] + rate * gradient(path[-1]))
        return self.ref + torch.stack(path).view(-1, PROMPTS, RESPONSES).numpy()


@needs_trl
class TestUpdatesOfTrl:
    RATE = 6.0  # large enough that the ratio is clipped within four epochs

    def drawn(self, folder, kind="GRPO", epochs=1, **settings):
        """Return what TRL's trainer drew and did, with SGD."""
        found = OnePass("trl")
        look_up = trl_toy.by_token(found.reward)

        def count(completion_ids, row, **_):
            np.add.at(found.counts, (row, [tokens[0] for tokens in completion_ids]), 1)
            return look_up(completion_ids, row)

        trainer = trl_toy.make_trainer(
            trl_toy.tabular_model(folder, found.ref), trl_toy.prompt_names(PROMPTS, RESPONSES), [count], kind=kind,
            only_head=True, group=GROUP, optim="sgd", learning_rate=self.RATE, num_iterations=epochs,
            max_steps=epochs, **settings,
        )  # fmt: skip
        with torch.no_grad():  # the policy has left the reference
            trainer.model.lm_head.weight.add_(torch.as_tensor(found.start.T, dtype=torch.float32))
        found.path = trl_toy.train_head(trainer)
        return found

    @pytest.mark.parametrize("scale", ["group", "none"])
    @pytest.mark.parametrize("epochs", [1, 4])
    def test_grpo_without_penalty(self, tmp_path, scale, epochs):
        found = self.drawn(tmp_path, epochs=epochs, scale_rewards=scale, beta=0.0)
        np.testing.assert_allclose(found.ours(self.RATE, scale=scale, epochs=epochs), found.path, atol=1e-4)
        assert found.clips(found.path) == (epochs > 1)

    @pytest.mark.parametrize("epochs", [1, 4])
    def test_grpo_with_the_k3_penalty_as_a_loss(self, tmp_path, epochs):
        settings = {"scale_rewards": "none", "beta": 0.3, "use_bias_correction_kl": False}
        found = self.drawn(tmp_path, epochs=epochs, **settings)
        ours = found.ours(self.RATE, kl_coef=0.3, kl_estimator="k3", epochs=epochs)
        np.testing.assert_allclose(ours, found.path, atol=1e-4)

    def test_default_penalty_of_grpo_is_k1_without_a_baseline(self, tmp_path):
        """Let x = ref / pi, rho = pi / pi_old: the slope of  rho (x - log x - 1)  in log pi is  rho log(pi / ref)."""
        found = self.drawn(tmp_path, scale_rewards="none", beta=0.3)
        log_pi = normalize_log(found.path[0])
        slope = -0.3 * found.counts / GROUP * (log_pi - found.ref)
        push = (slope - np.exp(log_pi) * slope.sum(axis=1, keepdims=True)) / PROMPTS
        np.testing.assert_allclose(found.ours(self.RATE)[1] + self.RATE * push, found.path[1], atol=1e-4)

    def test_rloo_with_the_penalty_in_the_reward(self, tmp_path):
        found = self.drawn(tmp_path, kind="RLOO", beta=0.3)
        ours = found.ours(self.RATE, kl_coef=0.3, estimator="rloo")
        np.testing.assert_allclose(ours, found.path, atol=1e-4)


@needs_sb3
@pytest.mark.parametrize("epochs", [1, 4])
def test_updates_of_sb3_ppo(epochs):
    """SGD, no critic loss; our critic is told Stable-Baselines3's values, so only the clipped surrogate is compared."""
    found, rate = OnePass("sb3"), 6.0
    ppo = sb3_toy.make_ppo(
        found.reward, GROUP, seed=0, learning_rate=rate, n_epochs=epochs, normalize_advantage=False, vf_coef=0.0,
        ent_coef=0.0, optimizer=torch.optim.SGD,
    )  # fmt: skip
    sb3_toy.set_logits(ppo, found.ref + found.start)
    values = sb3_toy.policy_values(ppo)
    ppo.learn(PROMPTS * GROUP)
    drawn = np.arange(PROMPTS)[:, None], ppo.rollout_buffer.actions.reshape(PROMPTS, GROUP).astype(int)
    np.add.at(found.counts, drawn, 1)
    advantage = ppo.rollout_buffer.advantages.reshape(PROMPTS, GROUP)
    np.testing.assert_allclose(advantage, found.reward[drawn] - values[:, None], atol=1e-5)
    ours = found.ours(rate, estimator="ppo", epochs=epochs, values=values)
    np.testing.assert_allclose(np.exp(normalize_log(ours[-1])), sb3_toy.policy_probs(ppo), atol=1e-5)
    assert found.clips(ours) == (epochs > 1)
