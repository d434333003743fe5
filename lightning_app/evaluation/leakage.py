"""Leakage: how many target rows the data behind a model nearly repeat, as `test` measures it."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import pyarrow as pa

from ..core.ancestors import ancestors
from ..core.contracts import LeakageFacts, Reference
from ..core.errors import InputError
from ..core.paths import find
from ..core.task import Task
from ..data.near_duplicates import SIMILARITY, NearDuplicates, key_of, sketch
from ..data.recorded import configured_sources
from ..data.sources import Source, load_rows
from ..models.locate import locate

# What a manifest calls the data that a model descends from -> the DataModule's setting of it.
SETS = {"gold": "train", "selection": "selection", "pool": "pool", "views": "views"}
_PAIRS = 5  # examples that are kept for each target and set


def leakage(models: Sequence[str], targets: pa.Table, task: Task) -> LeakageFacts:
    """Look for near duplicates of the target rows among gold, selection and pool behind models, and views of them.

    They are read where the runs behind a model read them; what is no longer there is named, not compared.

    Args:
        models: The models that are tested together; usually one.
        targets: Target rows with `id`, `target` and the task's text columns.
        task: The task.
    """
    names, ids = targets["target"].to_pylist(), targets["id"].to_pylist()
    index = NearDuplicates(SIMILARITY)
    for row, key in enumerate(_keys(targets, task)):
        index.add(row, sketch(key))
    found: LeakageFacts = {"similarity": SIMILARITY, "sets": [], "targets": {name: {} for name in names}}
    for name, paths, table in _training_sets(models, task):
        if isinstance(table, str):
            found["sets"].append({"name": name, "paths": paths, "not_compared": table})
            continue
        found["sets"].append({"name": name, "paths": paths, "rows": table.num_rows})
        hits: dict[int, str] = {}
        for other, key in zip(table["id"].to_pylist(), _keys(table, task), strict=True):
            for row in index.like(sketch(key)):
                hits.setdefault(row, other)
        for target, of_target in found["targets"].items():
            rows = sorted(row for row in hits if names[row] == target)
            pairs = [[ids[row], hits[row]] for row in rows[:_PAIRS]]
            earlier = of_target.get(name)
            if earlier is None or len(rows) > earlier["near"]:
                of_target[name] = {"rows": names.count(target), "near": len(rows), "pairs": pairs}
    return found


def _training_sets(models: Sequence[str], task: Task) -> Iterator[tuple[str, list[str], pa.Table | str]]:
    """Name, paths and rows of what was trained on or selected from; in the place of rows, why they cannot be read.

    Several stages may have read the same set; the first that can be read again counts.
    """
    readings: dict[tuple[str, tuple[str, ...]], list[list[Source]]] = {}
    for folder, manifest in chain.from_iterable(ancestors(Path(locate(model))) for model in models):
        for name in filter(manifest.inputs.__contains__, SETS):
            reference = manifest.inputs[name]
            own = readings.setdefault((name, tuple(reference["paths"])), [])
            own += [
                sources
                for sources in (list(configured_sources(folder, SETS[name]).values()), _plain(reference))
                if sources
            ]
    for (name, paths), ways in sorted(readings.items()):
        yield name, list(paths), _first_readable(name, ways, task)


def _first_readable(name: str, ways: Sequence[list[Source]], task: Task) -> pa.Table | str:
    reason = "no source"
    for sources in ways:
        labels_matter = any(source.per_class is not None or source.label_map for source in sources)
        label = {"gold": "label", "pool": "prompt_label"}.get(name) if labels_matter else None
        try:
            return load_rows(sources, task, label).table
        except InputError as error:
            reason = str(error)
    return reason


def _plain(reference: Reference) -> list[Source]:
    """The sources by their paths alone, where these are local."""
    return [Source(path) for path in reference["paths"] if find(path) is not None]


def _keys(table: pa.Table, task: Task) -> Iterator[tuple[str, ...]]:
    columns = [table[name].to_pylist() for name in task.columns]
    return (tuple(map(key_of, texts)) for texts in zip(*columns, strict=True))
