"""Sentence embeddings as they are in artifacts: read once, checked once."""

# N = rows, D = dimensions

import numpy as np

from ..core import artifacts
from ..core.contracts import EMBEDDINGS, vectors
from ..core.errors import InputError


def unit_embeddings(artifact: artifacts.Artifact) -> np.ndarray:
    """The embeddings of an artifact as float32 of shape (N, D).

    Raises:
        InputError: If one has no direction: all zeros, or not finite.
    """
    remedy = f"rebuild with {artifacts.rebuild(artifact.manifest, anew=True)}"
    matrix = vectors(artifact.table, EMBEDDINGS, artifact.path, remedy).astype(np.float32, copy=False)
    squares = np.einsum("nd,nd->n", matrix, matrix, dtype=np.float64)
    bad = ~((squares > 0) & np.isfinite(squares))
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"{artifact.path} row {row}: the embedding of '{artifact.table['id'][row]}' has length "
            f"{np.sqrt(squares[row]):.3g}, expected a direction; {remedy}"
        )
    return matrix
