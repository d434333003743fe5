"""What `clean` can say of a row without the others, which shards compute; rows are compared once, without a shard.

Parsing and the quick look at the language take three quarters of the time. MinHash signatures are made where rows are
compared: they take a twentieth of it, and would fill several times the texts' room on the disk.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ..core.run_parts import finished_line
from ..core.runs import Run
from ..core.spool import Spool
from .filters import CHUNK

log = logging.getLogger(__name__)

Columns = dict[str, list[Any]]
"""By row: its `text`; the `reason` why it is rejected, or None; the other language that is `suspected`, or None."""
Judge = Callable[[Sequence[int]], Columns]
"""From row numbers to these columns."""
_SCHEMA = {"text": pa.string(), "reason": pa.string(), "suspected": pa.string()}


def compute_shard(run: Run, judge: Judge, rows: int) -> int:
    """Put every n-th row on the disk: what is said of a row does not depend on the others of its chunk.

    Args:
        run: The run, whose `shard` says which rows.
        judge: Computes rows.
        rows: How many there are.

    Returns:
        How many rows are on the disk, those of other shards included.
    """
    spool = Spool(run.out, _SCHEMA)
    _compute_missing(spool, judge, np.arange(rows)[run.shard.picks])
    finished = len(spool.finished())
    log.info("%s", finished_line(run.out, run.shard, finished, rows))
    return finished


def judge_all(run: Run, judge: Judge, rows: int) -> Columns:
    """All rows, in order: what shards have left on the disk, and the rest computed now.

    Args:
        run: The run.
        judge: Computes rows.
        rows: How many there are.
    """
    spool = Spool(run.out, _SCHEMA)
    if not (finished := len(spool.finished())):
        return judge(range(rows))
    log.info("%s: %d of %d rows are finished", run.out, finished, rows)
    _compute_missing(spool, judge, np.arange(rows))
    columns: Columns = spool.merge(rows).to_pydict()
    return columns


def _compute_missing(spool: Spool, judge: Judge, rows: np.ndarray) -> None:
    """Compute what is not on the disk, chunk by chunk; a kill loses the chunk at hand."""
    missing = np.setdiff1d(rows, spool.finished()).tolist()
    for start in range(0, len(missing), CHUNK):
        chunk = missing[start : start + CHUNK]
        spool.add(chunk, judge(chunk))
        spool.flush()
