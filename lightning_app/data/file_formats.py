"""Rows of a local file: JSONL, JSON, CSV, TSV, Parquet or trees, read afresh every time and checked row by row.

Nothing is cached, so what a run sees is what the file holds now. Cells of CSV and TSV are text whatever they look like,
and an empty cell is null. Rows of JSON may lack keys, which are null then, and a column may hold values of several
types, which are then kept as JSON: only the columns that are used later have to be of one type.
"""

import codecs
import csv
import io
import itertools
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from ..core.contracts import check_no_duplicates, check_times
from ..core.documents import without_duplicates
from ..core.errors import InputError, shorten, system_error
from ..core.files import check_regular, filled_lines, opened, suffix_of

FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".txt": "trees"}
MOST_CHARACTERS = 2**31 - 1  # of a cell; the csv module's own limit is 131,072


def read_file(path: Path) -> pa.Table:
    """Read a local file, also gzipped.

    Args:
        path: The file. Its name says what it holds; see `FORMATS`.

    Returns:
        Its rows under its own column names.

    Raises:
        InputError: If it cannot be read, holds no row, or a row is not what its format asks for; names the line.
    """
    kind = FORMATS.get(suffix_of(path))
    if kind is None:
        raise InputError(
            f"{path}: format '{suffix_of(path)}' is not known, expected one of {', '.join(FORMATS)} (or .gz of it)"
        )
    if kind == "parquet":
        table = _read_parquet(path)
    else:
        with opened(path) as stream:
            table = _READERS[kind](stream, path)
    if not table.num_rows:
        raise InputError(f"{path}: no rows, expected at least one; fill the file, or remove it from the configuration")
    return table


def line_of(path: Path, row: int) -> int | None:
    """The line of one row; see `lines_of`."""
    return lines_of(path, [row]).get(row)


def lines_of(path: Path, rows: Collection[int]) -> dict[int, int]:
    """The lines, counted from 1, on which rows of a text file begin, by row; empty for Parquet and for a JSON array."""
    wanted = set(rows)
    try:
        with opened(path) as stream:
            if suffix_of(path) in (".jsonl", ".txt"):
                lines: Iterable[int] = (number for number, _ in filled_lines(stream, path))
            elif FORMATS.get(suffix_of(path)) == "csv":
                records = _records(stream, path)
                next(records, None)
                lines = (number for number, _ in records)
            else:
                return {}
            numbered = enumerate(itertools.islice(lines, max(wanted, default=-1) + 1))
            return {row: number for row, number in numbered if row in wanted}
    except InputError:
        return {}


# JSON


def _read_json(stream: IO[bytes], path: Path) -> pa.Table:
    """JSON lines, or one JSON array of objects."""
    first = cast("io.BufferedReader", stream).peek(64)[:64].removeprefix(codecs.BOM_UTF8).lstrip()
    is_array = suffix_of(path) == ".json" and first.startswith(b"[")
    return _as_columns(_json_array(stream, path) if is_array else _json_lines(stream, path), path)


def _json_lines(stream: IO[bytes], path: Path) -> Iterator[dict[str, Any]]:
    for row, (number, line) in enumerate(filled_lines(stream, path)):
        place = f"{path}: row {row} (line {number})"
        yield _object(_parsed(line, place, "fix or remove the line"), place)


def _json_array(stream: IO[bytes], path: Path) -> Iterator[dict[str, Any]]:
    for row, parsed in enumerate(_parsed(stream.read(), str(path), "fix the file")):
        yield _object(parsed, f"{path}: row {row}")


def _object(parsed: Any, place: str) -> dict[str, Any]:
    if not isinstance(parsed, dict):
        raise InputError(f"{place}: {shorten(parsed)}, expected a JSON object; fix or remove it")
    return parsed


def _parsed(text: str | bytes, place: str, remedy: str) -> Any:
    try:
        plain = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        return json.loads(plain, object_pairs_hook=without_duplicates)
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: not UTF-8 ({error.reason}); save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits and a duplicate key among them
        said = "nested too deeply" if isinstance(error, RecursionError) else getattr(error, "msg", str(error))
        raise InputError(f"{place}: not JSON ({shorten(said, 120)[1:-1]}); {remedy}") from None


def _as_columns(rows: Iterator[dict[str, Any]], path: Path) -> pa.Table:
    columns: dict[str, list[Any]] = {}
    count = 0
    for row in rows:
        for name, value in row.items():
            values = columns.get(name)
            if values is None:
                values = columns[name] = [None] * count
            values.append(value)
        count += 1
        if len(row) < len(columns):
            for values in columns.values():
                if len(values) < count:
                    values.append(None)
    if not columns:
        if count:
            raise InputError(f"{path}: {count} rows without any key, expected a text in each; fix the file")
        return pa.table({})
    return pa.table({_encodable(name): _array(values) for name, values in columns.items()})


def _array(values: list[Any]) -> pa.Array:
    """A column in the type that all of its values share; if there is none, each value as JSON.

    Whole numbers beside others count as another type: `1` must not become `1.0`.
    """
    if len({type(value) for value in values if value is not None}) <= 1:
        try:
            array = pa.array(values)
            if "struct<>" not in str(array.type):  # an object without keys, which Parquet cannot hold
                return array
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):  # objects of several shapes, an integer of
            pass  # 20 digits, half of a surrogate pair: whoever needs the column is told so
    as_json = [None if value is None else json.dumps(value) for value in values]
    return pa.array(as_json, pa.string()).cast(pa.json_())


def _encodable(name: str) -> str:
    return name.encode(errors="replace").decode()


# CSV and TSV


def _read_csv(stream: IO[bytes], path: Path) -> pa.Table:
    records = _records(stream, path)
    _, header = next(records, (0, []))
    names = [name.strip() or f"Unnamed: {place}" for place, name in enumerate(header)]
    check_no_duplicates(names, str(path))
    columns: list[list[str | None]] = [[] for _ in names]
    for row, (number, cells) in enumerate(records):
        if len(cells) != len(names):
            raise InputError(
                f"{path}: row {row} (line {number}): {len(cells)} cells, expected {len(names)}, one for each of "
                f"{shorten(names)}; fix the line (put a text that contains the separator in quotes)"
            )
        for values, cell in zip(columns, cells, strict=True):
            values.append(cell or None)
    return pa.table({name: pa.array(values, pa.string()) for name, values in zip(names, columns, strict=True)})


def _records(stream: IO[bytes], path: Path) -> Iterator[tuple[int, list[str]]]:
    """The line on which each record begins, and its cells; blank lines are skipped."""
    csv.field_size_limit(MOST_CHARACTERS)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    if suffix_of(path) == ".tsv":
        reader = csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    else:
        reader = csv.reader(text, strict=True)
    number = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}: line {reader.line_num + 1} or later: not utf-8 ({error.reason}); save the file as UTF-8"
            ) from None
        except csv.Error as error:
            what = "a quotation mark that is never closed" if "end of data" in str(error) else str(error)
            raise InputError(
                f"{path}: line {number}: {what}; fix the line (a quotation mark inside a quoted cell is written twice)"
            ) from None
        if cells:
            yield number, cells
        number = reader.line_num + 1


# Trees


_TREE = re.compile(r"\s*(?:\((\d+)|([^\s()]+)|(\)))")
_BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}"}


def _read_trees(stream: IO[bytes], path: Path) -> pa.Table:
    """Trees as in the Stanford Sentiment Treebank, one a line: `text` is the words, `label` that of the root."""
    texts, labels = [], []
    for row, (number, line) in enumerate(filled_lines(stream, path)):
        place = f"{path}: row {row} (line {number})"
        try:
            label, words = _tree(line.strip())
        except ValueError:
            raise InputError(
                f"{place}: {shorten(line.strip())}, expected a tree such as (3 (2 Good) (2 "
                "film)), as format '.txt' is read; save other rows as .tsv or .jsonl, with the names of their columns"
            ) from None
        texts.append(" ".join(_BRACKETS.get(word, word) for word in words))
        labels.append(label)
    return pa.table({"text": pa.array(texts, pa.string()), "label": pa.array(labels, pa.string())})


def _tree(line: str) -> tuple[str, list[str]]:
    """The root's label, and the words.

    Raises:
        ValueError: If the line is no tree.
    """
    root, words, depth, position = "", list[str](), 0, 0
    while position < len(line):
        part = _TREE.match(line, position)
        if part is None or (depth == 0 and (root or part[1] is None)):
            raise ValueError
        root, depth, position = root or part[1], depth + (part[1] is not None) - (part[3] is not None), part.end()
        words += [part[2]] if part[2] is not None else []
    if depth or not words:
        raise ValueError
    return root, words


# Parquet


def _read_parquet(path: Path) -> pa.Table:
    check_regular(path)
    try:
        schema = pq.read_schema(path)
        check_no_duplicates(schema.names, str(path))
        table = pq.read_table(path)
        table.validate(full=True)
    except (pa.ArrowException, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise system_error(error, path) from None
        raise InputError(
            f"{path}: cannot be read ({shorten(' '.join(str(error).split()), 200)}); save the file again"
        ) from None
    return with_class_names(_plain(table, path), _features(table), str(path))


def _plain(table: pa.Table, path: Path) -> pa.Table:
    """Columns of another program's types as what they hold (`arrow.json` is text); dates and times are tried.

    Raises:
        InputError: If a date or time cannot be read.
    """
    for place, field_ in enumerate(table.schema):
        if isinstance(field_.type, pa.BaseExtensionType):
            plain = table.column(place).cast(field_.type.storage_type)
            table = table.set_column(place, field_.name, plain)
    check_times(table, path, "save the column as text")
    return table


def _features(table: pa.Table) -> Mapping[str, Any]:
    """What `datasets` wrote of the columns into the file's metadata; empty where it did not."""
    try:
        features = json.loads((table.schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    classes = features.items() if isinstance(features, dict) else ()
    return {
        name: one.get("names") for name, one in classes if isinstance(one, dict) and one.get("_type") == "ClassLabel"
    }


def with_class_names(table: pa.Table, names_of: Mapping[str, Any], place: str) -> pa.Table:
    """Class numbers replaced by their names; -1 is a missing label.

    Args:
        table: The rows.
        names_of: Column -> the names of its classes. It holds for columns of whole numbers, where it is a list of
            texts; other columns stay as they are.
        place: What an error calls the rows.

    Raises:
        InputError: If a number has no name.
    """
    for name, names in names_of.items():
        if name not in table.column_names or not pa.types.is_integer(table.schema.field(name).type):
            continue
        if not isinstance(names, list) or not names or not all(isinstance(one, str) for one in names):
            continue
        numbers = [None if number == -1 else number for number in table[name].to_pylist()]
        outside = next((number for number in numbers if number is not None and not 0 <= number < len(names)), None)
        if outside is not None:
            raise InputError(
                f"{place}: {name} is {outside}, but its metadata names {len(names)} classes, {shorten(names)}; save "
                "the file without the metadata, or with all names"
            )
        plain = pa.array([None if number is None else names[number] for number in numbers], pa.string())
        table = table.set_column(table.column_names.index(name), name, plain)
    return table


_READERS = {"csv": _read_csv, "json": _read_json, "trees": _read_trees}
