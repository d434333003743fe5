"""Risk against coverage, and conformal sets."""

import numpy as np
import pytest

from labelbridge.lightning_app.calibration.abstention import (
    area_under_risk_coverage,
    conformal_sets,
    conformal_threshold,
    risk_coverage,
)
from labelbridge.lightning_app.core.errors import InputError


def test_risk_is_the_error_rate_of_the_rows_answered_so_far():
    probs = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.8, 0.2]])
    label = np.array([0, 0, 0, 1])  # by certainty: right, wrong (0.8), wrong (0.7), right (0.6)
    coverage, risk = risk_coverage(probs, label)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([0, 1 / 2, 2 / 3, 2 / 4])
    assert area_under_risk_coverage(probs, label) == pytest.approx(risk.mean())


def test_rows_of_equal_certainty_may_come_in_any_order():
    probs = np.tile([0.6, 0.4], (6, 1))
    label = np.array([0, 1, 0, 1, 1, 1])
    for order in (np.arange(6), np.arange(6)[::-1]):
        assert risk_coverage(probs[order], label[order])[1].tolist() == pytest.approx([4 / 6] * 6)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_sets_hold_the_true_label_as_often_as_promised(alpha: float):
    rng = np.random.default_rng(0)
    probs = rng.dirichlet([1, 1, 1], 20_000)
    label = np.array([rng.choice(3, p=row) for row in probs])
    threshold = conformal_threshold(probs[:10_000], label[:10_000], alpha)
    sets = conformal_sets(probs[10_000:], threshold)
    assert sets[np.arange(10_000), label[10_000:]].mean() == pytest.approx(1 - alpha, abs=0.01)


def test_the_rank_of_the_score_counts_the_new_row():
    """Of 9 rows at alpha 0.1 the ceil(10 * 0.9) = 9th score; of 8 rows the 9th does not exist."""
    own = np.linspace(0.1, 0.9, 9)
    probs = np.stack([own, 1 - own], axis=1)
    assert conformal_threshold(probs, np.zeros(9, dtype=int), 0.1) == pytest.approx(0.1)
    assert conformal_threshold(probs[1:], np.zeros(8, dtype=int), 0.1) == 0
    assert conformal_sets(probs, 0.0).all()


def test_alpha_is_a_share():
    with pytest.raises(InputError, match="alpha is 1.0, expected 0 < alpha < 1"):
        conformal_threshold(np.ones((2, 2)) / 2, np.array([0, 1]), 1.0)
