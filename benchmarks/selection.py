"""Strategies that need probabilities alone, at the paper's scale and at a million rows, after loading."""

import resource
import time

import numpy as np

from labelbridge.lightning_app.selection.quotas import cut
from labelbridge.lightning_app.selection.strategies import BUILT_IN, Candidates

EPOCHS, CLASSES, QUOTA = 15, 3, 2500


def run(full: bool = False) -> dict[str, float | int]:  # noqa: ARG001 - it is quick
    """Seconds of top, ambiguous and easy over 130,000 rows, and of top over 1,000,000.

    The peer is the same choice by a full sort over Python objects, as row-wise code does it.
    """
    times = {name: _select(name, 130_000) for name in ("top", "ambiguous", "easy")}
    million = _select("top", 1_000_000)
    peer = _row_by_row(130_000)
    return {
        "ratio": peer / times["top"], **{f"{name}_s": value for name, value in times.items()}, "top_million_s": million,
        "row_by_row_s": peer, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }  # fmt: skip


def _probabilities(rows: int, epochs: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((epochs, rows, CLASSES), dtype=np.float32)
    return logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))


def _select(name: str, rows: int) -> float:
    dynamics = _probabilities(rows, 1 if name == "top" else EPOCHS)
    ids = [f"pool/train/{row}" for row in range(rows)]
    began = time.perf_counter()
    classes = dynamics[-1].argmax(axis=1)
    for number in range(CLASSES):
        members = np.flatnonzero(classes == number)
        own = [ids[row] for row in members]
        candidates = Candidates(
            own, number, dynamics[-1][members], 0, QUOTA, dynamics_ENC=dynamics[:, members] if name != "top" else None
        )
        score = BUILT_IN[name].function(candidates)
        assert isinstance(score, np.ndarray)
        cut(score, own, QUOTA, 0)
    return time.perf_counter() - began


def _row_by_row(rows: int) -> float:
    dynamics = _probabilities(rows, 1)[0]
    records = [{"id": f"pool/train/{row}", "probs": np.exp(dynamics[row]).tolist()} for row in range(rows)]
    began = time.perf_counter()
    by_class: dict[int, list[tuple[float, str]]] = {}
    for record in records:
        probs = record["probs"]
        best = max(range(CLASSES), key=lambda one, probs=probs: probs[one])
        by_class.setdefault(best, []).append((-probs[best], record["id"]))
    for members in by_class.values():
        sorted(members)[:QUOTA]
    return time.perf_counter() - began
