"""Where rows come from, and what stands there: local files, artifacts and Hub data sets, with their own columns."""

import errno
import logging
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import pyarrow as pa

from ..core import artifacts
from ..core.documents import checked
from ..core.errors import InputError, is_unicode, shorten
from ..core.hub import prepare_hub
from ..core.languages import primary
from ..core.paths import find
from ..core.ranges import NonNegativeInt, PositiveInt, Seed, check_fields, range_of
from ..core.task import fold
from . import file_formats
from .named import DATA, named_source

HUB = "hub:"
_UNWRITABLE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG,
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Where rows come from and how their columns and labels are called there.

    Args:
        path: A local file (JSONL, CSV, TSV without quoting, Parquet; also gzipped), an artifact's folder, a data set on
            the Hugging Face Hub as `hub:SetFit/sst5`, or a source of `configs/data` by name as `data:sst5/train`,
            whose settings hold where none are given here. One key for all of them, so that a flag can put a local file
            in the place of a Hub data set. Every column of CSV and TSV is text: "007" stays as it is.
        subset: The Hub data set's configuration name.
        split: The Hub data set's split.
        revision: The Hub data set's commit, tag or branch.
        columns: Our column -> the source's column, where they differ (`{text: sentence, label: label3}`).
        label_map: The source's label -> the task's; null drops the row, and the drop is counted.
        start: First row to read, counted from 0 before anything is dropped.
        stop: Row to stop before.
        sample: Keep this many rows, drawn by `sample_seed` from the ids. Files are often sorted, so that `stop` keeps
            a biased part.
        per_class: Keep this many rows of each label, drawn in the same way.
        sample_seed: Seed of these draws.
        language: Language code of the rows, where the source has no `lang` column; what an artifact says of its rows
            holds.
        keep: Further columns to carry along, such as `[domain]`; `["*"]` for all. A map keeps only the rows that have a
            value, or one of several, and carries its columns along too: `{lang: hi}`, `{domain: [hotels, food]}`; null
            stands for any value.
        id_prefix: Text before every id, which tells translations of the same rows apart (`hi/`) in one set.
    """

    path: str
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    label_map: dict[str, str | None] = field(default_factory=dict)
    start: NonNegativeInt = 0
    stop: PositiveInt | None = None
    sample: PositiveInt | None = None
    per_class: PositiveInt | None = None
    sample_seed: Seed = 0
    language: str | None = None
    keep: list[str] | dict[str, str | list[str] | None] = field(default_factory=list)
    id_prefix: str = ""

    def __post_init__(self) -> None:
        empty = next(
            (one.name for one in fields(self) if vars(self)[one.name] is None and NoneType not in get_args(one.type)),
            "",
        )
        if empty:
            kind = Source.__annotations__[empty]
            limits = range_of(kind)
            expected = kind if limits is None else limits.of(empty)
            raise InputError(f"{self.path or 'source'}: {empty} is null, expected {expected}")
        self._check_types()
        if self.path.startswith(DATA):
            self._take_from(named_source(self.path))
            self._check_types()
        check_fields(self, f"{self.place}: ")
        if self.stop is not None and self.stop <= self.start:
            raise InputError(
                f"{self.place}: start {self.start}, stop {self.stop}, expected start < stop; put them right"
            )
        if self.sample is not None and self.per_class is not None:
            raise InputError(
                f"{self.place}: sample {self.sample} and per_class {self.per_class}, expected one of them; remove one"
            )

    def _check_types(self) -> None:
        """Check every setting against its declared type, wherever it was written.

        Raises:
            InputError: Names the setting, or two labels of `label_map` that are one in two spellings.
        """
        place = self.path if isinstance(self.path, str) and is_unicode(self.path) else "source"
        settings = {one.name: vars(self)[one.name] for one in fields(Source)}
        remedy = "put it right (a number in quotes is a text)"
        for name, value in checked(_settings(), settings, place or "source", remedy).items():
            object.__setattr__(self, name, value)  # the class is frozen
        if self.language is not None and primary(self.language) is None:
            raise InputError(
                f"{self.place}: language is {shorten(self.language)}, expected a language code such as hi or hi-Latn; "
                "put it right, or leave it out"
            )
        spellings: dict[str, str] = {}
        for label in self.label_map:
            other = spellings.setdefault(fold(label), label)
            if other != label:
                raise InputError(
                    f"{self.place}: label_map has {shorten(other)} and {shorten(label)}, which are one label in two "
                    "spellings; remove one"
                )

    def _take_from(self, named: dict[str, Any]) -> None:
        """Take the path of a source that is given by name, and each of its settings that is at its default here."""
        defaults = vars(Source(path=named["path"]))
        for setting in fields(self):
            if setting.name in named and (setting.name == "path" or vars(self)[setting.name] == defaults[setting.name]):
                object.__setattr__(self, setting.name, named[setting.name])  # the class is frozen

    @property
    def kept_columns(self) -> list[str]:
        """The names in `keep`."""
        return list(self.keep)

    @property
    def row_filter(self) -> dict[str, list[str]]:
        """Column -> the values that a row must have one of; empty where `keep` is no map."""
        if not isinstance(self.keep, dict):
            return {}
        listed = {name: [value] if isinstance(value, str) else value for name, value in self.keep.items()}
        return {name: values for name, values in listed.items() if values is not None}

    @property
    def hub(self) -> str | None:
        """The Hub data set's id, if it is one."""
        return self.path.removeprefix(HUB) if self.path.startswith(HUB) else None

    @property
    def place(self) -> str:
        """What an error calls this source."""
        if self.hub is None:
            return self.path
        return "/".join(part for part in (self.path, self.subset, self.split) if part)


@cache
def _settings() -> Any:
    """The declared types of a source's settings, for `checked`."""
    from typing_extensions import TypedDict  # what pydantic takes on Python 3.11

    return TypedDict("Source", {one.name: one.type for one in fields(Source)})  # type: ignore[operator]


@dataclass(frozen=True)
class TableSource(Source):
    """Rows in memory, under the same rules as those of a file; `path` is what errors call them.

    Args:
        table: The rows.
    """

    table: pa.Table = field(default_factory=lambda: pa.table({}))


def read_raw(source: Source) -> tuple[pa.Table, artifacts.Manifest | None]:
    """The source's own columns and, if it is an artifact, its manifest."""
    if isinstance(source, TableSource):
        return source.table.slice(source.start, _length(source)), None
    if source.hub is not None:
        return _read_hub(source), None
    found = check_path(source)
    if found.is_dir():
        artifact = artifacts.read(found)
        artifacts.check_fresh(found, artifact.manifest)
        return artifact.table.slice(source.start, _length(source)), artifact.manifest
    return file_formats.read_file(found).slice(source.start, _length(source)), None


def check_path(source: Source) -> Path:
    """Look up a local source.

    Raises:
        InputError: If it is not there.
    """
    found = find(source.path)
    if found is None:
        raise InputError(
            f"{source.path}: no such file or artifact; check `path` (looked up here, then in Labelbridge's folder)"
        )
    return found


def _length(source: Source) -> int | None:
    return None if source.stop is None else source.stop - source.start


def _read_hub(source: Source) -> pa.Table:
    """Read a Hub data set through `datasets`."""
    is_reachable = prepare_hub()
    import datasets

    if not is_reachable:
        datasets.config.HF_HUB_OFFLINE = True  # copied from the client's when it was imported
    try:
        data = _quiet_load(datasets, source.hub, source.subset, split=source.split, revision=source.revision)
    except Exception as error:  # noqa: BLE001 - the Hub client raises a score of unrelated types
        _refuse_cache(error, source)
        offline = "" if is_reachable else "; the Hub cannot be reached"
        raise InputError(
            f"{source.place}: the Hub data set cannot be loaded ({_root_cause(error)}){offline}; "
            "check name, subset, split and network, or give a local file as `path`"
        ) from None
    return _to_arrow(data, source)


def _refuse_cache(error: BaseException | None, source: Source) -> None:
    """Say so where it is the cache that cannot be written, not the data set that cannot be read.

    Raises:
        InputError: If an error in the chain is the operating system's refusal to write.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _UNWRITABLE:
            where = f" at {error.filename}" if error.filename else ""
            raise InputError(
                f"{source.place}: the Hugging Face cache cannot be written ({error.strerror}{where}); set HF_HOME to a "
                "folder that can be, or free some space"
            ) from None
        error = error.__cause__ or error.__context__


def _quiet_load(datasets: Any, *args: Any, **options: Any) -> Any:
    """Load without a progress bar a file and without the reader's log of an error, which is told in one line here."""
    was_on, verbosity = datasets.is_progress_bar_enabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)
    try:
        return datasets.load_dataset(*args, **options)
    finally:
        datasets.logging.set_verbosity(verbosity)
        if was_on:
            datasets.enable_progress_bars()


def _to_arrow(data: Any, source: Source) -> pa.Table:
    """Rows as Arrow, with class numbers replaced by the names the data set gives them."""
    from datasets import ClassLabel

    table = data.with_format("arrow")[source.start : source.stop]
    names_of = {name: feature.names for name, feature in data.features.items() if isinstance(feature, ClassLabel)}
    return file_formats.with_class_names(table, names_of, source.place)


def line_of(source: Source, row: int) -> int | None:
    """The line of a text file, counted from 1, on which a row begins; None for other sources."""
    return lines_of(source, [row]).get(row)


def lines_of(source: Source, rows: Collection[int]) -> dict[int, int]:
    """The lines of a text file on which rows begin, by row; empty for other sources."""
    path = find(source.path) if source.hub is None else None
    return file_formats.lines_of(path, rows) if path is not None and path.is_file() else {}


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return shorten(" ".join(str(error).split()) or type(error).__name__, 200)
