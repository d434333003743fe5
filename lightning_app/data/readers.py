"""Where rows come from, and what stands there: local files, artifacts and Hub data sets, with their own columns."""

import glob
import gzip
import itertools
import json
import logging
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..core import artifacts
from ..core.errors import InputError, shorten
from ..core.paths import find
from .named import DATA, named_source

HUB = "hub:"
# What the readers say of an empty file, beside a StopIteration.
NO_ROWS = ("corresponds to no data", "No columns to parse")
FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}


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
        keep: Further columns to carry along, such as `[domain]`; `["*"]` for all.
        id_prefix: Text before every id, which tells translations of the same rows apart (`hi/`) in one set.
    """

    path: str
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    label_map: dict[str, str | None] = field(default_factory=dict)
    start: int = 0
    stop: int | None = None
    sample: int | None = None
    per_class: int | None = None
    sample_seed: int = 0
    language: str | None = None
    keep: list[str] = field(default_factory=list)
    id_prefix: str = ""

    def __post_init__(self) -> None:
        if self.path.startswith(DATA):
            self._take_from(named_source(self.path))
        if self.start < 0 or (self.stop is not None and self.stop <= self.start):
            raise InputError(
                f"{self.place}: start {self.start}, stop {self.stop}, expected 0 <= start < stop; put them right"
            )
        for name in ("sample", "per_class"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise InputError(f"{self.place}: {name} {number}, expected at least 1, or null for all rows")
        if self.sample is not None and self.per_class is not None:
            raise InputError(
                f"{self.place}: sample {self.sample} and per_class {self.per_class}, expected one of them; remove one"
            )

    def _take_from(self, named: dict[str, Any]) -> None:
        """Take the path of a source that is given by name, and each of its settings that is at its default here."""
        defaults = vars(Source(path=named["path"]))
        for setting in fields(self):
            if setting.name in named and (setting.name == "path" or vars(self)[setting.name] == defaults[setting.name]):
                object.__setattr__(self, setting.name, named[setting.name])  # the class is frozen

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


def read_raw(source: Source) -> tuple[pa.Table, artifacts.Manifest | None]:
    """The source's own columns and, if it is an artifact, its manifest."""
    if source.hub is not None:
        return _read_hub(source), None
    found = find(source.path)
    if found is None:
        raise InputError(f"{source.path}: no such file or artifact; check `path` (looked up here, then beside main.py)")
    if found.is_dir():
        artifact = artifacts.read(found)
        artifacts.check_fresh(found, artifact.manifest)
        return artifact.table.slice(source.start, _length(source)), artifact.manifest
    return _read_file(found, source), None


def _length(source: Source) -> int | None:
    return None if source.stop is None else source.stop - source.start


def _read_file(path: Path, source: Source) -> pa.Table:
    """Read a local file through `datasets`."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in FORMATS:
        raise InputError(f"{path}: format '{suffix}' is not known, expected one of {', '.join(FORMATS)} (or .gz of it)")
    import datasets

    try:
        options = _csv_options(path, suffix) if FORMATS[suffix] == "csv" else {}
        # `datasets` takes the name for a pattern, in which brackets and stars would match other files.
        data = _quiet_load(datasets, FORMATS[suffix], data_files=glob.escape(str(path)), split="train", **options)
        table = _to_arrow(data, source)
        table.validate(full=True)  # the JSON reader lets bytes through that are not UTF-8
    except Exception as error:  # noqa: BLE001 - the readers of four formats raise a score of unrelated types
        if isinstance(error, StopIteration) or any(words in str(error) for words in NO_ROWS):
            raise InputError(f"{path}: no rows, expected at least one; fill the file, or take it out") from None
        reason = _first_bad_line(path, suffix) or f"cannot be read ({_root_cause(error)}); mend it, or save it again"
        raise InputError(f"{path}: {reason}") from None
    return table


def _csv_options(path: Path, suffix: str) -> dict[str, Any]:
    """How CSV and TSV are read: as text, whatever a column looks like, and with the texts "None" and "NA" as such."""
    import datasets
    import pandas as pd

    options: dict[str, Any] = {"keep_default_na": False, "encoding": "utf-8"}
    if suffix == ".tsv":
        options |= {"sep": "\t", "quoting": 3}
    names = pd.read_csv(path, nrows=0, **options).columns
    return {**options, "features": datasets.Features({str(name): datasets.Value("string") for name in names})}


def _read_hub(source: Source) -> pa.Table:
    """Read a Hub data set through `datasets`."""
    import datasets

    try:
        data = _quiet_load(datasets, source.hub, source.subset, split=source.split, revision=source.revision)
    except Exception as error:  # noqa: BLE001 - the Hub client raises a score of unrelated types
        raise InputError(
            f"{source.place}: the Hub data set cannot be loaded ({_root_cause(error)}); "
            "check name, subset, split and network, or give a local file as `path`"
        ) from None
    return _to_arrow(data, source)


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
    table = data.with_format("arrow")[source.start : source.stop]
    for name, feature in data.features.items():
        names = getattr(feature, "names", None)
        if names:
            column = [None if value in (None, -1) else names[value] for value in table[name].to_pylist()]
            table = table.set_column(table.column_names.index(name), name, pa.array(column, pa.string()))
    return table


def line_of(source: Source, row: int) -> int | None:
    """The line of a JSONL file, counted from 1, that holds a row; blank ones hold none. None for other sources."""
    path = find(source.path) if source.hub is None and ".jsonl" in source.path else None
    if path is None or not path.is_file():
        return None
    with _opened(path) as stream:
        filled = (number for number, line in enumerate(stream, start=1) if line.strip())
        return next(itertools.islice(filled, row, None), None)


def _opened(path: Path) -> Any:
    return (gzip.open if path.suffix == ".gz" else open)(path, "rb")


def _first_bad_line(path: Path, suffix: str) -> str | None:
    """Where a JSONL file stops being JSON, which the reader's own error does not say."""
    if suffix != ".jsonl":
        return None
    try:
        with _opened(path) as stream:
            return next(filter(None, (_what_is_wrong(line, number) for number, line in enumerate(stream))), None)
    except (OSError, EOFError):  # a torn or false .gz: the reader's own error says so
        return None


def _what_is_wrong(line: bytes, number: int) -> str | None:
    place = f"row {number} (line {number + 1})"
    try:
        parsed = json.loads(line.decode("utf-8-sig")) if line.strip() else {}
    except UnicodeDecodeError as error:
        return f"{place}: not UTF-8 ({error.reason}); save the file as UTF-8"
    except json.JSONDecodeError as error:
        return f"{place}: not JSON ({error.msg}); mend or remove the line"
    return None if isinstance(parsed, dict) else f"{place}: {shorten(parsed)}, expected a JSON object; mend the line"


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return shorten(" ".join(str(error).split()) or type(error).__name__, 200)
