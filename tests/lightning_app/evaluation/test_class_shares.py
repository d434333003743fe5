"""Class shares of gold, selection, predictions and target, side by side."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.evaluation.report import report


def write_run(folder: Path, task: Task, method: str, seed: int, predicted: list[int], **facts: object) -> str:
    """A test artifact of four rows: one negative, two neutral, one positive."""
    rows = [
        {"id": f"{n}", "target": "mr", "label": task.labels[label], "probs": np.eye(3)[own].tolist()}
        for n, (label, own) in enumerate(zip([0, 1, 1, 2], predicted, strict=True))
    ]
    named = {"task": asdict(task), "method": method, "seed": seed, **facts}
    artifacts.write(folder, pa.Table.from_pylist(rows), stage="test", facts=named)
    return str(folder)


@pytest.fixture
def runs(tmp_path: Path, task: Task) -> list[str]:
    gold = {"negative": 40, "neutral": 20, "positive": 40}
    selection = dict.fromkeys(task.labels, 5)
    return [
        write_run(tmp_path / "a", task, "SRC", 0, [0, 0, 2, 2], gold_counts=gold),
        write_run(tmp_path / "b", task, "T", 0, [0, 1, 1, 2], gold_counts=gold, synthetic_counts=selection),
        write_run(tmp_path / "c", task, "T", 1, [0, 0, 1, 2], gold_counts=gold, synthetic_counts=selection),
    ]


def test_shares_are_shown_side_by_side(runs: list[str], tmp_path: Path):
    report(runs, out=str(tmp_path / "report"), class_shares=True)
    text = (tmp_path / "report/report.md").read_text()
    assert "## sentiment, zero-shot: class shares on mr" in text
    assert "In percent, negative / neutral / positive. The target's own: 25 / 50 / 25." in text
    assert "| SRC | 40 / 20 / 40 |  | 50 / 0 / 50 |" in text
    assert "| T | 40 / 20 / 40 | 33 / 33 / 33 | 38 / 38 / 25 |" in text  # the mean over two seeds
    shares = json.loads((tmp_path / "report/report.json").read_text())["class_shares"]
    assert shares[2]["predictions"] == [0.5, 0.25, 0.25]


def test_shares_are_not_shown_unless_asked_for(runs: list[str], tmp_path: Path):
    report(runs, out=str(tmp_path / "report"))
    assert "class shares" not in (tmp_path / "report/report.md").read_text()
