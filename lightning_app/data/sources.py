"""Rows from anywhere: local files, artifacts and Hub data sets, as one table with the task's names."""

import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..core import artifacts, fingerprint
from ..core.contracts import Reference, check_no_duplicates
from ..core.errors import InputError, closest, is_unicode, shorten
from ..core.hashing import seeded_hash
from ..core.languages import primary
from ..core.task import Task, fold, is_blank
from .readers import HUB, Source, line_of, read_raw
from .unknown_labels import unknown_labels

__all__ = ["Rows", "Source", "load_rows", "load_texts", "read_table"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rows:
    """Rows under the task's names.

    Args:
        table: Columns `id`, the task's text columns, the label column if one was asked for, `lang`, then kept ones.
        dropped: How many rows a `label_map` to null dropped, by the source's label.
        places: Where they were read, for messages.
        lineage: Ancestors' fingerprints, where a source is an artifact.
        manifests: For every source, the artifact's manifest, or None for a file or Hub data set.
    """

    table: pa.Table
    dropped: dict[str, int]
    places: list[str]
    lineage: dict[str, str]
    manifests: list[artifacts.Manifest | None] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """Row ids, in order."""
        ids: list[str] = self.table["id"].to_pylist()
        return ids

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the rows as they are used, not of the file they came from."""
        return fingerprint.of_table(self.table)

    def check_any(self, name: str) -> None:
        """Refuse no rows.

        Args:
            name: The setting that names their sources, such as `data.pool`.

        Raises:
            InputError: If there is none.
        """
        if not self.table.num_rows:
            raise InputError(f"{name} {', '.join(self.places) or '[]'}: no rows, expected at least one")

    @property
    def reference(self) -> Reference:
        """The entry that names these rows among an artifact's `inputs`."""
        prints = [manifest.fingerprint if manifest is not None else None for manifest in self.manifests]
        return {"paths": list(self.places), "fingerprint": self.fingerprint, "artifacts": prints}


def load_rows(sources: Source | Sequence[Source], task: Task, label_column: str | None) -> Rows:
    """Read rows from one or more sources, in order, and check every one of them.

    Args:
        sources: Where to read.
        task: Gives the text columns and the labels.
        label_column: `"label"`, `"prompt_label"`, or None for rows whose labels must not be looked at.

    Raises:
        InputError: For a missing file, column or label, an empty text, or a duplicate id.
    """
    return _load(sources, task.columns, task, label_column)


def load_texts(sources: Source | Sequence[Source], columns: Sequence[str]) -> Rows:
    """Read rows that have texts alone, such as sentence pairs; they are checked as by `load_rows`.

    Args:
        sources: Where to read.
        columns: The text columns.

    Raises:
        InputError: See `load_rows`.
    """
    return _load(sources, columns, None, None)


def _load(
    sources: Source | Sequence[Source], texts: Sequence[str], task: Task | None, label_column: str | None
) -> Rows:
    listed = [sources] if isinstance(sources, Source) else list(sources)
    tables, dropped, lineage = [], Counter[str](), {}
    manifests = []
    for source in listed:
        raw, manifest = read_raw(source)
        manifests.append(manifest)
        lineage.update(manifest.lineage if manifest is not None else {})
        table, source_dropped = _under_our_names(raw, source, texts, task, label_column, manifest is not None)
        dropped.update(source_dropped)
        tables.append(table)
        if source_dropped:
            log.info("%s: dropped by label_map: %s", source.place, dict(source_dropped))
    places = [source.place for source in listed]
    merged = _joined(tables, places) if tables else _empty_table(texts, label_column)
    _check_ids(merged["id"].to_pylist(), places)
    return Rows(merged, dict(dropped), places, lineage, manifests)


def read_table(
    sources: Source | Sequence[Source], texts: Sequence[str] | Callable[[Sequence[str]], Sequence[str]] = ()
) -> tuple[pa.Table, dict[str, str], Reference]:
    """Read sources with all of their own columns, renamed by `columns` and with an `id`; only `texts` are checked.

    `label_map` holds for the prompt labels: null drops the row, and the drop is logged.

    Args:
        sources: The sources.
        texts: Columns that hold texts or nulls, where they are there; or what names them, given all columns.

    Returns:
        The rows, their ancestors' fingerprints, and the entry that names them among an artifact's `inputs`.
    """
    listed = [sources] if isinstance(sources, Source) else list(sources)
    tables, lineage, manifests = [], {}, []
    for source in listed:
        _refuse_draw(source, "sample", "rows are read as they are")
        _refuse_draw(source, "per_class", "labels are not read")
        raw, manifest = read_raw(source)
        manifests.append(manifest)
        lineage.update(manifest.lineage if manifest is not None else {})
        for ours in source.columns:
            _own_column(raw, source, ours)
        _check_no_column_twice(source, list(source.columns))
        ours_of = {theirs: ours for ours, theirs in source.columns.items()}
        raw = raw.rename_columns([ours_of.get(name, name) for name in raw.column_names])
        check_no_duplicates(raw.column_names, source.place)
        plain = replace(source, columns={})
        kept = _rows_kept(raw, plain)
        for name in texts(raw.column_names) if callable(texts) else texts:
            if name in raw.column_names:
                _check_texts(_column(raw, plain, name), name, kept, plain, or_null=True)
        ids = pa.array(_ids(raw, kept, plain), pa.string())
        raw = raw.take(kept).drop_columns(["id"] if "id" in raw.column_names else []).append_column("id", ids)
        tables.append(_map_prompt_labels(_without_json(raw), source))
    places = [source.place for source in listed]
    merged = _joined(tables, places)
    _check_ids(merged["id"].to_pylist(), places)
    return merged, lineage, Rows(merged, {}, places, lineage, manifests).reference


def _joined(tables: Sequence[pa.Table], places: Sequence[str]) -> pa.Table:
    """The rows of several sources, one after the other; a column that one lacks is null there.

    Raises:
        InputError: If a column has one type in one source and another in another.
    """
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowException, ValueError) as error:
        raise InputError(
            f"{', '.join(places)}: a column has several types ({shorten(' '.join(str(error).split()), 120)}); leave "
            "it out of `keep`, or write it in one type"
        ) from None


def _without_json(raw: pa.Table) -> pa.Table:
    """Columns with values of several types as texts: a text as it is, everything else as JSON."""
    for place, field_ in enumerate(raw.schema):
        if isinstance(field_.type, pa.JsonType):
            parsed = [None if value is None else json.loads(value) for value in raw.column(place).to_pylist()]
            texts = [value if isinstance(value, str) or value is None else json.dumps(value) for value in parsed]
            plain = [None if text is None else text.encode(errors="replace").decode() for text in texts]
            raw = raw.set_column(place, field_.name, pa.array(plain, pa.string()))
    return raw


def _under_our_names(
    raw: pa.Table, source: Source, texts: Sequence[str], task: Task | None, label_column: str | None, is_artifact: bool
) -> tuple[pa.Table, Counter[str]]:
    """Rename, filter and check one source's rows; what is dropped need not be right."""
    _check_column_names(source, texts)
    ours = [*texts, *([label_column] if label_column else [])]
    _check_no_column_twice(source, ours)
    columns = {name: _column(raw, source, name) for name in ours}
    kept = _rows_kept(raw, source)
    dropped = Counter[str]()
    if label_column and task is not None:
        columns[label_column], kept, dropped = _map_labels(columns[label_column], kept, source, task)
    for name in texts:
        _check_texts(columns[name], name, kept, source)
    row_ids = _ids(raw, kept, source)
    if label_column and task is not None and source.per_class is not None:
        labels = np.asarray([columns[label_column][row] for row in kept])
        picked = _sample_per_class(labels, row_ids, source)
        kept, row_ids = kept[picked], [row_ids[place] for place in picked]
    elif source.per_class is not None:
        _refuse_draw(source, "per_class", "labels are not read")
    if source.sample is not None:
        picked = _sample(row_ids, source)
        kept, row_ids = kept[picked], [row_ids[place] for place in picked]
    language = _languages(raw, kept, source, is_artifact)
    names = _others(raw, source, ours) if "*" in source.kept_columns else source.kept_columns
    table = {
        "id": pa.array(row_ids, pa.string()),
        **{name: pa.array([columns[name][row] for row in kept], pa.string()) for name in ours},
        **{name: _carried(raw, kept, source, name) for name in names if name not in (*ours, "id", "lang", "*")},
        "lang": pa.array(language, pa.string()),
    }
    return pa.table(table), dropped


def _rows_kept(raw: pa.Table, source: Source) -> np.ndarray:
    """Numbers of the rows that `keep`, where it is a map, lets through.

    Raises:
        InputError: If no row is left.
    """
    kept = np.arange(raw.num_rows)
    for name, wanted in source.row_filter.items():
        values = [None if value is None else fold(str(value)) for value in _column(raw, source, name)]
        allowed = {fold(value) for value in wanted}
        left = np.array([row for row in kept if values[row] in allowed], dtype=np.int64)
        if not len(left) and len(kept):
            present = list(dict.fromkeys(values[row] for row in kept))
            raise InputError(
                f"{source.place}: no row has {name} {' or '.join(map(repr, wanted))} as `keep` asks; the column holds "
                f"{shorten(present)}"
            )
        kept = left
    if len(kept) < raw.num_rows:
        log.info("%s: %d of %d rows kept by %s", source.place, len(kept), raw.num_rows, source.row_filter)
    return kept


def _refuse_draw(source: Source, name: str, reason: str) -> None:
    """Refuse a draw where it would be ignored."""
    number = getattr(source, name)
    if number is not None:
        raise InputError(f"{source.place}: {name} {number} where {reason}; remove it, or cut with `stop`")


def _others(raw: pa.Table, source: Source, ours: Sequence[str]) -> list[str]:
    """The source's columns that are not taken under one of our names, and would not take one of them."""
    taken = {source.columns.get(name, name) for name in (*ours, "id", "lang")} | {*ours, "id", "lang"}
    return [name for name in raw.column_names if name not in taken]


def _carried(raw: pa.Table, kept: np.ndarray, source: Source, name: str) -> pa.Array:
    """A column that is carried along, in its own type; one with values of several types as JSON, unless numbers."""
    column = _own_column(raw, source, name).take(kept)
    if not isinstance(column.type, pa.JsonType):
        return column
    try:
        return pa.array([None if value is None else json.loads(value) for value in column.to_pylist()])
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return column.cast(pa.string())


def _own_column(raw: pa.Table, source: Source, name: str) -> pa.ChunkedArray:
    theirs = source.columns.get(name, name)
    if theirs not in raw.column_names:
        raise InputError(
            f"{source.place}: no column '{theirs}' among {raw.column_names}; "
            f"say which one holds '{name}' with `columns: {{{name}: ...}}`"
        )
    return raw[theirs]


def _column(raw: pa.Table, source: Source, name: str) -> list[Any]:
    column = _own_column(raw, source, name)
    values: list[Any] = column.to_pylist()
    if isinstance(column.type, pa.JsonType):
        values = [None if value is None else json.loads(value) for value in values]
    return values


def _check_column_names(source: Source, texts: Sequence[str]) -> None:
    """Refuse a key of `columns` that nothing will ever ask for: a slip of the pen, it would be passed over."""
    known = [*texts, "id", "label", "prompt_label", "lang", *source.kept_columns]
    unknown = next((name for name in source.columns if name not in known), None)
    if unknown is not None:
        raise InputError(
            f"{source.place}: columns has '{unknown}', expected one of {', '.join(known)}; "
            f"{closest(unknown, known, 'take it out')}"
        )


def _check_no_column_twice(source: Source, ours: Sequence[str]) -> None:
    """Refuse one column as text and label, or as both texts of a pair: a classifier would learn nothing from it."""
    ours_of: dict[str, str] = {}
    for name in ours:
        theirs = source.columns.get(name, name)
        other = ours_of.setdefault(theirs, name)
        if other != name:
            raise InputError(
                f"{source.place}: column '{theirs}' is both '{other}' and '{name}', expected a column for each; name "
                "another one with `columns`"
            )


def _ids(raw: pa.Table, kept: np.ndarray, source: Source) -> list[str]:
    """The own ids of the rows that are kept, or `<source>/<split>/<row>`, after the source's prefix."""
    if source.columns.get("id", "id") in raw.column_names:
        values = _column(raw, source, "id")
        for row in kept:
            if not _is_name(values[row]):
                raise InputError(
                    f"{_row_place(source, row)}: id is {shorten(values[row])}, expected a name or a number; fill it "
                    "in, or remove the id column"
                )
        return [source.id_prefix + str(values[row]) for row in kept]
    if "id" in source.columns:
        _own_column(raw, source, "id")
    if source.hub is None:
        path = Path(source.path)
        prefix = f"{path.resolve().parent.name}/{path.name.split('.')[0]}"
    else:
        prefix = source.place.removeprefix(HUB)
    return [f"{source.id_prefix}{prefix}/{source.start + int(row)}" for row in kept]


def _is_name(value: Any) -> bool:
    """Whether a value can be an id: a text that is not blank, or a number."""
    if isinstance(value, str):
        return not is_blank(value) and is_unicode(value)
    if isinstance(value, bool):
        return False
    return isinstance(value, int | np.integer) or (isinstance(value, float) and math.isfinite(value))


def _check_texts(values: Sequence[Any], name: str, kept: np.ndarray, source: Source, or_null: bool = False) -> None:
    expected = "a text or null" if or_null else "a text"
    for row in kept:
        value = values[row]
        if or_null and value is None:
            continue
        if not isinstance(value, str) or (is_blank(value) and not or_null):
            raise InputError(
                f"{_row_place(source, row)}: {name} is {shorten(value)}, expected {expected}; "
                "remove the row, drop it with `label_map` or `keep`, or name another column with `columns`"
            )
        if not is_unicode(value):
            raise InputError(
                f"{_row_place(source, row)}: {name} is {shorten(value)}, which holds half of a surrogate pair (a "
                "cut emoji); remove it"
            )


def _map_labels(
    values: Sequence[Any], kept: np.ndarray, source: Source, task: Task
) -> tuple[list[str | None], np.ndarray, Counter[str]]:
    """Labels in the task's spelling (of rows that are kept), the rows that keep one, and what was dropped."""
    mapping = {fold(key): value for key, value in source.label_map.items()}
    mapped: list[str | None] = [None] * len(values)
    dropped = Counter[str]()
    known: dict[str, str | None] = {}  # there are few labels, and many rows
    outside: dict[str, str] = {}  # the source's label -> what it is called there, or what `label_map` makes of it
    unknown: dict[str, list[int]] = {}
    for row in kept:
        name = "null" if values[row] is None else str(values[row])
        if name not in known:
            target = mapping.get(fold(name), name)
            known[name] = None if target is None else task.match(target)
            if target is not None and known[name] is None:
                outside[name] = target
        mapped[row] = known[name]
        if name in outside:
            unknown.setdefault(outside[name], []).append(source.start + int(row))
        elif mapped[row] is None:
            dropped[name] += 1
    if unknown:
        raise unknown_labels(source.place, unknown, task, source)
    return mapped, np.array([row for row in kept if mapped[row] is not None], dtype=np.int64), dropped


def _map_prompt_labels(raw: pa.Table, source: Source) -> pa.Table:
    """Prompt labels by `label_map`, where both are there; labels that it does not name stay as they are."""
    if not source.label_map or "prompt_label" not in raw.column_names:
        return raw
    mapping = {fold(key): value for key, value in source.label_map.items()}
    labels = raw["prompt_label"].to_pylist()
    names = ["null" if label is None else str(label) for label in labels]
    mapped = [mapping.get(fold(name), label) for name, label in zip(names, labels, strict=True)]
    dropped = [mapping.get(fold(name), name) is None for name in names]
    if any(dropped):
        counts = Counter(name for name, is_dropped in zip(names, dropped, strict=True) if is_dropped)
        log.info("%s: dropped by label_map: %s", source.place, dict(counts))
    place = raw.column_names.index("prompt_label")
    column = pa.array([None if label is None else str(label) for label in mapped], pa.string())
    return raw.set_column(place, "prompt_label", column).filter(pa.array([not one for one in dropped]))


def _sample(row_ids: Sequence[str], source: Source) -> np.ndarray:
    """Positions of `sample` rows, in file order; the draw depends on the ids, not on the order."""
    if source.sample is not None and len(row_ids) < source.sample:
        log.warning("%s: %d rows, %d asked for", source.place, len(row_ids), source.sample)
    order = np.argsort(seeded_hash(row_ids, source.sample_seed, "sample"), kind="stable")
    return np.sort(order[: source.sample])


def _sample_per_class(labels: np.ndarray, row_ids: Sequence[str], source: Source) -> np.ndarray:
    """Positions of `per_class` rows of each label, in file order; the draw depends on the ids, not on the order."""
    order = np.argsort(seeded_hash(row_ids, source.sample_seed, "sample"), kind="stable")
    chosen = []
    for label in np.unique(labels):
        members = order[labels[order] == label]
        if source.per_class is not None and len(members) < source.per_class:
            log.warning("%s: %d rows of '%s', %d asked for", source.place, len(members), label, source.per_class)
        chosen.append(members[: source.per_class])
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *chosen]))


def _languages(raw: pa.Table, kept: np.ndarray, source: Source, is_artifact: bool) -> list[str | None]:
    """What the rows are in: what an artifact says, else `language`, else what the file says.

    Raises:
        InputError: If `language` and the file name two languages: a target's labels must not pass for English ones.
    """
    if "lang" in source.columns:
        _own_column(raw, source, "lang")
    has_own = source.columns.get("lang", "lang") in raw.column_names
    values = _column(raw, source, "lang") if has_own else [None] * raw.num_rows
    own = [_language(values[row], source, row) for row in kept]
    if source.language is None or (is_artifact and has_own):
        return own
    told = primary(source.language)
    for row, value in zip(kept, own, strict=True):
        if value is not None and primary(value) != told:
            raise InputError(
                f"{_row_place(source, row)}: lang is {shorten(value)}, but `language` says '{source.language}'; "
                "remove `language` (null), keep the rows of one language with `keep: {lang: ...}`, or fix the file"
            )
    return [source.language] * len(kept)


def _language(value: Any, source: Source, row: int) -> str | None:
    """What a file says that a row is in; None where it says nothing.

    Raises:
        InputError: If it says so in a number, a list, or a text that cannot be encoded.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not is_unicode(value):
        raise InputError(
            f"{_row_place(source, row)}: lang is {shorten(value)}, expected a language code such as hi; fix the file, "
            "or name another column with `columns: {lang: ...}`"
        )
    return value


def _check_ids(row_ids: Iterable[str], places: Sequence[str]) -> None:
    seen: set[str] = set()
    for one in row_ids:
        if one in seen:
            raise InputError(f"{', '.join(places)}: duplicate id {shorten(one)}; ids must be unique")
        seen.add(one)


def _row_place(source: Source, row: int) -> str:
    number = source.start + int(row)
    line = line_of(source, number)
    return f"{source.place} row {number}" + (f" (line {line})" if line else "")


def _empty_table(texts: Sequence[str], label_column: str | None) -> pa.Table:
    names = ["id", *texts, *([label_column] if label_column else []), "lang"]
    return pa.table({name: pa.array([], pa.string()) for name in names})
