"""The error for labels that are not in the task: all of them at once."""

from collections.abc import Mapping

from ..core.errors import InputError, shorten
from ..core.task import Task
from .readers import Source, lines_of

# How many labels, and places of each, an error names.
MOST_LABELS = 5
MOST_PLACES = 10


def unknown_labels(place: str, rows: Mapping[str, list[int]], task: Task, source: Source | None = None) -> InputError:
    """The error for labels that are not in the task: all of them, with counts and lines.

    Args:
        place: What was read.
        rows: Label -> the numbers of its rows, counted from 0.
        task: The task.
        source: Gives the lines of a text file; otherwise rows are named, counted from 1.
    """
    frequent = sorted(rows, key=lambda label: -len(rows[label]))
    shown = {label: rows[label][:MOST_PLACES] for label in frequent[:MOST_LABELS]}
    lines = lines_of(source, [row for places in shown.values() for row in places]) if source is not None else {}
    told = []
    for label, places in shown.items():
        count = len(rows[label])
        numbers = [str(lines.get(row, row + 1)) for row in places] + (["…"] if count > len(places) else [])
        unit = "line" if lines else "row"
        told.append(
            f"{shorten(label)} in {count} row{'s' * (count > 1)} ({unit}{'s' * (count > 1)} {', '.join(numbers)})"
        )
    if len(frequent) > MOST_LABELS:
        told.append(
            f"{len(frequent) - MOST_LABELS} more in {sum(len(rows[label]) for label in frequent[MOST_LABELS:])}"
        )
    return InputError(
        f"{place}: labels outside {task.labels}: {', '.join(told)}; map them with `label_map` (to null to drop them)"
    )
