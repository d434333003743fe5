"""Probability vectors as they stand in artifacts: read once, checked once."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..core.errors import InputError
from ..core.task import Task

TOLERANCE = 1e-4


def read_probs(table: pa.Table, labels: list[str], task: Task, place: str, remedy: str) -> np.ndarray:
    """Take the `probs` column out of an artifact's rows, in the task's label order.

    Args:
        table: Rows with a column `probs`: a list of numbers a row.
        labels: The labels in the order of the artifact's vectors.
        task: The task.
        place: What an error calls the artifact.
        remedy: The end of the error line.

    Returns:
        float64 array of shape (N, C).

    Raises:
        InputError: If labels differ from the task's, or a row is not a probability vector (sum within 1e-4 of 1).
    """
    own = [task.match(label) for label in labels]
    if sorted(map(str, own)) != sorted(task.labels):
        raise InputError(f"{place}: probabilities of {labels}, expected the task's labels {task.labels}; {remedy}")
    if "probs" not in table.column_names:
        raise InputError(f"{place}: no column 'probs' among {table.column_names}; {remedy}")
    column = table["probs"].combine_chunks()
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        raise InputError(f"{place}: probs is of type {column.type}, expected {len(labels)} numbers a row; {remedy}")
    # Arrow's own buffers: a million Python lists would take longer, and more memory, than all the rest.
    lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
    if (lengths != len(labels)).any():
        wrong = int((lengths != len(labels)).argmax())
        raise InputError(
            f"{place} row {wrong}: probs is {column[wrong].as_py()}, expected {len(labels)} numbers; {remedy}"
        )
    values = column.flatten().to_numpy(zero_copy_only=False)
    probs_NC: np.ndarray = values.astype(np.float64).reshape(-1, len(labels))
    sums = probs_NC.sum(axis=1)
    bad = ~(np.abs(sums - 1) <= TOLERANCE) | ~(probs_NC >= 0).all(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        found = f"probs sum to {sums[row]:.4g}, expected 1" if (probs_NC[row] >= 0).all() else "a prob is negative"
        raise InputError(f"{place} row {row}: {found}; {remedy}")
    return probs_NC[:, [own.index(label) for label in task.labels]]
