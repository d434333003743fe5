"""Adaptive coverage sampling against covers found by hand and by trying everything."""

from itertools import combinations

import numpy as np
import pytest

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.selection import coverage
from labelbridge.lightning_app.selection.coverage import adaptive_cover, greedy_cover
from labelbridge.lightning_app.selection.lookup import find_strategy
from labelbridge.lightning_app.selection.neighbours import AllPairs, nearest, neighbourhoods
from labelbridge.lightning_app.selection.quotas import Choice
from labelbridge.lightning_app.selection.strategies import Candidates


def units(rows: int, seed: int = 0, dimensions: int = 5) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def lots(rows: int) -> np.ndarray:
    return np.arange(rows, dtype=np.uint64)


def test_one_row_of_each_cluster_covers_all():
    """Three tight clusters of 5, 3 and 2 rows."""
    centres = np.eye(3, dtype=np.float32)
    cluster = np.repeat([0, 1, 2], [5, 3, 2])
    rows = centres[cluster] + 0.01 * units(10, dimensions=3)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cover = greedy_cover(AllPairs(neighbourhoods(rows, 0.9)), lots(10), 3, 0.9)
    assert cluster[cover.kept].tolist() == [0, 1, 2]
    assert cover.gains.tolist() == [5, 3, 2]
    assert cover.coverage == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_greedy_cover_is_near_the_best(seed: int):
    bits = np.unpackbits(neighbourhoods(units(12, seed), 0.4), axis=1)[:, :12].astype(bool)
    best = max(bits[list(rows)].any(axis=0).sum() for rows in combinations(range(12), 3))
    cover = greedy_cover(AllPairs(neighbourhoods(units(12, seed), 0.4)), lots(12), 3, 0.4)
    assert bits[cover.kept].any(axis=0).sum() == cover.gains.sum() == round(12 * cover.coverage)
    assert cover.gains.sum() >= (1 - 1 / np.e) * best
    assert (np.diff(cover.gains) <= 0).all()


@pytest.mark.parametrize(("rows", "count", "wanted"), [(60, 6, 0.9), (60, 20, 0.9), (37, 5, 0.5)])
def test_the_threshold_is_the_largest_that_covers_what_is_wanted(rows: int, count: int, wanted: float):
    embeddings = units(rows)
    cover = adaptive_cover(embeddings, lots(rows), count, wanted)
    assert len(cover.kept) == len(set(cover.kept.tolist())) == count
    assert cover.coverage >= wanted
    higher = cover.threshold + 2e-3
    assert greedy_cover(AllPairs(neighbourhoods(embeddings, higher)), lots(rows), count, higher).coverage < wanted


def candidates(rows: int, quota: int, order: np.ndarray | None = None) -> Candidates:
    order = np.arange(rows) if order is None else order
    return Candidates([f"id{row}" for row in order], 0, None, seed=3, quota=quota, embeddings_ND=units(rows)[order])


def test_the_order_of_the_file_changes_nothing():
    strategy = find_strategy("coverage", {"coverage": 0.8})
    plain, shuffled = candidates(50, 8), candidates(50, 8, np.random.default_rng(1).permutation(50))
    one, other = strategy(plain), strategy(shuffled)
    assert isinstance(one, Choice)
    assert [plain.ids[row] for row in one.kept] == [shuffled.ids[row] for row in other.kept]
    assert one.score[one.kept].sum() >= 0.8 * 50
    assert one.ties == other.ties


@pytest.mark.parametrize("quota", [0, 3, 9])
def test_a_class_with_few_rows_keeps_what_it_has(quota: int):
    assert len(find_strategy("coverage")(candidates(5, quota)).kept) == min(quota, 5)


def test_ties_at_the_cut_are_counted():
    """Four rows that cover themselves alone, of which two are kept."""
    cover = greedy_cover(AllPairs(neighbourhoods(np.eye(4, dtype=np.float32), 0.5)), lots(4), 2, 0.5)
    assert cover.kept.tolist() == [0, 1]
    assert cover.ties == 2


def test_shares_and_sizes_out_of_range_are_refused():
    with pytest.raises(InputError, match="coverage is 1.5, expected 0 < coverage <= 1"):
        find_strategy("coverage", {"coverage": 1.5})(candidates(5, 2))
    with pytest.raises(InputError, match="needs embeddings"):
        find_strategy("coverage")(Candidates(["a"], 0, None, 0, 1))


@pytest.fixture
def large_from_100(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists of neighbours from an index are used from 100 rows on."""
    monkeypatch.setattr(coverage, "EXACT_ROWS", 99)


def test_lists_of_all_neighbours_give_the_cover_of_all_pairs():
    embeddings = units(400)
    lists = nearest(embeddings, 399, cells_searched=400)
    for threshold in (0.3, 0.8, 0.95):
        exact = greedy_cover(AllPairs(neighbourhoods(embeddings, threshold)), lots(400), 30, threshold)
        cover = greedy_cover(lists.above(threshold), lots(400), 30, threshold)
        assert cover.kept.tolist() == exact.kept.tolist()
        assert cover.gains.tolist() == exact.gains.tolist()
        assert (cover.coverage, cover.ties) == (exact.coverage, exact.ties)


def test_a_large_class_is_covered_nearly_as_well(large_from_100: None, monkeypatch: pytest.MonkeyPatch):
    """The share that the rows cover by all pairs, at the threshold found, is no less than what was counted."""
    embeddings = units(3_000, dimensions=8)
    cover = adaptive_cover(embeddings, lots(3_000), 200, 0.9)
    assert len(set(cover.kept.tolist())) == 200
    assert cover.coverage >= 0.9
    assert ((embeddings[cover.kept] @ embeddings.T).max(axis=0) >= cover.threshold).mean() >= cover.coverage
    monkeypatch.setattr(coverage, "EXACT_ROWS", 3_000)
    exact = adaptive_cover(embeddings, lots(3_000), 200, 0.9)
    assert exact.threshold - 0.02 < cover.threshold <= exact.threshold + 1e-3


def test_a_large_class_does_not_depend_on_the_order_of_the_file(large_from_100: None):
    strategy = find_strategy("coverage", {"coverage": 0.8})
    plain, shuffled = candidates(300, 40), candidates(300, 40, np.random.default_rng(1).permutation(300))
    one, other = strategy(plain), strategy(shuffled)
    assert isinstance(one, Choice)
    assert [plain.ids[row] for row in one.kept] == [shuffled.ids[row] for row in other.kept]
    assert one.ties == other.ties


def test_a_large_class_that_a_few_rows_cannot_stand_for_is_refused(
    large_from_100: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(coverage, "LIST_BYTES", 8 * 200 * 50)
    with pytest.raises(InputError, match="each of 2 rows has to stand for 90 of 200, expected at most 50, .*quota"):
        adaptive_cover(units(200), lots(200), 2, 0.9)
    with pytest.raises(InputError, match=r"4 of 200 rows cover \d+% at most, expected 90%; raise the quota"):
        adaptive_cover(units(200), lots(200), 4, 0.9)
