"""Which rows lie near each other, and which of them are not covered yet: all pairs, or the nearest of an index."""

# N = rows, D = dimensions, K = bytes of N bits, M = neighbours that are kept of each row

import logging
from typing import Protocol, Self

import numpy as np

from ..core.packages import require

BLOCK_ROWS = 2048
# The index: rows a cell on average is about sqrt(N) / 4; a row is compared with those of the nearest cells.
CELLS_PER_ROOT = 4
CELLS_SEARCHED = 32
TRAINED_ROWS_PER_CELL = 40

log = logging.getLogger(__name__)


class Neighbours(Protocol):
    """The neighbours of each row above one threshold, and which rows are not covered yet: at first, all."""

    def sizes(self) -> np.ndarray:
        """How many rows each row covers, itself included; shape (N,)."""
        ...

    def gain(self, row: int) -> int:
        """How many rows a row would newly cover."""
        ...

    def take(self, row: int) -> None:
        """Cover the neighbours of a row."""
        ...

    def uncovered(self) -> int:
        """How many rows are not covered."""
        ...

    def gains_before_last(self, rows: np.ndarray) -> np.ndarray:
        """How many rows each of some rows would have covered before the last one was taken."""
        ...


class AllPairs:
    """Neighbours by all cosines, as packed bits.

    Args:
        bits_NK: See `neighbourhoods`.
    """

    def __init__(self, bits_NK: np.ndarray) -> None:
        self._bits_NK = bits_NK
        self._open_K = np.packbits(np.ones(len(bits_NK), dtype=bool))
        self._before_last_K = self._open_K

    def sizes(self) -> np.ndarray:
        """See `Neighbours`."""
        return _counts(self._bits_NK)

    def gain(self, row: int) -> int:
        """See `Neighbours`."""
        return int(np.bitwise_count(self._bits_NK[row] & self._open_K).sum())

    def take(self, row: int) -> None:
        """See `Neighbours`."""
        self._before_last_K, self._open_K = self._open_K, self._open_K & ~self._bits_NK[row]

    def uncovered(self) -> int:
        """See `Neighbours`."""
        return int(np.bitwise_count(self._open_K).sum())

    def gains_before_last(self, rows: np.ndarray) -> np.ndarray:
        """See `Neighbours`."""
        return _counts(self._bits_NK[rows] & self._before_last_K)


class Nearest:
    """The nearest neighbours of each row, as lists.

    Args:
        numbers_NM: Row numbers, the nearest first, the row itself left out; -1 where there are fewer.
        cosines_NM: Their cosines, float32; below -1 where there are fewer.
        threshold: From which cosine a neighbour counts.
    """

    def __init__(self, numbers_NM: np.ndarray, cosines_NM: np.ndarray, threshold: float = -1.0) -> None:
        self._numbers_NM = numbers_NM
        self._cosines_NM = cosines_NM
        self._counts_N = (cosines_NM >= threshold).sum(axis=1)
        self._open_N = np.ones(len(numbers_NM), dtype=bool)
        self._last = np.empty(0, dtype=np.int64)

    def above(self, threshold: float) -> Self:
        """The same lists from another threshold on, all rows uncovered."""
        return type(self)(self._numbers_NM, self._cosines_NM, threshold)

    def sizes(self) -> np.ndarray:
        """See `Neighbours`."""
        sizes: np.ndarray = self._counts_N + 1
        return sizes

    def gain(self, row: int) -> int:
        """See `Neighbours`."""
        return int(self._open_N[row]) + int(self._open_N[self._numbers_NM[row, : self._counts_N[row]]].sum())

    def take(self, row: int) -> None:
        """See `Neighbours`."""
        covered = np.append(self._numbers_NM[row, : self._counts_N[row]], row)
        self._last = covered[self._open_N[covered]]
        self._open_N[covered] = False

    def uncovered(self) -> int:
        """See `Neighbours`."""
        return int(self._open_N.sum())

    def gains_before_last(self, rows: np.ndarray) -> np.ndarray:
        """See `Neighbours`."""
        open_N = self._open_N.copy()
        open_N[self._last] = True
        gains: np.ndarray = open_N[rows].astype(np.int64)
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            counts = np.arange(self._numbers_NM.shape[1]) < self._counts_N[block, None]
            gains[start : start + BLOCK_ROWS] += (open_N[self._numbers_NM[block]] & counts).sum(axis=1)
        return gains


def neighbourhoods(units_ND: np.ndarray, threshold: float) -> np.ndarray:
    """Which rows have a cosine of at least the threshold, as packed bits (N, K); each row is its own neighbour."""
    rows = len(units_ND)
    bits_NK = np.empty((rows, -(-rows // 8)), dtype=np.uint8)
    for start in range(0, rows, BLOCK_ROWS):  # N x N cosines at once would not fit
        near = units_ND[start : start + BLOCK_ROWS] @ units_ND.T >= threshold
        near[np.arange(len(near)), start + np.arange(len(near))] = True
        bits_NK[start : start + BLOCK_ROWS] = np.packbits(near, axis=1)
    return bits_NK


def nearest(units_ND: np.ndarray, count: int, cells_searched: int = CELLS_SEARCHED) -> Nearest:
    """The nearest neighbours of each row, found by an inverted file (FAISS, arXiv 1702.08734).

    Rows are put into cells by K-means; a row is compared with the rows of the cells whose centres are nearest to it. So
    cosines are exact, and a neighbour in a cell further away is missed.

    Args:
        units_ND: Unit embeddings, float32.
        count: M, fewer than N.
        cells_searched: Cells whose rows are compared; all of them makes the lists exact.

    Raises:
        InputError: If FAISS is not installed.
    """
    faiss = require("faiss", "ann", "strategy 'coverage'")
    rows, width = units_ND.shape
    units_ND = np.ascontiguousarray(units_ND, dtype=np.float32)
    cells = max(1, min(round(CELLS_PER_ROOT * rows**0.5), rows // TRAINED_ROWS_PER_CELL))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT)
    index.train(units_ND[:: max(1, rows // (TRAINED_ROWS_PER_CELL * cells))])
    index.add(units_ND)
    index.nprobe = min(cells_searched, cells)
    numbers_NM = np.full((rows, count), -1, dtype=np.int32)
    cosines_NM = np.full((rows, count), -2, dtype=np.float32)
    for start in range(0, rows, BLOCK_ROWS):
        found_cosines, found_numbers = index.search(units_ND[start : start + BLOCK_ROWS], count + 1)
        for row, (cosines, numbers) in enumerate(zip(found_cosines, found_numbers, strict=True), start=start):
            others = np.flatnonzero((numbers != row) & (numbers >= 0))[:count]
            numbers_NM[row, : len(others)] = numbers[others]
            cosines_NM[row, : len(others)] = np.clip(cosines[others], -1, 1)
        if start // BLOCK_ROWS % 50 == 0:
            log.info("neighbours of %d of %d rows", start, rows)
    return Nearest(numbers_NM, cosines_NM)


def _counts(bits_NK: np.ndarray) -> np.ndarray:
    counts: np.ndarray = np.bitwise_count(bits_NK).sum(axis=1, dtype=np.int64)
    return counts
