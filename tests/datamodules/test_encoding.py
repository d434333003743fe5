"""Token ids, padding, and what is said of a tokenizer."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoTokenizer

from labelbridge.datamodules import Collate
from labelbridge.datamodules.batches import Padding, RowBatches
from labelbridge.datamodules.encoding import encode
from labelbridge.datamodules.windows import MicroBatch
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.protocols import EncodedBatch

TEXTS = ["good", "the table was very cold and slow", "a kind of blue", "unheard words here"]


@pytest.fixture
def tokenizer(tiny_bert: Path):
    return AutoTokenizer.from_pretrained(tiny_bert)


def batch_of(encoded, tokenizer, rows: list[int], **columns: torch.Tensor) -> dict:
    return RowBatches(encoded, Padding.of(tokenizer), columns)[
        MicroBatch(np.array(rows, dtype=np.int64), np.arange(9), True)
    ]


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_batch_is_what_the_tokenizer_pads(tokenizer, task: Task, side: str):
    tokenizer.padding_side = side
    encoded = encode(pa.table({"text": TEXTS}), task.columns, tokenizer, 32)
    batch = batch_of(encoded, tokenizer, [2, 0, 1])
    expected = tokenizer([TEXTS[row] for row in (2, 0, 1)], padding=True, return_tensors="pt")
    assert batch["inputs"].keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(batch["inputs"][name], value), name
    assert (batch["n_rows"], batch["n_tokens"], batch["n_cells"]) == (
        3, int(expected["attention_mask"].sum()), expected["input_ids"].numel(),
    )  # fmt: skip


def test_pairs_are_encoded_as_pairs(tokenizer):
    nli = Task("nli", ["premise", "hypothesis"], ["a", "b"])
    table = pa.table({"premise": TEXTS, "hypothesis": TEXTS[::-1]})
    batch = batch_of(encode(table, nli.columns, tokenizer, 32), tokenizer, [0, 1, 2, 3])
    expected = tokenizer(TEXTS, TEXTS[::-1], padding=True, return_tensors="pt")
    for name, value in expected.items():
        assert torch.equal(batch["inputs"][name], value), name


def test_rows_bring_their_columns_and_numbers(tokenizer, task: Task):
    encoded = encode(pa.table({"text": TEXTS}), task.columns, tokenizer, 32)
    batch = batch_of(encoded, tokenizer, [3, 1], label=torch.tensor([10, 11, 12, 13]))
    assert batch["row"].tolist() == [3, 1]
    assert batch["label"].tolist() == [13, 11]
    assert batch["real"].tolist() == [True, True]


def test_a_batch_has_the_keys_that_its_type_names(tokenizer, task: Task):
    encoded = encode(pa.table({"text": TEXTS}), task.columns, tokenizer, 32)
    named = set(EncodedBatch.__required_keys__) | {"window_rows", "ends_window"}
    assert set(batch_of(encoded, tokenizer, [1])) == named
    collated = set(Collate(tokenizer, task)([{"text": "good", "label": task.labels[0]}]))
    assert EncodedBatch.__required_keys__ < collated < EncodedBatch.__required_keys__ | EncodedBatch.__optional_keys__


def test_an_empty_micro_batch_stands_in_with_one_row(tokenizer, task: Task):
    """So that every rank passes something through the model."""
    encoded = encode(pa.table({"text": TEXTS}), task.columns, tokenizer, 32)
    batch = batch_of(encoded, tokenizer, [])
    assert batch["real"].tolist() == [False]
    assert (batch["n_rows"], batch["n_tokens"]) == (0, 0)


def test_what_is_said_of_the_tokens(tokenizer, task: Task, caplog: pytest.LogCaptureFixture):
    stats = encode(pa.table({"text": TEXTS}), task.columns, tokenizer, 6).stats
    assert (stats.rows, stats.truncated) == (4, 1)
    assert stats.unknown_rate == pytest.approx(3 / 12)  # unheard, words, here; the long row keeps 4 words
    assert stats.tokens_per_word == pytest.approx(12 / 15)
    stats.report("hi")
    assert "hi: 25 % of its tokens are unknown to the tokenizer" in caplog.text


def test_a_tokenizer_that_knows_the_language_is_not_warned_about(tokenizer, task: Task, caplog):
    encode(pa.table({"text": TEXTS[:3]}), task.columns, tokenizer, 32).stats.report("en")
    assert not caplog.records
