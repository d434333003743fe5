"""Adaptive coverage sampling: the fewest rows that stand for most of the others."""

# N = rows, D = dimensions, K = bytes of N bits

import heapq
from dataclasses import dataclass

import numpy as np

from ..core.errors import InputError
from ..core.hashing import seeded_hash

EXACT_ROWS = 50_000  # a class's neighbourhoods then take 300 MB
BLOCK_ROWS = 2048
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

    Args:
        units_ND: Unit embeddings, float32, in an order that does not depend on the file's.
        lots_N: What ties go by, lowest first.
        count: Rows to keep, at most N.
        coverage: The share wanted, above 0 and at most 1.
    """
    low, high = -1.0, 1.0
    best = greedy_cover(neighbourhoods(units_ND, low), lots_N, count, low)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        cover = greedy_cover(neighbourhoods(units_ND, middle), lots_N, count, middle)
        if cover.coverage >= coverage:
            low, best = middle, cover
        else:
            high = middle
    return best


def neighbourhoods(units_ND: np.ndarray, threshold: float) -> np.ndarray:
    """Which rows have a cosine of at least the threshold, as packed bits (N, K); each row is its own neighbour."""
    rows = len(units_ND)
    bits_NK = np.empty((rows, -(-rows // 8)), dtype=np.uint8)
    for start in range(0, rows, BLOCK_ROWS):  # N x N cosines at once would not fit
        near = units_ND[start : start + BLOCK_ROWS] @ units_ND.T >= threshold
        near[np.arange(len(near)), start + np.arange(len(near))] = True
        bits_NK[start : start + BLOCK_ROWS] = np.packbits(near, axis=1)
    return bits_NK


def greedy_cover(bits_NK: np.ndarray, lots_N: np.ndarray, count: int, threshold: float) -> Cover:
    """Greedy maximum cover: within 1 - 1/e of the best (Nemhauser, Wolsey and Fisher, 1978).

    What a row would newly cover can only fall, so it is counted again only for the row at the top of a heap.
    """
    rows = len(bits_NK)
    open_K = np.packbits(np.ones(rows, dtype=bool))  # not yet covered
    heap = [(-int(size), int(lot), row) for row, (size, lot) in enumerate(zip(_sizes(bits_NK), lots_N, strict=True))]
    heapq.heapify(heap)
    kept: list[int] = []
    gains: list[int] = []
    before_last = open_K
    while heap and len(kept) < count:
        stale, lot, row = heapq.heappop(heap)
        gain = int(np.bitwise_count(bits_NK[row] & open_K).sum())
        if -stale != gain:
            heapq.heappush(heap, (-gain, lot, row))
            continue
        kept.append(row)
        gains.append(gain)
        before_last, open_K = open_K, open_K & ~bits_NK[row]
    covered = 1 - int(np.bitwise_count(open_K).sum()) / max(rows, 1)
    left = np.setdiff1d(np.arange(rows), kept)
    ties = int((_sizes(bits_NK[left] & before_last) == gains[-1]).sum()) if kept and len(left) else 0
    return Cover(np.array(kept, dtype=np.int64), np.array(gains, dtype=np.int64), covered, threshold, ties)


def _sizes(bits_NK: np.ndarray) -> np.ndarray:
    sizes: np.ndarray = np.bitwise_count(bits_NK).sum(axis=1, dtype=np.int64)
    return sizes


def check_rows(rows: int) -> None:
    """Refuse classes whose neighbourhoods would not fit in memory.

    Raises:
        InputError: See above.
    """
    if rows > EXACT_ROWS:
        raise InputError(
            f"strategy 'coverage': {rows} rows in one class, expected at most {EXACT_ROWS}, so that neighbourhoods fit "
            "in memory; draw a sample of the pool with `pool.sample`"
        )


def lots(ids: list[str], seed: int) -> np.ndarray:
    """What ties go by."""
    return seeded_hash(ids, seed, "coverage")
