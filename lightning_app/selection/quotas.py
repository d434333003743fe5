"""How many rows each class may keep, and which ones are kept."""

# N = rows of the class

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import InputError
from ..core.hashing import seeded_hash
from ..core.task import Task


@dataclass(frozen=True)
class Choice:
    """The rows of one class that a strategy keeps.

    Args:
        kept: Positions among the class's N rows, best first; at most the quota. A class with too few rows keeps fewer,
            and none are taken from elsewhere.
        score: One number for each of the N rows, which is written with it.
        cluster: Cluster or stratum of each of the N rows; int64.
        ties: Rows that were not kept although only the seeded hash tells them from one that was.
    """

    kept: np.ndarray
    score: np.ndarray
    cluster: np.ndarray | None = None
    ties: int = 0


def quotas_by_class(quota: int | Mapping[str, int], task: Task) -> dict[str, int]:
    """Spell a quota out for every label.

    Raises:
        InputError: If a map names a label the task does not have, or leaves one out, or a quota is negative.
    """
    if isinstance(quota, int):
        quota = dict.fromkeys(task.labels, quota)
    named = {task.labels[task.index(name, "quota")]: size for name, size in quota.items()}
    if set(named) != set(task.labels) or min(named.values()) < 0:
        raise InputError(f"quota {dict(quota)}: expected a number of rows, 0 or more, for each of {task.labels}")
    return {label: named[label] for label in task.labels}


def best_first(scores: np.ndarray, ids: Sequence[str], seed: int) -> np.ndarray:
    """Positions from the highest score to the lowest; ties go by a seeded hash of the id, never by file order."""
    order = np.argsort(-scores, kind="stable")
    as_next = scores[order[1:]] == scores[order[:-1]]
    tied = np.zeros(len(order), dtype=bool)
    tied[1:] = as_next
    tied[:-1] |= as_next
    positions = order[tied]  # only these need a hash, which takes longer than the sort
    lots = seeded_hash([ids[position] for position in positions], seed, "ties")
    order[tied] = positions[np.lexsort((lots, -scores[positions]))]
    return order


def cut(scores: np.ndarray, ids: list[str], quota: int, seed: int) -> Choice:
    """Keep the `quota` highest scores; ties go by a seeded hash of the id, never by file order."""
    order = best_first(scores, ids, seed)
    kept = order[:quota]
    ties = int((scores[order[quota:]] == scores[kept[-1]]).sum()) if 0 < quota < len(order) else 0
    return Choice(kept, scores, ties=ties)
