"""Variants on the same seeds: each equals the run that the settings alone would give."""

import numpy as np
import pytest

import sim
from sim.config import InputError, Settings, with_value
from sim.variants import at_start, final, read_changes, simulate_variants

SMALL = Settings(world=sim.Chat(prompts=24, responses=4), training=sim.Training(steps=8, record_every=4, ledger=False))
SEEDS = np.array([3, 1])
VARIANTS = [
    {},
    {"mixture.weights.thumbs_up": 0.3},
    {"memory.share": 1, "mixture.weights.thumbs_up": 0.3},
    {"kl_coef": 0.2, "memory.share": 1},
    {"training.steps": 4},
]


@pytest.fixture(scope="module")
def found():
    return simulate_variants(SMALL, VARIANTS, SEEDS)


@pytest.mark.parametrize("index", range(len(VARIANTS)))
def test_a_variant_is_the_run_that_its_settings_give(found, index):
    for row, seed in enumerate(SEEDS):
        settings = with_value(SMALL, "seed", int(seed))
        for key, value in VARIANTS[index].items():
            settings = with_value(settings, key, value)
        alone = sim.simulate(settings)
        for name in ("sycophancy/rate", "true/quality", "kl"):
            np.testing.assert_allclose(found[index][name].values[row], alone[name].values[0], rtol=1e-10, atol=1e-12)


def test_variants_start_from_the_same_reference(found):
    starts = at_start(found, "sycophancy/rate")
    assert starts.shape == (2, 5)
    np.testing.assert_allclose(starts, np.repeat(starts[:, :1], 5, axis=1))
    assert len(np.unique(final(found, "sycophancy/rate")[0])) == 5


def test_a_weight_that_only_one_variant_names_is_0_in_the_others():
    lean = with_value(SMALL, "mixture", sim.Mixture(weights={"correctness": 1.0, "thumbs_up": 0.0}))
    alone, other = simulate_variants(lean, [{}, {"mixture.weights.safety": 1.0}], SEEDS)
    np.testing.assert_array_equal(alone["rewards/safety/weighted"].values, 0)
    np.testing.assert_allclose(alone["kl"].values, simulate_variants(lean, [{}], SEEDS)[0]["kl"].values, rtol=1e-12)
    assert (other["rewards/safety/weighted"].values > 0).all()


def test_progress_counts_every_run():
    done = []
    simulate_variants(SMALL, VARIANTS, SEEDS, done.append)
    assert sum(done) == len(VARIANTS) * len(SEEDS)


def test_values_keep_their_kind():
    text = "memory.share=1 kl_coef=1e-3,0.5 mixture.renormalize=false training.optimizer=sgd mixture.weights.new=0.1"
    assert read_changes(SMALL, "arm", text) == {
        "memory.share": [1], "kl_coef": [0.001, 0.5], "mixture.renormalize": [False], "training.optimizer": ["sgd"],
        "mixture.weights.new": [0.1],
    }  # fmt: skip


def test_settings_that_only_go_together_are_read_together():
    text = "training.estimator=best_of_n policy.kind=tabular training.candidates=2,4"
    assert read_changes(SMALL, "arm", text)["training.candidates"] == [2, 4]
    with pytest.raises(InputError, match=r"arm: training\.estimator = best_of_n: needs policy\.kind = tabular"):
        read_changes(SMALL, "arm", "training.estimator=best_of_n training.candidates=2,4")


def test_an_unknown_signal_is_refused_when_the_world_is_made():
    with pytest.raises(InputError, match="unknown signal 'nothing'"):
        simulate_variants(SMALL, [{"mixture.weights.nothing": 0.1}], SEEDS)
