"""The table of methods and targets."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lightning_app import artifacts
from lightning_app.errors import InputError
from lightning_app.evaluation.report import report
from lightning_app.task import Task


def write_run(
    folder: Path, task: Task, method: str, seed: int, right: dict[str, int], setting: str = "zero-shot"
) -> str:
    """A test artifact of ten rows a target, of which `right` are right."""
    rows = [
        {
            "id": f"{target}/{n}",
            "target": target,
            "label": "positive",
            "probs": np.eye(3)[2 if n < count else 0].tolist(),
        }
        for target, count in right.items()
        for n in range(10)
    ]
    facts = {"task": asdict(task), "method": method, "seed": seed, "setting": setting}
    artifacts.write(folder, pa.Table.from_pylist(rows), stage="test", facts=facts)
    return str(folder)


def test_seeds_are_averaged_and_shown(tmp_path: Path, task: Task, capsys: pytest.CaptureFixture[str]):
    runs = [
        write_run(tmp_path / "a0", task, "SRC", 0, {"hi": 6, "sw": 5}),
        write_run(tmp_path / "b0", task, "T-top-k", 0, {"hi": 7, "sw": 5}),
        write_run(tmp_path / "b1", task, "T-top-k", 1, {"hi": 9, "sw": 5}),
    ]
    report(runs, out=str(tmp_path / "report"))
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| method | seeds | hi (10) | sw (10) |" in text
    assert "| SRC | 0 | 60.0 | 50.0 |" in text
    assert "| T-top-k | 0, 1 | 80.0 ± 14.1 | 50.0 ± 0.0 |" in text
    assert text in capsys.readouterr().out
    cells = json.loads((tmp_path / "report" / "report.json").read_text())["cells"]
    assert next(cell["by_seed"] for cell in cells if cell["method"] == "T-top-k") == {"0": 0.7, "1": 0.9}


def test_settings_have_tables_of_their_own(tmp_path: Path, task: Task):
    runs = [
        write_run(tmp_path / "a", task, "SRC", 0, {"hi": 6}),
        write_run(tmp_path / "b", task, "SRC", 0, {"hi": 8}, setting="translate-train"),
    ]
    report(runs, out=str(tmp_path / "report"))
    text = (tmp_path / "report" / "report.md").read_text()
    assert text.index("## sentiment, zero-shot") < text.index("60.0") < text.index("## sentiment, translate-train")


def test_patterns_find_runs(tmp_path: Path, task: Task):
    for seed in (0, 1):
        write_run(tmp_path / f"seed{seed}" / "test", task, "SRC", seed, {"hi": 6 + seed})
    report([f"{tmp_path}/*/test"], out=str(tmp_path / "report"))
    assert "| SRC | 0, 1 | 65.0 ± 7.1 |" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.parametrize(("runs", "said"), [([], "runs: empty"), (["nothing/*"], "nothing matches nothing")])
def test_nothing_to_report(tmp_path: Path, runs: list[str], said: str):
    with pytest.raises(InputError, match=said):
        report(runs, out=str(tmp_path / "report"))
    assert not (tmp_path / "report").exists()


def test_a_refused_report_leaves_nothing(tmp_path: Path, task: Task):
    runs = [write_run(tmp_path / name, task, "SRC", 0, {"hi": 6}) for name in ("a", "b")]
    with pytest.raises(InputError, match="was also read from"):
        report(runs, out=str(tmp_path / "report"))
    assert not artifacts.is_whole(tmp_path / "report")


def test_another_metric(tmp_path: Path, task: Task):
    report([write_run(tmp_path / "a", task, "SRC", 0, {"hi": 5})], out=str(tmp_path / "report"), metric="macro_f1")
    assert "| SRC | 0 | 33.3 |" in (tmp_path / "report" / "report.md").read_text()


def test_methods_are_tested_against_the_baseline(tmp_path: Path, task: Task):
    runs = [
        write_run(tmp_path / "a", task, "SRC", 0, {"hi": 1, "sw": 5}),
        write_run(tmp_path / "b", task, "T-top-k", 0, {"hi": 9, "sw": 5}),
        write_run(tmp_path / "c", task, "T-rand-k", 0, {"hi": 2, "sw": 5}),
    ]
    report(runs, out=str(tmp_path / "one"))
    text = (tmp_path / "one" / "report.md").read_text()
    assert "accuracy against SRC" in text
    row = next(line for line in text.splitlines() if line.startswith("| T-top-k | +80.0"))
    assert row.endswith("* | +0.0 [+0.0, +0.0] |")
    report(runs, out=str(tmp_path / "two"), baseline="T-rand-k")
    assert "accuracy against T-rand-k" in (tmp_path / "two" / "report.md").read_text()
    with pytest.raises(InputError, match="baseline 'T-best': expected one of SRC, T-top-k, T-rand-k"):
        report(runs, out=str(tmp_path / "three"), baseline="T-best")
