"""Blind sheets for annotators, as CSV and as one HTML page, and the answers that come back."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.contracts import check_column
from ..core.errors import InputError, shorten
from ..core.hashing import seeded_hash
from ..core.task import Task
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
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
    texts = {row["id"]: [" ".join(str(row[name]).split()) for name in task.columns] for row in rows}
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


def _order(ids: list[str], seed: int, number: int) -> list[str]:
    hashes = seeded_hash(ids, seed, f"annotator {number}")
    return [ids[place] for place in hashes.argsort(kind="stable")]


def read_answers(paths: Sequence[Path], ids: Sequence[str], task: Task) -> list[Answers]:
    """Read sheets that were filled in, or the files that the page exports.

    Args:
        paths: CSV, TSV, JSON or JSONL files with `id` and `label`, one for each annotator.
        ids: The sample's rows; a row without a label has not been judged.
        task: The task.

    Raises:
        InputError: If a file lacks a column, or holds an unknown row, a row twice, or an unknown label; names the row.
    """
    names = Counter(path.stem for path in paths)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise InputError(f"answers: two files are called '{twice}', expected a name for each annotator; rename one")
    return [Answers(path.stem, path, _labels(path, set(ids), task)) for path in paths]


def _labels(path: Path, ids: set[str], task: Task) -> dict[str, str | None]:
    table = read_file(path)
    for name in ("id", "label"):
        check_column(table, name, path, "give a sheet of `annotate`")
    labels: dict[str, str | None] = {}
    for number, (row, label) in enumerate(zip(table["id"].to_pylist(), table["label"].to_pylist(), strict=True), 1):
        place = f"{path} row {number}"
        if row not in ids:
            raise InputError(f"{place}: id {shorten(row)} is not in the sample; use the sheets of this sample")
        if row in labels:
            raise InputError(f"{place}: duplicate id {shorten(row)}; keep one of its rows")
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
