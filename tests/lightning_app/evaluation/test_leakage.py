"""Near duplicates between targets and the data behind a model."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import Files, Stages, labelled, write_jsonl

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.evaluation.leakage import leakage
from labelbridge.lightning_app.evaluation.report import report

GOLD = ["the film was long and very good indeed", "a quiet day in the old town by the sea"]
TARGETS = {
    "en/0": "The film was long, and very good indeed!",  # another word triple where the comma is
    "en/1": "The film was long and very good indeed.",
    "en/2": "nothing of the kind was ever said here",
}


def reference(path: Path) -> dict[str, Any]:
    return artifacts.reference(path, artifacts.read_manifest(path))


def write_model(folder: Path, task: Task, inputs: dict[str, Any]) -> str:
    """A run with a model folder, whose manifest says what it read."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text("{}")
    artifacts.write(folder, None, stage="student", fingerprint_of_files="sha256:0", inputs=inputs)
    return str(folder / "model")


def targets(texts: dict[str, str]) -> pa.Table:
    return pa.table({"id": list(texts), "target": ["en"] * len(texts), "text": list(texts.values())})


def test_rows_that_training_data_nearly_repeat_are_counted(tmp_path: Path, task: Task):
    gold = write_jsonl(tmp_path / "gold.jsonl", [{"id": f"g{n}", "text": text} for n, text in enumerate(GOLD)])
    artifacts.write(tmp_path / "select", pa.table({"id": ["p7"], "text": ["said he"]}), stage="select")
    inputs = {"gold": artifacts.reference(gold, "sha256:1"), "selection": reference(tmp_path / "select")}
    found = leakage([write_model(tmp_path / "student", task, inputs)], targets(TARGETS), task)
    assert [(one["name"], one["rows"]) for one in found["sets"]] == [("gold", 2), ("selection", 1)]
    assert found["targets"]["en"]["gold"] == {"rows": 3, "near": 1, "pairs": [["en/1", "g0"]]}
    assert found["targets"]["en"]["selection"]["near"] == 0


def test_pairs_repeat_when_both_sides_do(tmp_path: Path):
    nli = Task("nli", ["premise", "hypothesis"], ["no", "yes"])
    rows = [{"id": "g0", "premise": GOLD[0], "hypothesis": GOLD[1]}]
    gold = write_jsonl(tmp_path / "gold.jsonl", rows)
    model = write_model(tmp_path / "student", nli, {"gold": artifacts.reference(gold, "sha256:1")})
    both = pa.table(
        {
            "id": ["a", "b"], "target": ["en", "en"], "premise": [GOLD[0]] * 2, "hypothesis": [GOLD[1], "another text"],
        }
    )  # fmt: skip
    assert leakage([model], both, nli)["targets"]["en"]["gold"]["pairs"] == [["a", "g0"]]


def test_what_is_no_longer_there_is_named(tmp_path: Path, task: Task):
    inputs = {"gold": {"paths": [str(tmp_path / "gone.jsonl")], "fingerprint": "sha256:1"}}
    found = leakage([write_model(tmp_path / "student", task, inputs)], targets(TARGETS), task)
    assert "not_compared" in found["sets"][0]
    assert found["targets"] == {"en": {}}


def test_a_model_of_others_has_no_known_training_data(tmp_path: Path, task: Task, tiny_classifier: Path):
    assert leakage([str(tiny_classifier)], targets(TARGETS), task)["sets"] == []


def write_test(folder: Path, task: Task, **facts: Any) -> str:
    rows = [{"id": f"hi/{n}", "target": "hi", "label": "positive", "probs": [0.0, 0.0, 1.0]} for n in range(10)]
    artifacts.write(folder, pa.Table.from_pylist(rows), stage="test", facts={"task": asdict(task), **facts})
    return str(folder)


def measured(near: int, **of_set: Any) -> dict[str, Any]:
    pairs = [[f"hi/{n}", f"gold/{n}"] for n in range(near)]
    sets = [{"name": "gold", "paths": ["gold.jsonl"], **(of_set or {"rows": 37})}]
    return {"similarity": 0.7, "sets": sets, "targets": {"hi": {"gold": {"rows": 10, "near": near, "pairs": pairs}}}}


def test_a_report_shows_the_most_of_all_runs_and_refuses_above_a_share(tmp_path: Path, task: Task):
    runs = [
        write_test(tmp_path / method, task, method=method, seed=0, leakage=measured(near))
        for method, near in (("SRC", 1), ("T-top-k", 2))
    ]
    out = tmp_path / "report"
    report(runs, out=str(out), max_leakage=0.2)
    assert "| sentiment, zero-shot | hi | 10 | 2 (20.0 %) |" in (out / "report.md").read_text()
    (entry,) = json.loads((out / "report.json").read_text())["leakage"]
    assert (entry["near"], entry["share"], entry["method"]) == (2, 0.2, "T-top-k")
    assert "Near duplicates of training data" in (out / "report.html").read_text()
    with pytest.raises(InputError, match=r"2 of 10 rows of target hi .* expected at most 10 %; take them out"):
        report(runs, out=str(tmp_path / "refused"), max_leakage=0.1)
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, "have not been measured"),
        ({"leakage": measured(0, not_compared="no such file")}, "was not compared with the targets"),
    ],
)
def test_a_limit_requires_figures(tmp_path: Path, task: Task, facts: dict[str, Any], said: str):
    run = write_test(tmp_path / "run", task, method="SRC", seed=0, **facts)
    report([run], out=None)
    with pytest.raises(InputError, match=said):
        report([run], out=None, max_leakage=0.1)


def test_the_whole_loop_measures_gold_pool_and_selection(loop: Stages, files: Files, caplog: pytest.LogCaptureFixture):
    write_jsonl(files.target, [*labelled(5, 4), *labelled(6, 1)])  # six rows of the gold
    assert loop.test("--out=again").code == 0
    assert "6 of 11 rows of en nearly repeat rows of the gold" in caplog.text
    found = artifacts.read_manifest(Path("again")).facts["leakage"]
    selected = artifacts.read_manifest(Path("select")).rows
    assert {one["name"]: one["rows"] for one in found["sets"]} == {"gold": 37, "pool": 50, "selection": selected}
    assert found["targets"]["en"]["gold"]["near"] >= 6
    outcome = loop.cli("report", "--runs=[again]", "--max_leakage=0.05", "--out=report-2")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
