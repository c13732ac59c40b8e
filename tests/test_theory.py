"""Edges of the closed forms. The forms themselves, against published numbers and training: tests/test_validation.py."""

import numpy as np
import pytest
from conftest import random_world

from sim.training import theory
from sim.validation import published
from sim.world.arrays import normalize_log


def test_no_critical_weight_where_both_push_the_same_way():
    assert np.isnan(theory.critical_weight(np.array([1.0, 2.0]), [1.0, 0.0], 1))


def test_a_given_target_is_that_of_the_reference():
    log_ref, reward, agrees = published.V3.arrays()
    penalty = theory.minimal_penalty(log_ref, reward, agrees, published.V3_KL_COEF)
    given = theory.minimal_penalty(log_ref, reward, agrees, published.V3_KL_COEF, target=0.2)
    np.testing.assert_allclose(given, penalty, atol=1e-12)


def test_no_penalty_where_agreement_does_not_rise_or_cannot_change():
    log_ref = np.log(np.full((3, 2), 0.5))
    agrees = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    reward = np.array([[-1.0, 0.0], [1.0, 2.0], [1.0, 2.0]])
    np.testing.assert_array_equal(theory.minimal_penalty(log_ref, reward, agrees, 0.5), 0)
    with pytest.raises(ValueError, match="agreement must be 0 or 1"):
        theory.minimal_penalty(log_ref, reward, agrees / 2, 0.5)


def test_best_of_one_is_the_reference():
    log_ref = random_world().log_ref
    np.testing.assert_allclose(theory.best_of_n(log_ref, log_ref * 2, 1), log_ref, atol=1e-12)


@pytest.mark.parametrize("kl_coef", [0.4, 2.5])
def test_the_least_penalty_restores_the_reference(kl_coef):
    log_ref, reward, agrees = published.V3.arrays()
    penalty = theory.minimal_penalty(log_ref, reward, agrees, kl_coef)
    assert (penalty > 0).all()
    held = np.exp(theory.tilt(log_ref, reward - penalty[:, None] * agrees, kl_coef))
    np.testing.assert_allclose((held * agrees).sum(axis=1), (np.exp(log_ref) * agrees).sum(axis=1), atol=1e-12)


def test_a_prompt_of_low_logits_is_normalised_beside_one_of_high():
    """exp(-2000) is 0: each row is shifted by its own largest logit."""
    found = np.exp(normalize_log(np.array([[2000.0, 2000.0], [-2000.0, -2000.0 + np.log(3)]])))
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.25, 0.75]])
