"""A few rows of a selection, as a table for a board."""

from collections.abc import Sequence

import pyarrow as pa

from ..core.task import Task

LONGEST = 300  # letters of a text that are shown


def sample_rows(rows: pa.Table, task: Task, labels: Sequence[str], per_class: int) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a table: of each class, evenly spaced from the first to the last that was kept.

    Args:
        rows: A selection's rows.
        task: The task.
        labels: The order of its probabilities.
        per_class: Rows to show of each class.
    """
    by_class: dict[str, list[dict[str, object]]] = {label: [] for label in task.labels}
    shown = [
        name for name in ("class", "prompt_label", "rank", "why", "probs", *task.columns) if name in rows.schema.names
    ]
    for row in rows.select(shown).to_pylist():
        by_class.setdefault(str(row.get("class")), []).append(row)
    columns = ["class", "rank", "prompt label", "teacher", *task.columns]
    samples: list[list[str]] = []
    for name, members in by_class.items():
        for row in _spaced(members, per_class):
            texts = [str(row[column])[:LONGEST] for column in task.columns]
            probs = row.get("probs")
            teacher = (
                ""
                if probs is None
                else ", ".join(
                    f"{label} {prob:.2f}"
                    for label, prob in zip(labels, probs, strict=True)  # type: ignore[call-overload]
                )
            )
            cells = [name, row.get("rank", ""), row.get("prompt_label", ""), teacher, *texts]
            samples.append([str(cell) for cell in cells])
    return columns, samples


def _spaced(rows: list[dict[str, object]], count: int) -> list[dict[str, object]]:
    if len(rows) <= count:
        return rows
    return [rows[round(number * (len(rows) - 1) / max(count - 1, 1))] for number in range(count)]
