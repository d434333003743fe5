"""What a model or a data set descends from, for its card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.ancestors import ancestors
from ..core.artifacts import Manifest
from ..core.markup import code, inline


def lineage_of(folder: Path) -> list[dict[str, Any]]:
    """Every artifact that a folder descends from, itself first: stage, path, rows, and what distinguishes it."""
    return [
        {"stage": manifest.stage, "path": str(place), "rows": manifest.rows or None, "note": _note(manifest)}
        for place, manifest in ancestors(folder)
    ]


def lineage_table(lineage: Sequence[dict[str, Any]]) -> str:
    """The same in Markdown; empty where nothing is known."""
    if not lineage:
        return ""
    lines = ["| stage | rows | |", "|---|---|---|"]
    for one in lineage:
        rows = "" if one["rows"] is None else f"{one['rows']:,}"
        note = f": {inline(one['note'])}" if one["note"] else ""
        lines.append(f"| {inline(one['stage'])} | {rows} | `{code(one['path'])}`{note} |")
    return "\n".join(lines)


def _note(manifest: Manifest) -> str:
    facts = manifest.facts
    parts = []
    if manifest.stage == "select":
        kept = {label: one.get("kept") for label, one in facts.get("classes", {}).items()}
        counts = ", ".join(f"{label} {count:g}" for label, count in kept.items() if count is not None)
        parts += [f"strategy {facts.get('strategy')}, classes from the {facts.get('class_from')}", counts]
    if manifest.stage in ("teacher", "student", "test"):
        parts += [f"method {facts.get('method')}, seed {facts.get('seed')}"]
    for role in ("model", "teacher", "base"):
        if role in manifest.inputs:
            parts.append(f"{role} {', '.join(manifest.inputs[role]['paths'])}")
    return "; ".join(filter(None, parts))
