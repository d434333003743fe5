"""A training step in groups of similar length, against the same step padded to its longest row."""

import json
import random
import statistics
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer

from benchmarks._rows import SENTIMENT
from labelbridge.lightning_app.core.paths import PROJECT
from labelbridge.lightning_app.models.locate import MINILM, locate
from labelbridge.modules.heads import load_classifier
from labelbridge.modules.length_groups import in_groups
from labelbridge.modules.trained_rows import train_rows_that_occur


def run(full: bool = False) -> dict[str, Any]:
    """Processor seconds of forward and backward passes of MiniLM, in turn on the same batches; medians of the ratios.

    `ratio` is that of batches of 16 rows; `full` takes all rows of the sample, the default a quarter.
    """
    rows = _sample_rows()
    random.Random(0).shuffle(rows)  # noqa: S311 - made-up order
    rows = rows if full else rows[: len(rows) // 4]
    tokenizer = AutoTokenizer.from_pretrained(locate(MINILM))
    network = load_classifier(MINILM, SENTIMENT, new_head=True).train()
    tokens = [tokenizer.pad_token_id, *(number for row in rows for number in tokenizer(row["text"])["input_ids"])]
    train_rows_that_occur(network, np.unique(tokens))  # as fit does
    figures: dict[str, Any] = {}
    for size in (8, 16, 32):
        batches = [
            dict(tokenizer([row["text"] for row in rows[first : first + size]], padding=True, return_tensors="pt"))
            for first in range(0, len(rows) - size + 1, size)
        ]
        ratios = [_seconds(network, batch, grouped=False) / _seconds(network, batch, grouped=True) for batch in batches]
        padding = 1 - sum(int(batch["attention_mask"].sum()) for batch in batches) / sum(
            batch["attention_mask"].numel() for batch in batches
        )
        figures["ratio" if size == 16 else f"ratio_{size}_rows"] = statistics.median(ratios)
        figures[f"padding_{size}_rows"] = padding
    return figures


def _seconds(network: Any, batch: dict[str, Tensor], grouped: bool) -> float:
    network.zero_grad()
    began = time.process_time()

    def logits(given: dict[str, Tensor]) -> Tensor:
        values_BC: Tensor = network(**given).logits
        return values_BC

    values_BC = in_groups(logits, batch) if grouped else logits(batch)
    torch.nn.functional.cross_entropy(values_BC, values_BC.argmax(dim=1)).backward()
    return time.process_time() - began


def _sample_rows() -> list[dict[str, str]]:
    """The bundled sample's labelled rows: gold, and the pool with its prompt labels."""
    rows = []
    for name, label in (
        ("gold/train", "label"),
        ("gold/dev", "label"),
        ("gold/test", "label"),
        ("pool/train", "prompt_label"),
    ):
        lines = (PROJECT / f"samples/sentiment/{name}.jsonl").read_text(encoding="utf-8").splitlines()
        rows += [{"text": row["text"], "label": row[label]} for row in map(json.loads, lines)]
    return rows
