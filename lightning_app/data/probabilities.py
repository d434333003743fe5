"""Probability vectors as they stand in artifacts: read once, checked once."""

import numpy as np
import pyarrow as pa

from ..core.contracts import probabilities
from ..core.errors import InputError
from ..core.task import Task


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
    probs_NC = probabilities(table, len(labels), place, remedy)
    return probs_NC[:, [own.index(label) for label in task.labels]]
