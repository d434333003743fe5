"""Translations of training rows, paired by id; and dealing with balanced classes."""

import numpy as np
import pyarrow as pa
import pytest
from conftest import LABELS

from labelbridge.datamodules.encoding import Encoded
from labelbridge.datamodules.views import Views, paired
from labelbridge.datamodules.windows import WindowSampler, WindowShape, balanced
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task

TASK = Task("sentiment", ["text"], LABELS)
ROWS = pa.table({"id": ["a", "b", "c"], "text": ["one", "two", "three"], "lang": ["en", "en", None]})


def translations(*rows: tuple[str, str, str]) -> pa.Table:
    """Views by number and id, source text and source language."""
    return pa.table(
        {
            "id": [row[0] for row in rows],
            "source_text": [row[1] for row in rows],
            "source_lang": [row[2] for row in rows],
        }
    )


def test_views_are_paired_by_id_in_the_order_of_the_rows():
    views = translations(("0:c", "three", "en"), ("0:a", "one", "en"), ("0:z", "other", "en"), ("1:a", "one", "en"))
    order, starts = paired(views, ROWS, TASK, "x")
    assert order.tolist() == [1, 3, 0]
    assert starts.tolist() == [0, 2, 2, 3]


def test_a_view_of_another_text_is_refused():
    views = translations(("0:a", "one", "en"), ("0:b", "zwei", "en"))
    with pytest.raises(InputError, match="data.views x row 'b': translated from 'zwei', but the training row is 'two'"):
        paired(views, ROWS, TASK, "x")


def test_the_second_hop_of_a_translation_is_not_compared_with_the_row():
    order, _ = paired(translations(("0:a", "ek", "hi")), ROWS, TASK, "x")
    assert order.tolist() == [0]


def test_views_of_other_rows_are_refused():
    with pytest.raises(InputError, match="no id of a training row among 1 rows"):
        paired(translations(("0:z", "other", "en")), ROWS, TASK, "x")


def test_a_batch_takes_the_views_of_its_rows():
    encoded = Encoded.__new__(Encoded)
    views = Views(encoded, np.array([0, 2, 2, 3]))
    numbers, of = views.of_rows(np.array([2, 1, 0]))
    assert numbers.tolist() == [2, 0, 1]
    assert of.tolist() == [0, 2, 2]  # the positions in the batch
    assert views.count == 3
    assert views.of_rows(np.array([1]))[0].tolist() == []


def test_every_class_is_dealt_as_often_as_the_most_frequent_one():
    classes = np.array([0] * 7 + [1] * 3 + [2] * 2)
    rows = balanced(classes, seed=0, epoch=0)
    assert np.bincount(classes[rows]).tolist() == [7, 7, 7]
    times = np.bincount(rows)
    assert times[:7].tolist() == [1] * 7
    assert sorted(times[7:10].tolist()) == [2, 2, 3]
    assert sorted(times[10:].tolist()) == [3, 4]
    assert balanced(classes, 0, 0).tolist() == rows.tolist()
    assert len({tuple(balanced(classes, 0, epoch)) for epoch in range(9)}) > 1


def test_balanced_dealing_serves_all_rows_whatever_the_cut():
    """Gold in balance, every synthetic row once, in proportion within one row at every window."""
    classes, n_synthetic = np.array([0] * 7 + [1] * 3 + [2] * 2), 9
    lengths = np.arange(5, 5 + len(classes) + n_synthetic)
    epochs = []
    for shape in (WindowShape(6), WindowShape(3, 2), WindowShape(1, 3, 2)):
        samplers = [WindowSampler(lengths, len(classes), shape, rank, 0, classes) for rank in range(shape.world_size)]
        pieces = [list(sampler) for sampler in samplers]
        assert [len(one) for one in pieces] == [len(sampler) for sampler in samplers]
        windows = [piece.window for piece in pieces[0] if piece.ends_window]
        served = np.concatenate([piece.rows for one in pieces for piece in one])
        assert sorted(served) == sorted(np.concatenate(windows))
        epochs.append([sorted(window.tolist()) for window in windows])
        dealt = np.cumsum([(window < len(classes)).sum() for window in windows])
        seen = np.cumsum([len(window) for window in windows])
        assert np.abs(dealt - seen * 21 / 30).max() <= 1
        assert np.bincount(classes[served[served < len(classes)]]).tolist() == [7, 7, 7]
        assert sorted(served[served >= len(classes)]) == list(range(12, 21))
    assert epochs[0] == epochs[1] == epochs[2]
