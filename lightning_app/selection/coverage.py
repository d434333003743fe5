"""Adaptive coverage sampling: the fewest rows that stand for most of the others."""

# N = rows, D = dimensions

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..core.errors import InputError
from ..core.hashing import seeded_hash
from .neighbours import AllPairs, Neighbours, nearest, neighbourhoods

EXACT_ROWS = 50_000  # a class's neighbourhoods then take 300 MB
LIST_BYTES = 2_000_000_000  # of larger classes, the lists of the nearest neighbours
FEWEST_NEIGHBOURS = 32
BISECTIONS = 14  # cosines to 1e-4


@dataclass(frozen=True)
class Cover:
    """Rows that cover a set.

    Args:
        kept: Row numbers, in the order that they were taken.
        gains: How many rows each newly covered.
        coverage: Share of the rows that are covered.
        threshold: The cosine from which one row covers another.
        ties: Rows not kept that would have covered as many as the last one kept.
    """

    kept: np.ndarray
    gains: np.ndarray
    coverage: float
    threshold: float
    ties: int


def adaptive_cover(units_ND: np.ndarray, lots_N: np.ndarray, count: int, coverage: float) -> Cover:
    """Keep `count` rows that cover a wanted share of all (arXiv 2504.14508).

    Rows whose cosine is at least a threshold cover each other. Each step of the greedy maximum cover takes the row that
    covers most rows not yet covered; ties go by the lot. The threshold is the largest one, found by bisection to 1e-4,
    at which `count` rows cover the wanted share: with a lower one fewer rows would do, with a higher one they cover
    less.

    Up to 50,000 rows by all cosines; of more rows, each covers no others than its nearest neighbours that an
    approximate index finds: twice as many as a kept row has to stand for on average, 32 at least, or what 2 GB hold.

    Args:
        units_ND: Unit embeddings, float32, in an order that does not depend on the file's.
        lots_N: What ties go by, lowest first.
        count: Rows to keep, at most N.
        coverage: The share wanted, above 0 and at most 1.

    Raises:
        InputError: If the wanted share is not reached by the neighbours that are known, or FAISS is not installed.
    """
    low, high = -1.0, 1.0
    near = _near(units_ND, count, coverage)
    best = greedy_cover(near(low), lots_N, count, low)
    if best.coverage < coverage:  # where only the nearest rows of each are known
        raise InputError(
            f"strategy 'coverage': {count} of {len(units_ND)} rows cover {best.coverage:.0%} at most, expected "
            f"{coverage:.0%}; raise the quota, or lower options.coverage"
        )
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        cover = greedy_cover(near(middle), lots_N, count, middle)
        if cover.coverage >= coverage:
            low, best = middle, cover
        else:
            high = middle
    return best


def _near(units_ND: np.ndarray, count: int, coverage: float) -> Callable[[float], Neighbours]:
    """The neighbours of each row from a threshold on.

    Raises:
        InputError: If a kept row has to stand for more rows than lists of neighbours in memory can hold.
    """
    rows = len(units_ND)
    if rows <= EXACT_ROWS:
        return lambda threshold: AllPairs(neighbourhoods(units_ND, threshold))
    needed, most = math.ceil(coverage * rows / count), LIST_BYTES // (8 * rows)
    if needed > most:
        raise InputError(
            f"strategy 'coverage': each of {count} rows has to stand for {needed} of {rows}, expected at most {most}, "
            "so that lists of neighbours fit in memory; raise the quota, lower options.coverage, or draw a sample of "
            "the pool with `pool.sample`"
        )
    return nearest(units_ND, min(most, max(FEWEST_NEIGHBOURS, 2 * needed))).above


def greedy_cover(near: Neighbours, lots_N: np.ndarray, count: int, threshold: float) -> Cover:
    """Greedy maximum cover: within 1 - 1/e of the best (Nemhauser, Wolsey and Fisher, 1978).

    What a row would newly cover can only fall, so it is counted again only for the row at the top of a heap.

    Args:
        near: The neighbours of each row from the threshold on.
        lots_N: What ties go by, lowest first.
        count: Rows to keep, at most N.
        threshold: Noted in the result.
    """
    rows = len(lots_N)
    heap = [(-int(size), int(lot), row) for row, (size, lot) in enumerate(zip(near.sizes(), lots_N, strict=True))]
    heapq.heapify(heap)
    kept: list[int] = []
    gains: list[int] = []
    while heap and len(kept) < count:
        stale, lot, row = heapq.heappop(heap)
        gain = near.gain(row)
        if -stale != gain:
            heapq.heappush(heap, (-gain, lot, row))
            continue
        kept.append(row)
        gains.append(gain)
        near.take(row)
    covered = 1 - near.uncovered() / max(rows, 1)
    left = np.setdiff1d(np.arange(rows), kept)
    ties = int((near.gains_before_last(left) == gains[-1]).sum()) if kept and len(left) else 0
    return Cover(np.array(kept, dtype=np.int64), np.array(gains, dtype=np.int64), covered, threshold, ties)


def lots(ids: list[str], seed: int) -> np.ndarray:
    """What ties go by."""
    return seeded_hash(ids, seed, "coverage")
