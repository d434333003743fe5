"""What training dynamics say about each row: confidence, variability, correctness, forgetting, AUM."""

# N = rows, C = classes, E = epochs

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..core import artifacts
from ..core.task import Task
from .store import STAGE, read_dynamics


class Moments:
    """Mean and population standard deviation of arrays that come one by one, by Welford's update."""

    def __init__(self) -> None:
        self.mean = self._squares = np.zeros(1)
        self._count = 0

    def add(self, values: np.ndarray) -> None:
        """Take another array, of the shape of those before."""
        self._count += 1
        delta = values - self.mean
        self.mean = self.mean + delta / self._count
        self._squares = self._squares + delta * (values - self.mean)

    @property
    def deviation(self) -> np.ndarray:
        """The population standard deviation of each element."""
        deviation: np.ndarray = np.sqrt(self._squares / self._count)
        return deviation


@dataclass(frozen=True)
class Statistics:
    """What the dynamics say of every row; each shape (N,), float64 unless said otherwise.

    Args:
        confidence: Mean over epochs of the probability of the reference label (Swayamdipta et al., arXiv 2009.10795).
        variability: Population standard deviation of the same (ibid.).
        correctness: Share of epochs in which the reference label is the most likely one (ibid.).
        forgetting: How often a row goes from right to wrong between epochs (Toneva et al., arXiv 1812.05159); int64.
        aum: Mean over epochs of z_y - max_{j != y} z_j (Pleiss et al., arXiv 2001.10528); log-probability margins equal
            logit margins.
        epochs: E.
    """

    confidence: np.ndarray
    variability: np.ndarray
    correctness: np.ndarray
    forgetting: np.ndarray
    aum: np.ndarray
    epochs: int


def statistics(epochs: Iterable[np.ndarray], reference_N: np.ndarray) -> Statistics:
    """What the dynamics say of every row, one epoch at a time, in memory of a few numbers a row.

    Args:
        epochs: Log-probabilities of shape (N, C), epoch by epoch.
        reference_N: The label that confidence, correctness and so on refer to: a gold row's own label (then they
            measure learning); a pool row's class (then they measure how stable the teacher is about it).

    Raises:
        ValueError: If there is no epoch.
    """
    rows = np.arange(len(reference_N))
    probability = Moments()
    right_epochs, margin = np.zeros(len(rows)), np.zeros(len(rows))
    forgetting = np.zeros(len(rows), dtype=np.int64)
    was_right = np.zeros(len(rows), dtype=bool)
    count = 0
    for log_probs_NC in epochs:
        count += 1
        wide_NC = log_probs_NC.astype(np.float64)
        own_N = wide_NC[rows, reference_N]
        probability.add(np.exp(own_N))
        is_right = wide_NC.argmax(axis=1) == reference_N
        right_epochs += is_right
        forgetting += was_right & ~is_right
        was_right = is_right
        wide_NC[rows, reference_N] = -np.inf
        margin += own_N - wide_NC.max(axis=1)
    if not count:
        raise ValueError("no epochs")
    return Statistics(probability.mean, probability.deviation, right_epochs / count, forgetting, margin / count, count)


def statistics_table(folder: Path) -> pa.Table:
    """What the dynamics in a folder say of every row: `id`, `reference`, and the columns of `Statistics`.

    Raises:
        InputError: See `read_dynamics`.
    """
    labels = artifacts.read_manifest(folder, STAGE).facts["labels"]
    read = read_dynamics(folder, Task("any", ["text"], labels))
    found = statistics(read.log_probs_ENC, read.reference_N)
    columns = {name: value for name, value in vars(found).items() if name != "epochs"}
    return pa.table({"id": read.ids, "reference": [labels[one] for one in read.reference_N], **columns})
