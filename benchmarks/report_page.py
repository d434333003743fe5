"""Seconds and size of the report over fifteen methods, with its page of a pool of 130,000 rows."""

import resource
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks._rows import SENTIMENT, rows_of
from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.evaluation.report import report

POOL, TESTED, METHODS, SEEDS, TARGETS = 130_000, 6_000, 15, 3, ("hi", "mr")


def run(full: bool = False) -> dict[str, Any]:
    """Write a report over made-up runs: fifteen methods, three seeds, two targets of 6,000 rows; nothing is compared.

    `full` writes accuracy and macro-F1, with and without the gold's prior, against three baselines.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        student = _chain(folder)
        runs = [_tested(folder, f"M{method}", seed, student) for method in range(METHODS) for seed in range(SEEDS)]
        began = time.perf_counter()
        if full:
            report(runs, str(folder / "report"), ["accuracy", "macro_f1"], ["M0", "M1", "M2"], "both")
        else:
            report(runs, str(folder / "report"))
        seconds = time.perf_counter() - began
        page = folder / "report" / "report.html"
        return {
            "seconds": seconds, "page_mb": page.stat().st_size / 1e6, "rows": POOL, "runs": len(runs),
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }  # fmt: skip


def _chain(folder: Path) -> Path:
    """A pool with pseudolabels, two selections from it, and a student of one of them: the student's folder."""
    rows = rows_of(SENTIMENT, POOL)
    ids = [f"pool/{number}" for number in range(POOL)]
    pool = pa.table({
        "id": ids, "text": [row["text"] for row in rows], "prompt_label": [row["label"] for row in rows],
    })  # fmt: skip
    artifacts.write(folder / "clean", pool, stage="clean")
    probs_NC = np.random.default_rng(0).dirichlet([0.5] * 3, POOL)
    labels, to_pool = {"labels": SENTIMENT.labels}, {"pool": _reference(folder / "clean")}
    scored = pa.table({"id": ids, "probs": probs_NC.tolist()})
    artifacts.write(folder / "pseudolabel", scored, stage="pseudolabel", facts=labels, inputs=to_pool)
    classes = {label: {"available": POOL, "quota": 2_500, "kept": 2_500, "shortfall": 0} for label in labels["labels"]}
    artifacts.write(
        folder / "select",
        pool.take(np.argsort(-probs_NC.max(axis=1))[:7_500]),
        stage="select",
        facts={**labels, "strategy": "top", "classes": classes},
        inputs={**to_pool, "pseudolabels": _reference(folder / "pseudolabel")},
    )
    weights = folder / "student" / "model" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_text("weights")
    artifacts.write(
        folder / "student", None, stage="student", fingerprint_of_files="sha256:0", files=[weights],
        inputs={"selection": _reference(folder / "select")},
    )  # fmt: skip
    return folder / "student"


def _tested(folder: Path, method: str, seed: int, student: Path) -> str:
    n_rows = len(TARGETS) * TESTED
    label_N = np.random.default_rng(0).integers(0, 3, n_rows)  # the same for all runs
    probs_NC = np.random.default_rng(seed + 1).dirichlet([1, 1, 1], n_rows) + 0.2 * np.eye(3)[label_N]
    table = pa.table({
        "id": [f"{target}/{number}" for target in TARGETS for number in range(TESTED)],
        "target": [target for target in TARGETS for _ in range(TESTED)],
        "label": [SENTIMENT.labels[label] for label in label_N],
        "probs": (probs_NC / probs_NC.sum(axis=1, keepdims=True)).tolist(),
    })  # fmt: skip
    out = folder / f"{method}-{seed}"
    facts = {
        "task": asdict(SENTIMENT), "method": method, "seed": seed, "dev": {"dev/accuracy": 0.7},
        "gold_counts": {"negative": 50, "neutral": 20, "positive": 30},
    }  # fmt: skip
    model = {"model": {"paths": [str(student / "model")], "fingerprint": "sha256:0"}}
    artifacts.write(out, table, stage="test", facts=facts, inputs=model)
    return str(out)


def _reference(folder: Path) -> dict[str, Any]:
    return dict(artifacts.reference(folder, artifacts.read_manifest(folder)))
