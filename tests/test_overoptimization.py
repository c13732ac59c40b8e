"""V5: the Gaussian problem of over-optimisation, exactly; both published forms; the null of an unbiased error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.overoptimization import ARMS, POINTS, Overoptimization, figure_groups, fit_table, read_path
from sim import rng
from sim.analysis.overoptimization import FORMS, curve, fall, fit, peak, spaced
from sim.config import Training
from sim.plots.overoptimization import Path
from sim.training.policies import make_policy
from sim.training.theory import best_of_n, kl_divergence, tilt
from sim.training.train import kl_and_entropy, train
from sim.validation import published
from sim.validation.overoptimization import Gaussian
from sim.validation.overoptimization import path as gaussian_path
from sim.validation.small import Way
from sim.variants import Arm, read_arm
from sim.world.arrays import World

GAUSSIAN = Gaussian(published.V5_BEND)


def test_v5_the_form_published_for_best_of_n_is_the_exact_one_here():
    """So which form fits is a matter of the problem, not of RL against best-of-n."""
    distance, gained = gaussian_path(GAUSSIAN, Way("tabular", "natural"), np.zeros(1), np.full(1, 0.125), 84)
    kept = spaced(distance[1:, 0], 20) + 1
    assert fit("best-of-n", distance[kept].T, gained[kept].T).explained[0] == pytest.approx(1, abs=1e-6)
    assert fit("RL", distance[kept].T, gained[kept].T).explained[0] < 0.95


def test_v5_best_of_n_gains_less_at_the_same_distance():
    """The tilt is the policy with the highest proxy at its KL, so best-of-n cannot be above it."""
    world, proxy, _ = GAUSSIAN.arrays()
    for n in (2, 8, 64, 1000):
        policy = best_of_n(world.log_ref, proxy, n)
        distance = np.sqrt(kl_divergence(policy, world.log_ref)[0])
        assert (np.exp(policy) * proxy).sum() < np.sqrt(2) * distance + 1e-9


@pytest.mark.parametrize("form", FORMS)
@settings(deadline=None)
@given(a=st.floats(0.1, 5), b=st.floats(-1, 2))
def test_a_fit_finds_the_coefficients_of_its_own_form(form, a, b):
    distance = np.linspace(0.1, 3, 12)[None]
    found = fit(form, distance, curve(form, np.array([a]), np.array([b]), distance))
    np.testing.assert_allclose([found.a[0], found.b[0]], [a, b], atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_the_peak_is_where_the_curve_is_highest(form):
    a, b = np.array(1.3), np.array(0.4)
    at, height = peak(form, a, b)
    around = np.linspace(at - 0.5, at + 0.5, 10_001)
    values = curve(form, a, b, around)
    assert around[values.argmax()] == pytest.approx(at, abs=1e-4)
    assert values.max() == pytest.approx(height, abs=1e-8)


def test_a_curve_that_never_bends_down_has_no_peak():
    for form in FORMS:
        assert np.isinf(peak(form, np.array([1.0, 1.0]), np.array([0.0, -0.3]))[0]).all()


def test_kept_points_are_spread_by_distance_and_not_by_step():
    distance = 1 - np.exp(-np.arange(1, 1001) / 100)
    np.testing.assert_allclose(distance[spaced(distance, 8)], np.arange(1, 9) / 8, atol=0.01)
    assert len(spaced(np.array([0.3, 0.6]), 8)) == 2


def test_a_rise_has_no_fall():
    assert fall(np.array([[1.0, 2.0], [0.0, 3.0]])) == (1, pytest.approx([0, 0]))
    assert fall(np.array([[1.0, 2.0, 1.5], [0.0, 3.0, 2.0]])) == (1, pytest.approx([0.5, 1.0]))


def noisy_world(bias, prompts=400, responses=64):
    """Proxy = true + an error of equal spread that is unbiased, or that grows with a trait that truth dislikes."""
    random = rng.stream(5, "tests", "null")
    trait, merit, noise = random.standard_normal((3, prompts, responses))
    true = merit - bias * np.maximum(trait, 0) ** 2
    proxy = merit + (trait if bias else noise)
    flat = np.full((prompts, responses), -np.log(responses))
    return World(np.full(prompts, 1 / prompts), np.zeros((prompts, responses, 1)), flat, {}), proxy, true


def path_of(world, proxy, true):
    policy = make_policy("tabular", world)
    path = train(policy, proxy[None], np.ones((1, 1)), np.zeros(1), np.full(1, 0.1), steps=60)
    probs = [np.exp(tilt(world.log_ref, path.theta[t].reshape(proxy.shape), 1.0)) for t in range(len(path.steps))]
    kl, _ = kl_and_entropy(policy, path.theta, world.prompt_prob)
    gained = np.array([(prob * values).sum(axis=1) for prob in probs for values in (true, proxy)])
    gained = gained.reshape(len(probs), 2, -1)
    return np.sqrt(np.maximum(kl[:, 0], 0)), gained - gained[0]  # [T], [T, (true, proxy), P]


def test_null_an_unbiased_independent_error_gives_no_turnover():
    """True is half of what the proxy promises (V11, k = 1) at every distance, within 3 SE over 400 prompts."""
    distance, gained = path_of(*noisy_world(bias=0.0))
    promised = gained[:, 0] - 0.5 * gained[:, 1]
    error = promised[1:].std(axis=1, ddof=1) / np.sqrt(promised.shape[1])
    assert (np.abs(promised[1:].mean(axis=1)) < 3 * error).all()
    assert distance[-1] > 1.5
    true = gained[:, 0].mean(axis=1)
    assert true.argmax() == len(true) - 1 or true.max() - true[-1] < 3 * error[-1]


def test_a_structural_bias_does_give_turnover():
    """The same spread of error, but one that truth dislikes: the fall is more than 5 standard errors."""
    _, gained = path_of(*noisy_world(bias=1.0))
    top, lost = fall(gained[:, 0].T)
    assert 0 < top < len(gained) - 1
    assert lost.mean() > 5 * lost.std(ddof=1) / np.sqrt(len(lost))


def test_the_table_of_fits_names_the_better_form_and_the_fall():
    distance = np.tile(np.linspace(0.2, 2, 10), (6, 1)) + 0.01 * np.arange(6)[:, None]
    paths = {}
    for form in FORMS:
        true = curve(form, np.full(6, 1.0), np.full(6, 0.45), distance)
        paths[form] = Path("step", np.arange(10.0), distance, true, true)
    table = fit_table(paths).set_index("arm")
    assert table["fits_better"].to_dict() == {"best-of-n": "best-of-n", "RL": "RL"}
    assert table.loc["best-of-n", "best-of-n turns at"] == pytest.approx(1 / 0.9, abs=0.02)
    assert table.loc["best-of-n", "fall"] > 0.1
    assert table.loc["RL", "highest at"] > 1.9


def test_other_proxies_stand_beside_the_same_way_of_optimising():
    settings = Overoptimization(training=Training(ledger=False))
    arms = {name: read_arm(settings, name, text) for name, text in ARMS.items() if name != "best_of_n"}
    arms["kl"] = read_arm(settings, "kl", "kl_coef=0.1,0.2")
    arms["kl_oracle"] = read_arm(settings, "kl_oracle", "signals.source.thumbs_up=oracle kl_coef=0.1,0.2")
    groups = figure_groups(arms)
    assert "natural_oracle" not in groups["estimators"]
    assert groups["proxies"][:2] == ["natural", "kl"]
    assert len(groups["estimators"]) + len(groups["proxies"]) == len(arms) + 2
    assert list(figure_groups({"natural": arms["natural"]})) == ["estimators"]


def test_paths_count_from_the_reference_and_grow():
    import sim
    from sim.variants import simulate_variants

    settings = sim.Settings(
        world=sim.Chat(prompts=24, responses=4), kl_coef=1e-6, training=sim.Training(ledger=False, record_every=1)
    )
    swept = Arm([{"kl_coef": 0.1}, {"kl_coef": 0.5}, {"kl_coef": 0.2}], "kl_coef", [0.1, 0.5, 0.2])
    seeds = np.arange(3)
    along = read_path(Arm([{}], "step", []), simulate_variants(settings, [{}], seeds), "true/quality")
    ends = read_path(swept, simulate_variants(settings, swept.variants, seeds), "true/quality")
    assert ends.values.tolist() == [0.5, 0.2, 0.1]
    for path in (along, ends):
        assert (np.diff(path.distance.mean(axis=0)) > 0).all()
        assert (path.proxy > 0).all()
    assert 8 <= len(along.values) <= POINTS
