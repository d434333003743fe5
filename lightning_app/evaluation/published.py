"""Numbers that others have published, beside those of the same method and target here."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator

from ..core.documents import checked
from ..core.errors import InputError
from ..core.markup import inline
from ..core.paths import find
from ..core.ranges import Range
from ..core.yaml_files import load_mapping
from .entries import Cell, Results
from .metrics import METRICS
from .predictions import AS_TRAINED

TITLE = "Published numbers beside ours"
EXPLANATION = "Ours as trained, the mean over seeds."
HEADS = ("source", "task, setting", "metric", "method", "target", "published", "ours", "difference")


@dataclass(frozen=True)
class Published:
    """A published number.

    Args:
        source: Where it stands, such as the paper, its table and its model.
        task: The task.
        method: The method, by its name here.
        target: The target.
        value: The number as the tables show it: percent, but nats for `ce`.
        setting: The setting.
        metric: The metric.
        part: The part of the target, of a report `by` a column.
        note: What a reader should know of the number, such as why it may be wrong.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    source: str
    task: str
    method: str
    target: str
    value: float
    setting: str = "zero-shot"
    metric: Literal["accuracy", "macro_f1", "ece", "ce"] = "accuracy"
    part: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Beside:
    """A published number and ours.

    Args:
        published: The number.
        ours: The mean over our seeds, as trained, in the same unit.
    """

    published: Published
    ours: float


def _once(numbers: list[Published]) -> list[Published]:
    counts = Counter((one.source, *_key(one)) for one in numbers)
    twice = next((key for key, count in counts.items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"one number of a source for each method and target; '{twice[3]}' on {twice[4]} comes twice")
    return numbers


@dataclass(frozen=True)
class _File:
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    numbers: Annotated[list[Published], AfterValidator(_once)]


def read_published(file: str) -> list[Published]:
    """Read a YAML file with a list `numbers`; samples/published.yaml shows one.

    Raises:
        InputError: If it cannot be read, an entry is not as `Published` says, or its percents are all shares.
    """
    path = find(file) or Path(file)
    numbers = checked(_File, load_mapping(path, "a list `numbers`"), path, "fix this file").numbers
    for place, one in enumerate(numbers):
        Range(least=0, most=100).check(f"{path}: numbers.{place}.value", one.value)
    shares = [place for place, one in enumerate(numbers) if METRICS[one.metric].scale == 100]
    if shares and all(numbers[place].value <= 1 for place in shares):
        raise InputError(
            f"{path}: numbers.{shares[0]}.value is {numbers[shares[0]].value}, and no other is above 1, expected "
            "percent; write 63.7 for 0.637"
        )
    return numbers


def beside(numbers: Sequence[Published], results: Results, file: str) -> list[Beside]:
    """The numbers of which there is one of ours.

    Args:
        numbers: Published numbers.
        results: Ours.
        file: The file, for errors.

    Raises:
        InputError: If there is none.
    """
    ours = {
        (cell.task, cell.setting, cell.method, cell.target, cell.part, cell.metric): METRICS[cell.metric].scale
        * cell.mean
        for cell in results.cells
        if cell.prior == AS_TRAINED
    }
    found = [Beside(one, ours[_key(one)]) for one in numbers if _key(one) in ours]
    if not found:
        known = dict.fromkeys(f"{task}, {setting}, {method}, {target}" for task, setting, method, target, _, _ in ours)
        raise InputError(
            f"published '{file}': none of its {len(numbers)} numbers is of a method and target here; expected a task, "
            f"setting, method and target such as {next(iter(known))}"
        )
    return found


def _key(entry: Published | Cell) -> tuple[str, str, str, str, str | None, str]:
    return entry.task, entry.setting, entry.method, entry.target, entry.part, entry.metric


def published_rows(found: Sequence[Beside]) -> list[dict[str, Any]]:
    """One row for each number, for JSON, CSV and the page."""
    return [{**asdict(one.published), "ours": one.ours, "difference": one.ours - one.published.value} for one in found]


def published_lines(found: Sequence[Beside]) -> list[str]:
    """A section of Markdown with a note for each number that has one, or nothing."""
    if not found:
        return []
    lines = ["", f"## {TITLE}", "", EXPLANATION, "", f"| {' | '.join(HEADS)} |", "|" + "---|" * len(HEADS)]
    rows, notes = published_table(found)
    for *words, published, note, ours, difference in rows:
        mark = f" [{note}]" if note else ""
        lines.append(f"| {' | '.join(map(inline, words))} | {published}{mark} | {ours} | {difference} |")
    return [*lines, *(["", *(f"{place}. {inline(note)}" for place, note in enumerate(notes, 1))] if notes else [])]


def published_table(found: Sequence[Beside]) -> tuple[list[tuple[str, ...]], list[str]]:
    """The cells of a table, as text, and the notes below it.

    Returns:
        Rows, with the cells of `HEADS` and, after the published number, the number of its note or an empty text; notes.
    """
    notes = list(dict.fromkeys(one.published.note for one in found if one.published.note))
    rows: list[tuple[str, ...]] = []
    for one in found:
        entry, digits = one.published, METRICS[one.published.metric].digits
        target = entry.target if entry.part is None else f"{entry.target}: {entry.part}"
        words = (entry.source, f"{entry.task}, {entry.setting}", METRICS[entry.metric].title, entry.method, target)
        note = str(notes.index(entry.note) + 1) if entry.note else ""
        ours, difference = f"{one.ours:.{digits}f}", f"{one.ours - entry.value:+.{digits}f}"
        rows.append((*words, f"{entry.value:.{digits}f}", note, ours, difference))
    return rows, notes
