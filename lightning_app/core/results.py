"""What a command gives back when it is called from Python."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class Result:
    """Rows that a command has made, and what it says of them.

    Args:
        table: The rows.
        summary: Counts and settings: the `facts` of the artifact's manifest.
        path: The artifact's folder; None where nothing was written.
    """

    table: pa.Table
    summary: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def to_pandas(self) -> Any:
        """The rows as a `pandas.DataFrame`."""
        return self.table.to_pandas()
