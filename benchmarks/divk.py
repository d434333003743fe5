"""K-means for div-k at the paper's scale: ours against NLTK's, from the same means over the same iterations."""

import resource
import time

import numpy as np
import torch

from labelbridge.lightning_app.selection.kmeans import kmeans

ROWS, DIMENSIONS, CLASSES, CLUSTERS = 130_000, 768, 3, 25


def run(full: bool = False) -> dict[str, float | int | bool]:
    """Cluster three classes of 130,000 x 768 embeddings; `full` runs to convergence instead of three iterations.

    With a GPU also there: `cuda_ratio`, against NLTK too, and whether its assignments are the same.
    """
    limit = 1000 if full else 3
    has_gpu = torch.cuda.is_available()
    ours = theirs = cuda = 0.0
    identical, cuda_identical, iterations = True, True, 0
    kmeans(_embeddings(100, 9), 2, device="cuda" if has_gpu else "cpu")  # warms up
    for number in range(CLASSES):
        vectors = _embeddings(ROWS // CLASSES, number)
        began = time.perf_counter()
        fast = kmeans(vectors, CLUSTERS, max_iter=limit)
        ours += time.perf_counter() - began
        if number == 0:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        began = time.perf_counter()
        slow = kmeans(vectors, CLUSTERS, backend="nltk", max_iter=limit)
        theirs += time.perf_counter() - began
        identical &= np.array_equal(fast.assignment_N, slow.assignment_N)
        identical &= np.array_equal(fast.means_KD, slow.means_KD)
        iterations += fast.iterations
        if has_gpu:
            began = time.perf_counter()
            there = kmeans(vectors, CLUSTERS, max_iter=limit, device="cuda")
            cuda += time.perf_counter() - began
            cuda_identical &= np.array_equal(there.assignment_N, slow.assignment_N)
        print(
            f"class {number}: {fast.iterations} iterations, ours {ours:.1f} s, NLTK {theirs:.1f} s so far", flush=True
        )
    return {
        "ratio": theirs / ours, "identical": bool(identical), "seconds": ours, "nltk_seconds": theirs,
        "iterations": iterations, "rows": ROWS, "peak_gb": peak,
        **({"cuda_ratio": theirs / cuda, "cuda_identical": bool(cuda_identical)} if has_gpu else {}),
    }  # fmt: skip


def _embeddings(rows: int, seed: int) -> np.ndarray:
    """Unit vectors around sixty centres, about as spread as sentence embeddings are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(60, DIMENSIONS)).astype(np.float32)
    vectors = centres[rng.integers(0, 60, rows)] + 1.5 * rng.standard_normal((rows, DIMENSIONS), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
