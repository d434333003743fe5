"""LaTeX and CSV."""

import csv
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.evaluation.exports import escaped
from labelbridge.lightning_app.evaluation.report import report


def written(tmp_path: Path, task: Task, right: dict[str, tuple[int, int]]) -> Path:
    """A report of methods with so many right rows of ten, on hi and sw."""
    runs = []
    for method, counts in right.items():
        rows = [
            {"id": f"{target}/{n}", "target": target, "label": "positive", "probs": np.eye(3)[2 * (n < count)].tolist()}
            for target, count in zip(("hi", "sw"), counts, strict=True)
            for n in range(10)
        ]
        folder = tmp_path / f"run{len(runs)}"
        facts = {"task": asdict(task), "method": method, "seed": 0}
        artifacts.write(folder, pa.Table.from_pylist(rows), stage="test", facts=facts)
        runs.append(str(folder))
    report(runs, out=str(tmp_path / "report"), html=False)
    return tmp_path / "report"


def test_latex_marks_the_best_and_the_second_and_the_difference(tmp_path: Path, task: Task):
    text = (written(tmp_path, task, {"SRC": (1, 5), "T_pl-top-k": (9, 6), "GEN": (3, 2)}) / "report.tex").read_text()
    assert r"Method & hi & sw & Avg & $\Delta$ SRC \\" in text
    assert r"SRC & 10.0 & \underline{50.0} & \underline{30.0} &  \\" in text
    assert r"T\_pl-top-k & \textbf{90.0} & \textbf{60.0} & \textbf{75.0} & $+45.0$* \\" in text
    assert r"GEN & \underline{30.0} & 20.0 & 25.0 & $-5.0$ \\" in text


def test_latex_shows_signs_as_they_are():
    assert escaped(r"a_b & 50 % of {x} \ $1 #2 ~^") == (
        r"a\_b \& 50 \% of \{x\} \textbackslash{} \$1 \#2 \textasciitilde{}\textasciicircum{}"
    )


def test_csv_holds_cells_comparisons_and_classes(tmp_path: Path, task: Task):
    folder = written(tmp_path, task, {"SRC": (1, 5), "T-top-k": (9, 6)})
    rows = {name: list(csv.DictReader((folder / f"{name}.csv").open())) for name in ("cells", "comparisons", "classes")}
    assert [(row["method"], row["target"], float(row["mean"])) for row in rows["cells"]] == [
        ("SRC", "hi", 0.1), ("T-top-k", "hi", 0.9), ("SRC", "sw", 0.5), ("T-top-k", "sw", 0.6),
    ]  # fmt: skip
    assert [row["target"] for row in rows["comparisons"]] == ["hi", "sw", "mean over targets"]
    assert {"p", "p_holm", "detectable", "low", "high"} <= set(rows["comparisons"][0])
    assert len(rows["classes"]) == 2 * 2 * 3


def test_a_spreadsheet_runs_no_name(tmp_path: Path, task: Task):
    folder = written(tmp_path, task, {"SRC": (1, 5), "=1+1": (9, 6)})
    assert "'=1+1" in (folder / "cells.csv").read_text()


def test_a_report_of_one_method_has_empty_comparisons(tmp_path: Path, task: Task):
    folder = written(tmp_path, task, {"SRC": (1, 5)})
    assert (folder / "comparisons.csv").read_text().strip() == ""
    assert "Method & hi & sw & Avg \\\\" in (folder / "report.tex").read_text()
