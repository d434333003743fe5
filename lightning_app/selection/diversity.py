"""How different the rows of a set are from each other."""

# N = rows, D = dimensions

import numpy as np


def diversity_score(units_ND: np.ndarray) -> float | None:
    """Mean over rows of the mean cosine distance to every other row (paper, section 4).

    For unit rows u that is `1 - (|sum u|^2 - n) / (n (n - 1))`, exact and linear in n.

    Args:
        units_ND: Embeddings; normalised here in float64.

    Returns:
        0 to 2, or None for fewer than two rows.
    """
    rows = len(units_ND)
    if rows < 2:
        return None
    total = np.zeros(units_ND.shape[1])
    for start in range(0, rows, 16_384):
        block = units_ND[start : start + 16_384].astype(np.float64)
        total += (block / np.linalg.norm(block, axis=1, keepdims=True)).sum(axis=0)
    return float(1 - (total @ total - rows) / (rows * (rows - 1)))
