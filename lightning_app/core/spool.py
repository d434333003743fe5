"""Finished rows of a run that is still going: small atomic files that survive a kill and are merged at the end."""

import hashlib
import logging
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from . import artifacts
from .errors import InputError, shorten
from .files import check_regular
from .runs import PARTS

log = logging.getLogger(__name__)

ROW = "row"


class Spool:
    """Collects output rows by their number in the input, in whole batches, and puts them back in order.

    Args:
        out: The run's output folder; the files lie in a hidden folder inside it.
        schema: Types of the output columns, where Arrow's own guess would depend on the values.
    """

    def __init__(self, out: Path, schema: Mapping[str, pa.DataType] | None = None) -> None:
        self._folder = out / PARTS
        self._schema = dict(schema or {})
        self._waiting: list[pa.Table] = []
        self._lock = threading.Lock()  # a timer may flush while a batch is added

    def add(self, rows: Sequence[int], columns: Mapping[str, Sequence[Any]]) -> None:
        """Add one finished batch: the input row numbers and, for each, its output values.

        Raises:
            InputError: If a column has values of several types, or of another length than the others.
        """
        try:
            arrays = {name: pa.array(values, self._schema.get(name)) for name, values in columns.items()}
            batch = pa.table({ROW: pa.array(rows, pa.int64()), **arrays})
        except (pa.ArrowException, TypeError, ValueError) as error:
            said = shorten(" ".join(str(error).split()), 160)[1:-1]
            raise InputError(
                f"rows: a column of {sorted(columns)} cannot be stored ({said}); return values of one type"
            ) from None
        with self._lock:
            self._waiting.append(batch)

    def flush(self) -> None:
        """Put all batches added so far on the disk, in one file that is there whole or not at all."""
        with self._lock:
            if not self._waiting:
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            nameless = self._folder / f"{uuid.uuid4().hex}.tmp"
            artifacts.write_parquet(nameless, pa.concat_tables(self._waiting, promote_options="default"))
            nameless.rename(self._folder / f"{_digest(nameless)}.parquet")
            self._waiting.clear()

    def finished(self) -> np.ndarray:
        """Numbers of the rows that are on the disk (int64, sorted, without repeats)."""
        tables = self._tables([ROW])
        if not tables:
            return np.empty(0, dtype=np.int64)
        return np.unique(pa.concat_tables(tables)[ROW].to_numpy())

    def merge(self, n_rows: int) -> pa.Table:
        """All output rows in input order.

        A row that two plans have computed (after a change of batch size between two starts) is taken once.

        Args:
            n_rows: Number of input rows.

        Raises:
            InputError: If a row has no output yet.
        """
        tables = self._tables()
        merged = (
            pa.concat_tables(tables, promote_options="default") if tables else pa.table({ROW: pa.array([], pa.int64())})
        )
        numbers, first = np.unique(merged[ROW].to_numpy(), return_index=True)
        if len(numbers) != n_rows:
            missing = np.setdiff1d(np.arange(n_rows), numbers)
            raise InputError(
                f"{self._folder.parent}: {len(missing)} of {n_rows} rows have no output, the first is row "
                f"{missing[0]}; run the same command again, it resumes"
            )
        return merged.take(first).drop_columns([ROW])

    def clear(self) -> None:
        """Remove the files, once their rows stand in a whole artifact."""
        for file in self._files():
            file.unlink()
        if self._folder.is_dir():
            for leftover in self._folder.iterdir():
                leftover.unlink()
            self._folder.rmdir()

    def _tables(self, columns: list[str] | None = None) -> list[pa.Table]:
        """What is on the disk; a file of other bytes than were written is removed, and its rows are computed again."""
        tables = []
        for file in self._files():
            if _digest(file) == file.stem:
                tables.append(pq.read_table(file, columns=columns))
            else:
                log.warning("%s: torn or changed since it was written, its rows are computed again", file)
                file.unlink(missing_ok=True)
        return tables

    def _files(self) -> list[Path]:
        # The order of first writing decides which of two outputs of a row is taken.
        return sorted(self._folder.glob("*.parquet"), key=lambda file: (file.stat().st_mtime_ns, file.name))


def _digest(file: Path) -> str:
    """The name of a file: SHA-256 of its bytes."""
    check_regular(file)
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
