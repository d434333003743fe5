"""How much of what a network computes is padding, by the way of batching, for rows as long as SST5's and SNLI's."""

# N = rows

from collections.abc import Iterable, Sequence

import numpy as np
from transformers import AutoTokenizer

from benchmarks._rows import NLI, SENTIMENT, rows_of
from labelbridge.datamodules.windows import WindowSampler, WindowShape, plan_by_budget
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.models.locate import locate
from labelbridge.modules.length_groups import cut

ROWS, FIXED, BUDGET = 32, 128, 4096  # rows of a step, tokens in the paper's code, positions of an inference batch
Batch = tuple[int, int]  # rows and width in tokens


def run(full: bool = False) -> dict[str, float]:
    """Shares of the positions that hold no token, for 4,000 rows of each kind (`full`: 100,000).

    `fixed`: every row padded to 128 tokens, as in the paper's code. `random`: batches of 32 padded to their longest
    row, as in the Hugging Face Trainer with its defaults. `sorted`: steps of 32 rows that a fit with `batch_size` 8 and
    4 accumulated batches sorts and cuts. `groups` and `packed`: `model.length_groups`, for steps of 32; attention
    alone computes padding in packed batches, that of `random`. `predict`: batches of 4,096 positions of a set sorted by
    length.
    """
    figures = {}
    for task, likeness in ((SENTIMENT, "sst5"), (NLI, "snli")):
        lengths_N = lengths_of(task, 100_000 if full else 4_000)
        figures |= {f"{likeness}_{way}": share for way, share in shares(lengths_N).items()}
        figures[f"{likeness}_tokens"] = float(lengths_N.mean())
    return figures


def shares(lengths_N: np.ndarray) -> dict[str, float]:
    """Way of batching -> share of padding, 0 to 1.

    Args:
        lengths_N: Tokens of every row.
    """
    together = _steps(lengths_N, WindowShape(ROWS))
    grouped = [
        (part.stop - part.start, longest)
        for rows in together
        for part, longest in cut(sorted(lengths_N[rows].tolist()))
    ]
    return {
        "fixed": _share(lengths_N, [(len(lengths_N), max(FIXED, int(lengths_N.max())))]),
        "random": _share(lengths_N, _padded(lengths_N, together)),
        "sorted": _share(lengths_N, _padded(lengths_N, _steps(lengths_N, WindowShape(ROWS // 4, 4)))),
        "groups": _share(lengths_N, grouped),
        "packed": 0.0,
        "predict": _share(lengths_N, _padded(lengths_N, plan_by_budget(lengths_N, BUDGET))),
    }


def lengths_of(task: Task, count: int) -> np.ndarray:
    """Tokens of made-up rows, by the bundled encoder's tokenizer; int64 of shape (N,)."""
    tokenizer = AutoTokenizer.from_pretrained(locate("bundled"))
    rows = rows_of(task, count)
    encoded = tokenizer(*([row[column] for row in rows] for column in task.columns), truncation=True, max_length=FIXED)
    return np.array([len(ids) for ids in encoded["input_ids"]], dtype=np.int64)


def _steps(lengths_N: np.ndarray, shape: WindowShape) -> list[np.ndarray]:
    """The micro-batches of an epoch of a fit."""
    return [one.rows for one in WindowSampler(lengths_N, len(lengths_N), shape, rank=0, seed=0)]


def _padded(lengths_N: np.ndarray, batches: Sequence[np.ndarray]) -> list[Batch]:
    return [(len(rows), int(lengths_N[rows].max())) for rows in batches]


def _share(lengths_N: np.ndarray, batches: Iterable[Batch]) -> float:
    return 1 - float(lengths_N.sum()) / sum(rows * width for rows, width in batches)
