"""Which labelled rows may choose the checkpoint: the source's own, and translations of them."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.artifacts import Manifest
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.paths import find
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Rows, Source, load_texts

log = logging.getLogger(__name__)

SOURCE_LANGUAGE = "en"  # of gold that states none


def check_dev_language(gold: Rows, dev: Rows) -> None:
    """Refuse dev rows whose labels are a target's.

    Allowed is a dev set in the gold's language (English, where that states none), and a translation into any other
    language of rows that were in the gold's: its labels are those of the source, so no target label is read (choosing
    the checkpoint on translated dev rows is studied in arXiv 2311.09404).

    Raises:
        InputError: If the dev set is in another language than the gold without being a translation from it, or in a
            language that the gold was translated into without being a translation itself.
    """
    learned = languages_of(gold) or {SOURCE_LANGUAGE}
    allowed = learned | translated_from(dev, learned)
    place = f"data.dev {', '.join(dev.places)}"
    if not languages_of(dev) <= allowed:
        raise InputError(
            f"{place}: language {sorted(languages_of(dev) - allowed)} is not the gold's {sorted(learned)}, "
            "so it is a target, whose labels may not choose the checkpoint; give one in the source language, a "
            "translation of it, or say with `language` what the gold is in"
        )
    foreign = languages_of(dev) & translated_into(gold) - translated_into(dev)
    if foreign:
        raise InputError(
            f"{place}: rows in {sorted(foreign)}, which the gold was translated into, but no translation "
            "themselves, so they are a target, whose labels may not choose the checkpoint; translate the source dev"
        )


def warn_of_training_rows(trained: Sequence[pa.Table], dev: Rows, sources: Sequence[Source], task: Task) -> None:
    """Say how many dev rows are training rows, or translations of them.

    Such rows prefer the checkpoint that knows them by heart.

    Args:
        trained: Tables of rows that are trained on, with the task's text columns.
        dev: The dev set.
        sources: Where the dev set was read.
        task: The task.
    """
    learned = {row for table in trained for row in _rows(table, task.columns)}
    tables = [(dev.table, task.columns)]
    origins = [f"source_{name}" for name in task.columns]
    for source, manifest in zip(sources, dev.manifests, strict=True):
        if manifest is not None and manifest.stage == "translate":
            tables.append((load_texts(replace(source, keep=origins, label_map={}), task.columns).table, origins))
    seen = {
        name
        for table, columns in tables
        for name, row in zip(table["id"].to_pylist(), _rows(table, columns), strict=True)
        if row in learned
    }
    found = len(seen & set(dev.ids))
    if found:
        log.warning(
            "data.dev %s: %d of %d rows are training rows, or translations of them, so that the best checkpoint is "
            "the one that knows them by heart; expected rows that are not trained on",
            ", ".join(dev.places), found, dev.table.num_rows,
        )  # fmt: skip


def _rows(table: pa.Table, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The texts of every row, without white space around them."""
    texts = ([text.strip() for text in table[name].to_pylist()] for name in columns)
    return list(zip(*texts, strict=True))


def languages_of(rows: Rows) -> set[str]:
    """The languages that rows state."""
    return set(rows.table["lang"].drop_null().to_pylist())


def translated_into(rows: Rows) -> set[str]:
    """The languages that rows were translated into, by the artifacts that they come from."""
    made = [one for one in rows.manifests if one is not None and one.stage == "translate"]
    return {str(one.facts["target_language"]) for one in made}


def translated_from(rows: Rows, learned: set[str]) -> set[str]:
    """The languages that rows were translated into from a learned one, by the lineage of every such artifact.

    A language counts only if all artifacts in it go back to a learned language: rows of a target that were merely
    translated twice do not.
    """
    good: set[str] = set()
    bad: set[str] = set()
    for manifest in rows.manifests:
        if manifest is not None and manifest.stage == "translate":
            (good if _root_language(manifest) in learned else bad).add(str(manifest.facts["target_language"]))
    return good - bad


def _root_language(manifest: Manifest) -> str | None:
    """The language that a chain of translations started from; None for translated targets, or a lost link."""
    if manifest.facts.get("setting") == "translate-test":
        return None
    language = str(manifest.facts["source_language"])
    for path in (path for reference in manifest.inputs.values() for path in reference["paths"]):
        folder = find(path)
        if folder is None or not artifacts.is_whole(folder):
            continue
        source = artifacts.read_manifest(folder)
        if source.stage == "translate":
            return _root_language(source)
    return language
