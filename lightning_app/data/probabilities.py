"""Probability vectors as they stand in artifacts: read once, checked once."""

import numpy as np
import pyarrow as pa

from ..core.contracts import probabilities, vectors
from ..core.errors import InputError
from ..core.task import Task

DEVIATIONS = "dropout_deviations"  # the column that predict writes with model.dropout_passes


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
    order = _order(labels, task, place, remedy)
    return probabilities(table, len(labels), place, remedy)[:, order]


def read_deviations(table: pa.Table, labels: list[str], task: Task, place: str, remedy: str) -> np.ndarray:
    """The column `dropout_deviations`, as `read_probs` takes `probs`; float64 of shape (N, C).

    Raises:
        InputError: If labels differ from the task's, or a row is not a number for each.
    """
    order = _order(labels, task, place, remedy)
    return vectors(table, DEVIATIONS, place, remedy, len(labels)).astype(np.float64, copy=False)[:, order]


def _order(labels: list[str], task: Task, place: str, remedy: str) -> list[int]:
    """Where each label of the task stands among the artifact's."""
    own = [task.match(label) for label in labels]
    if sorted(map(str, own)) != sorted(task.labels):
        raise InputError(f"{place}: probabilities of {labels}, expected the task's labels {task.labels}; {remedy}")
    return [own.index(label) for label in task.labels]
