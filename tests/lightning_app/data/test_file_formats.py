"""Local files: every format is read afresh, whole rows or one line that says what is wrong."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.file_formats import line_of, read_file
from labelbridge.lightning_app.data.sources import Source, load_rows, read_table


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# What a CSV file means


def test_cells_are_text_and_empty_ones_are_null(tmp_path: Path):
    table = read_file(
        write(tmp_path / "a.csv", 'id,text,label,when\n007,NA,,2024-01-02\n1e3,"",x,12345678901234567890\n')
    )
    assert table.to_pylist() == [
        {"id": "007", "text": "NA", "label": None, "when": "2024-01-02"},
        {"id": "1e3", "text": None, "label": "x", "when": "12345678901234567890"},
    ]


def test_a_column_without_a_name_is_a_column_like_others(tmp_path: Path):
    """What pandas writes of its index."""
    table = read_file(write(tmp_path / "a.csv", ",text,label\n0,one,neutral\n1,two,neutral\n"))
    assert table.column_names == ["Unnamed: 0", "text", "label"]
    assert table["text"].to_pylist() == ["one", "two"]


def test_quoted_cells_may_span_lines_and_rows_are_found_by_their_first(tmp_path: Path):
    path = write(tmp_path / "a.csv", 'text,label\n"one\ntwo",x\n\n"say ""three""",y\n')
    assert read_file(path)["text"].to_pylist() == ["one\ntwo", 'say "three"']
    assert [line_of(path, row) for row in (0, 1, 2)] == [2, 5, None]


def test_long_cells_byte_order_marks_and_old_line_ends(tmp_path: Path):
    text = "x" * 200_000
    assert read_file(write(tmp_path / "a.csv", f"\ufefftext\r\n{text}\r\n"))["text"].to_pylist() == [text]
    assert read_file(write(tmp_path / "b.tsv", 'text\tlabel\r"a\tx\r'))["text"].to_pylist() == ['"a']


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\na,good,film,positive\n", r"row 0 \(line 2\): 4 cells, expected 2"),
        ("a.csv", "text,label\n1,good,positive\n2,bad,negative\n", r"row 0 \(line 2\): 3 cells, expected 2"),
        ("a.csv", "id,text,label\n1,a,x\n2,b\n", r"row 1 \(line 3\): 2 cells, expected 3"),
        ("a.tsv", "text\tlabel\none\tx\ntwo\ty\tz\n", r"row 1 \(line 3\): 3 cells, expected 2"),
        ("a.csv", 'text,label\none,x\n"two,y\nthree,z\n', "line 3: a quotation mark that is never closed"),
        ("a.csv", 'text,label\n"one" two,x\n', "line 2: .*expected after"),
        ("a.csv", 'text,label\n"one,x\n"two",y\n', "line 2: .*expected after"),
        ("a.csv", "text,label,text\na,b,c\n", "duplicate column 'text'"),
        ("a.csv", "text,label\n", "no rows"),
        ("a.csv", "\n\n", "no rows"),
        ("a.csv", b"text\n\xff\xfe\n", "not utf-8"),
        ("a.csv", "text,label\none,x\n".encode("utf-16"), "not utf-8"),
    ],
)
def test_a_csv_that_is_not_one_is_refused_with_its_line(tmp_path: Path, name: str, content: str | bytes, message: str):
    with pytest.raises(InputError, match=message) as caught:
        read_file(write(tmp_path / name, content))
    assert "\n" not in str(caught.value)


# What a JSON file means


def test_keys_and_types_may_come_late(tmp_path: Path):
    """What the first part of a file holds decides nothing."""
    lines = [json.dumps({"id": n, "text": "t" * 50, "note": None}) for n in range(30_000)]
    lines += [
        json.dumps({"id": "last", "text": "end", "note": 5, "new": [1]}),
        json.dumps({"note": "text", "text": "x"}),
    ]
    table = read_file(write(tmp_path / "a.jsonl", "\n".join(lines)))
    assert table.num_rows == 30_002
    assert table["new"].to_pylist()[-2:] == [[1], None]
    assert [json.loads(one) for one in table["note"].to_pylist()[-2:]] == [5, "text"]


def test_ids_and_labels_stay_as_they_are_written(tmp_path: Path, task: Task):
    """A whole number is not made a fraction by another row, nor cut to 64 bits, nor is a date a date."""
    ids = [1, 2.5, 12345678901234567890123, "2024-01-02", "007"]
    path = write(
        tmp_path / "a.jsonl",
        "\n".join(
            json.dumps({"id": one, "text": "2024-05-06T07:08:09", "label": n % 2 or -1}) for n, one in enumerate(ids)
        ),
    )
    rows = load_rows(Source(path=str(path), label_map={"1": "positive", "-1": "negative"}), task, "label")
    assert rows.ids == ["1", "2.5", "12345678901234567890123", "2024-01-02", "007"]
    assert set(rows.table["text"].to_pylist()) == {"2024-05-06T07:08:09"}


def test_an_array_of_objects_is_read(tmp_path: Path):
    assert read_file(write(tmp_path / "a.json", '\n[{"text": "a"},\n {"text": "b"}]')).num_rows == 2
    assert read_file(write(tmp_path / "b.json", '{"text": "a"}\n{"text": "b"}\n')).num_rows == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text": "b"\n', r"row 1 \(line 2\): not JSON"),
        ("a.jsonl", '{"text": "a"}\n\n[1]\n', r"row 1 \(line 3\): \[1\], expected a JSON object"),
        ("a.jsonl", '{"text": "a", "text": "b"}\n', r"row 0 \(line 1\): .*duplicate key 'text'"),
        ("a.jsonl", '{"text": ' + "9" * 5000 + "}\n", r"row 0 \(line 1\): .*4300 digits"),
        ("a.jsonl", '{"text": ' + "[" * 100_000 + "\n", r"row 0 \(line 1\): not JSON \(nested too deeply\)"),
        ("a.jsonl", "{}\n{}\n", "2 rows without any key"),
        ("a.jsonl", b'{"text": "caf\xe9"}\n', r"row 0 \(line 1\): not UTF-8"),
        ("a.json", '{"data": [\n1]}\n', r"row 0 \(line 1\): not JSON"),
        ("a.json", "[1, 2]", "row 0: 1, expected a JSON object"),
        ("a.json", "[]", "no rows"),
        ("a.json", "", "no rows"),
    ],
)
def test_a_json_file_that_is_not_one_is_refused_with_its_row(
    tmp_path: Path, name: str, content: str | bytes, message: str
):
    with pytest.raises(InputError, match=message) as caught:
        read_file(write(tmp_path / name, content))
    assert "\n" not in str(caught.value)


def test_half_a_surrogate_pair_is_refused_where_it_is_used_alone(tmp_path: Path, task: Task):
    rows = [{"id": "a", "text": "fine", "note": "\ud83d"}, {"id": "b", "text": "cut \ud83d", "note": "x"}]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match=r"row 1 \(line 2\): text is .*half of a surrogate pair"):
        load_rows(Source(path=str(path)), task, None)
    assert load_rows(Source(path=str(path), stop=1), task, None).ids == ["a"]


@pytest.mark.parametrize("id_", [None, "", [1], {"a": 1}, float("nan"), "x\udc00"])
def test_what_is_no_name_is_no_id(tmp_path: Path, task: Task, id_: object):
    path = write(tmp_path / "a.jsonl", json.dumps({"id": id_, "text": "a"}))
    with pytest.raises(InputError, match=r"row 0 \(line 1\): id is .*, expected a name or a number"):
        load_rows(Source(path=str(path)), task, None)


# Files as such


def test_a_file_is_read_as_it_is_now(tmp_path: Path):
    """Another content under the same name, size and times."""
    for name, first, then in (
        ("a.jsonl", '{"text": "old"}\n', '{"text": "new"}\n'),
        ("a.csv", "text\nold\n", "text\nnew\n"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "old"}', mtime=0), gzip.compress(b'{"text": "new"}', mtime=0)),
    ):
        path = write(tmp_path / name, first)
        before = path.stat()
        assert read_file(path)["text"].to_pylist() == ["old"]
        write(path, then)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert read_file(path)["text"].to_pylist() == ["new"]


def test_a_local_file_needs_no_cache(tmp_path: Path):
    write(tmp_path / "not-a-folder", "")
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\n')
    code = (
        "from pathlib import Path; from labelbridge.lightning_app.data.file_formats import read_file; import sys;"
        "print(read_file(Path(sys.argv[1])).num_rows, 'datasets' in sys.modules)"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "not-a-folder"), "HOME": str(tmp_path / "not-a-folder")}
    done = subprocess.run([sys.executable, "-c", code, str(path)], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "False"], done.stderr


def test_pipes_folders_and_missing_files_are_one_line(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(InputError, match=r"pipe.jsonl: not a regular file"):
        read_file(tmp_path / "pipe.jsonl")
    with pytest.raises(InputError, match="no.jsonl: No such file or directory; check the path"):
        read_file(tmp_path / "no.jsonl")


def test_parquet_columns_of_one_name_and_class_numbers(tmp_path: Path):
    pq.write_table(
        pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), tmp_path / "a.parquet"
    )
    with pytest.raises(InputError, match="duplicate column 'text'"):
        read_file(tmp_path / "a.parquet")
    features = {"info": {"features": {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}}}
    table = pa.table({"label": [1, 0, -1]}).replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, tmp_path / "b.parquet")
    assert read_file(tmp_path / "b.parquet")["label"].to_pylist() == ["pos", "neg", None]


# Rows out of files


def test_dropped_rows_need_no_text_and_no_id(tmp_path: Path):
    nli = Task("nli", ["premise", "hypothesis"], ["entailment", "neutral", "contradiction"])
    rows = [
        {"id": "a", "premise": "p", "hypothesis": "h", "label": "neutral"},
        {"id": None, "premise": "p", "hypothesis": "", "label": "-"},
        {"id": "c", "premise": None, "hypothesis": 5, "label": None},
    ]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    loaded = load_rows(Source(path=str(path), label_map={"-": None, "null": None}), nli, "label")
    assert (loaded.ids, loaded.dropped) == (["a"], {"-": 1, "null": 1})


def test_rows_of_one_language_out_of_many(tmp_path: Path, task: Task):
    lines = [
        "language\tlabel\ttext\tdomain",
        "en\tbad\t\tfood",
        "hi\tneutral\tअच्छा\tfood",
        "hi\tpositive\tबुरा\ttravel",
        "sw\t?\tx\tfood",
    ]
    source = Source(
        path=str(write(tmp_path / "all.tsv", "\n".join(lines))), columns={"lang": "language"}, keep={"lang": "hi"}
    )
    rows = load_rows(source, task, "label")
    assert rows.table["lang"].to_pylist() == ["hi", "hi"]
    assert rows.ids == [f"{tmp_path.name}/all/1", f"{tmp_path.name}/all/2"]
    both = Source(path=source.path, keep={"language": ["hi", "sw"], "domain": "food"}, label_map={"?": "negative"})
    kept = load_rows(both, task, "label").table
    assert kept.select(["language", "domain"]).to_pylist() == [
        {"language": "hi", "domain": "food"}, {"language": "sw", "domain": "food"},
    ]  # fmt: skip
    assert load_rows(Source(path=source.path, keep={"language": "hi", "domain": None}), task, None).table.num_rows == 2
    assert read_table(both)[0].num_rows == 2
    with pytest.raises(InputError, match=r"all.tsv: no row has lang 'fr' as `keep` asks; the column holds .*'hi'"):
        load_rows(Source(path=source.path, columns={"lang": "language"}, keep={"lang": "fr"}), task, "label")


def test_an_empty_cell_states_no_language(tmp_path: Path, task: Task):
    path = write(tmp_path / "a.csv", "text,label,lang\none,neutral,\ntwo,neutral,en\n")
    assert load_rows(Source(path=str(path)), task, "label").table["lang"].to_pylist() == [None, "en"]


def test_naming_a_column_twice_gives_one(tmp_path: Path, task: Task):
    path = write(tmp_path / "a.jsonl", json.dumps({"id": "x", "text": "a", "label": "neutral", "lang": "en", "n": 1}))
    table = load_rows(
        Source(path=str(path), keep=["id", "lang", "text", "label", "n", "n"], id_prefix="hi/"), task, "label"
    ).table
    assert table.column_names == ["id", "text", "label", "n", "lang"]
    assert table["id"].to_pylist() == ["hi/x"]


@pytest.mark.parametrize(
    ("own", "label"), [("ne\u0301gatif", "n\u00e9gatif"), ("N\u00c9GATIF", "ne\u0301gatif"), ("\u0958", "\u0915\u093c")]
)
def test_labels_match_in_any_normal_form(tmp_path: Path, own: str, label: str):
    task = Task("s", ["text"], [label, "other"])
    path = write(tmp_path / "a.jsonl", "\n".join(json.dumps({"text": "a", "label": one}) for one in (own, label, "x")))
    rows = load_rows(Source(path=str(path), label_map={"x": own}), task, "label")
    assert rows.table["label"].to_pylist() == [label] * 3
    with pytest.raises(InputError, match="two or more different names"):
        Task("s", ["text"], [label, own])


def test_columns_of_two_files_that_do_not_fit_together(tmp_path: Path, task: Task):
    paths = [
        write(tmp_path / f"{n}.jsonl", json.dumps({"id": str(n), "text": "a", "note": note}))
        for n, note in enumerate(["x", [1]])
    ]
    with pytest.raises(InputError, match=r"0.jsonl, .*1.jsonl: a column has several types.*`keep`"):
        load_rows([Source(path=str(path), keep=["note"]) for path in paths], task, None)


ANY_BYTES = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(lambda text: text.encode(errors="replace")),
    st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.integers() | st.none() | st.lists(st.booleans())))
    .map(lambda rows: "\n".join(map(json.dumps, rows)).encode()),
    st.lists(st.lists(st.text('",\n\ta', max_size=4), min_size=1)).map(lambda rows: "\n".join(map(",".join, rows)).encode()),
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=ANY_BYTES, suffix=st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".csv.gz"])
)
def test_any_bytes_are_rows_or_one_line(tmp_path: Path, task: Task, content: bytes, suffix: str):
    is_gzipped = suffix.endswith(".gz") and len(content) % 2
    path = write(tmp_path / f"a{suffix}", gzip.compress(content) if is_gzipped else content)
    for read in (lambda: read_file(path), lambda: load_rows(Source(path=str(path)), task, None).table):
        try:
            refusal, rows = None, read().num_rows
        except InputError as error:
            refusal, rows = str(error), 0
        assert rows or str(path) in str(refusal)
        assert "\n" not in str(refusal)
