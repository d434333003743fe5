"""SHA-256 of rows, of files and of model folders."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .files import check_regular

BLOCK_ROWS = 50_000


def of_table(table: pa.Table, labels: Sequence[str] | None = None) -> str:
    """Fingerprint a table: its schema and its rows in order, however they are chunked or stored.

    Rows are hashed in blocks of `BLOCK_ROWS`, column by column, from Arrow's own buffers, so a million rows take
    well under a second.

    Args:
        table: The rows.
        labels: What the numbers of the rows' vectors stand for, in order, if they have any.

    Returns:
        `sha256:` and 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    # Parquet calls the values of a list "element", Arrow calls them "item".
    schema = [[field.name, re.sub(r"list<\w+:", "list<item:", str(field.type))] for field in table.schema]
    digest.update(json.dumps(schema).encode())
    if labels is not None:
        digest.update(json.dumps(["labels", *labels]).encode())
    for start in range(0, table.num_rows, BLOCK_ROWS):
        block = table.slice(start, BLOCK_ROWS)
        for column in block.columns:
            array = column.combine_chunks()
            _update(digest, pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array)
    return f"sha256:{digest.hexdigest()}"


def of_value(value: Any) -> str:
    """Fingerprint a JSON value; the order of keys does not matter."""
    return f"sha256:{hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()}"


def of_files(files: list[Path]) -> str:
    """Fingerprint files by name and content, whatever order they are given in."""
    digests = {}
    for file in files:
        check_regular(file)
        with file.open("rb") as stream:
            digests[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return of_value(digests)


def _update(digest: Any, array: pa.Array) -> None:
    """Feed one column into the digest: validity, then lengths, then values."""
    digest.update(np.asarray(array.is_valid()).tobytes())
    if pa.types.is_dictionary(array.type):
        _update(digest, array.dictionary_decode())
    elif pa.types.is_struct(array.type):
        for field in array.flatten():
            _update(digest, field)
    elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        digest.update(np.asarray(array.value_lengths().fill_null(0), dtype=np.int64).tobytes())
        _update(digest, array.flatten())
    elif pa.types.is_fixed_size_list(array.type):
        _update(digest, array.flatten())
    elif pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        values = [value.encode() for value in array.drop_null().to_pylist()]
        digest.update(np.array([len(value) for value in values], dtype=np.int64).tobytes())
        digest.update(b"".join(values))
    elif pa.types.is_null(array.type):
        digest.update(len(array).to_bytes(8, "little"))
    else:
        _update_values(digest, array.drop_null())


def _update_values(digest: Any, values: pa.Array) -> None:
    """Feed numbers, dates and whatever else is no text and no list."""
    if pa.types.is_time(values.type):  # NumPy has no time of day, nor Python its nanoseconds
        values = values.view(pa.int32() if pa.types.is_time32(values.type) else pa.int64())
    numbers = values.to_numpy(zero_copy_only=False)
    if numbers.dtype == object:  # bytes, decimals, maps: the array holds addresses
        _update(digest, pa.array([repr(value) for value in values.to_pylist()], pa.string()))
    else:
        digest.update(np.ascontiguousarray(numbers).tobytes())
