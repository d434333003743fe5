"""`python main.py peek`: look into an artifact."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa

from ..core import artifacts
from ..core.errors import InputError, printable
from ..core.pairings import Without, check_pairings
from ..core.paths import find
from ..core.ranges import PositiveInt, check_ranges
from ..dynamics.statistics import statistics_table
from ..dynamics.store import STAGE
from ..evaluation.report import CELLS

COUNTED = ("target", "lang", "label", "prompt_label", "class", "prediction", "strategy", "domain", "reason")
CELL_WIDTH = 300


@check_ranges()
@check_pairings
def peek(
    artifact: str,
    rows: Annotated[PositiveInt, Without("id", "shows one row")] = 5,
    id: str | None = None,  # noqa: A002 - the option's name
) -> None:
    """Show an artifact: what it is, where it comes from, label counts and a few rows; or one row's history.

    Training dynamics are shown by what they say of a row: confidence, variability, correctness, forgetting, AUM.

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

    manifest, table = _open(Path(artifact))
    console = Console()
    console.print(
        f"[bold]{escape(artifact)}[/bold]: stage {escape(manifest.stage)}, {len(table)} rows, "
        f"{escape(manifest.fingerprint[:19])}…"
    )
    command = escape(manifest.command or "unknown")
    console.print(f"written {escape(manifest.written)} by [italic]{command}[/italic]", highlight=False)
    for name, one in manifest.inputs.items():
        printed = escape(one["fingerprint"][:19])
        console.print(f"  from {escape(name)}: {escape(', '.join(one['paths']))} ({printed}…)", highlight=False)
    for name, value in manifest.facts.items():
        _print_fact(console, name, value)
    for name in [name for name in COUNTED if name in table.column_names]:
        counts = Counter(map(_show, table[name].to_pylist())).most_common(12)
        told = ", ".join(f"{value} {count}" for value, count in counts)
        console.print(f"  {escape(name)}: {escape(told)}", highlight=False)
    for row in _spread(table, rows):
        shown = Table(show_header=False, box=None, padding=(0, 1))
        for name, value in row.items():
            shown.add_row(f"[bold]{escape(name)}[/bold]", escape(_show(value)))
        console.print()
        console.print(shown)


def _open(folder: Path) -> tuple[artifacts.Manifest, pa.Table]:
    """An artifact's manifest and rows: of training dynamics what they say of every row, of a model none."""
    folder = find(folder) or folder
    manifest = artifacts.read_manifest(folder)
    if manifest.columns:
        return manifest, artifacts.read(folder).table
    if (folder / CELLS).is_dir():
        return manifest, artifacts.read(folder / CELLS).table
    return manifest, statistics_table(folder) if manifest.stage == STAGE else pa.table({})


def _print_fact(console: Any, name: str, value: Any) -> None:
    """A plain fact as a line; a map of maps (classes, metrics) as a table with a line for each."""
    from rich.table import Table

    if not isinstance(value, dict) or not value or not all(isinstance(one, dict) for one in value.values()):
        console.print(f"  {escape(name)}: {escape(_show(value))}", highlight=False)
        return
    shown = Table(box=None, padding=(0, 1), header_style="bold")
    columns = list(dict.fromkeys(key for one in value.values() for key in one))
    for column in (name, *columns):
        shown.add_column(escape(column))
    for key, one in value.items():
        shown.add_row(escape(key), *(escape(_show(one.get(column, ""))) for column in columns))
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
            console.print(f"[bold]{escape(read.manifest.stage)}[/bold] {escape(folder)}", highlight=False)
            shown = Table(show_header=False, box=None, padding=(0, 1))
            for name, value in row.items():
                shown.add_row(f"[bold]{escape(name)}[/bold]", escape(_show(value)))
            console.print(shown)
        for place in (path for reference in read.manifest.inputs.values() for path in reference["paths"]):
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
    count = min(max(rows, 0), table.num_rows)
    places = pa.array([number * table.num_rows // count for number in range(count)], pa.int64())
    picked: list[dict[str, Any]] = table.take(places).to_pylist()
    return picked


def escape(text: object) -> str:
    """A text as a terminal may show it: nothing in it is obeyed, neither by rich nor by the terminal."""
    from rich.markup import escape as without_markup

    return without_markup(printable(str(text)))


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_show(one)}" for key, one in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(_show(one) for one in value) + "]" if len(value) < 8 else f"{len(value)} values"
    text = str(value)
    return text if len(text) <= CELL_WIDTH else text[: CELL_WIDTH - 1] + "…"
