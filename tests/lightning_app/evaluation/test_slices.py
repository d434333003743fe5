"""Scores on rows that are alike in length, script, unknown tokens, domain or translation."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import Files, Stages, write_jsonl

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.evaluation.report import report
from labelbridge.lightning_app.evaluation.slices import script_of


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("A film, 90 min.", "Latin"), ("फ़िल्म अच्छी है", "Devanagari"), ("ہوٹل اچھا تھا", "Arabic"), ("好电影", "CJK"),
        ("yeh फ़िल्म achchi है", "mixed"), ("12:30 :-)", "none"), ("ＡＢＣ", "Latin"),
    ],
)  # fmt: skip
def test_a_script_has_nine_in_ten_letters(text: str, script: str):
    assert script_of(text) == script


def write_test(folder: Path, task: Task, columns: dict[str, list[Any]], right: list[bool], **facts: Any) -> str:
    """A test artifact of positive rows, of which some are right and the others called negative."""
    rows = {
        "id": [f"hi/{n:02}" for n in range(len(right))], "target": ["hi"] * len(right),
        "label": ["positive"] * len(right), "probs": [np.eye(3)[2 if one else 0].tolist() for one in right], **columns,
    }  # fmt: skip
    artifacts.write(folder, pa.table(rows), stage="test", facts={"task": asdict(task), "seed": 0, **facts})
    return str(folder)


def test_slices_are_scored_and_counted(tmp_path: Path, task: Task):
    columns = {
        "tokens": [5, 16, 17, 90], "unknown_rate": [0.0, 0.0, 0.05, 0.5], "script": ["Devanagari"] * 4,
        "domain": ["film", "food", "film", None], "translated_by": ["human", "human", "machine", "machine"],
    }  # fmt: skip
    runs = [
        write_test(tmp_path / "a", task, columns, [True, True, False, False], method="SRC"),
        write_test(tmp_path / "b", task, columns, [True, True, True, False], method="T-top-k"),
    ]
    out = tmp_path / "report"
    report(runs, out=str(out), metric=["accuracy", "macro_f1"])
    slices = json.loads((out / "report.json").read_text())["slices"]
    own = {
        (one["by"], one["name"]): (one["rows"], one["mean"])
        for one in slices
        if (one["method"], one["metric"]) == ("T-top-k", "accuracy")
    }
    assert own == {
        ("length", "1 to 16 tokens"): (2, 1.0),
        ("length", "17 to 32 tokens"): (1, 1.0),
        ("length", "over 64 tokens"): (1, 0.0),
        ("unknown tokens", "none"): (2, 1.0),
        ("unknown tokens", "up to 5 %"): (1, 1.0),
        ("unknown tokens", "over 5 %"): (1, 0.0),
        ("domain", "film"): (2, 1.0),
        ("domain", "food"): (1, 1.0),
        ("translation", "human"): (2, 1.0),
        ("translation", "machine"): (2, 0.5),
    }  # no slices by script: all rows are alike
    text = (out / "details.md").read_text()
    assert "| translation | machine | 2 | 0.0 [0.0, 0.0] | 50.0 [0.0, 100.0] |" in text
    assert "Slices of the targets" in (out / "report.html").read_text()
    assert (out / "slices.csv").read_text().count("\n") == 1 + len(slices)


def test_rare_domains_are_put_together(tmp_path: Path, task: Task):
    columns = {"domain": [f"domain {n:02}" for n in range(20)] + ["domain 00"]}
    run = write_test(tmp_path / "a", task, columns, [True] * 21, method="SRC")
    report([run], out=str(tmp_path / "report"))
    slices = json.loads((tmp_path / "report" / "report.json").read_text())["slices"]
    assert [(one["name"], one["rows"]) for one in slices][:2] == [("all others", 9), ("domain 00", 2)]
    assert len(slices) == 12


def test_a_test_writes_what_slices_are_made_of(loop: Stages, files: Files):
    texts = ["good film", "अच्छी फ़िल्म", "it was a very good table and a chair"]
    write_jsonl(files.target, [{"id": str(n), "text": text, "label": "positive"} for n, text in enumerate(texts)])
    rows = {"id": ["a", "b"], "text": ["good", "bad"], "label": ["positive", "negative"], "lang": ["hi", "hi"]}
    artifacts.write(Path("translated"), pa.table(rows), stage="translate")
    targets = f'{{"en": {{"path": "{files.target}"}}, "hi": {{"path": "translated"}}}}'
    assert loop.test(f"--data.targets={targets}", "--out=again").code == 0
    tested = artifacts.read(Path("again")).table.to_pydict()
    assert tested["tokens"] == [4, 4, 11, 3, 3]  # with [CLS] and [SEP]
    assert tested["unknown_rate"] == [0.5, 1.0, 0.0, 0.0, 0.0]
    assert tested["script"] == ["Latin", "Devanagari", "Latin", "Latin", "Latin"]
    assert tested["translated_by"] == [None, None, None, "machine", "machine"]
