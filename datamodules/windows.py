"""Which rows each optimizer step sees, and how a step is cut into micro-batches.

Words: a *window* is all rows of one optimizer step, over micro-batches and ranks. The order of rows is a function of
(seed, epoch) alone; devices and batch sizes only say how that one sequence is cut.
"""

from collections.abc import Iterator, Sized
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from labelbridge.lightning_app.core.run_parts import WHOLE, Shard


class MicroBatch(NamedTuple):
    """Rows that one rank passes through the model at once.

    Attributes:
        rows: Row numbers; empty where a short last window has fewer rows than ranks.
        window: Row numbers of the whole window, over micro-batches and ranks.
        ends_window: Whether the optimizer steps after this micro-batch.
    """

    rows: np.ndarray
    window: np.ndarray
    ends_window: bool

    @property
    def window_rows(self) -> int:
        """W, the number of rows in the whole window."""
        return len(self.window)


@dataclass(frozen=True)
class WindowShape:
    """How a window is cut.

    Args:
        batch_size: Rows of a micro-batch.
        accumulate: Micro-batches of a rank in one window.
        world_size: Ranks.
    """

    batch_size: int
    accumulate: int = 1
    world_size: int = 1

    @property
    def rows(self) -> int:
        """W of every window but the last."""
        return self.batch_size * self.accumulate * self.world_size


def gold_dealt(n_rows: np.ndarray, n_gold: int, n_synthetic: int) -> np.ndarray:
    """How many of the first `n_rows` dealt rows are gold: round(n_rows |D| / N), exact in integers, halves upwards."""
    total = n_gold + n_synthetic
    return (2 * n_rows * n_gold + total) // (2 * total)


def deal(n_gold: int, n_synthetic: int, seed: int, epoch: int) -> np.ndarray:
    """Deal every row once, gold and synthetic in proportion at every point of the sequence.

    Args:
        n_gold: |D|; these rows are numbered from 0.
        n_synthetic: |D'|; these are numbered from |D|.
        seed: Seed of the order.
        epoch: Another epoch gives another order.

    Returns:
        int64 array of shape (|D| + |D'|,): row numbers in the order they are dealt.
    """
    rng = np.random.default_rng([seed, epoch])
    gold, synthetic = rng.permutation(n_gold), n_gold + rng.permutation(n_synthetic)
    total = n_gold + n_synthetic
    if total == 0:
        return np.empty(0, dtype=np.int64)
    is_gold = np.diff(gold_dealt(np.arange(total + 1, dtype=np.int64), n_gold, n_synthetic)).astype(bool)
    order = np.empty(total, dtype=np.int64)
    order[is_gold] = gold
    order[~is_gold] = synthetic
    return order


def balanced(class_N: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Row numbers of an epoch in which every class is dealt as often as the most frequent one.

    With n_c rows of class c and n of the most frequent, each row of c is dealt floor(n / n_c) times, and n mod n_c of
    them, drawn anew every epoch, once more.

    Args:
        class_N: Class of every row.
        seed: Seed of the draw.
        epoch: Another epoch draws others.

    Returns:
        int64 array: n rows of each class that has any, class by class.
    """
    rng = np.random.default_rng([seed, epoch, 1])
    most = int(np.bincount(class_N).max(initial=0))
    dealt = [np.empty(0, dtype=np.int64)]
    for one in np.unique(class_N):
        rows = np.flatnonzero(class_N == one)
        times, more = divmod(most, len(rows))
        dealt += [np.tile(rows, times), rng.permutation(rows)[:more]]
    return np.concatenate(dealt)


def cut_window(rows: np.ndarray, lengths: np.ndarray, shape: WindowShape) -> list[list[np.ndarray]]:
    """Cut one window into micro-batches of like length, so that little padding is computed.

    The rows are sorted by length and cut evenly; ranks get neighbouring pieces, so that they wait little for each
    other. Every rank gets the same number of micro-batches, of at most `batch_size` rows.

    Returns:
        `[micro-batch][rank]` -> row numbers.
    """
    ordered = rows[np.lexsort((rows, lengths[rows]))]
    per_rank = max(1, -(-len(rows) // (shape.batch_size * shape.world_size)))
    pieces = np.array_split(ordered, per_rank * shape.world_size)
    return [pieces[start : start + shape.world_size] for start in range(0, len(pieces), shape.world_size)]


class WindowSampler(Sampler[MicroBatch]):
    """Yields one rank's micro-batches of an epoch, in order.

    Args:
        lengths: Tokens of every row, gold first; shape (N,).
        n_gold: |D|.
        shape: How windows are cut.
        rank: Which rank's pieces to yield.
        seed: Seed of the order.
        balance: Class of every gold row, if all classes are to be dealt equally often; shape (|D|,).
    """

    def __init__(
        self,
        lengths: np.ndarray,
        n_gold: int,
        shape: WindowShape,
        rank: int,
        seed: int,
        balance: np.ndarray | None = None,
    ) -> None:
        self.lengths = lengths
        self.n_gold = n_gold
        self.balance = balance
        self.shape = shape
        self.rank = rank
        self.seed = seed
        self.epoch = 0
        self.skip = 0  # micro-batches that the next pass leaves out, after a resume in mid-epoch

    def set_epoch(self, epoch: int) -> None:
        """Lightning says here which epoch comes next."""
        self.epoch = epoch

    @property
    def n_dealt(self) -> int:
        """Rows of an epoch: all of them once, or more where classes are balanced by repeating rows."""
        if self.balance is None:
            return len(self.lengths)
        counts = np.bincount(self.balance)
        return int(counts.max(initial=0) * (counts > 0).sum()) + len(self.lengths) - self.n_gold

    def _order(self) -> np.ndarray:
        """Row numbers in the order that they are dealt."""
        n_synthetic = len(self.lengths) - self.n_gold
        if self.balance is None:
            return deal(self.n_gold, n_synthetic, self.seed, self.epoch)
        gold = balanced(self.balance, self.seed, self.epoch)
        order = deal(len(gold), n_synthetic, self.seed, self.epoch)
        is_gold = order < len(gold)
        return np.where(is_gold, gold[np.where(is_gold, order, 0)] if len(gold) else 0, order - len(gold) + self.n_gold)

    def __len__(self) -> int:
        windows, last = divmod(self.n_dealt, self.shape.rows)
        return windows * self.shape.accumulate + -(-last // (self.shape.batch_size * self.shape.world_size))

    def __iter__(self) -> Iterator[MicroBatch]:
        # `skip` counts for the pass that begins now, whenever its first batch is asked for.
        return islice(self._epoch(), self.skip, None)

    def _epoch(self) -> Iterator[MicroBatch]:
        order = self._order()
        for start in range(0, len(order), self.shape.rows):
            window = order[start : start + self.shape.rows]
            pieces = cut_window(window, self.lengths, self.shape)
            for number, ranks in enumerate(pieces, start=1):
                yield MicroBatch(ranks[self.rank], window, ends_window=number == len(pieces))


class BudgetSampler(Sampler[MicroBatch]):
    """Yields one rank's batches for inference: sorted by length, each padded to at most `budget` tokens.

    The plan is a function of the lengths and the budget alone, longest rows first, so that a batch too large for the
    memory fails at once. Batches whose rows are all finished are left out, so a resumed run computes whole batches of
    the same plan and gets the same bits.

    Args:
        lengths: Tokens of every row; shape (N,).
        budget: Rows times the longest row, at most; a longer row gets a batch of its own.
        finished: Numbers of the rows that need not be computed again.
        rank: Which rank's batches to yield.
        world_size: Ranks.
        shard: Which part of the plan is to be computed at all.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        budget: int,
        finished: Sized | None = None,
        rank: int = 0,
        world_size: int = 1,
        shard: Shard = WHOLE,
    ) -> None:
        done = np.zeros(len(lengths), dtype=bool)
        if finished is not None:
            done[np.asarray(finished, dtype=np.int64)] = True
        # A shard's share is that of the complete plan, whatever others have finished meanwhile.
        plan = [rows for rows in plan_by_budget(lengths, budget)[shard.picks] if not done[rows].all()]
        # All ranks take part in collective calls equally often, so one without rows gets an empty batch.
        plan += [np.empty(0, dtype=np.int64)] * (-len(plan) % world_size)
        self.batches = plan[rank::world_size]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[MicroBatch]:
        for rows in self.batches:
            yield MicroBatch(rows, rows, ends_window=True)


def plan_by_budget(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Cut all rows into batches of like length, longest first, of at most `budget` padded tokens."""
    order = np.lexsort((np.arange(len(lengths)), -lengths))
    batches, start = [], 0
    while start < len(order):
        size = max(1, budget // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches
