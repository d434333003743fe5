"""Finished rows survive, come back in order, and are counted once."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.spool import Spool


def test_rows_come_back_in_input_order(tmp_path: Path):
    spool = Spool(tmp_path)
    spool.add([3, 1], {"x": ["d", "b"]})
    spool.flush()
    spool.add([0, 2], {"x": ["a", "c"]})
    spool.flush()
    assert spool.merge(4)["x"].to_pylist() == ["a", "b", "c", "d"]


def test_another_process_finds_what_was_flushed_and_only_that(tmp_path: Path):
    spool = Spool(tmp_path)
    spool.add([5, 4], {"x": [1, 2]})
    spool.flush()
    spool.add([6], {"x": [3]})
    assert Spool(tmp_path).finished().tolist() == [4, 5]


def test_a_torn_write_counts_for_nothing(tmp_path: Path):
    """A file under its temporary name is one that was being written when the power went."""
    spool = Spool(tmp_path)
    spool.add([0], {"x": [1]})
    spool.flush()
    whole = next((tmp_path / ".parts").glob("*.parquet"))
    (tmp_path / ".parts" / ".torn.parquet.77.tmp").write_bytes(whole.read_bytes()[:50])
    assert Spool(tmp_path).finished().tolist() == [0]
    spool.clear()
    assert not (tmp_path / ".parts").exists()


def test_rows_of_a_torn_file_are_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A power cut can leave a file that has its name but not all of its bytes."""
    spool = Spool(tmp_path)
    for row in range(3):
        spool.add([row], {"x": [row]})
        spool.flush()
    torn = max((tmp_path / ".parts").glob("*.parquet"), key=lambda file: file.stat().st_mtime_ns)
    torn.write_bytes(torn.read_bytes()[:-20])
    assert Spool(tmp_path).finished().tolist() == [0, 1]
    assert f"{torn}: torn or changed" in caplog.text
    spool.add([2], {"x": [2]})
    spool.flush()
    assert spool.merge(3)["x"].to_pylist() == [0, 1, 2]


@pytest.mark.parametrize("column", [["x"], [[1]], [2], [None]], ids=repr)
def test_rows_of_a_changed_file_are_computed_again(tmp_path: Path, column: list[Any]):
    """A file that is a table, but not the one that was written, would be merged without a word, or end the merge."""
    spool = Spool(tmp_path)
    for row in range(2):
        spool.add([row], {"x": [row]})
        spool.flush()
    changed = max((tmp_path / ".parts").glob("*.parquet"), key=lambda file: file.stat().st_mtime_ns)
    pq.write_table(pa.table({"row": [1], "x": column}), changed)
    pq.write_table(pa.table({"x": column}), changed.with_name("mine.parquet"))
    assert Spool(tmp_path).finished().tolist() == [0]
    spool.add([1], {"x": [1]})
    spool.flush()
    assert spool.merge(2)["x"].to_pylist() == [0, 1]


def test_a_row_computed_twice_is_taken_once(tmp_path: Path):
    spool = Spool(tmp_path)
    spool.add([0, 1], {"x": ["first", "b"]})
    spool.flush()
    spool.add([0, 2], {"x": ["again", "c"]})
    spool.flush()
    assert spool.merge(3)["x"].to_pylist() == ["first", "b", "c"]


def test_a_missing_row_is_named(tmp_path: Path):
    spool = Spool(tmp_path)
    spool.add([0, 2], {"x": [1, 2]})
    spool.flush()
    with pytest.raises(InputError, match="1 of 3 rows have no output, the first is row 1; run the same command again"):
        spool.merge(3)


def test_no_rows_are_no_rows(tmp_path: Path):
    spool = Spool(tmp_path)
    spool.flush()
    assert spool.finished().tolist() == []
    assert spool.merge(0).num_rows == 0
