"""Intervals, differences and their p values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelbridge.lightning_app.evaluation.bootstrap import (
    Difference,
    Resampling,
    difference,
    interval,
    statistic,
)
from labelbridge.lightning_app.evaluation.metrics import classification_metrics
from labelbridge.lightning_app.evaluation.significance_tests import holm


def right(*counts: int) -> np.ndarray:
    """Rows in blocks of so many rights and wrongs in turn, for one seed."""
    return np.concatenate([np.full(count, number % 2 == 0) for number, count in enumerate(counts)])[None]


def accuracies(right_SN: np.ndarray, resampling: Resampling, seeds: list[str]) -> np.ndarray:
    """The resampled accuracy of a method: label 0 everywhere, predicted where the row is right."""
    label_N = np.zeros(right_SN.shape[1], dtype=int)
    probs = [np.eye(2)[np.where(row, 0, 1)] for row in right_SN]
    by_seed = resampling.values([statistic("accuracy", label_N, probs_NC) for probs_NC in probs])
    return (resampling.seed_shares(seeds) * by_seed.T).sum(axis=1)


def compare(method_SN: np.ndarray, baseline_SN: np.ndarray, method_seeds: str = "0", base_seeds: str = "0"):
    resampling = Resampling(method_SN.shape[1], [*method_seeds, *base_seeds])
    values = accuracies(method_SN, resampling, [*method_seeds]), accuracies(baseline_SN, resampling, [*base_seeds])
    return difference(method_SN.mean() - baseline_SN.mean(), *values)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "ece", "ce"])
def test_the_sums_over_all_rows_give_the_metric_itself(metric: str):
    rng = np.random.default_rng(0)
    label_N, probs_NC = rng.integers(0, 3, 200), rng.dirichlet([1, 2, 3], size=200)
    probs_NC[:3] = np.eye(3)
    own = statistic(metric, label_N, probs_NC)
    value = own.value(own.terms_NK.sum(axis=0)[None], 200)
    assert value == pytest.approx([classification_metrics(label_N, probs_NC)[metric]], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "ce"])
def test_the_interval_is_that_of_rows_drawn_one_by_one(metric: str):
    rng = np.random.default_rng(1)
    label_N, probs_NC = rng.integers(0, 3, 150), rng.dirichlet([1, 2, 3], size=150)
    found = interval(Resampling(150, ["0"]).values([statistic(metric, label_N, probs_NC)])[0])
    drawn = [
        classification_metrics(label_N[rows], probs_NC[rows])[metric] for rows in rng.integers(0, 150, (2000, 150))
    ]
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.02)


@pytest.mark.slow
def test_a_paired_interval_over_rows_and_seeds_is_that_of_a_plain_bootstrap():
    """Three seeds of both methods, of which one is better at one seed."""
    rng = np.random.default_rng(2)
    skill = rng.random(200)
    method_SN = rng.random((3, 200)) < np.clip(skill + np.array([[-0.1], [0.0], [0.2]]), 0, 1)
    baseline_SN = rng.random((3, 200)) < skill
    found = compare(method_SN, baseline_SN, "012", "012")
    gain_SN = method_SN.astype(float) - baseline_SN
    drawn = [gain_SN[rng.integers(0, 3, 3)][:, rng.integers(0, 200, 200)].mean() for _ in range(10_000)]
    assert found.mean == pytest.approx(gain_SN.mean())
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.01)


def test_seeds_dominate_where_rows_agree():
    """One seed has every row right, the other none: rows drawn anew change nothing, seeds everything."""
    both_SN = np.array([[True] * 50, [False] * 50])
    values = accuracies(both_SN, Resampling(50, ["0", "1"]), ["0", "1"])
    assert set(values.tolist()) == {0.0, 0.5, 1.0}
    assert np.mean(values == 0.5) == pytest.approx(0.5, abs=0.02)
    one_seed = accuracies(both_SN[:1], Resampling(50, ["0"]), ["0"])
    assert set(one_seed.tolist()) == {1.0}


def test_the_same_seeds_are_drawn_together_and_others_independently():
    resampling = Resampling(10, ["0", "1", "2", "3"])
    own, same, other = (resampling.seed_shares([*seeds])[:, 0] for seeds in ("01", "01", "23"))
    assert (own == same).all()
    assert np.corrcoef(own, other)[0, 1] == pytest.approx(0, abs=0.05)
    partly = resampling.seed_shares(["0", "2", "3"])
    assert np.corrcoef(own, partly[:, 0])[0, 1] > 0.3
    assert partly.sum(axis=1) == pytest.approx(np.ones(resampling.resamples))
    assert (partly * 3).var(axis=0) == pytest.approx([2 / 3] * 3, abs=0.03)  # a binomial of 3 draws with p = 1/3


def test_a_shared_seed_effect_cancels_in_a_paired_difference():
    """Both methods are right in one seed and wrong in the other."""
    both_SN = np.array([[True] * 50, [False] * 50])
    assert compare(both_SN, both_SN, "01", "01") == Difference(0.0, 0.0, 0.0, 1.0, 0.0)
    unpaired = compare(both_SN, both_SN, "01", "23")
    assert (unpaired.low, unpaired.high) == (-1.0, 1.0)


def test_a_clear_difference_is_found_and_none_is_not():
    same = right(50, 50)
    assert compare(same, same).p == 1.0
    assert compare(right(90, 10), right(50, 50)).p < 0.001
    assert compare(right(52, 48), right(50, 50)).p > 0.05


def test_p_is_near_mcnemars():
    """30 rows gained and 15 lost of 400: exact McNemar gives 0.036."""
    method = np.concatenate([np.ones(200), np.ones(30), np.zeros(15), np.zeros(155)]).astype(bool)
    baseline = np.concatenate([np.ones(200), np.zeros(30), np.ones(15), np.zeros(155)]).astype(bool)
    assert compare(method[None], baseline[None]).p == pytest.approx(0.036, abs=0.015)


def test_the_same_seed_gives_the_same_p():
    assert compare(right(60, 40), right(50, 50)) == compare(right(60, 40), right(50, 50))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_correction_only_raises_and_keeps_the_order(values: list[float]):
    adjusted = holm(values)
    assert all(new >= old or new == 1 for old, new in zip(values, adjusted, strict=True))
    assert np.argsort(values, kind="stable").tolist() == sorted(
        range(len(values)), key=lambda n: (adjusted[n], values[n], n)
    )
