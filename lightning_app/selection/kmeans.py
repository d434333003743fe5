"""Cosine K-means as the paper's code runs it through NLTK, and a fast version that gives the same bits.

The released code clusters sentence embeddings with NLTK's `KMeansClusterer(25, cosine_distance,
avoid_empty_clusters=True, rng=Random(42))` in float32. The `torch` backend follows it operation for operation where the
order of float sums matters (means are added up in row order) and uses one matrix product where it does not (distances);
rows whose two best distances are closer than `NEAR` are settled by NLTK's own formula.
"""

# N = rows, D = dimensions, K = clusters

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

import numpy as np

from ..core.errors import InputError
from ..core.packages import require
from ..core.ranges import PositiveInt, check_ranges

log = logging.getLogger(__name__)

CONVERGED = 1e-6
NEAR = 1e-6
BLOCK_ROWS = 16_384


@dataclass(frozen=True)
class Clustering:
    """The outcome of K-means.

    Args:
        assignment_N: Cluster of every row; int64.
        means_KD: The cluster means; float32.
        iterations: How often the means were updated.
        converged: Whether their summed cosine shift fell below 1e-6 before `max_iter`.
    """

    assignment_N: np.ndarray
    means_KD: np.ndarray
    iterations: int
    converged: bool


@check_ranges()
def kmeans(
    vectors_ND: np.ndarray,
    k: int,
    *,
    seed: int = 42,
    backend: Literal["torch", "nltk"] = "torch",
    avoid_empty: bool = True,
    repeats: PositiveInt = 1,
    max_iter: PositiveInt = 1000,
    device: str = "cpu",
) -> Clustering:
    """Cluster rows by cosine distance.

    A new mean is `(old mean + sum of members) / (1 + n)` with `avoid_empty`, else the members' plain mean. With
    `repeats` the trials are independent draws of initial means, and the one with the smallest summed distance is kept
    (NLTK's later trials start from an earlier one's means).

    Args:
        vectors_ND: Embeddings; taken as float32. A row of zeros has no direction and is refused.
        k: Number of clusters; with k rows or fewer the initial means stay as they are.
        seed: Seed of the initial means, drawn as NLTK draws them.
        backend: `torch` (CPU or CUDA) or `nltk` (the paper's, slow).
        avoid_empty: See above; the paper's code sets it.
        repeats: Independent trials.
        max_iter: Stop with a warning after so many updates; NLTK has no such limit.
        device: Where the `torch` backend computes. Only on the CPU is it NLTK's to the bit.

    Raises:
        InputError: If k is larger than the number of rows, or a row is all zeros, or there is no such device.
    """
    vectors_ND = np.ascontiguousarray(vectors_ND, dtype=np.float32)
    if not 1 <= k <= len(vectors_ND):
        raise InputError(f"clusters {k}: expected 1 to {len(vectors_ND)}, the number of rows in the class")
    if not vectors_ND.any(axis=1).all():
        row = int(np.flatnonzero(~vectors_ND.any(axis=1))[0])
        raise InputError(f"embedding {row}: all zeros, so it has no direction; embed the pool again")
    run: Callable[..., Clustering] = _nltk if backend == "nltk" else _torch
    rng = random.Random(seed)  # noqa: S311 - the draw of the paper's code
    best, best_distance = None, np.inf
    for _ in range(repeats):
        initial_KD = np.stack(rng.sample(list(vectors_ND), k))
        found = run(vectors_ND, initial_KD, avoid_empty, max_iter, device)
        distance = _summed_distance(vectors_ND, found) if repeats > 1 else 0.0
        if best is None or distance < best_distance:
            best, best_distance = found, distance
    assert best is not None, "checked above"
    if not best.converged:
        log.warning("K-means: not converged after %d iterations; raise max_iter", best.iterations)
    return best


def cosine_distance(u: np.ndarray, v: np.ndarray) -> Any:
    """NLTK's formula, with its rounding: float32 products, square roots in double."""
    return 1 - np.dot(u, v) / (sqrt(np.dot(u, u)) * sqrt(np.dot(v, v)))


def _nltk(vectors_ND: np.ndarray, initial_KD: np.ndarray, avoid_empty: bool, max_iter: int, _device: str) -> Clustering:
    """NLTK's own clusterer, stopped after `max_iter` updates."""
    clusterer: Any = require("nltk.cluster", "selection", "backend 'nltk'").KMeansClusterer
    nltk_distance = require("nltk.cluster.util", "selection", "backend 'nltk'").cosine_distance

    class Counted(clusterer):  # type: ignore[misc] # NLTK is untyped
        updates = 0
        shift = np.inf

        def _sum_distances(self, vectors1: Any, vectors2: Any) -> Any:
            self.updates += 1
            self.shift = super()._sum_distances(vectors1, vectors2)
            return 0.0 if self.updates >= max_iter else self.shift

    clusterer = Counted(
        len(initial_KD), nltk_distance, initial_means=list(initial_KD), avoid_empty_clusters=avoid_empty
    )
    try:
        assignment = clusterer.cluster(list(vectors_ND), assign_clusters=True)
    except AssertionError:  # NLTK has no mean for a cluster that has lost its rows
        raise InputError("K-means: a cluster became empty; set avoid_empty, or ask for fewer clusters") from None
    converged = clusterer.shift < CONVERGED or clusterer.updates == 0
    return Clustering(np.asarray(assignment), np.stack(clusterer.means()), clusterer.updates, bool(converged))


def _torch(vectors_ND: np.ndarray, initial_KD: np.ndarray, avoid_empty: bool, max_iter: int, device: str) -> Clustering:
    import torch

    try:
        rows_ND = torch.from_numpy(vectors_ND).to(device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device '{device}': {str(error).splitlines()[0]}; choose cpu, or cuda where there is"
        ) from None
    norms_N = _norms(vectors_ND)
    means_KD, iterations, shift = initial_KD, 0, np.inf
    converged = len(vectors_ND) <= len(initial_KD)
    while not converged and iterations < max_iter:
        assignment_N = _assign(rows_ND, vectors_ND, norms_N, means_KD)
        updated_KD = _update(vectors_ND, assignment_N, means_KD, avoid_empty)
        shift = 0.0
        for old, new in zip(means_KD, updated_KD, strict=True):
            shift += cosine_distance(old, new)
        means_KD, iterations = updated_KD, iterations + 1
        converged = bool(shift < CONVERGED)
    return Clustering(_assign(rows_ND, vectors_ND, norms_N, means_KD), means_KD, iterations, converged)


def _assign(rows_ND: Any, vectors_ND: np.ndarray, norms_N: np.ndarray, means_KD: np.ndarray) -> np.ndarray:
    """The nearest mean of every row, the first of equals."""
    import torch

    units_KD = torch.from_numpy(means_KD / _norms(means_KD)[:, None]).float().to(rows_ND.device)
    assignment_N = np.empty(len(vectors_ND), dtype=np.int64)
    for start in range(0, len(vectors_ND), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        similarity = rows_ND[block] @ units_KD.T
        best = torch.topk(similarity, min(2, len(means_KD)), dim=1)
        assignment_N[block] = best.indices[:, 0].cpu().numpy()
        if len(means_KD) == 1:
            continue
        values = best.values.cpu().numpy().astype(np.float64) / norms_N[block, None]
        for offset in np.flatnonzero(values[:, 0] - values[:, 1] < NEAR):
            row = start + int(offset)
            distances = [cosine_distance(vectors_ND[row], mean) for mean in means_KD]
            assignment_N[row] = int(np.argmin(distances))
    return assignment_N


def _update(vectors_ND: np.ndarray, assignment_N: np.ndarray, means_KD: np.ndarray, avoid_empty: bool) -> np.ndarray:
    """New means; members are added in row order, as NLTK adds them.

    On the CPU wherever the rows are compared: a GPU adds in an order of its own, another one each time.
    """
    import torch

    counts_K = np.bincount(assignment_N, minlength=len(means_KD))
    if avoid_empty:
        sums_KD = torch.from_numpy(means_KD.copy())
        divisor_K = 1 + counts_K
    else:
        if not counts_K.all():
            empty = int(np.flatnonzero(counts_K == 0)[0])
            raise InputError(f"K-means: cluster {empty} became empty; set avoid_empty, or ask for fewer clusters")
        sums_KD = torch.zeros(means_KD.shape, dtype=torch.float32)
        divisor_K = counts_K
    sums_KD.index_add_(0, torch.from_numpy(assignment_N), torch.from_numpy(vectors_ND))
    return np.asarray(sums_KD.numpy() / divisor_K[:, None].astype(np.float32))


def _norms(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)))


def _summed_distance(vectors_ND: np.ndarray, found: Clustering) -> float:
    means_ND = found.means_KD[found.assignment_N]
    dots = np.einsum("nd,nd->n", vectors_ND, means_ND, dtype=np.float64)
    return float((1 - dots / (_norms(vectors_ND) * _norms(means_ND))).sum())
