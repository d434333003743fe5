"""Rows from every kind of file, under the task's names."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import labelled, write_jsonl

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Source, load_rows, read_table

ROWS = [
    {"text": "None", "label": "negative"},
    {"text": 'a "quoted" word, and a comma', "label": "Neutral"},
    {"text": "यह अच्छा है; don’t “worry”", "label": "POSITIVE"},
]


def write_as(path: Path) -> Path:
    name = path.name
    if name.endswith(".jsonl.gz"):
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))
    elif name.endswith(".jsonl"):
        write_jsonl(path, ROWS)
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif name.endswith(".tsv"):
        path.write_text("text\tlabel\n" + "".join(f"{row['text']}\t{row['label']}\n" for row in ROWS))
    else:
        quoted = ['"' + row["text"].replace('"', '""') + '"' for row in ROWS]
        path.write_text("text,label\n" + "".join(f"{q},{row['label']}\n" for q, row in zip(quoted, ROWS, strict=True)))
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.tsv", "a.parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, task: Task, name: str):
    rows = load_rows(Source(path=str(write_as(tmp_path / name)), language="en"), task, "label")
    assert rows.table["text"].to_pylist() == [row["text"] for row in ROWS]
    assert rows.table["label"].to_pylist() == ["negative", "neutral", "positive"]
    assert rows.table["id"].to_pylist() == [f"{tmp_path.name}/a/{row}" for row in range(3)]
    assert rows.table["lang"].to_pylist() == ["en"] * 3


def test_an_artifact_is_a_source(tmp_path: Path, task: Task):
    table = pa.table({"id": ["x", "y"], "text": ["one", "two"], "label": ["neutral", "positive"]})
    written = artifacts.write(tmp_path / "pool", table, stage="clean", lineage={"raw": "sha256:0"})
    rows = load_rows(Source(path=str(tmp_path / "pool")), task, "label")
    assert rows.ids == ["x", "y"]
    assert rows.lineage == written.lineage


def test_columns_and_labels_are_renamed_and_dropped_ones_are_counted(tmp_path: Path, task: Task):
    five = ["very negative", "negative", "neutral", "positive", "very positive", "?"]
    path = write_jsonl(tmp_path / "sst.jsonl", [{"sentence": f"s{n}", "five": one} for n, one in enumerate(five)])
    source = Source(
        path=str(path),
        columns={"text": "sentence", "label": "five"},
        label_map={"Very Negative": "negative", "very positive": "positive", "?": None},
    )
    rows = load_rows(source, task, "label")
    assert rows.table["label"].to_pylist() == ["negative", "negative", "neutral", "positive", "positive"]
    assert rows.dropped == {"?": 1}


def test_a_missing_label_can_be_dropped(tmp_path: Path, task: Task):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "a", "label": None}, {"text": "b", "label": "neutral"}])
    rows = load_rows(Source(path=str(path), label_map={"null": None}), task, "label")
    assert rows.dropped == {"null": 1}
    with pytest.raises(InputError, match=r"a.jsonl: labels outside .*'null' in 1 row \(line 1\).*label_map"):
        load_rows(Source(path=str(path)), task, "label")


def test_a_sample_keeps_the_class_shares_of_a_sorted_file(tmp_path: Path, task: Task):
    rows = [{"id": f"r{n}", "text": f"text {n}", "label": "positive" if n < 800 else "negative"} for n in range(1600)]
    path = write_jsonl(tmp_path / "sorted.jsonl", rows)
    drawn = load_rows(Source(path=str(path), sample=400), task, "label").table
    assert drawn.num_rows == 400
    assert 160 <= drawn["label"].to_pylist().count("positive") <= 240
    assert drawn["id"].to_pylist() == sorted(drawn["id"].to_pylist(), key=lambda name: int(name[1:]))
    backwards = write_jsonl(tmp_path / "backwards.jsonl", rows[::-1])
    again = load_rows(Source(path=str(backwards), sample=400), task, "label").table
    assert set(again["id"].to_pylist()) == set(drawn["id"].to_pylist())
    other = load_rows(Source(path=str(path), sample=400, sample_seed=1), task, "label").table
    assert set(other["id"].to_pylist()) != set(drawn["id"].to_pylist())


def test_a_sample_needs_no_labels(tmp_path: Path, task: Task):
    path = write_jsonl(tmp_path / "rows.jsonl", [{"id": f"r{n}", "text": f"text {n}"} for n in range(20)])
    assert load_rows(Source(path=str(path), sample=5), task, None).table.num_rows == 5


def test_sampling_per_class_depends_on_ids_not_on_the_order(tmp_path: Path, task: Task):
    rows = [{"id": str(n), "text": f"t{n}", "label": task.labels[n % 3]} for n in range(60)]
    forth, back = (
        load_rows(Source(path=str(write_jsonl(tmp_path / name, some)), per_class=5), task, "label")
        for name, some in (("forth.jsonl", rows), ("back.jsonl", rows[::-1]))
    )
    assert sorted(forth.ids) == sorted(back.ids)
    assert [forth.table["label"].to_pylist().count(label) for label in task.labels] == [5, 5, 5]
    other = load_rows(Source(path=str(tmp_path / "forth.jsonl"), per_class=5, sample_seed=1), task, "label")
    assert sorted(other.ids) != sorted(forth.ids)


def test_a_class_smaller_than_the_sample_warns(tmp_path: Path, task: Task, caplog: pytest.LogCaptureFixture):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "a", "label": "neutral"}])
    load_rows(Source(path=str(path), per_class=5), task, "label")
    assert "1 rows of 'neutral', 5 asked for" in caplog.text


def test_a_slice_keeps_the_ids_of_the_whole(tmp_path: Path, task: Task):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": f"t{n}", "label": "neutral"} for n in range(10)])
    rows = load_rows(Source(path=str(path), start=6, stop=8), task, "label")
    assert rows.ids == [f"{tmp_path.name}/a/6", f"{tmp_path.name}/a/7"]


def test_several_sources_are_read_in_order(tmp_path: Path, task: Task):
    paths = [write_jsonl(tmp_path / f"{name}.jsonl", [{"text": name, "label": "neutral"}]) for name in "ba"]
    rows = load_rows([Source(path=str(path)) for path in paths], task, "label")
    assert rows.table["text"].to_pylist() == ["b", "a"]


def test_pairs_and_kept_columns(tmp_path: Path):
    nli = Task("nli", ["premise", "hypothesis"], ["entailment", "neutral", "contradiction"])
    path = write_jsonl(tmp_path / "n.jsonl", [{"premise": "p", "hypothesis": "h", "label": "neutral", "domain": "law"}])
    table = load_rows(Source(path=str(path), keep=["domain"]), nli, "label").table
    assert table.column_names == ["id", "premise", "hypothesis", "label", "domain", "lang"]


def test_labels_stay_unread_where_none_are_asked_for(tmp_path: Path, task: Task):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "a", "label": "whatever"}])
    assert "label" not in load_rows(Source(path=str(path)), task, None).table.column_names


def test_the_fingerprint_is_of_the_rows_not_of_the_file(tmp_path: Path, task: Task):
    forms = [write_as(tmp_path / "one" / "a.jsonl") if not (tmp_path / "one").mkdir() else None]
    (tmp_path / "two" / "one").mkdir(parents=True)
    forms.append(write_as(tmp_path / "two" / "one" / "a.parquet"))
    assert len({load_rows(Source(path=str(path)), task, "label").fingerprint for path in forms}) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.doc", r"a.doc: format '.doc' is not known.*\.jsonl"), ("a.jsonl", "a.jsonl: no such file or artifact")],
)
def test_files_that_cannot_be_read(tmp_path: Path, task: Task, name: str, message: str):
    if name.endswith(".doc"):
        (tmp_path / name).write_text("a")
    with pytest.raises(InputError, match=message):
        load_rows(Source(path=str(tmp_path / name)), task, "label")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "no rows"),
        ("a.csv", b"", "no rows"),
        ("a.csv", b"text,label\n", "no rows"),
        ("a.csv", b"text,label\none,neutral\none, two,neutral\n", "row 1 .line 3.*3 cells, expected 2"),
        ("a.csv", "text,label\ncaf\u00e9,neutral\n".encode("latin1"), "utf-8"),
        ("a.jsonl", b'{"text": "a", "label": "neutral"}\n{"text": "caf\xe9", "label": "neutral"}\n', "row 1 .*UTF-8"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a", "label": "neutral"}\n' * 99, mtime=0)[:-9], "ended before"),
        ("a.jsonl.gz", b"plain", "cannot be read.*save it again"),
        ("a.parquet", b"plain", "cannot be read"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, task: Task, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: .*{message}") as caught:
        load_rows(Source(path=str(tmp_path / name)), task, "label")
    assert "\n" not in str(caught.value)


def test_csv_columns_are_text_whatever_they_look_like(tmp_path: Path, task: Task):
    path = tmp_path / "a.csv"
    path.write_text(
        "id,text,label\n007,1984,-1\n7,True,1\n" + "".join(f"x{n},t,1\n" for n in range(12_000)) + "z,t,up\n"
    )
    rows = load_rows(Source(path=str(path), label_map={"-1": "negative", "1": "positive", "up": None}), task, "label")
    assert rows.ids[:2] == ["007", "7"]
    assert rows.table["text"].to_pylist()[:2] == ["1984", "True"]
    assert rows.dropped == {"up": 1}


def test_a_number_among_texts_is_named_and_leaves_the_others_alone(tmp_path: Path, task: Task):
    rows = [{"id": n, "text": f"t{n}", "label": "neutral"} for n in range(3)]
    path = write_jsonl(tmp_path / "a.jsonl", [*rows, {"id": "x", "text": 3, "label": 1}])
    with pytest.raises(InputError, match=r"a.jsonl row 3 \(line 4\): text is 3, expected a text"):
        load_rows(Source(path=str(path), label_map={"1": "positive"}), task, "label")
    write_jsonl(path, [*rows, {"id": "x", "text": "t3", "label": 1}])
    loaded = load_rows(Source(path=str(path), label_map={"1": "positive"}), task, "label").table
    assert loaded["id"].to_pylist() == ["0", "1", "2", "x"]
    assert loaded["label"].to_pylist() == ["neutral", "neutral", "neutral", "positive"]


def test_a_file_name_is_no_pattern(tmp_path: Path, task: Task):
    for name in ("a[1].jsonl", "a1.jsonl"):
        write_jsonl(tmp_path / name, [{"text": name, "label": "neutral"}])
    rows = load_rows(Source(path=str(tmp_path / "a[1].jsonl")), task, "label")
    assert rows.table["text"].to_pylist() == ["a[1].jsonl"]


def test_a_class_that_is_dropped_whole_leaves_no_rows_to_sample(tmp_path: Path, task: Task):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "a", "label": "neutral"}])
    rows = load_rows(Source(path=str(path), label_map={"neutral": None}, per_class=2), task, "label")
    assert (rows.table.num_rows, rows.dropped) == (0, {"neutral": 1})


def test_a_slip_in_columns_is_not_passed_over(tmp_path: Path, task: Task):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "a", "label": "neutral"}])
    with pytest.raises(InputError, match=r"columns has 'txt'.*did you mean 'text'"):
        load_rows(Source(path=str(path), columns={"txt": "sentence"}), task, "label")


@pytest.mark.parametrize(
    "read", [lambda source, task: load_rows(source, task, None), lambda source, _: read_table(source)]
)
def test_a_draw_by_class_needs_labels(tmp_path: Path, task: Task, read):
    path = write_jsonl(tmp_path / "rows.jsonl", labelled(6, 1))
    with pytest.raises(InputError, match=r"rows.jsonl: per_class 2 where labels are not read; remove it"):
        read(Source(path=str(path), per_class=2), task)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"start": -1}, "start is -1, expected 0 <= start"),
        ({"start": 3, "stop": 3}, "start 3, stop 3, expected start < stop"),
        ({"stop": 0}, "stop is 0, expected 1 <= stop"),
        ({"per_class": 0}, "per_class is 0, expected 1 <= per_class"),
        ({"sample": 0}, "sample is 0, expected 1 <= sample"),
        ({"sample_seed": -1}, "sample_seed is -1, expected 0 <= sample_seed"),
        ({"start": None}, "start is null, expected 0 <= start"),
        ({"sample": 2, "per_class": 2}, "sample 2 and per_class 2, expected one of them"),
    ],
)
def test_a_part_that_holds_no_rows_is_refused(numbers: dict[str, Any], said: str):
    with pytest.raises(InputError, match=f"^a.jsonl: {said}"):
        Source(path="a.jsonl", **numbers)


def test_a_hub_data_set_that_cannot_be_reached_is_one_line(task: Task):
    with pytest.raises(InputError, match=r"hub:SetFit/sst5/train: the Hub data set cannot be loaded.*local file"):
        load_rows(Source(path="hub:SetFit/sst5"), task, "label")


def test_a_hub_data_set_is_read_through_datasets(monkeypatch: pytest.MonkeyPatch, task: Task):
    """Class numbers become the data set's own names; -1 is a missing label."""
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    asked = {}

    def load_dataset(name: str, subset: str | None, **options: object) -> datasets.Dataset:
        asked.update(name=name, subset=subset, **options)
        return datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = Source(
        path="hub:org/name", subset="hi", split="validation", revision="abc",
        label_map={"neg": "negative", "pos": "positive", "null": None},
    )  # fmt: skip
    rows = load_rows(source, task, "label")
    assert asked == {"name": "org/name", "subset": "hi", "split": "validation", "revision": "abc"}
    assert rows.table["label"].to_pylist() == ["positive", "negative"]
    assert rows.ids == ["org/name/hi/validation/0", "org/name/hi/validation/1"]
    assert rows.dropped == {"null": 1}


@pytest.mark.parametrize(("own", "said"), [("en", "en"), ("eng", "en"), ("english", "en"), (None, "en")])
def test_a_language_may_be_given_where_the_file_says_none_or_the_same(tmp_path: Path, task: Task, own, said):
    path = write_jsonl(tmp_path / "rows.jsonl", [{**row, "lang": own} for row in labelled(3, 1)])
    assert set(load_rows(Source(path=str(path), language="en"), task, "label").table["lang"].to_pylist()) == {said}


def test_a_language_may_be_more_exact_than_the_file(tmp_path: Path, task: Task):
    path = write_jsonl(tmp_path / "rows.jsonl", [{**row, "lang": "hi-en"} for row in labelled(3, 1)])
    rows = load_rows(Source(path=str(path), language="hi-Latn"), task, "label")
    assert set(rows.table["lang"].to_pylist()) == {"hi-Latn"}


def test_a_language_that_contradicts_the_file_is_refused(tmp_path: Path, task: Task):
    path = write_jsonl(tmp_path / "rows.jsonl", [{**row, "lang": "hi"} for row in labelled(3, 1)])
    with pytest.raises(InputError, match=r"rows.jsonl row 0 .line 1.: lang is 'hi', but `language` says 'en'; remove"):
        load_rows(Source(path=str(path), language="en"), task, "label")


def test_what_an_artifact_says_of_its_rows_holds(tmp_path: Path, task: Task):
    """A configuration that says what the English file is in, laid over by its translation."""
    artifacts.write(
        tmp_path / "hi", pa.Table.from_pylist([{**row, "lang": "hi"} for row in labelled(3, 1)]), stage="translate"
    )
    rows = load_rows(Source(path=str(tmp_path / "hi"), language="en"), task, "label")
    assert set(rows.table["lang"].to_pylist()) == {"hi"}


def test_a_line_is_looked_for_only_when_something_is_wrong(tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "labelbridge.lightning_app.data.sources.line_of", lambda source, row: pytest.fail("a line was looked for")
    )
    load_rows(Source(path=str(write_jsonl(tmp_path / "rows.jsonl", labelled(9, 1)))), task, "label")


def test_a_row_is_found_by_its_line_also_behind_blank_ones(tmp_path: Path, task: Task):
    rows = [json.dumps(row) for row in labelled(3, 1)]
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{rows[0]}\n\n  \n{rows[1]}\n\n{rows[2].replace('positive', 'superb')}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"rows.jsonl: labels outside .*: 'superb' in 1 row \(line 6\)"):
        load_rows(Source(path=str(path)), task, "label")
