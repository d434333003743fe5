"""A column's fingerprint is of its values, whatever its type: the same in another process, another for other values."""

import datetime
import subprocess
import sys
from decimal import Decimal

import pyarrow as pa
import pytest
from conftest import PROJECT

from labelbridge.lightning_app.core.fingerprint import of_table

COLUMNS = {
    "bytes": ("pa.binary()", [b"a", b"bc", None], [b"ab", b"c", None]),
    "decimal": ("pa.decimal128(10, 2)", [Decimal("1.50"), None, Decimal(2)], [Decimal("1.51"), None, Decimal(2)]),
    "time": ("pa.time64('us')", [datetime.time(1, 2), None], [datetime.time(1, 3), None]),
    "time in nanoseconds": ("pa.time64('ns')", [1, 2], [1, 3]),
    "seconds of a day": ("pa.time32('s')", [1, 2], [1, 3]),
    "date": ("pa.date32()", [datetime.date(2024, 1, 2)], [datetime.date(2024, 1, 3)]),
    "timestamp": ("pa.timestamp('ns')", [1, None, 2**62], [1, None, 2**62 + 1]),
    "duration": ("pa.duration('ns')", [1, 2], [1, 3]),
    "map": ("pa.map_(pa.string(), pa.int64())", [[("a", 1)], None], [[("a", 2)], None]),
    "half": ("pa.float16()", [1.5, 2.5], [1.5, 3.5]),
    "whole numbers": ("pa.int8()", [1, None], [2, None]),
    "truth": ("pa.bool_()", [True, None], [False, None]),
}


def fingerprint(kind: str, values: list[object]) -> str:
    return of_table(pa.table({"x": pa.array(values, eval(kind, {"pa": pa}))}))


@pytest.mark.parametrize("name", COLUMNS)
def test_other_values_have_another_fingerprint(name: str):
    kind, values, others = COLUMNS[name]
    assert fingerprint(kind, values) == fingerprint(kind, list(values)) != fingerprint(kind, others)


def test_another_process_finds_the_same():
    script = (
        "import sys; sys.path.insert(0, 'tests/lightning_app/core'); sys.path.insert(0, 'tests')\n"
        "import test_fingerprints_of_types as t\n"
        "[print(t.fingerprint(kind, values)) for kind, values, _ in t.COLUMNS.values()]"
    )
    told = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [fingerprint(kind, values) for kind, values, _ in COLUMNS.values()]
