"""McNemar, Wilcoxon, detectable differences."""

import numpy as np
import pytest

from labelbridge.lightning_app.evaluation.significance_tests import detectable_effect, mcnemar, signed_rank


def test_mcnemar_is_a_fair_coin_over_discordant_rows():
    method = np.array([True] * 8 + [False] * 2 + [True] * 90)
    baseline = np.array([False] * 8 + [True] * 2 + [True] * 90)
    found = mcnemar(method, baseline)
    assert (found.only_method, found.only_baseline) == (8, 2)
    assert found.p == pytest.approx(2 * (1 + 10 + 45) / 2**10)  # P(at most 2 heads of 10), both sides


def test_mcnemar_of_equal_predictions_finds_nothing():
    right = np.array([True, False, True])
    assert mcnemar(right, right).p == 1


def test_wilcoxon_of_eight_gains():
    """All of one sign: 2 / 2^8, the least that eight pairs can give."""
    found = signed_rank([0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08])
    assert found.p == pytest.approx(2 / 2**8)
    assert found.least_p == found.p


def test_wilcoxon_without_any_difference_has_no_p_value():
    assert signed_rank([0.0, 0.0, 0.0]).p is None


def test_five_pairs_cannot_reach_five_percent():
    assert signed_rank([1, 2, 3, 4, 5]).least_p > 0.05


def test_a_difference_of_the_detectable_size_is_found_in_four_of_five_cases():
    rng = np.random.default_rng(0)
    observed = rng.normal(detectable_effect(0.5), 0.5, size=100_000)
    assert (np.abs(observed / 0.5) > 1.96).mean() == pytest.approx(0.8, abs=0.01)
