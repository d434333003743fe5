"""Translations of rows, written by hand."""

from pathlib import Path

import pyarrow as pa

from labelbridge.lightning_app.core import artifacts


def write_views(folder: Path, rows: list[dict]) -> None:
    """A translation artifact: every word turned round; the third row of three has none."""
    kept = [row for number, row in enumerate(rows) if number % 3]
    table = pa.table(
        {
            "id": [row["id"] for row in kept],
            "text": [" ".join(reversed(row["text"].split())) + " good" for row in kept],
            "lang": ["hi"] * len(kept),
            "source_lang": ["en"] * len(kept),
            "source_text": [row["text"] for row in kept],
        }
    )
    artifacts.write(folder, table, stage="translate", facts={"source_language": "en", "target_language": "hi"})
