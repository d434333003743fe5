"""Seeded orders that depend on ids alone, so that shuffling a file changes nothing."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np


def seeded_hash(ids: Sequence[str], seed: int, purpose: str) -> np.ndarray:
    """Hash every id to an unsigned 64-bit number that looks random and is the same on every machine.

    Args:
        ids: N row ids.
        seed: Another seed gives an independent order.
        purpose: Keeps two uses of the same seed independent of each other (`"sample"`, `"ties"`).

    Returns:
        uint64 array of shape (N,).
    """
    key = blake2b(f"{purpose}:{seed}".encode(), digest_size=16).digest()
    digests = (blake2b(one.encode(), digest_size=8, key=key).digest() for one in ids)
    return np.frombuffer(b"".join(digests), dtype="<u8").copy()
