"""`python main.py peek`: look into an artifact."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from lightning_app import artifacts
from lightning_app.errors import InputError
from lightning_app.paths import find

COUNTED = ("target", "lang", "label", "prompt_label", "class", "prediction", "strategy", "domain", "reason")
CELL_WIDTH = 300


def peek(artifact: str, rows: int = 5, id: str | None = None) -> None:  # noqa: A002 - the option's name
    """Show an artifact: what it is, where it comes from, label counts and a few rows; or one row's history.

    Args:
        artifact: The artifact's folder.
        rows: How many rows to show, spread evenly over the artifact.
        id: Show this row instead, and what it was in every artifact that this one descends from.
    """
    if id is not None:
        _history(Path(artifact), id)
        return
    from rich.console import Console
    from rich.table import Table

    read = artifacts.read(Path(artifact))
    manifest, table = read.manifest, read.table
    console = Console()
    console.print(
        f"[bold]{artifact}[/bold]: stage {manifest.stage}, {manifest.rows} rows, {manifest.fingerprint[:19]}…"
    )
    console.print(f"written {manifest.written} by [italic]{manifest.command or 'unknown'}[/italic]", highlight=False)
    for name, one in manifest.inputs.items():
        console.print(f"  from {name}: {one['path']} ({one['fingerprint'][:19]}…)", highlight=False)
    for name, value in manifest.facts.items():
        console.print(f"  {name}: {value}", highlight=False)
    for name in [name for name in COUNTED if name in table.column_names]:
        counts = Counter(table[name].to_pylist()).most_common(12)
        console.print(f"  {name}: " + ", ".join(f"{value} {count}" for value, count in counts), highlight=False)
    for row in _spread(table, rows):
        shown = Table(show_header=False, box=None, padding=(0, 1))
        for name, value in row.items():
            shown.add_row(f"[bold]{name}[/bold]", _show(value))
        console.print()
        console.print(shown)


def _history(path: Path, one: str) -> None:
    """Print a row in this artifact and in its ancestors that hold the same id, the newest first.

    Raises:
        InputError: If the artifact has no such row.
    """
    from rich.console import Console
    from rich.table import Table

    console, waiting, seen = Console(), [path], set[Path]()
    while waiting:
        folder = waiting.pop(0)
        if folder in seen:
            continue
        seen.add(folder)
        read = artifacts.read(folder)
        matches = _named(read.table, one)
        if folder == path and not any(row["id"] == one for row in matches):
            raise InputError(f"{path}: no row with id '{one}'; see the ids with: python main.py peek {path}")
        for row in matches:
            console.print(f"[bold]{read.manifest.stage}[/bold] {folder}", highlight=False)
            shown = Table(show_header=False, box=None, padding=(0, 1))
            for name, value in row.items():
                shown.add_row(f"[bold]{name}[/bold]", _show(value))
            console.print(shown)
        for place in (place for one_input in read.manifest.inputs.values() for place in one_input["path"].split(", ")):
            ancestor = find(place)
            if ancestor is not None and artifacts.is_whole(ancestor) and artifacts.read_manifest(ancestor).columns:
                waiting.append(ancestor)


def _named(table: pa.Table, one: str) -> list[dict[str, Any]]:
    """The rows with this id; else the row that it was made of, whose id begins it (the premise of a hypothesis)."""
    ids = table["id"].to_pylist() if "id" in table.column_names else []
    parts = one.split("/")
    for length in range(len(parts), 0, -1):
        name = "/".join(parts[:length])
        rows = [row for row, own in enumerate(ids) if own == name]
        if rows:
            found: list[dict[str, Any]] = table.take(rows).to_pylist()
            return found
    return []


def _spread(table: pa.Table, rows: int) -> list[dict[str, Any]]:
    count = min(rows, table.num_rows)
    picked: list[dict[str, Any]] = table.take([number * table.num_rows // count for number in range(count)]).to_pylist()
    return picked


def _show(value: Any) -> str:
    from rich.markup import escape

    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "[" + ", ".join(_show(one) for one in value) + "]" if len(value) < 8 else f"{len(value)} values"
    text = str(value)
    return escape(text if len(text) <= CELL_WIDTH else text[: CELL_WIDTH - 1] + "…")
