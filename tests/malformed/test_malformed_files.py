"""Files of rows: what cannot be read for certain is refused with its row and line, and everything else is read right."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import LABELS, write_jsonl
from doors import assert_line
from hypothesis import given, settings
from hypothesis import strategies as st

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.file_formats import read_file
from labelbridge.lightning_app.data.sources import Source, load_rows, read_table
from labelbridge.lightning_app.generation.cleaning import clean
from labelbridge.lightning_app.translation.lexicon import read_lexicon

TASK = Task("sentiment", ["text"], LABELS)
ROW = '{"text": "a fine day", "label": "positive"}\n'
CSV = "id,text,label\n1,a fine day,positive\n"


def parquet(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


def as_json_type(table: pa.Table) -> bytes:
    """Parquet of another program that calls its texts JSON, whatever they are."""
    mark = {"ARROW:extension:name": "arrow.json", "ARROW:extension:metadata": ""}
    return parquet(
        table.cast(pa.schema([field.with_metadata(mark) if field.name == "text" else field for field in table.schema]))
    )


def zipped(content: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("rows.jsonl", content)
    return stream.getvalue()


GOOD = parquet(pa.table({"text": ["a", "b"], "label": ["positive", "negative"]}))


def classes(labels: pa.Array, names: Any) -> bytes:
    """Parquet as `datasets` writes it, with what its metadata says of the labels."""
    features = {"label": {"_type": "ClassLabel", "names": names}, "text": {"_type": "Value"}}
    table = pa.table({"text": ["a", "b"], "label": labels})
    return parquet(table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}))


# What is wrong -> the file's name, its content, and what is said of it.
FILES: dict[str, tuple[str, str | bytes, str]] = {
    "no rows": ("x.jsonl", "", "no rows"),
    "blank lines alone": ("x.jsonl", "\n\n  \n", "no rows"),
    "empty, gzipped": ("x.jsonl.gz", gzip.compress(b""), "no rows"),
    "a header alone": ("x.csv", "id,text,label\n", "no rows"),
    "an empty CSV": ("x.csv", "", "no rows"),
    "an empty array": ("x.json", "[]", "no rows"),
    "rows without keys": ("x.jsonl", "{}\n{}\n", "without any key"),
    "parquet without rows": ("x.parquet", parquet(pa.table({"text": pa.array([], pa.string())})), "no rows"),
    "no suffix": ("rows", ROW, "format '' is not known"),
    "txt": ("x.txt", ROW, "format '.txt'"),
    "zip": ("x.zip", zipped(ROW), "format '.zip'"),
    "zip in disguise": ("x.jsonl", zipped(ROW), r"row 0 \(line 1\)"),
    "gzip in disguise": ("x.jsonl", gzip.compress(ROW.encode()), r"row 0 \(line 1\)"),
    "no gzip": ("x.jsonl.gz", ROW, "cannot be read"),
    "gzip, cut": ("x.jsonl.gz", gzip.compress((ROW * 99).encode())[:-9], "cannot be read"),
    "gzip, damaged": ("x.csv.gz", gzip.compress(CSV.encode())[:12] + b"\xff" * 9, "cannot be read|not utf-8"),
    "excel": ("x.xlsx", zipped(ROW), "format '.xlsx'"),
    "a page": ("x.jsonl", "<html><body>Sign in</body></html>", "not JSON"),
    "an LFS pointer": ("x.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "not JSON"),
    "half a line": ("x.jsonl", ROW + '{"text": "half', r"row 1 \(line 2\): not JSON"),
    "two rows on a line": ("x.jsonl", ROW.strip() + ROW, "not JSON"),
    "a trailing comma": ("x.jsonl", '{"text": "a", "label": "positive",}\n', "not JSON"),
    "single quotes": ("x.jsonl", "{'text': 'a', 'label': 'positive'}\n", "not JSON"),
    "a list a line": ("x.jsonl", '["a", "positive"]\n', "expected a JSON object"),
    "a number a line": ("x.jsonl", "5\n", "expected a JSON object"),
    "null a line": ("x.jsonl", "null\n", "expected a JSON object"),
    "a duplicate key": ("x.jsonl", '{"text": "a", "text": "b", "label": "positive"}\n', "duplicate key 'text'"),
    "a duplicate key inside": ("x.jsonl", '{"text": "a", "label": "positive", "m": {"k": 1, "k": 2}}\n', "duplicate key"),
    "5,000 digits": ("x.jsonl", '{"text": "a", "n": ' + "9" * 5000 + "}\n", r"row 0 \(line 1\)"),
    "deep": ("x.jsonl", '{"text": ' + "[" * 9_000 + "]" * 9_000 + "}\n", "nested too deeply|not JSON"),
    "latin-1": ("x.jsonl", '{"text": "café", "label": "positive"}\n'.encode("latin-1"), "not UTF-8"),
    "latin-1 in a CSV": ("x.csv", "text,label\ncafé,positive\n".encode("latin-1"), "not utf-8"),
    "UTF-16": ("x.jsonl", ROW.encode("utf-16"), "not UTF-8"),
    "UTF-16 CSV": ("x.csv", CSV.encode("utf-16"), "not utf-8"),
    "NUL": ("x.jsonl", "\0\0\0\n", "not JSON"),
    "an array that is cut": ("x.json", '[{"text": "a"},', "not JSON"),
    "an array of texts": ("x.json", '["a", "b"]', "expected a JSON object"),
    "an object of lists": ("x.json", '{"text": ["a"], "label": ["positive"]}', "text is|labels outside"),
    "a cell too many": ("x.csv", CSV + "2,b,positive,more\n", r"row 1 \(line 3\): 4 cells, expected 3"),
    "a cell too few": ("x.csv", CSV + "2,b\n", r"row 1 \(line 3\): 2 cells, expected 3"),
    "a shifted row": ("x.csv", "id,text,label\n0,1,a fine day,positive\n", "4 cells, expected 3"),
    "an open quote": ("x.csv", CSV + '2,"b,positive\n3,c,negative\n', "line 3: a quotation mark"),
    "a stray quote": ("x.csv", CSV + '2,"b"x,positive\n', "line 3"),
    "a duplicate column": ("x.csv", "text,text,label\na,b,positive\n", "duplicate column 'text'"),
    "a duplicate column, with spaces": ("x.csv", "text, text,label\na,b,positive\n", "duplicate column 'text'"),
    "semicolons": ("x.csv", "id;text;label\n1;a;positive\n", "no column 'text'"),
    "TSV, ragged": ("x.tsv", "text\tlabel\na\tpositive\tx\n", "3 cells, expected 2"),
    "TSV, spaces": ("x.tsv", "text label\na positive\n", "no column 'text'"),
    "parquet, cut": ("x.parquet", GOOD[:-8], "cannot be read"),
    "parquet, empty": ("x.parquet", b"", "cannot be read"),
    "parquet, text": ("x.parquet", ROW, "cannot be read"),
    "parquet, damaged": ("x.parquet", GOOD[:20] + b"\xff" * 30 + GOOD[50:], "cannot be read|text is|labels outside"),
    "parquet, a footer of lies": ("x.parquet", GOOD[:-8] + b"\xff\xff\xff\x7fPAR1", "cannot be read"),
    "no text": ("x.jsonl", '{"label": "positive"}\n', "no column 'text'"),
    "no label": ("x.jsonl", '{"text": "a"}\n', "no column 'label'"),
    "text null": ("x.jsonl", '{"text": null, "label": "positive"}\n', r"row 0 \(line 1\): text is None"),
    "text missing in one row": ("x.jsonl", ROW + '{"label": "positive"}\n', r"row 1 \(line 2\): text is None"),
    "text empty": ("x.jsonl", '{"text": "", "label": "positive"}\n', "text is ''"),
    "text blank": ("x.jsonl", '{"text": " \\n ", "label": "positive"}\n', "text is"),
    "text a number": ("x.jsonl", ROW + '{"text": 5, "label": "positive"}\n', r"row 1 \(line 2\): text is 5"),
    "text a list": ("x.jsonl", '{"text": ["a"], "label": "positive"}\n', "text is"),
    "text an object": ("x.jsonl", '{"text": {"en": "a"}, "label": "positive"}\n', "text is"),
    "half an emoji": ("x.jsonl", '{"text": "a \\ud83d", "label": "positive"}\n', "surrogate"),
    "label null": ("x.jsonl", '{"text": "a", "label": null}\n', "labels outside"),
    "label a number": ("x.jsonl", '{"text": "a", "label": 2}\n', "labels outside"),
    "label a list": ("x.jsonl", '{"text": "a", "label": ["positive"]}\n', "labels outside"),
    "label empty": ("x.csv", "text,label\na,\n", "labels outside"),
    "label in another language": ("x.jsonl", '{"text": "a", "label": "positiv"}\n', "labels outside"),
    "id null": ("x.jsonl", '{"id": null, "text": "a", "label": "positive"}\n', "id is None"),
    "id empty": ("x.csv", "id,text,label\n,a,positive\n", "id is None"),
    "id a list": ("x.jsonl", '{"id": [1], "text": "a", "label": "positive"}\n', "id is"),
    "id nan": ("x.jsonl", '{"id": NaN, "text": "a", "label": "positive"}\n', "id is"),
    "id half an emoji": ("x.jsonl", '{"id": "\\ud83d", "text": "a", "label": "positive"}\n', "id is"),
    "id true": ("x.jsonl", '{"id": true, "text": "a", "label": "positive"}\n', "id is True"),
    "id blank": ("x.jsonl", '{"id": " ", "text": "a", "label": "positive"}\n', "id is ' '"),
    "id of zero width": ("x.jsonl", '{"id": "\\u200b", "text": "a", "label": "positive"}\n', "id is"),
    "lang a number": ("x.jsonl", ROW[:-2] + ', "lang": 5}', "lang is 5, expected a language code"),
    "lang a list": ("x.jsonl", ROW[:-2] + ', "lang": ["en"]}', "lang is .*expected a language code"),
    "lang nan": ("x.jsonl", ROW[:-2] + ', "lang": NaN}', "lang is nan, expected a language code"),
    "lang half an emoji": ("x.jsonl", ROW[:-2] + ', "lang": "\\ud83d"}', "lang is .*expected a language code"),
    "text of zero width": ("x.jsonl", '{"text": "\\u200b\\u200d", "label": "positive"}\n', "text is"),
    "text a byte-order mark": ("x.jsonl", '{"text": "\\ufeff", "label": "positive"}\n', "text is"),
    "text of control characters": ("x.jsonl", '{"text": "\\u0007\\u0000", "label": "positive"}\n', "text is"),
    "class numbers without a name": ("x.parquet", classes(pa.array([0, 7]), LABELS), "label is 7, but its metadata names 3"),
    "class names null": ("x.parquet", classes(pa.array([0, 1]), None), "labels outside"),
    "class names a map": ("x.parquet", classes(pa.array([0, 1]), {"0": "positive"}), "labels outside"),
    "class names numbers": ("x.parquet", classes(pa.array([0, 1]), [1, 2]), "labels outside"),
    "class numbers as floats": ("x.parquet", classes(pa.array([0.0, 1.0]), LABELS), "labels outside"),
    "class numbers as lists": ("x.parquet", classes(pa.array([[0], [1]]), LABELS), "labels outside"),
    "id twice": ("x.jsonl", '{"id": 1, "text": "a", "label": "positive"}\n' * 2, "duplicate id '1'"),
    "ids equal as texts": (
        "x.jsonl", '{"id": 1, "text": "a", "label": "positive"}\n{"id": "1", "text": "b", "label": "positive"}\n',
        "duplicate id '1'",
    ),
}  # fmt: skip


FILES |= {
    f"parquet, {name}": (
        "x.parquet", parquet(pa.table({"text": ["a"], "label": ["positive"], "when": pa.array([value], kind)})),
        "when is of type .* cannot be read",
    )
    for name, value, kind in (
        ("a year 300,000", 2**62, pa.timestamp("us")), ("a zone that is nowhere", 1, pa.timestamp("us", tz="Nowhere/Zone")),
("a list of such years", [2**62], pa.list_(pa.timestamp("us"))),
    )
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_malformed_file_is_one_line(tmp_path: Path, name: str):
    file, content, said = FILES[name]
    path = tmp_path / file
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        load_rows(Source(str(path)), TASK, "label")
    assert_line(str(caught.value), said)
    assert path.name in str(caught.value)


def rows_of(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = load_rows(Source(str(path), keep=["*"]), TASK, "label").table.to_pylist()
    return found


# A file that looks odd and is right -> its name, its content, and a column that is read from it.
RIGHT: dict[str, tuple[str, str | bytes, str, list[Any]]] = {
    "a byte-order mark": ("x.jsonl", b"\xef\xbb\xbf" + ROW.encode(), "text", ["a fine day"]),
    "a byte-order mark in a CSV": ("x.csv", b"\xef\xbb\xbf" + CSV.encode(), "id", ["1"]),
    "Windows line ends": ("x.csv", CSV.replace("\n", "\r\n"), "label", ["positive"]),
    "old Mac line ends": ("x.csv", CSV.replace("\n", "\r"), "text", ["a fine day"]),
    "no line end": ("x.jsonl", ROW.strip(), "text", ["a fine day"]),
    "blank lines": ("x.jsonl", f"\n{ROW}\n\n", "text", ["a fine day"]),
    "blank lines in a CSV": ("x.csv", CSV + "\n\n", "text", ["a fine day"]),
    "ids that look like numbers": ("x.csv", "id,text,label\n007,a,positive\n", "id", ["007"]),
    "ids that look like dates": ("x.csv", "id,text,label\n2024-01-02,a,positive\n", "id", ["2024-01-02"]),
    "ids of 20 digits": ("x.jsonl", '{"id": 12345678901234567890, "text": "a", "label": "positive"}', "id",
                         ["12345678901234567890"]),
    "texts that look like numbers": ("x.csv", "text,label\n5,positive\n1e5,positive\n", "text", ["5", "1e5"]),
    "a text NA": ("x.csv", "text,label\nNA,positive\nnull,positive\n", "text", ["NA", "null"]),
    "a quoted line break": ("x.csv", 'text,label\n"a\nb",positive\n', "text", ["a\nb"]),
    "a doubled quote": ("x.csv", 'text,label\n"a ""b""",positive\n', "text", ['a "b"']),
    "quotes in a TSV": ("x.tsv", 'text\tlabel\n"a\tpositive\n', "text", ['"a']),
    "an empty cell": ("x.csv", "text,label,domain\na,positive,\n", "domain", [None]),
    "a header with spaces": ("x.csv", " text , label \na,positive\n", "text", ["a"]),
    "labels in capitals": ("x.csv", "text,label\na,POSITIVE\n", "label", ["positive"]),
    "another type late": ("x.jsonl", ROW + '{"text": "b", "label": "negative", "score": "x"}\n'
                          + '{"text": "c", "label": "neutral", "score": 5}\n', "text", ["a fine day", "b", "c"]),
    "keys in another order": ("x.jsonl", ROW + '{"label": "neutral", "text": "b"}', "text", ["a fine day", "b"]),
    "an array": ("x.json", f"[{ROW}, {ROW.replace('fine', 'good')}]", "text", ["a fine day", "a good day"]),
    "lines in a .json": ("x.json", ROW, "text", ["a fine day"]),
    "a capital suffix": ("X.JSONL", ROW, "text", ["a fine day"]),
    "gzip": ("x.csv.gz", gzip.compress(CSV.encode()), "text", ["a fine day"]),
    "gzip in two parts": ("x.jsonl.gz", gzip.compress(ROW.encode()) + gzip.compress(ROW.replace("fine", "bad").encode()),
                          "text", ["a fine day", "a bad day"]),
    "unicode separators": ("x.jsonl", '{"text": "a\\u2028b\u2028c", "label": "positive"}\n', "text", ["a\u2028b\u2028c"]),
    "a large string": ("x.parquet", parquet(pa.table({"text": pa.array(["a"], pa.large_string()), "label": ["positive"]})),
                       "text", ["a"]),
    "a dictionary": ("x.parquet", parquet(pa.table({"text": pa.array(["a", "a"]).dictionary_encode(),
                                                    "label": ["positive", "negative"]})), "text", ["a", "a"]),
    "class numbers and names": ("x.parquet", classes(pa.array([2, 0]), LABELS), "label", [LABELS[2], LABELS[0]]),
    "class names beside labels": ("x.parquet", classes(pa.array(["positive", "neutral"]), LABELS), "label",
                                  ["positive", "neutral"]),
    "metadata of something else": ("x.parquet", parquet(pa.table({"text": ["a"], "label": ["positive"]}).replace_schema_metadata(
        {"huggingface": '{"info": {"features": [1]}}'})), "text", ["a"]),
    "text as arrow.json": ("x.parquet", as_json_type(pa.table({"text": ["a", '"b"'], "label": ["positive", "neutral"]})),
                           "text", ["a", '"b"']),
    "dates and times": ("x.parquet", parquet(pa.table({"text": ["a"], "label": ["positive"], "when": [datetime(2024, 1, 2)]})),
                        "when", [datetime(2024, 1, 2)]),
    "an emoji": ("x.jsonl", '{"text": "\U0001f600", "label": "positive"}\n', "text", ["\U0001f600"]),
    "a long cell": ("x.csv", f"text,label\n{'a' * 200_000},positive\n", "text", ["a" * 200_000]),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_what_only_looks_odd_is_read_right(tmp_path: Path, name: str):
    file, content, column, expected = RIGHT[name]
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert [row[column] for row in rows_of(tmp_path / file)] == expected


GENERATED = {"id": "a", "text": "a fine day out", "prompt_label": "positive"}
# What one of two raw generations says -> what is said of it.
RAW: dict[str, tuple[dict[str, Any], str]] = {
    "a text of a number": ({"text": 5}, r"row 1 \(line 2\): text is 5, expected a text or null"),
    "a text of a list": ({"text": ["a"]}, r"row 1 \(line 2\): text is \['a'\], expected a text or null"),
    "a text of half an emoji": ({"text": "a \ud83d"}, "surrogate pair"),
    "a domain of a list": ({"domain": ["a"]}, r"domain is \['a'\], expected a text or null"),
    "a language of a number": ({"lang": 5}, "lang is 5, expected a text or null"),
    "an end of a number": ({"finish": 5}, "finish is 5, expected a text or null"),
    "an error of true": ({"error": True}, "error is True, expected a text or null"),
}


@pytest.mark.parametrize("name", RAW)
def test_a_raw_generation_of_another_type_is_one_line(tmp_path: Path, name: str):
    change, said = RAW[name]
    path = tmp_path / "raw.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (GENERATED, {**GENERATED, **change, "id": "b"})))
    with pytest.raises(InputError) as caught:
        clean(TASK, Source(str(path)), out=None)
    assert_line(str(caught.value), said)


@pytest.mark.parametrize(
    "own", [{"reason": 5}, {"reason": "mine"}, {"mine": {}}, {"mine": [{}]}, {"mine": {"a": {}}}], ids=str
)
def test_a_raw_generation_brings_its_own_columns_along(tmp_path: Path, own: dict[str, Any]):
    path = tmp_path / "raw.jsonl"
    path.write_text(json.dumps({**GENERATED, **own}) + "\n")
    pool = clean(TASK, Source(str(path)), language=None, out=str(tmp_path / "o"))
    name, value = next(iter(own.items()))
    assert pool.table[name].to_pylist() == [value if isinstance(value, int | str) else json.dumps(value)]


# An entry of a dictionary that is not read as a word -> what is said of it.
ENTRIES: dict[str, tuple[dict[str, Any], str]] = {
    "a translation of a number": ({"en": "good", "hi": 5}, "hi is 5, expected a text or null"),
    "a translation of nan": ({"en": "good", "hi": float("nan")}, "hi is nan, expected a text or null"),
    "translations in a list": ({"en": "good", "hi": ["a", "b"]}, "hi is .*, expected a text or null"),
    "a translation of a map": ({"en": "good", "hi": {"a": 1}}, "hi is .*, expected a text or null"),
    "a word of true": ({"en": True, "hi": "a"}, "en is True, expected a text or null"),
    "a part of speech of a number": ({"en": "good", "hi": "a", "pos": 1}, "pos is 1, expected a text or null"),
}


@pytest.mark.parametrize("after", [[], [{"en": "bad", "hi": "b", "pos": "noun", "source": 7}]], ids=["alone", "mixed"])
@pytest.mark.parametrize("name", ENTRIES)
def test_a_dictionary_of_other_things_than_words_is_one_line(tmp_path: Path, name: str, after: list[dict[str, Any]]):
    entry, said = ENTRIES[name]
    write_jsonl(tmp_path / "words.jsonl", [*after, entry])
    with pytest.raises(InputError) as caught:
        read_lexicon([Source(str(tmp_path / "words.jsonl"))], "en", "hi")
    assert_line(str(caught.value), f"row {len(after)} .*{said}")


SOURCES: dict[str, tuple[dict[str, Any], str]] = {
    "a path of a number": ({"path": 5}, "path is 5, expected a text"),
    "half an emoji in the path": ({"path": "\ud83d"}, "path holds half of a surrogate pair"),
    "half an emoji in the prefix": ({"id_prefix": "\ud83d"}, "id_prefix holds half of a surrogate pair"),
    "half an emoji among the labels": ({"label_map": {"\ud83d": "a"}}, "label_map holds half of a surrogate pair"),
    "a prefix of a number": ({"id_prefix": 5}, "id_prefix is 5, expected a text"),
    "a number to keep": ({"keep": [5]}, "keep.0 is 5, expected a text"),
    "true to keep": ({"keep": True}, "keep is True, expected a list"),
    "a year to keep": ({"keep": {"year": 2020}}, "keep.year is 2020, expected a text.*in quotes"),
    "years to keep": ({"keep": {"year": ["2019", 2020]}}, "keep.year.1 is 2020, expected a text"),
    "a label that is a number": ({"label_map": {"good": 1}}, "label_map.good is 1, expected a text"),
    "a label that is true": ({"label_map": {"good": True}}, "label_map.good is True, expected a text"),
    "a label in two spellings": (
        {"label_map": {"Good": "positive", "good": "negative"}}, "'Good' and 'good', which are one label in two spellings",
    ),
    "a label in two normal forms": ({"label_map": {"\u00e9": "positive", "e\u0301": "negative"}}, "one label in two spellings"),
    "a label of another task": ({"label_map": {"positive": "great"}}, "labels outside .*'great' in 1 row"),
    "labels as a text": ({"label_map": "x"}, "label_map is 'x', expected a map"),
    "columns as a list": ({"columns": []}, r"columns is \[\], expected a map"),
    "a column of a number": ({"columns": {"text": 5}}, "columns.text is 5, expected a text"),
    "a start of half a row": ({"start": 1.5}, "start is 1.5, expected a whole number"),
    "a start of true": ({"start": True}, "start is True, expected a whole number"),
    "a language of nothing": ({"language": ""}, "language is '', expected a language code"),
    "a language of a number": ({"language": 5}, "language is 5, expected a text"),
    "a language of nowhere": ({"language": "klingon"}, "language is 'klingon', expected a language code"),
    "one column as text and label": ({"columns": {"text": "label"}}, "column 'label' is both 'text' and 'label'"),
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_that_is_written_wrong_is_one_line(tmp_path: Path, name: str):
    (tmp_path / "x.jsonl").write_text(ROW)
    settings_, said = SOURCES[name]
    with pytest.raises(InputError) as caught:
        load_rows(Source(**{"path": str(tmp_path / "x.jsonl"), **settings_}), TASK, "label")
    assert_line(str(caught.value), said)


@pytest.mark.parametrize("lang", ["hin", "Hindi", "hi-Latn", "hin_Deva", "swh", "codemix", "x"])
def test_rows_of_another_language_do_not_pass_for_english_ones(tmp_path: Path, lang: str):
    (tmp_path / "x.jsonl").write_text(f'{{"text": "a", "label": "positive", "lang": "{lang}"}}\n')
    with pytest.raises(InputError) as caught:
        load_rows(Source(str(tmp_path / "x.jsonl"), language="en"), TASK, "label")
    assert_line(str(caught.value), f"lang is '{lang}', but `language` says 'en'")


@pytest.mark.parametrize(("lang", "language"), [("hin", "hi"), ("Hindi", "hi"), ("EN", "en"), ("eng_Latn", "en"), ("en-GB", "en"),
                                                ("swh_Latn", "sw"), ("arb", "ar"), ("ara", "ar"), ("mai", "mai")])  # fmt: skip
def test_a_language_has_several_names(tmp_path: Path, lang: str, language: str):
    (tmp_path / "x.jsonl").write_text(f'{{"text": "a", "label": "positive", "lang": "{lang}"}}\n')
    rows = load_rows(Source(str(tmp_path / "x.jsonl"), language=language), TASK, "label")
    assert rows.table["lang"].to_pylist() == [language]


def test_one_column_for_both_sides_of_a_pair_is_refused(tmp_path: Path):
    (tmp_path / "x.jsonl").write_text('{"a": "x", "label": "positive"}\n')
    pair = Task("nli", ["premise", "hypothesis"], LABELS)
    columns = {"premise": "a", "hypothesis": "a"}
    with pytest.raises(InputError) as caught:
        load_rows(Source(str(tmp_path / "x.jsonl"), columns=columns), pair, "label")
    assert_line(str(caught.value), "column 'a' is both 'premise' and 'hypothesis'")


def test_columns_can_change_places(tmp_path: Path):
    (tmp_path / "x.jsonl").write_text('{"text": "positive", "label": "a day", "id": "1"}\n')
    swapped = Source(str(tmp_path / "x.jsonl"), columns={"text": "label", "label": "text"})
    assert read_table(swapped)[0].to_pylist() == [{"label": "positive", "text": "a day", "id": "1"}]


TEXTS = st.text(max_size=12) | st.sampled_from(['"', ",", "\n", "\r\n", "\t", "'", "\\", "", " ", "id", "text", "0"])


def assert_told(read: Callable[[], object]) -> object | None:
    """Whatever a reader makes of its input: rows, or one line."""
    try:
        return read()
    except InputError as error:
        assert_line(str(error))
        return None


@settings(derandomize=True, max_examples=150, deadline=None)
@given(content=st.binary(max_size=60) | TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")), suffix=st.sampled_from(
    [".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz"]))  # fmt: skip
def test_any_bytes_are_rows_or_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str):
    path = tmp_path_factory.getbasetemp() / f"fuzz{suffix}"
    path.write_bytes(content)
    assert_told(lambda: read_file(path))


@settings(derandomize=True, max_examples=150, deadline=None)
@given(cells=st.lists(st.lists(TEXTS, min_size=1, max_size=4), min_size=1, max_size=4))
def test_any_cells_are_rows_or_one_line(tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]]):
    path = tmp_path_factory.getbasetemp() / "cells.csv"
    path.write_bytes("\n".join(",".join(row) for row in [["text", "label"], *cells]).encode("utf-8", "surrogatepass"))
    assert_told(lambda: rows_of(path))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
KEYS = st.sampled_from(["id", "text", "label", "lang", "domain"])


@settings(derandomize=True, max_examples=150, deadline=None)
@given(rows=st.lists(st.dictionaries(KEYS, VALUES | st.sampled_from(["positive", "a text"]), max_size=5), max_size=4))
def test_any_objects_are_rows_or_one_line(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]):
    """Rows that are taken have a text, a label of the task and an id of their own."""
    path = tmp_path_factory.getbasetemp() / "objects.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = assert_told(lambda: rows_of(path))
    for row in found if isinstance(found, list) else []:
        assert row["text"].strip()
        assert row["label"] in LABELS
        assert row["id"]
