"""The Python interface does what the commands do, and returns what they have made."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import LABELS, PROJECT, Stages, labelled

import labelbridge
from labelbridge.lightning_app import api
from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.evaluation.report import report as report_command
from labelbridge.lightning_app.generation.cleaning import clean as clean_command
from labelbridge.lightning_app.selection.select import select as select_command

POOL = labelled(50, 3, "prompt_label")
PROBS = np.random.default_rng(0).dirichlet([1, 1, 1], size=50)


def least_certain(candidates: labelbridge.Candidates) -> np.ndarray:
    return -candidates.log_prob()


@pytest.mark.parametrize(
    ("function", "command"),
    [(api.select, select_command), (api.clean, clean_command), (api.report, report_command)],
    ids=["select", "clean", "report"],
)
def test_a_function_has_every_setting_of_its_command_with_its_default(function: Any, command: Any):
    ours, theirs = (inspect.signature(one).parameters for one in (function, command))
    assert set(ours) == set(theirs)
    changed = {name for name in theirs if ours[name].default != theirs[name].default}
    assert changed <= {"out", "task"}
    assert ours["out"].default is None


def test_importing_labelbridge_loads_nothing_heavy():
    heavy = "{'torch', 'lightning', 'transformers', 'datasets', 'pandas', 'pyarrow', 'numpy'}"
    script = f"import sys, labelbridge; print(sorted({heavy} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_selecting_from_python_does_not_load_torch():
    script = "import sys, labelbridge; labelbridge.select; labelbridge.Task; print(sorted({'torch', 'lightning'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_type_checkers_see_what_is_imported_when_asked_for():
    tree = ast.parse((PROJECT / "labelbridge/__init__.py").read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: f".{node.module}"
        for node in checked.body
        for alias in node.names
        if isinstance(node, ast.ImportFrom)
    }
    assert seen == labelbridge._HOME
    assert sorted([*seen, "__version__"]) == sorted(labelbridge.__all__)
    for name in labelbridge.__all__:
        assert getattr(labelbridge, name) is not None
        assert name in dir(labelbridge)
    with pytest.raises(AttributeError, match="module 'labelbridge' has no attribute 'selct'"):
        _ = labelbridge.selct


def test_select_returns_what_its_command_writes(loop: Stages):
    made = labelbridge.select(loop.files.pool, "pseudolabel", quota=6)
    assert made.path is None
    assert made.table.equals(labelbridge.read("select").table)
    assert made.summary == labelbridge.read("select").manifest.facts
    assert made.to_pandas()["class"].tolist() == made.table["class"].to_pylist()


def test_with_out_the_artifact_is_the_commands_and_the_same_call_again_reads_it(loop: Stages):
    made = labelbridge.select(loop.files.pool, "pseudolabel", quota=6, out="again")
    assert made.path == Path("again")
    assert artifacts.read_manifest(Path("again")).fingerprint == artifacts.read_manifest(Path("select")).fingerprint
    stamp = Path("again/_manifest.json").stat().st_mtime_ns
    assert labelbridge.select(loop.files.pool, "pseudolabel", quota=6, out="again").table.equals(made.table)
    assert Path("again/_manifest.json").stat().st_mtime_ns == stamp
    with pytest.raises(labelbridge.InputError, match="again: holds another run"):
        labelbridge.select(loop.files.pool, "pseudolabel", quota=5, out="again")
    outcome = loop.student("--data.selection=again", "--out=student2")
    assert outcome.code == 0, outcome.err


SAME_ROWS = {
    "a DataFrame": pd.DataFrame(POOL),
    "an Arrow table": pa.Table.from_pylist(POOL),
    "a list": POOL,
}


@pytest.mark.parametrize("rows", SAME_ROWS.values(), ids=SAME_ROWS)
def test_rows_in_memory_are_the_rows_of_a_file(rows: Any, loop: Stages):
    made = labelbridge.select(rows, "pseudolabel", quota=6)  # the pseudolabels are those of the very same rows
    assert made.table.equals(labelbridge.read("select").table)


def test_rows_of_polars_are_the_rows_of_a_file(loop: Stages):
    rows = pytest.importorskip("polars").DataFrame(POOL)
    made = labelbridge.select(rows, "pseudolabel", quota=6)
    assert made.table.equals(labelbridge.read("select").table)


SAME_PROBS = {
    "an array": PROBS,
    "a list": PROBS.tolist(),
    "rows in another order": pd.DataFrame(
        {"id": [row["id"] for row in POOL[::-1]], "probs": PROBS[::-1].tolist()}
    ),
}  # fmt: skip


@pytest.mark.parametrize("probs", SAME_PROBS.values(), ids=SAME_PROBS)
def test_probabilities_in_memory(probs: Any, task: labelbridge.Task):
    made = labelbridge.select(POOL, probs, "top", quota=4, task=task).to_pandas()
    for number, label in enumerate(LABELS):
        expected = np.sort(PROBS[PROBS.argmax(axis=1) == number, number])[::-1][:4]
        assert made[made["class"] == label]["probs"].map(lambda row, at=number: row[at]).tolist() == pytest.approx(
            expected
        )


def test_a_function_is_a_strategy(loop: Stages):
    by_function = labelbridge.select(loop.files.pool, "pseudolabel", least_certain, quota=6)
    by_name = labelbridge.select(loop.files.pool, "pseudolabel", "hard", quota=6)
    assert by_function.table["id"].equals(by_name.table["id"])
    assert set(by_function.table["strategy"].to_pylist()) == {"test_python.least_certain"}


def test_another_version_of_a_function_is_another_run(loop: Stages):
    labelbridge.select(loop.files.pool, "pseudolabel", lambda rows: rows.log_prob(), quota=6, out="mine")
    with pytest.raises(labelbridge.InputError, match="mine: holds another run"):
        labelbridge.select(loop.files.pool, "pseudolabel", lambda rows: 2 * rows.log_prob(), quota=6, out="mine")


def test_options_reach_a_function_and_a_built_in(task: labelbridge.Task):
    def scaled(candidates: labelbridge.Candidates, *, factor: float = 1.0) -> np.ndarray:
        return factor * candidates.log_prob()

    made = labelbridge.select(POOL, PROBS, scaled, quota=3, task=task, options={"factor": -1.0})
    hard = labelbridge.select(POOL, PROBS, "hard", quota=3, task=task)
    assert made.table["id"].equals(hard.table["id"])
    ccs = labelbridge.select(POOL, PROBS, "ccs", quota=3, task=task, options={"strata": 2})
    assert len(ccs) == 9


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"pool": "nowhere.jsonl", "pseudolabels": PROBS}, "nowhere.jsonl: no such file"),
        ({"pseudolabels": PROBS[:-1]}, "pseudolabels: 49 rows, expected 50, as many as the pool"),
        ({"pseudolabels": PROBS * 2}, "pseudolabels row 0: probs sum to 2, expected 1"),
        ({"pseudolabels": pd.DataFrame({"id": ["3/0"], "probs": [[1, 0, 0]]})}, "pseudolabels: no row for id '3/1'"),
        ({"pool": 5, "pseudolabels": PROBS}, "pool: 5, expected a path, a Source, a DataFrame"),
        ({"pool": [{"text": "a"}], "pseudolabels": PROBS[:1]}, "pool: no column 'prompt_label'"),
        ({"pseudolabels": PROBS, "task": None}, r"task: not given, expected labelbridge.Task\("),
        ({"pseudolabels": PROBS, "strategy": "tpo"}, "strategy 'tpo': not one of .*did you mean 'top'"),
        ({"pseudolabels": PROBS, "quota": {"negative": 1}}, "quota .*expected a number of rows"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(settings: dict[str, Any], told: str, task: labelbridge.Task):
    with pytest.raises(labelbridge.InputError, match=told) as error:
        labelbridge.select(**{"pool": POOL, "task": task, **settings})
    assert "\n" not in str(error.value)


RAW = [
    {"text": "Sure! Here is a review: a fine and calm room, very kind people", "prompt_label": "positive"},
    {"text": "A fine and calm room, very kind people", "prompt_label": "positive"},
    {"text": "", "prompt_label": "negative"},
    {"text": "The table was broken, and the room was cold and very sad", "prompt_label": "negative"},
]


def test_clean_returns_the_pool_and_the_rejected_rows(task: labelbridge.Task, tmp_path: Path):
    made = labelbridge.clean(RAW, task=task, language=None)
    assert made.path is None
    assert len(made) + made.rejected.num_rows == len(RAW)
    assert "empty" in made.rejected["reason"].to_pylist()
    written = labelbridge.clean(pd.DataFrame(RAW), task=task, language=None, out=tmp_path / "pool")
    assert written.table.equals(made.table)
    assert labelbridge.read(tmp_path / "pool").table.equals(made.table)
    assert labelbridge.read(tmp_path / "pool/_rejected").table.equals(made.rejected)
    again = labelbridge.clean(RAW, task=task, language=None, out=tmp_path / "pool")
    assert again.table.equals(made.table)
    assert again.rejected.equals(made.rejected)
    assert again.summary == made.summary


def test_what_a_function_returned_is_taken_by_the_next(task: labelbridge.Task, tmp_path: Path):
    pool = labelbridge.clean(RAW, task=task, language=None)
    probs = np.eye(3)[[LABELS.index(label) for label in pool.table["prompt_label"].to_pylist()]]
    made = labelbridge.select(pool, probs, quota=1, task=task)
    assert sorted(made.table["class"].to_pylist()) == ["negative", "positive"]
    rows = labelbridge.clean(RAW, task=task, language=None, exclude=made, exclude_targets=[RAW[3]])
    assert not len(rows)
    with pytest.raises(labelbridge.InputError, match="Selection: rows in memory, expected an artifact; give `out`"):
        labelbridge.report(made)


def test_report_returns_its_cells_and_its_text(loop: Stages, capsys: pytest.CaptureFixture[str]):
    made = labelbridge.report("test", metric=["accuracy", "macro_f1"])
    assert capsys.readouterr().out == ""
    assert made.markdown.startswith("# Report\n")
    assert set(made.to_pandas()["metric"]) == {"accuracy", "macro_f1"}
    written = labelbridge.report([Path("test")], metric=["accuracy", "macro_f1"], out="told")
    assert Path("told/report.md").read_text() == made.markdown
    assert labelbridge.read("told/cells").table.equals(written.table)
    with pytest.raises(labelbridge.InputError, match="told: stage 'report' wrote no rows of its own; see told/cells"):
        labelbridge.read("told")


def test_out_null_writes_nothing_and_says_what_would_be_kept(loop: Stages, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    before = sorted(Path().iterdir())
    for outcome in (loop.select("--out=null"), loop.report("--out=null")):
        assert outcome.code == 0, outcome.err
    assert "kept 6 of" in caplog.text
    assert "next:" not in caplog.text
    assert sorted(Path().iterdir()) == before
