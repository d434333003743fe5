"""The order of rows, and how it is cut."""

from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelbridge.datamodules.batches import Padding, RowBatches, WindowLoader
from labelbridge.datamodules.encoding import Encoded, TokenStats
from labelbridge.datamodules.windows import (
    BudgetSampler,
    WindowSampler,
    WindowShape,
    cut_window,
    deal,
    gold_dealt,
    plan_by_budget,
)

SIZES = st.integers(0, 70)
SHAPES = st.builds(WindowShape, st.integers(1, 9), st.integers(1, 4), st.integers(1, 3))


def lengths_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(3, 40, count)


def epoch_of(shape: WindowShape, n_gold: int, lengths: np.ndarray, epoch: int = 0, seed: int = 0) -> list[list]:
    """Every rank's micro-batches of an epoch."""
    ranks = []
    for rank in range(shape.world_size):
        sampler = WindowSampler(lengths, n_gold, shape, rank, seed)
        sampler.set_epoch(epoch)
        ranks.append(list(sampler))
        assert len(sampler) == len(ranks[-1])
    return ranks


def windows_of(ranks: list[list]) -> list[np.ndarray]:
    """The rows of each window, over ranks and micro-batches."""
    windows, current = [], []
    for step in zip(*ranks, strict=True):
        current += [piece.rows for piece in step]
        if step[0].ends_window:
            windows.append(np.concatenate(current))
            current = []
    assert not current
    return windows


@settings(max_examples=200, deadline=None)
@given(SIZES, SIZES, SHAPES, st.integers(0, 3))
def test_every_row_comes_once_an_epoch(n_gold: int, n_synthetic: int, shape: WindowShape, epoch: int):
    ranks = epoch_of(shape, n_gold, lengths_of(n_gold + n_synthetic), epoch)
    rows = np.concatenate([piece.rows for rank in ranks for piece in rank] or [np.empty(0)])
    assert sorted(rows.tolist()) == list(range(n_gold + n_synthetic))


@settings(max_examples=200, deadline=None)
@given(SIZES, SIZES, SHAPES)
def test_each_window_is_within_one_row_of_proportion(n_gold: int, n_synthetic: int, shape: WindowShape):
    total = n_gold + n_synthetic
    dealt_gold = dealt = 0
    for rows in windows_of(epoch_of(shape, n_gold, lengths_of(total))):
        gold = int((rows < n_gold).sum())
        assert abs(gold - len(rows) * n_gold / total) <= 1
        dealt_gold, dealt = dealt_gold + gold, dealt + len(rows)
        assert abs(dealt_gold - dealt * n_gold / total) <= 0.5


@settings(max_examples=100, deadline=None)
@given(SIZES, SIZES, st.sampled_from([4, 12]), st.integers(0, 3))
def test_the_order_depends_on_seed_and_epoch_alone(n_gold: int, n_synthetic: int, rows: int, epoch: int):
    """However a window is shared out, it holds the same rows."""
    lengths = lengths_of(n_gold + n_synthetic)
    shapes = [WindowShape(rows // accumulate // world, accumulate, world) for accumulate in (1, 2) for world in (1, 2)]
    cuts = [[sorted(window.tolist()) for window in windows_of(epoch_of(one, n_gold, lengths, epoch))] for one in shapes]
    assert all(cut == cuts[0] for cut in cuts)


@pytest.mark.parametrize("served", [0, 4])
def test_the_order_does_not_depend_on_workers(served: int):
    """Workers fetch ahead, also after a resume in mid-epoch; the count for the next checkpoint is of what was served."""
    lengths, shape = lengths_of(23), WindowShape(2, 2)
    encoded = Encoded({"input_ids": np.arange(lengths.sum(), dtype=np.int32)}, lengths, TokenStats(23, 0, 0, 23, 23))
    tokenizer = SimpleNamespace(pad_token_id=0, pad_token_type_id=0, padding_side="right")

    def two_epochs(num_workers: int) -> list[tuple[list[int], int]]:
        loader = WindowLoader(
            RowBatches(encoded, Padding.of(tokenizer)),
            WindowSampler(lengths, 13, shape, 0, 0),
            num_workers,
            pin_memory=False,
        )
        loader.load_state_dict({"served": served, "shape": asdict(shape)})
        return [(batch["row"].tolist(), loader.state_dict()["served"]) for _ in range(2) for batch in loader]

    alone = two_epochs(0)
    assert [count for _, count in alone] == [*range(served + 1, 12), 0, *range(1, 12), 0]
    assert two_epochs(2) == alone


def test_another_seed_or_epoch_gives_another_order():
    orders = [deal(30, 20, seed, epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_a_row_is_not_tied_to_its_place_over_epochs():
    firsts = {int(deal(30, 20, 0, epoch)[0]) for epoch in range(50)}
    assert len(firsts) > 15


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), SHAPES)
def test_micro_batches_are_no_larger_than_asked_and_alike_in_length(count: int, shape: WindowShape):
    count = min(count, shape.rows)
    lengths = lengths_of(count)
    pieces = cut_window(np.arange(count), lengths, shape)
    assert len(pieces) <= shape.accumulate
    assert all(len(piece) <= shape.batch_size for ranks in pieces for piece in ranks)
    longest = [int(lengths[piece].max()) for ranks in pieces for piece in ranks if len(piece)]
    assert longest == sorted(longest)


def test_ranks_step_together_when_a_window_has_fewer_rows_than_ranks():
    ranks = epoch_of(WindowShape(4, 1, 3), 1, lengths_of(1))
    assert [len(rank) for rank in ranks] == [1, 1, 1]
    assert sum(len(rank[0].rows) for rank in ranks) == 1
    assert {rank[0].window_rows for rank in ranks} == {1}


def test_a_window_counts_its_own_rows_also_the_last():
    sampler = WindowSampler(lengths_of(10), 10, WindowShape(2, 2), 0, 0)
    assert [(piece.window_rows, piece.ends_window) for piece in sampler] == [
        (4, False), (4, True), (4, False), (4, True), (2, True),
    ]  # fmt: skip


def test_skipped_micro_batches_are_left_out_once():
    sampler = WindowSampler(lengths_of(10), 10, WindowShape(2, 1), 0, 0)
    whole = [piece.rows.tolist() for piece in sampler]
    sampler.skip = 2
    assert [piece.rows.tolist() for piece in sampler] == whole[2:]


@pytest.mark.parametrize(("n_gold", "n_synthetic"), [(1, 10**7), (8544, 7500), (1, 1), (5, 0), (0, 5)])
def test_the_whole_sequence_deals_all_gold(n_gold: int, n_synthetic: int):
    total = n_gold + n_synthetic
    assert gold_dealt(np.array([0, total]), n_gold, n_synthetic).tolist() == [0, n_gold]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 60), st.integers(1, 200), st.integers(1, 4), st.data())
def test_inference_rows_come_once_over_all_ranks(count: int, budget: int, world: int, data: st.DataObject):
    lengths = lengths_of(count)
    finished = data.draw(st.lists(st.integers(0, max(count - 1, 0)), unique=True) if count else st.just([]))
    ranks = [list(BudgetSampler(lengths, budget, finished, rank, world)) for rank in range(world)]
    assert len({len(rank) for rank in ranks}) == 1  # collective calls stay in step
    rows = [row for rank in ranks for piece in rank for row in piece.rows.tolist()]
    assert len(rows) == len(set(rows))
    assert set(range(count)) - set(finished) <= set(rows)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 60), st.integers(1, 200))
def test_inference_batches_keep_to_the_budget(count: int, budget: int):
    lengths = lengths_of(count)
    for rows in plan_by_budget(lengths, budget):
        assert len(rows) == 1 or len(rows) * lengths[rows].max() <= budget


def test_a_resumed_plan_is_part_of_the_whole_plan():
    """So the same rows share a batch, and a resumed run gets the same bits."""
    lengths = lengths_of(50)
    whole = [piece.rows.tolist() for piece in BudgetSampler(lengths, 100)]
    resumed = [piece.rows.tolist() for piece in BudgetSampler(lengths, 100, whole[0] + whole[2] + whole[3][:1])]
    assert resumed == [whole[1], *whole[3:]]
