"""A training step in groups of similar length, or packed, against the same step padded to its longest row."""

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
from labelbridge.modules.packing import make_packable, packed_logits
from labelbridge.modules.trained_rows import train_rows_that_occur


def run(full: bool = False) -> dict[str, Any]:
    """Processor seconds of forward and backward passes of MiniLM, in turn on the same batches; medians of the ratios.

    `ratio` is that of groups in batches of 16 rows, `packed` that of packed ones; `full` takes all rows of the sample,
    the default a quarter.
    """
    rows = _sample_rows()
    random.Random(0).shuffle(rows)  # noqa: S311 - made-up order
    rows = rows if full else rows[: len(rows) // 4]
    tokenizer = AutoTokenizer.from_pretrained(locate(MINILM))
    network = load_classifier(MINILM, SENTIMENT, new_head=True).train()
    tokens = [tokenizer.pad_token_id, *(number for row in rows for number in tokenizer(row["text"])["input_ids"])]
    train_rows_that_occur(network, np.unique(tokens))  # as fit does
    make_packable(network)
    figures: dict[str, Any] = {}
    for size in (8, 16, 32):
        batches = [
            dict(tokenizer([row["text"] for row in rows[first : first + size]], padding=True, return_tensors="pt"))
            for first in range(0, len(rows) - size + 1, size)
        ]
        seconds = [{how: _seconds(network, batch, how) for how in ("padded", "grouped", "packed")} for batch in batches]
        padding = 1 - sum(int(batch["attention_mask"].sum()) for batch in batches) / sum(
            batch["attention_mask"].numel() for batch in batches
        )
        for how, name in (("grouped", "ratio"), ("packed", "packed")):
            ratio = statistics.median(each["padded"] / each[how] for each in seconds)
            figures[name if size == 16 else f"{name}_{size}_rows"] = ratio
        figures[f"padding_{size}_rows"] = padding
    return figures


def _seconds(network: Any, batch: dict[str, Tensor], how: str) -> float:
    network.zero_grad()
    began = time.process_time()

    def logits(given: dict[str, Tensor]) -> Tensor:
        values_BC: Tensor = network(**given).logits
        return values_BC

    if how == "packed":
        values_BC = packed_logits(network, batch)
    else:
        values_BC = in_groups(logits, batch) if how == "grouped" else logits(batch)
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
