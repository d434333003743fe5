"""Labels by people: the sample, the sheets, the answers."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from labelbridge.lightning_app.annotation.annotate import Judged, annotate
from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.readers import Source
from labelbridge.lightning_app.data.sources import load_rows


def write_selection(folder: Path, task: Task, count: int = 30) -> str:
    """Rows of every class in turn; the teacher is sure of every second one, and the prompt asked for something else."""
    rows = [
        {
            "id": f"r/{n}",
            "text": f"text {n}, <b>plain</b>",
            "prompt_label": task.labels[(n + n % 2) % 3],
            "class": task.labels[n % 3],
            "probs": [0.9 if c == n % 3 else 0.05 for c in range(3)] if n % 2 else [0.4, 0.3, 0.3],
        }
        for n in range(count)
    ]
    for row in rows:  # the class is the teacher's most likely one
        row["class"] = task.labels[max(range(3), key=lambda c: row["probs"][c])]
    artifacts.write(
        folder, pa.Table.from_pylist(rows), stage="select", facts={"labels": task.labels}, lineage={"pool": "sha256:p"}
    )
    return str(folder)


def sheet(out: Path, number: int) -> list[dict[str, str]]:
    with (out / f"sheet-{number}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def fill(path: Path, labels: dict[str, str]) -> str:
    path.write_text("".join(json.dumps({"id": row, "label": label}) + "\n" for row, label in labels.items()))
    return str(path)


def draw(tmp_path: Path, task: Task, **settings: Any) -> Judged:
    return annotate(task, write_selection(tmp_path / "select", task), out=str(tmp_path / "sample"), **settings)


def judge(tmp_path: Path, task: Task, *answers: dict[str, str], **settings: Any) -> Judged:
    paths = [fill(tmp_path / f"answers-{number}.jsonl", labels) for number, labels in enumerate(answers, 1)]
    return annotate(task, answers=paths, out=str(tmp_path / "sample"), **settings)


def test_sheets_are_blind_and_in_different_orders(tmp_path: Path, task: Task):
    drawn = draw(tmp_path, task, rows=10)
    first, second = sheet(tmp_path / "sample", 1), sheet(tmp_path / "sample", 2)
    assert list(first[0]) == ["id", "text", "label"]
    assert {row["id"] for row in first} == {row["id"] for row in second} == set(drawn.table["id"].to_pylist())
    assert [row["id"] for row in first] != [row["id"] for row in second]
    assert {row["label"] for row in first} == {""}


def test_the_page_is_blind_and_asks_no_server(tmp_path: Path, task: Task):
    drawn = draw(tmp_path, task, rows=10)
    html = (tmp_path / "sample" / "annotate.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])  # type: ignore[index]
    assert set(data) == {"task", "labels", "columns", "unclear", "sample", "texts", "orders"}
    assert data["texts"][drawn.table["id"][0].as_py()] == [drawn.table["text"][0].as_py()]
    assert [row["id"] for row in sheet(tmp_path / "sample", 2)] == data["orders"][1]
    assert "http:" not in html
    assert "https:" not in html
    assert "<b>plain" not in html  # as a text, not as markup


def test_the_draw_depends_on_the_seed_and_not_on_the_order_of_the_rows(tmp_path: Path, task: Task):
    table = artifacts.read(Path(write_selection(tmp_path / "a", task))).table
    artifacts.write(tmp_path / "b", table.take(list(range(29, -1, -1))), stage="select", facts={"labels": task.labels})
    drawn = {
        name: annotate(
            task, str(tmp_path / name[0]), rows=8, seed=int(name[1]), out=str(tmp_path / f"out-{name}")
        ).table
        for name in ("a0", "b0", "a1")
    }
    ids = {name: sample["id"].to_pylist() for name, sample in drawn.items()}
    assert ids["a0"] == ids["b0"] != ids["a1"]


def test_only_rows_that_the_teacher_is_sure_of(tmp_path: Path, task: Task, caplog: pytest.LogCaptureFixture):
    drawn = draw(tmp_path, task, rows=100, above=0.8)
    assert {max(probs) for probs in drawn.table["probs"].to_pylist()} == {0.9}
    assert len(drawn) == 15
    assert "15 rows are drawn, as many as there are, instead of 100" in caplog.text


@pytest.mark.parametrize("above", [0, 0.8])
def test_rows_of_a_class_that_is_none_of_the_tasks_are_not_drawn(tmp_path: Path, task: Task, above: float):
    folder = Path(write_selection(tmp_path / "select", task))
    written = artifacts.read(folder)
    column = written.table.column_names.index("class")
    foreign = pa.array(["mixed", *written.table["class"].to_pylist()[1:]])
    artifacts.write(folder, written.table.set_column(column, "class", foreign), stage="select",
                    facts=written.manifest.facts, lineage=written.manifest.lineage)  # fmt: skip
    with pytest.raises(InputError, match=r"row 0: class is 'mixed', expected one of"):
        annotate(task, str(folder), out=str(tmp_path / "sample"), above=above)
    assert not (tmp_path / "sample").exists()


def test_two_annotators_have_a_kappa(tmp_path: Path, task: Task):
    """Of four rows they agree on three: p_o = 3/4, p_e = (2 * 1 + 1 * 2 + 1 * 1) / 16, kappa = 7/11."""
    ids = draw(tmp_path, task, rows=6).table["id"].to_pylist()
    first = dict(zip(ids, ["negative", "negative", "neutral", "positive"], strict=False))
    second = dict(zip(ids, ["negative", "neutral", "neutral", "positive"], strict=False))
    made = judge(tmp_path, task, first, second)
    between = made.summary["between"]
    assert (between["measure"], between["rows"], between["share"]) == ("Cohen's kappa", 4, 0.75)
    assert between["value"] == pytest.approx(7 / 11)
    assert (
        "Cohen's kappa: 0.636 (4 rows, 75.0 % with one label)." in (tmp_path / "sample/judged/agreement.md").read_text()
    )


@pytest.mark.slow
def test_three_annotators_have_an_alpha_and_a_majority(tmp_path: Path, task: Task):
    ids = draw(tmp_path, task, rows=6).table["id"].to_pylist()
    answers = [["negative", "neutral"], ["negative", "positive"], ["negative", "positive"]]
    made = judge(tmp_path, task, *(dict(zip(ids, labels, strict=False)) for labels in answers))
    assert made.summary["between"]["measure"] == "Krippendorff's alpha"
    assert 0 < made.summary["between"]["value"] < 1
    assert made.table["label"].to_pylist() == ["negative", "positive"]


def test_alignment_with_the_prompt_label_and_the_teacher(tmp_path: Path, task: Task):
    drawn = draw(tmp_path, task, rows=20).table
    prompt_labels = dict(zip(drawn["id"].to_pylist(), drawn["prompt_label"].to_pylist(), strict=True))
    summary = judge(tmp_path, task, prompt_labels).summary["by_annotator"]["answers-1"]
    assert summary["prompt_label"]["share"] == 1
    assert 0.8 < summary["prompt_label"]["low"] < summary["prompt_label"]["high"] == 1
    expected = [a == b for a, b in zip(drawn["prompt_label"].to_pylist(), drawn["class"].to_pylist(), strict=True)]
    assert summary["teacher"]["share"] == sum(expected) / 20


def test_judged_rows_are_gold_with_their_lineage(tmp_path: Path, task: Task):
    ids = draw(tmp_path, task, rows=6).table["id"].to_pylist()
    first = dict(zip(ids, ["negative", "neutral", "unclear", "positive"], strict=False))
    made = judge(tmp_path, task, first, {**first, ids[1]: "POSITIVE", ids[3]: " "})
    assert made.table["id"].to_pylist() == [ids[0], ids[3]]
    assert dict(zip(made.rejected["id"].to_pylist(), made.rejected["reason"].to_pylist(), strict=True)) == {
        ids[1]: "annotators disagree", ids[2]: "unclear",
    }  # fmt: skip
    rows = load_rows(Source(str(tmp_path / "sample/judged")), task, "label")
    assert rows.table["label"].to_pylist() == ["negative", "positive"]
    lineage = artifacts.read_manifest(tmp_path / "sample/judged").lineage
    assert lineage["pool"] == "sha256:p"
    assert {"selection", "sample"} <= set(lineage)


def test_a_sheet_that_is_filled_in_where_it_is(tmp_path: Path, task: Task):
    draw(tmp_path, task, rows=3)
    path = tmp_path / "sample" / "sheet-1.csv"
    path.write_text(path.read_text().replace(",\n", ",neutral\n").replace(",\r\n", ",neutral\r\n"))
    made = annotate(task, answers=[str(path)], out=str(tmp_path / "sample"))
    assert made.table["label"].to_pylist() == ["neutral"] * 3
    assert made.summary["between"] is None
    assert len(annotate(task, str(tmp_path / "select"), rows=3, out=str(tmp_path / "sample"))) == 3  # still complete


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([{"id": "r/99", "label": "neutral"}], "row 1: id 'r/99' is not in the sample"),
        ([{"id": "A", "label": "neutral"}, {"id": "A", "label": "neutral"}], "row 2: duplicate id"),
        ([{"id": "A", "label": "good"}], "label 'good', expected one of"),
        ([{"id": "A", "label": ""}], "no row has a label"),
        ([{"id": "A"}], "no column 'label'"),
    ],
)
def test_wrong_answers_are_refused(tmp_path: Path, task: Task, lines: list[dict[str, str]], said: str):
    known = draw(tmp_path, task, rows=3).table["id"][0].as_py()
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(line).replace('"A"', f'"{known}"') + "\n" for line in lines))
    with pytest.raises(InputError, match=re.escape(said)):
        annotate(task, answers=[str(path)], out=str(tmp_path / "sample"))
    assert not (tmp_path / "sample" / "judged").exists()


def test_wrong_settings_are_refused(tmp_path: Path, task: Task):
    selection = write_selection(tmp_path / "select", task)
    out = str(tmp_path / "sample")
    with pytest.raises(InputError, match="no row of 30 has a teacher probability of 0.95; lower `above`"):
        annotate(task, selection, above=0.95, out=out)
    with pytest.raises(InputError, match="rows is 0"):
        annotate(task, selection, rows=0, out=out)
    with pytest.raises(InputError, match="no such folder"):
        annotate(task, "nowhere", out=out)
    assert not Path(out).exists()
    annotate(task, selection, rows=3, out=out)
    with pytest.raises(InputError, match="holds another run"):
        annotate(task, selection, rows=4, out=out)
    with pytest.raises(InputError, match="expected .*; give the task"):
        annotate(Task("other", ["text"], ["yes", "no"]), answers=["any.csv"], out=out)


def test_answers_are_those_of_the_sample_as_it_was_drawn(tmp_path: Path, task: Task):
    ids = draw(tmp_path, task, rows=4, seed=3).table["id"].to_pylist()
    labels = dict.fromkeys(ids, "neutral")
    with pytest.raises(
        InputError, match="rows is 5 with answers, but the sample in .* was drawn with rows 4; leave rows out"
    ):
        judge(tmp_path, task, labels, rows=5)
    assert judge(tmp_path, task, labels, rows=4).summary["judged"] == 4  # seed: as it was drawn


def test_instructions_name_the_labels_and_the_pair(tmp_path: Path):
    task = Task("nli", ["premise", "hypothesis"], ["entailment", "contradiction"])
    rows = [{"id": "1", "premise": "a", "hypothesis": "b", "class": "entailment"}]
    artifacts.write(tmp_path / "select", pa.Table.from_pylist(rows), stage="select", facts={"labels": task.labels})
    annotate(task, str(tmp_path / "select"), rows=1, out=str(tmp_path / "sample"))
    text = (tmp_path / "sample" / "instructions.md").read_text()
    assert "- `entailment`\n- `contradiction`\n- `unclear`" in text
    assert "what the *hypothesis* is to the *premise*" in text
