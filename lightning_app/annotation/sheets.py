"""Blind sheets for annotators, as CSV and as one HTML page, and the answers that come back."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.contracts import check_column
from ..core.errors import InputError, is_unicode, shorten
from ..core.hashing import seeded_hash
from ..core.task import Task, fold, is_blank
from ..data.file_formats import read_file

UNCLEAR = "unclear"
PAGE, INSTRUCTIONS = "annotate.html", "instructions.md"
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Answers:
    """What one annotator said.

    Args:
        name: The annotator, by the name of the file.
        path: The file.
        labels: Row id -> label in the task's spelling; None where the annotator could not tell.
    """

    name: str
    path: Path
    labels: dict[str, str | None]


def sheet(number: int) -> str:
    """The file name of an annotator's sheet."""
    return f"sheet-{number}.csv"


def write_sheets(
    out: Path, rows: Sequence[dict[str, Any]], task: Task, annotators: int, seed: int, sample: str
) -> list[Path]:
    """Write a CSV sheet for each annotator, one HTML page for all of them, and the instructions.

    Sheets hold ids and texts alone, in another order for each annotator, so that nobody sees a prompt label, a
    probability, or by the order what comes next.

    Args:
        out: The folder.
        rows: The sample.
        task: The task.
        annotators: Number of annotators.
        seed: Seed of the orders.
        sample: The sample's fingerprint, under which the page keeps its progress.

    Returns:
        The page and the instructions. Sheets may be filled in where they are, so they are no part of the artifact.

    Raises:
        InputError: If a sheet of an earlier sample has been filled in.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    for number in range(1, annotators + 1):
        if (out / sheet(number)).exists() and not _is_blank_sheet(out / sheet(number)):
            raise InputError(
                f"{out / sheet(number)}: an annotator's work, and would be replaced; move it, or choose another --out"
            )

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
    texts = {row["id"]: [_on_one_line(row[name]) for name in task.columns] for row in rows}
    orders = [_order(list(texts), seed, number) for number in range(1, annotators + 1)]
    for number, order in enumerate(orders, 1):
        with (out / sheet(number)).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["id", *task.columns, "label"])
            writer.writerows([row, *texts[row], ""] for row in order)
    names = {"task": task.name, "labels": task.labels, "columns": task.columns, "unclear": UNCLEAR}
    data = {**names, "sample": sample, "texts": texts, "orders": orders}
    page = environment.get_template(PAGE).render(**names, data=data, annotators=annotators)
    (out / PAGE).write_text(page, encoding="utf-8")
    plain = Environment(loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, autoescape=False)  # noqa: S701
    text = plain.get_template(INSTRUCTIONS).render(**names, rows=len(rows), page=PAGE)
    (out / INSTRUCTIONS).write_text(text + "\n", encoding="utf-8")
    return [out / PAGE, out / INSTRUCTIONS]


def _is_blank_sheet(path: Path) -> bool:
    """Whether a file is a sheet without any label."""
    try:
        rows = read_file(path)
    except InputError:
        return False
    return "label" in rows.column_names and rows["label"].null_count == rows.num_rows


def _on_one_line(text: object) -> str:
    return " ".join(str(text).split())


def _order(ids: list[str], seed: int, number: int) -> list[str]:
    hashes = seeded_hash(ids, seed, f"annotator {number}")
    return [ids[place] for place in hashes.argsort(kind="stable")]


def read_answers(paths: Sequence[Path], rows: Sequence[Mapping[str, Any]], task: Task) -> list[Answers]:
    """Read sheets that were filled in, or the files that the page exports.

    Args:
        paths: CSV, TSV, JSON or JSONL files with `id` and `label`, one for each annotator.
        rows: The sample; a row without a label has not been judged.
        task: The task.

    Raises:
        InputError: If a file lacks a column, or holds an unknown row, a row twice, an unknown label, or the text of
            another row; names the row. Or if two annotators have one name, or one that nobody can read.
    """
    for path in paths:
        if is_blank(path.stem) or not is_unicode(path.stem):
            raise InputError(f"answers: file {shorten(path.name)}, expected a name for its annotator; rename it")
    names = Counter(fold(path.stem) for path in paths)
    twice = next((path.stem for path in paths if names[fold(path.stem)] > 1), None)
    if twice is not None:
        raise InputError(f"answers: two files are called '{twice}', expected a name for each annotator; rename one")
    taken = next((path for path in paths if rows and column_of(path.stem) in rows[0]), None)
    if taken is not None:
        raise InputError(
            f"answers: file {shorten(taken.name)}, whose column '{column_of(taken.stem)}' the selection has already; "
            "rename the file"
        )
    return [Answers(path.stem, path, _labels(path, rows, task)) for path in paths]


def column_of(name: str) -> str:
    """The column of the judged rows that holds an annotator's labels."""
    return f"label_{name}"


def _labels(path: Path, rows: Sequence[Mapping[str, Any]], task: Task) -> dict[str, str | None]:
    texts = {row["id"]: [_on_one_line(row[name]) for name in task.columns] for row in rows}
    known = set(map(tuple, texts.values()))
    table = read_file(path)
    for name in ("id", "label"):
        check_column(table, name, path, "give a sheet of `annotate`")
    columns = [table[name].to_pylist() for name in task.columns if set(task.columns) <= set(table.column_names)]
    labels: dict[str, str | None] = {}
    for number, (row, label) in enumerate(zip(table["id"].to_pylist(), table["label"].to_pylist(), strict=True), 1):
        place = f"{path} row {number}"
        if not isinstance(row, str) or row not in texts:
            raise InputError(f"{place}: id {shorten(row)} is not in the sample; use the sheets of this sample")
        if row in labels:
            raise InputError(f"{place}: duplicate id {shorten(row)}; keep one of its rows")
        shown = [_on_one_line(column[number - 1]) for column in columns]
        if shown and shown != texts[row] and tuple(shown) in known:
            raise InputError(
                f"{place}: id {shorten(row)} beside the text of another row, {shorten(shown[0])}; sort all columns of "
                "a sheet together, or start from the sheet again"
            )
        plain = "" if label is None else str(label).strip()
        if not plain:
            continue
        own = None if plain.casefold() == UNCLEAR else task.match(plain)
        if own is None and plain.casefold() != UNCLEAR:
            raise InputError(f"{place}: label {shorten(plain)}, expected one of {[*task.labels, UNCLEAR]} or nothing")
        labels[row] = own
    if not labels:
        raise InputError(f"{path}: no row has a label; fill in the column `label` first")
    return labels
