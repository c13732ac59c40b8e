"""Sampled estimators against the exact gradient, against loops over samples, and against the mixing law."""

import numpy as np
import pytest
import torch
from conftest import random_world
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import rng
from sim.config import SAMPLED
from sim.training.advantages import EPSILON, Normalization
from sim.training.estimators import ExactGradient
from sim.training.policies import make_policy
from sim.training.sampled import SampledGradient, Sampling
from sim.training.train import policy_log_probs, train

PLAIN = Normalization()
NORMALIZATIONS = [
    Normalization(aggregation, scale)
    for aggregation in ("sum_then_normalize", "normalize_then_sum")
    for scale in ("none", "group", "batch")
]


def problem(policy="loglinear", runs=2, seed=0, prompts=5, responses=4):
    world = random_world(prompts=prompts, responses=responses, seed=seed)
    random = rng.stream(seed, "tests", "estimators")
    signals = torch.as_tensor(random.standard_normal((3, prompts * responses)))
    actor = make_policy(policy, world, hidden=3)
    weights = torch.as_tensor(random.random((3, runs)))
    kl_coef = torch.as_tensor(random.uniform(0.1, 0.5, runs))
    theta = torch.as_tensor(random.standard_normal((actor.size, runs)) * 0.3)
    return actor, signals, weights, kl_coef, theta


def sampled(estimator, how=PLAIN, policy="loglinear", **options):
    actor, signals, weights, kl_coef, theta = problem(policy)
    gradient = SampledGradient(actor, signals, kl_coef, how, estimator, Sampling(**options))
    gradient.weigh(weights)
    return gradient, theta


def exact(how=PLAIN, policy="loglinear"):
    actor, signals, weights, kl_coef, theta = problem(policy)
    gradient = ExactGradient(actor, signals, kl_coef, how)
    gradient.weigh(weights)
    return gradient, theta


def z_scores(draws, expected):
    draws = torch.stack(draws)
    return ((draws.mean(0) - expected) / (draws.std(0) / len(draws) ** 0.5)).abs().max().item()


@pytest.mark.parametrize("policy", ["loglinear", "tabular", "mlp"])
@pytest.mark.parametrize("prompts", [0, 3])
@pytest.mark.parametrize("estimator", SAMPLED)
def test_the_estimate_is_unbiased_where_theory_says_so(estimator, prompts, policy):
    # 3,000 draws from one stream (seed 0); 4.5 standard errors for the largest of up to 40 coordinates.
    gradient, theta = sampled(estimator, policy=policy, prompts=prompts, samples=4)
    draws = []
    for _ in range(3000):
        gradient.draw(theta)
        draws.append(gradient(theta))
    share = 3 / 4 if estimator == "grpo" else 1.0  # a group's own mean takes 1 / G of each reward with it
    true, at = exact(policy=policy)
    assert z_scores(draws, share * true(at)) < 4.5


@pytest.mark.parametrize("estimator", SAMPLED)
def test_the_k3_loss_follows_the_forward_kl(estimator):
    gradient, theta = sampled(estimator, prompts=0, samples=4, kl_estimator="k3")
    gradient.weigh(torch.zeros_like(gradient.weights))
    draws = []
    for _ in range(3000):
        gradient.draw(theta)
        draws.append(gradient(theta))
    policy = gradient.policy
    ref = policy.log_ref.view(*policy.shape, 1).exp()
    true, at = exact()
    true(at)
    expected = policy.pullback((gradient.kl_coef * (ref - true.probs)).view(-1, theta.shape[1]))
    assert z_scores(draws, expected) < 4.5


@pytest.mark.parametrize("how", NORMALIZATIONS)
@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("estimator", SAMPLED)
def test_causes_sum_to_the_gradient(estimator, epochs, how):
    gradient, theta = sampled(estimator, how, prompts=4, samples=6, epochs=epochs)
    gradient.draw(theta)
    moved = theta + 0.3
    torch.testing.assert_close(gradient.by_cause(moved).sum(0), gradient(moved), atol=1e-12, rtol=0)


@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_causes_of_the_expected_gradient_sum_to_it(how):
    gradient, theta = exact(how)
    torch.testing.assert_close(gradient.by_cause(theta).sum(0), gradient(theta), atol=1e-12, rtol=0)


@pytest.mark.parametrize("estimator", SAMPLED)
def test_sampling_noise_is_zero_on_average(estimator):
    gradient, theta = sampled(estimator, prompts=3, samples=4)
    draws = []
    for _ in range(2000):
        gradient.draw(theta)
        draws.append(gradient.by_cause(theta)[-1])
    assert z_scores(draws, torch.zeros_like(draws[0])) < 4.5


@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_many_samples_give_the_normalized_expected_gradient(how):
    # 200,000 draws a prompt: the group's spread is the policy's, to 1/sqrt(400,000).
    gradient, theta = sampled("rloo", how, prompts=0, samples=200_000)
    gradient.draw(theta)
    true, at = exact(how)
    torch.testing.assert_close(gradient(theta), true(at), atol=0.01, rtol=0.02)


def loop_over_samples(gradient, theta, estimator, sampling, how):
    """The same gradient [D, R], sample by sample, from the definition; slopes of log pi by autograd."""
    here, runs = gradient._here, theta.shape[1]
    weight, signals = gradient.weights, gradient._signals
    total = torch.zeros_like(theta)
    for run in range(runs):
        at = theta[:, [run]].clone().requires_grad_()
        logits = (here._features @ at + here.log_ref).view(*here.shape)
        log_pi = torch.log_softmax(logits, dim=1)
        old, ref = gradient._log_old[..., run], here.log_ref.view(*here.shape)
        loss = 0.0
        groups = (gradient._chosen[..., run] * sampling.samples).round().long()
        picks = [torch.repeat_interleave(torch.arange(here.shape[1]), count) for count in groups]
        rewards = []
        for p, pick in enumerate(picks):
            by_signal = signals[p][:, pick]
            if how.aggregation == "normalize_then_sum":
                by_signal = by_signal / (by_signal.std(dim=1, keepdim=True) + EPSILON)
            rewards.append(weight[:, run] @ by_signal)
        every = torch.cat(rewards)
        if how.aggregation == "normalize_then_sum":
            every = torch.cat([r - r.mean() for r in rewards])
        for p, pick in enumerate(picks):
            scale = {
                "none": 1.0,
                "group": rewards[p].std() + EPSILON,
                "batch": every.std() + EPSILON,
            }[how.scale_rewards]
            penalty = gradient.kl_coef[run] * (ref[p][pick] - old[p][pick])
            reward = rewards[p] / scale + penalty
            others = (reward.sum() - reward) / (len(pick) - 1)
            advantage = reward - (others if estimator == "rloo" else reward.mean())
            ratio = (log_pi[p][pick] - old[p][pick].detach()).exp()
            clipped = ratio.clamp(1 - sampling.clip, 1 + sampling.clip)
            if estimator == "grpo":
                loss = loss + torch.minimum(ratio * advantage, clipped * advantage).mean() / len(picks)
            else:
                loss = loss + (advantage * log_pi[p][pick]).mean() / len(picks)
        loss.backward()
        total[:, run] = at.grad[:, 0]
    return total


@pytest.mark.parametrize("how", NORMALIZATIONS)
@pytest.mark.parametrize(("estimator", "epochs"), [("rloo", 1), ("grpo", 1), ("grpo", 3)])
def test_counts_equal_a_loop_over_samples(estimator, epochs, how):
    sampling = Sampling(prompts=4, samples=6, epochs=epochs)
    actor, signals, weights, kl_coef, theta = problem()
    gradient = SampledGradient(actor, signals, kl_coef, how, estimator, sampling)
    gradient.weigh(weights)
    gradient.draw(theta)
    here = theta + (0.25 if epochs > 1 else 0.0)  # far enough for the clip to bite
    expected = loop_over_samples(gradient, here, estimator, sampling, how)
    torch.testing.assert_close(gradient(here), expected, atol=1e-10, rtol=1e-10)


def test_the_k3_loss_is_taken_at_the_policy_that_learns():
    """In a second epoch it has moved from the one that drew; slopes by autograd, rewards aside."""
    gradient, theta = sampled("grpo", prompts=0, samples=6, epochs=2, kl_estimator="k3")
    gradient.weigh(torch.zeros_like(gradient.weights))
    gradient.draw(theta)
    policy, at = gradient.policy, (theta + 0.3).requires_grad_()
    log_pi = torch.log_softmax((policy.log_ref + policy._features @ at).view(*policy.shape, 2), dim=1)
    ratio = policy.log_ref.view(*policy.shape, 1) - log_pi
    penalty = gradient.kl_coef * (ratio.exp() - ratio - 1)
    torch.einsum("p,pkr,pkr->", policy.prompt_weight, gradient._chosen, -penalty).backward()
    torch.testing.assert_close(gradient(at.detach()), at.grad, atol=1e-12, rtol=0)


def test_the_critic_moves_towards_the_mean_of_what_was_seen():
    """A tenth of the way, from the prompt's mean over its groups; what was not drawn stays."""
    gradient, theta = sampled("ppo", samples=4, value_rate=0.1)
    rows = torch.tensor([0, 0, 3, 4, 4, 4])
    gradient._prompt_rows = lambda: rows
    before = gradient._expected.clone()
    gradient.draw(theta)
    seen = torch.bmm(gradient._signals, gradient._chosen)
    for prompt in range(5):
        mean = seen[rows == prompt].mean(dim=0) if prompt in rows else before[prompt, :-1]
        expected = before[prompt, :-1] + 0.1 * (mean - before[prompt, :-1])
        torch.testing.assert_close(gradient._expected[prompt, :-1], expected)


def test_every_epoch_of_a_step_goes_over_one_draw():
    actor, signals, weights, kl_coef, theta = problem()
    sampling = Sampling(prompts=4, samples=6, epochs=3)
    path = train(
        actor, signals.view(3, 5, 4).numpy(), weights.numpy(), kl_coef.numpy(), np.full(2, 0.3),
        steps=2, estimator="grpo", sampling=sampling,
    )  # fmt: skip
    gradient = SampledGradient(actor, signals, kl_coef, PLAIN, "grpo", sampling)
    gradient.weigh(weights)
    at = torch.zeros_like(theta)
    for _ in range(2):
        gradient.draw(at)
        for _ in range(3):
            at = at + 0.3 * gradient(at)
    np.testing.assert_allclose(path.theta[-1], at, atol=1e-12)


@pytest.mark.parametrize("how", NORMALIZATIONS)
@pytest.mark.parametrize("estimator", SAMPLED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_groups_of_equal_rewards_have_no_advantage(estimator, how, dtype):
    actor, signals, weights, kl_coef, theta = problem()
    actor = make_policy("loglinear", random_world(), {torch.float32: "float32", torch.float64: "float64"}[dtype])
    signals = torch.full_like(signals, 0.7, dtype=dtype)
    gradient = SampledGradient(actor, signals, 0 * kl_coef.to(dtype), how, estimator, Sampling(prompts=3, samples=8))
    gradient.weigh(weights.to(dtype))
    for _ in range(3):
        gradient.draw(theta.to(dtype))
        found = gradient(theta.to(dtype))
        assert found.isfinite().all()
        torch.testing.assert_close(
            found, torch.zeros_like(found), atol=1e-2 if dtype == torch.float32 else 1e-9, rtol=0
        )


@pytest.mark.parametrize("policy", ["loglinear", "tabular", "mlp"])
@pytest.mark.parametrize("estimator", SAMPLED)
def test_a_sampled_run_does_not_depend_on_its_batch(estimator, policy):
    world = random_world(prompts=12, responses=6, size=4)
    random = rng.stream(3, "tests")
    signals, weights = random.standard_normal((3, 12, 6)), random.random((3, 20))
    kl_coef, rate = random.uniform(0.1, 0.5, 20), random.uniform(0.05, 0.3, 20)
    epochs = 2 if estimator in ("grpo", "ppo") else 1
    options = {"steps": 15, "estimator": estimator, "sampling": Sampling(prompts=8, samples=4, epochs=epochs)}
    actor = make_policy(policy, world)
    together = train(actor, signals, weights, kl_coef, rate, **options).theta[-1]
    by_seven = train(actor, signals, weights, kl_coef, rate, chunk=7, **options).theta[-1]
    np.testing.assert_allclose(together, by_seven, rtol=1e-10, atol=1e-12)
    for run in (0, 13):
        part = slice(run, run + 1)
        alone = train(actor, signals, weights[:, part], kl_coef[part], rate[part], **options).theta[-1]
        np.testing.assert_allclose(together[:, part], alone, rtol=1e-10, atol=1e-12)


def test_another_sampling_seed_is_another_sample_of_the_same_world():
    world = random_world()
    arguments = (np.ones((1, 5, 4)) * np.arange(4), np.ones((1, 1)), np.ones(1), np.ones(1))
    first, again, other = (
        train(
            make_policy("loglinear", world), *arguments, steps=3, estimator="rloo", sampling=Sampling(sampling_seed=n)
        )
        for n in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.theta, again.theta)
    assert np.abs(first.theta[-1] - other.theta[-1]).max() > 1e-3


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), samples=st.integers(2, 30), prompts=st.integers(0, 6))
def test_every_draw_lands_on_a_candidate(seed, samples, prompts):
    actor, signals, weights, kl_coef, theta = problem(seed=seed)
    sampling = Sampling(seed=seed, prompts=prompts, samples=samples)
    gradient = SampledGradient(actor, signals, kl_coef, PLAIN, "rloo", sampling)
    gradient.weigh(weights)
    gradient.draw(theta * 5)
    torch.testing.assert_close(gradient._chosen.sum(1), torch.ones(prompts or 5, 2).double())
    assert (gradient._chosen >= 0).all()


def test_no_random_number_serves_twice():
    """Prompts and responses have streams of their own, and each has others under another seed or sampling seed."""
    seen = []
    for options in ({}, {"sampling_seed": 1}, {"seed": 1}):
        gradient, _ = sampled("rloo", **options)
        seen += [*gradient._draw_prompts.random(50), *gradient._draw_responses.random(50)]
    assert len(set(seen)) == 300


def test_draws_follow_the_policy():
    # 400 draws of 50 samples: frequencies within 4.5 standard errors of the policy.
    gradient, theta = sampled("rloo", prompts=0, samples=50)
    shares = []
    for _ in range(400):
        gradient.draw(theta)
        shares.append(gradient._chosen)
    assert z_scores(shares, gradient._old) < 4.5


@pytest.mark.parametrize("policy", ["loglinear", "tabular", "mlp"])
def test_the_gradient_is_that_of_autograd(policy):
    # An oracle that nobody here wrote.
    actor, signals, weights, kl_coef, theta = problem(policy)
    true = ExactGradient(actor, signals, kl_coef)
    true.weigh(weights)
    at = theta.clone().requires_grad_()
    if policy == "mlp":
        units, traits, _ = actor._start.shape
        inner = at[: units * traits].view(units, traits, 2) + actor._start
        active = torch.tanh(torch.einsum("nd,hdr->hnr", actor._features, inner))
        shift = torch.einsum("hnr,hr->nr", active, at[units * traits :])
    else:
        shift = actor._features @ at if policy == "loglinear" else at
    log_pi = torch.log_softmax((actor.log_ref + shift).view(*actor.shape, 2), dim=1)
    reward = (signals.T @ weights).view(*actor.shape, 2)
    value = log_pi.exp() * (reward - kl_coef * (log_pi - actor.log_ref.view(*actor.shape, 1)))
    torch.einsum("p,pkr->", actor.prompt_weight, value).backward()
    torch.testing.assert_close(true(theta), at.grad, atol=1e-12, rtol=1e-10)


def test_an_mlp_starts_at_the_reference_and_reaches_further_than_a_line():
    # The best answer is the one whose trait is near 0: no weight on the trait itself can say so.
    random = rng.stream(0, "tests", "mlp")
    traits = random.standard_normal((30, 6, 1))
    world = random_world(prompts=30, responses=6, size=1)
    world = type(world)(np.full(30, 1 / 30), traits, np.full((30, 6), -np.log(6)), {})
    signals = -(traits[..., 0] ** 2)[None]
    reward = {}
    for kind in ("loglinear", "mlp"):
        actor = make_policy(kind, world)
        path = train(
            actor, signals, np.ones((1, 1)), np.full(1, 0.05), np.full(1, 0.05),
            steps=300, estimator="exact", optimizer="adam",
        )  # fmt: skip
        probs = np.exp(policy_log_probs(actor, path.theta[0]))[..., 0]
        np.testing.assert_allclose(probs, 1 / 6, atol=1e-12)
        reward[kind] = (np.exp(policy_log_probs(actor, path.theta[-1]))[..., 0] * signals[0]).sum() / 30
    assert reward["mlp"] > reward["loglinear"] + 0.3
