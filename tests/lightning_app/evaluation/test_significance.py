"""Differences and their p values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_app.evaluation.significance import holm, paired_bootstrap


def right(*counts: int, seed: int = 0) -> np.ndarray:
    """Rows in blocks of so many rights and wrongs in turn."""
    return np.concatenate([np.full(count, number % 2 == 0) for number, count in enumerate(counts)])[None]


def test_the_interval_is_that_of_resampled_rows():
    """Against drawing rows one by one."""
    rng = np.random.default_rng(1)
    method, baseline = rng.random((2, 300)) < 0.7, rng.random((3, 300)) < 0.6
    found = paired_bootstrap(method, baseline)
    gain = method.mean(axis=0) - baseline.mean(axis=0)
    drawn = gain[rng.integers(0, 300, (4000, 300))].mean(axis=1)
    assert found.mean == pytest.approx(gain.mean())
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.01)


def test_a_clear_difference_is_found_and_none_is_not():
    same = right(50, 50)
    assert paired_bootstrap(same, same).p == 1.0
    assert paired_bootstrap(right(90, 10), right(50, 50)).p < 0.001
    assert paired_bootstrap(right(52, 48), right(50, 50)).p > 0.05


def test_p_is_near_mcnemars():
    """30 rows gained and 15 lost of 400: exact McNemar gives 0.036."""
    method = right(200, 30, 15, 155)[0]
    baseline = np.concatenate([np.ones(200), np.zeros(15), np.ones(30), np.zeros(155)])
    method = np.concatenate([np.ones(200), np.ones(15), np.zeros(30), np.zeros(155)])
    assert paired_bootstrap(baseline[None], method[None]).p == pytest.approx(0.036, abs=0.015)


def test_the_same_seed_gives_the_same_p():
    one, two = right(60, 40), right(50, 50)
    assert paired_bootstrap(one, two) == paired_bootstrap(one, two)


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
