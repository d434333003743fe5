"""Seconds and size of the report over fifteen methods, with its page and data map of a pool of 130,000 rows."""

import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks._rows import SENTIMENT, rows_of
from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.dynamics import store
from labelbridge.lightning_app.dynamics.data_map import data_map
from labelbridge.lightning_app.dynamics.statistics import statistics
from labelbridge.lightning_app.evaluation.report import report

POOL, TESTED, METHODS, SEEDS, TARGETS = 130_000, 6_000, 15, 3, ("hi", "mr")
EPOCHS, DIMENSIONS = 15, 384  # of the teacher's dynamics; of the embeddings


def run(full: bool = False) -> dict[str, Any]:
    """Write a report over made-up runs: fifteen methods, three seeds, two targets of 6,000 rows; nothing is compared.

    `seconds` are those of the report with its page, which maps the pool by 15 epochs of dynamics and by probabilities;
    `tables_s` those without the page; `data_map_s` those of statistics and figure that a fit draws after an epoch.
    `full` maps the embeddings too, and writes accuracy and macro-F1, with and without the gold's prior, against three
    baselines.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        student = _chain(folder, embedded=full)
        runs = [_tested(folder, f"M{method}", seed, student) for method in range(METHODS) for seed in range(SEEDS)]
        more: tuple[Any, ...] = (["accuracy", "macro_f1"], ["M0", "M1", "M2"], "both") if full else ()
        tables_s = _timed(lambda: report(runs, str(folder / "tables"), *more, html=False))
        seconds = _timed(lambda: report(runs, str(folder / "report"), *more))
        page = folder / "report" / "report.html"
        return {
            "seconds": seconds, "tables_s": tables_s, "data_map_s": _timed(lambda: _draw(folder / "dynamics")),
            "page_mb": page.stat().st_size / 1e6, "rows": POOL, "runs": len(runs),
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }  # fmt: skip


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _draw(dynamics: Path) -> None:
    """The data map as `fit` draws it after an epoch."""
    labels = SENTIMENT.labels
    reference_N = store.last_check(dynamics, labels).argmax(axis=1)
    found = statistics(store.read_checks(dynamics, labels), reference_N)
    figure = data_map(found, reference_N, labels, "pool", "most likely class after the last epoch")
    for suffix in ("png", "svg"):
        figure.savefig(dynamics.parent / f"data_map.{suffix}", dpi=150)


def _chain(folder: Path, *, embedded: bool) -> Path:
    """A pool with pseudolabels and dynamics, a selection from it, and a student of that: the student's folder."""
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
    _write_dynamics(folder / "dynamics", ids, probs_NC, to_pool)
    read = [folder / "pseudolabel", folder / "dynamics"]
    if embedded:
        vectors = np.random.default_rng(1).standard_normal(POOL * DIMENSIONS, dtype=np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors), DIMENSIONS)
        artifacts.write(folder / "embed", pa.table({"id": ids, "embedding": column}), stage="embed", inputs=to_pool)
        read.append(folder / "embed")
    classes = {label: {"available": POOL, "quota": 2_500, "kept": 2_500, "shortfall": 0} for label in labels["labels"]}
    artifacts.write(
        folder / "select",
        pool.take(np.argsort(-probs_NC.max(axis=1))[:7_500]),
        stage="select",
        facts={**labels, "strategy": "top", "classes": classes},
        inputs={**to_pool, **{place.name: _reference(place) for place in read}},
    )
    weights = folder / "student" / "model" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_text("weights")
    artifacts.write(
        folder / "student", None, stage="student", fingerprint_of_files="sha256:0", files=[weights],
        inputs={"selection": _reference(folder / "select")},
    )  # fmt: skip
    return folder / "student"


def _write_dynamics(folder: Path, ids: list[str], probs_NC: np.ndarray, inputs: dict[str, Any]) -> None:
    """Dynamics that go from no knowledge to the teacher's probabilities, with noise."""
    rng = np.random.default_rng(2)
    for epoch in range(EPOCHS):
        share = (epoch + 1) / EPOCHS
        noisy_NC = share * np.log(probs_NC + 1e-6) + 0.3 * rng.standard_normal(probs_NC.shape)
        log_probs_NC = noisy_NC - np.log(np.exp(noisy_NC).sum(axis=1, keepdims=True))
        store.write_epoch(folder, epoch, log_probs_NC.astype(np.float32), SENTIMENT.labels, "float32")
    rows = store.ScoredRows([], ids, SENTIMENT.labels)
    store.write_ids(folder, rows)
    facts = {
        "labels": SENTIMENT.labels, "dtype": "float32", "rows": len(ids), "reference": rows.says,
        "steps": list(range(EPOCHS)),
    }  # fmt: skip
    store.finish(folder, facts, inputs=inputs)


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
