"""Keeps target text that a selection has looked at out of the test sets."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from ..core import artifacts
from ..core.ancestors import ancestors
from ..core.errors import InputError, shorten
from ..core.paths import find
from ..core.task import Task
from ..models.locate import card_facts, locate

log = logging.getLogger(__name__)


def check_unseen(model: str, targets: pa.Table, task: Task) -> None:
    """Refuse test rows whose text a transductive selection behind the model, or its estimated label prior, looked at.

    The selection is looked up where the model's run read it; one that has been moved away is taken on trust. Text that
    cannot be read again is named in a warning.

    Args:
        model: The model to be tested.
        targets: Test rows with `id`, `target` and the task's text columns.
        task: The task.

    Raises:
        InputError: If a test row's text, letter case and spaces aside, is among the target text; names the first one.
    """
    for user, looked_at in _looked_at(model):
        table = _read_again(looked_at, task)
        if isinstance(table, str):
            log.warning("%s looked at %s, which the targets are not compared with: %s", user, looked_at, table)
            continue
        seen = set(_texts(table, task))
        both = [row for row, text in enumerate(_texts(targets, task)) if text in seen]
        if both:
            row = targets.slice(both[0], 1).to_pylist()[0]
            raise InputError(
                f"data.targets.{row['target']} row '{row['id']}': its text {shorten(row[task.columns[0]])} is among "
                f"{looked_at}, which {user} looked at ({len(both)} such rows), expected none; take them "
                "out of one of the two"
            )


def _read_again(looked_at: str, task: Task) -> pa.Table | str:
    """The target text that was looked at; or why it cannot be read again."""
    found = find(looked_at)
    if found is None:
        return "it is no longer there"
    try:
        table = artifacts.read(found).table
    except InputError as error:
        return str(error)
    return table if set(task.columns) <= set(table.column_names) else f"it has no column of {task.columns}"


def _looked_at(model: str) -> Iterator[tuple[str, str]]:
    """What looked at unlabelled target text on the way to a model, and the folder of that text."""
    prior = card_facts(model).get("label_prior", {})
    if "target_text" in prior:
        yield f"the label prior of {model}", prior["target_text"]["path"]
    for folder, manifest in ancestors(Path(locate(model))):
        if manifest.stage == "select" and "transductive" in manifest.facts:
            # Self-training selects among target text itself, whose pseudolabels hold all of it.
            names = ["target_embeddings"] if manifest.facts.get("prompt_labels", True) else ["pseudolabels"]
            for name in {*names, "target_embeddings"} & set(manifest.inputs):
                yield from ((f"selection {folder}", path) for path in manifest.inputs[name]["paths"])


def _texts(table: pa.Table, task: Task) -> Iterator[tuple[str, ...]]:
    columns = [table[name].to_pylist() for name in task.columns]
    return (tuple(" ".join(text.casefold().split()) for text in row) for row in zip(*columns, strict=True))
