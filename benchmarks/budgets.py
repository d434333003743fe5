"""Rows a second of the bundled encoder by the tokens of an inference batch (`data.tokens_per_batch`)."""

# N = rows

import random
import statistics
import time
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import AutoTokenizer

from benchmarks._rows import NLI, SENTIMENT, rows_of
from labelbridge.datamodules.batches import Padding, RowBatches
from labelbridge.datamodules.encoding import encode
from labelbridge.datamodules.windows import BudgetSampler
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.models.locate import locate
from labelbridge.modules.heads import load_classifier

DEFAULT, BUDGETS = 4096, (1_500, 3_000, 4_096, 8_000, 16_000)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def run(full: bool = False) -> dict[str, Any]:
    """Forward passes in float32 over 400 rows as long as SST5's and SNLI's each, budgets in turn, twice.

    `full`: 4,000 rows each, three times. `sst5_3000`: seconds with the default budget over those with 3,000 tokens a
    batch, the median of the turns, so that above 1 it is faster than the default; `sst5_3000_padding` its padding.
    """
    figures: dict[str, Any] = {}
    for task, likeness in ((SENTIMENT, "sst5"), (NLI, "snli")):
        measured = compare("bundled", task, 4_000 if full else 400, turns=3 if full else 2)
        figures |= {f"{likeness}_{name}": value for name, value in measured.items()}
    return {"ratio": figures["sst5_3000"], **figures, "device": DEVICE}


def compare(model: str, task: Task, count: int, turns: int) -> dict[str, float]:
    """Each budget against the default one.

    Args:
        model: The encoder.
        task: The task, which says how long rows are.
        count: Rows.
        turns: How often each budget is measured, after a first pass that is not.
    """
    tokenizer = AutoTokenizer.from_pretrained(locate(model))
    longest = min(128, tokenizer.model_max_length)
    encoded = encode(pa.Table.from_pylist(rows_of(task, count)), task.columns, tokenizer, longest)
    network = load_classifier(model, task, new_head=True).to(DEVICE).eval()
    batches = RowBatches(encoded, Padding.of(tokenizer))
    plans = {budget: list(BudgetSampler(encoded.lengths, budget)) for budget in BUDGETS}
    seconds: dict[int, list[float]] = {budget: [] for budget in BUDGETS}
    _seconds(network, [batches[one]["inputs"] for one in plans[BUDGETS[-1]][:1]])
    order = random.Random(0)  # noqa: S311 - an order
    for _ in range(turns):
        for budget in order.sample(BUDGETS, len(BUDGETS)):
            seconds[budget].append(_seconds(network, [batches[one]["inputs"] for one in plans[budget]]))
    figures = {}
    for budget in BUDGETS:
        pairs = zip(seconds[DEFAULT], seconds[budget], strict=True)
        figures[f"{budget}"] = statistics.median(default / other for default, other in pairs)
        cells = sum(len(one.rows) * int(encoded.lengths[one.rows].max()) for one in plans[budget])
        figures[f"{budget}_padding"] = 1 - float(np.sum(encoded.lengths)) / cells
    figures["rows_per_s"] = count / statistics.median(seconds[DEFAULT])
    return figures


@torch.inference_mode()
def _seconds(network: Any, inputs: list[dict[str, torch.Tensor]]) -> float:
    began = time.perf_counter()
    for batch in inputs:
        network(**{name: value.to(DEVICE) for name, value in batch.items()}).logits.cpu()
    return time.perf_counter() - began
