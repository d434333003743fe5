"""Published numbers beside ours."""

import csv
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.evaluation.published import read_published
from labelbridge.lightning_app.evaluation.report import make_report

ENTRY = "{source: a <paper>, task: sentiment, method: SRC, target: hi, value: 63.7, note: of another split}"


def write_run(folder: Path, task: Task, right: int) -> str:
    rows = [
        {"id": f"t/{n}", "target": "hi", "label": "positive", "probs": np.eye(3)[2 if n < right else 0].tolist()}
        for n in range(10)
    ]
    facts = {"task": asdict(task), "method": "SRC", "seed": right, "setting": "zero-shot", "dev": {"dev/accuracy": 0.5}}
    artifacts.write(folder, pa.Table.from_pylist(rows), stage="test", facts=facts)
    return str(folder)


def report_with(tmp_path: Path, task: Task, *entries: str):
    file = tmp_path / "published.yaml"
    file.write_text("numbers: [" + ", ".join(entries) + "]")
    runs = [write_run(tmp_path / f"run{right}", task, right) for right in (6, 8)]
    return make_report(runs, str(tmp_path / "report"), published=str(file))


def test_a_published_number_stands_beside_the_mean_of_ours(tmp_path: Path, task: Task):
    made = report_with(tmp_path, task, ENTRY)
    assert "| a &lt;paper&gt; | sentiment, zero-shot | accuracy | SRC | hi | 63.7 [1] | 70.0 | +6.3 |" in made.markdown
    assert "1. of another split" in made.markdown
    (row,) = made.summary["published"]
    assert (row["value"], row["ours"], row["difference"]) == pytest.approx((63.7, 70.0, 6.3))
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<td>63.7</td><td>70.0</td><td>+6.3</td>" in page
    assert "a &lt;paper&gt;" in page
    latex = (tmp_path / "report" / "report.tex").read_text()
    assert r"& SRC & hi & 63.7\textsuperscript{1} & 70.0 & $+6.3$ \\" in latex
    assert r"\textsuperscript{1} of another split" in latex
    with (tmp_path / "report" / "published.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert (row["method"], float(row["value"]), float(row["difference"])) == ("SRC", 63.7, pytest.approx(6.3))


def test_numbers_of_other_methods_are_left_out(tmp_path: Path, task: Task):
    made = report_with(tmp_path, task, ENTRY, ENTRY.replace("SRC", "T-top-k"))
    assert len(made.summary["published"]) == 1


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (ENTRY.replace("target: hi", "target: sw"), "none of its 1 numbers is of a method and target here"),
        (ENTRY.replace("63.7", "high"), "numbers.0.value is 'high', expected a number"),
        (ENTRY.replace("method", "methd"), "numbers.0.methd is not known, did you mean 'method'"),
        (
            ENTRY.replace("63.7", "0.637"),
            "numbers.0.value is 0.637, and no other is above 1, expected percent; write 63.7",
        ),
        (f"{ENTRY}, {ENTRY}", "expected one number of a source for each method and target; '.*' on hi comes twice"),
        (ENTRY.replace("63.7", ".nan"), "numbers.0.value is nan, expected 0 <= value <= 100"),
    ],
)
def test_what_cannot_be_shown_is_refused(tmp_path: Path, task: Task, entry: str, said: str):
    with pytest.raises(InputError, match=said):
        report_with(tmp_path, task, entry)
    assert not (tmp_path / "report").exists()


def test_the_shipped_file_is_found_and_read():
    assert {(one.method, one.target, one.value) for one in read_published("samples/published.yaml")} == {
        ("SRC", "mr", 63.7), ("T-top-k", "mr", 66.3)
    }  # fmt: skip
