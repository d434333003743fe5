"""A selection as a data set for the Hub: Parquet files and a card."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from .. import __version__
from ..core import artifacts
from ..core.artifacts import Artifact
from ..core.contracts import check_labels
from ..core.errors import InputError
from ..core.markup import code, inline
from ..core.paths import find
from ..core.task import Task
from ..data.sources import Source, load_rows
from .card import TEMPLATES, front_matter
from .folders import check_apart, write_folder
from .lineage import lineage_of, lineage_table
from .locate import CARD_FACTS

ROWS_OF_FILE = 500_000
# Column -> what it holds, for the card.
_COLUMNS = {
    "id": "the row's id, from its generation on",
    "prompt_label": "the class that the prompt asked the language model for",
    "label": "the class",
    "domain": "the domain that the prompt named",
    "lang": "the language of the texts",
    "class": "the class that the row was selected for",
    "probs": "the teacher's probabilities of the classes, in the order {labels}",
    "cluster": "the cluster of its embedding",
    "strategy": "the selection strategy",
    "score": "the strategy's score",
    "rank": "the row's rank in its class",
    "why": "why it was selected",
    "source_lang": "the language that it was translated from",
}


def export_rows(folder: str, out: Path, license: str | None, languages: list[str] | None, overwrite: bool) -> None:  # noqa: A002
    """Write a selection's rows as a data set with its card; `datasets.load_dataset(FOLDER)` reads it.

    Args:
        folder: The artifact of `select`, or its translation.
        out: The new folder.
        license: The licence that the card names.
        languages: The languages that the card names; by default those of the rows.
        overwrite: Replace an earlier export.

    Raises:
        InputError: If the artifact is no selection or has no rows, or something else is in the place.
    """
    source = find(folder) or Path(folder)
    artifact = artifacts.read(source)
    stage = artifact.manifest.stage
    if not artifacts.is_selection(artifact.manifest):
        raise InputError(f"{folder}: written by stage '{stage}', expected a selection; give the folder of `select`")
    task = _task(artifact)
    load_rows(Source(str(source)), task, None).check_any("selection")
    if "class" in artifact.table.column_names:
        check_labels(artifact.table, "class", task.labels, folder, "make the selection again")
    check_apart(out, source, "selection")
    facts = _facts(artifact)

    def write(place: Path) -> None:
        (place / "data").mkdir(parents=True)
        files = range(0, artifact.table.num_rows, ROWS_OF_FILE)
        for number, start in enumerate(files):
            name = f"train-{number:05d}-of-{len(files):05d}.parquet"
            artifacts.write_parquet(place / "data" / name, artifact.table.slice(start, ROWS_OF_FILE))
        artifacts.write_json(place / CARD_FACTS, facts)
        (place / "README.md").write_text(data_card(artifact, facts, task, license, languages), encoding="utf-8")

    write_folder(out, write, (), overwrite, lambda there: there.get("data_set") == stage)


def data_card(
    artifact: Artifact,
    facts: dict[str, Any],
    task: Task,
    license: str | None = None,  # noqa: A002 - what the Hub calls it
    languages: list[str] | None = None,
) -> str:
    """The card of a data set."""
    manifest, table = artifact.manifest, artifact.table
    own = sorted({code for code in _values(table, "lang") if code})
    counted = next((name for name in ("class", "label", "prompt_label") if name in table.column_names), None)
    metadata = {
        "language": languages or own,
        "license": license,
        "task_categories": ["text-classification"],
        "size_categories": [_size(table.num_rows)],
        "tags": ["labelbridge", "synthetic"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}],
    }
    return (TEMPLATES / "data_set.md").read_text(encoding="utf-8").format(
        metadata=front_matter(metadata),
        title=inline(f"Selected rows for {task.name}"),
        version=__version__,
        rows=f"{table.num_rows:,}",
        languages=inline(", ".join(languages or own) or "not recorded"),
        labels=inline(", ".join(task.labels)),
        license=inline(license or "not stated: state it before you publish"),
        columns="\n".join(f"| `{code(name)}` | {_column(name, task.labels)} |" for name in table.column_names),
        counts=_counts(table, counted),
        lineage=lineage_table(facts["lineage"]),
        fingerprint=code(manifest.fingerprint),
    )  # fmt: skip


def _task(artifact: Artifact) -> Task:
    """The task that the rows were selected for.

    Raises:
        InputError: If the manifest names none.
    """
    manifest = artifact.manifest
    task = manifest.facts.get("task") or manifest.config.get("task")
    if task is None:
        raise InputError(f"{artifact.path}: its manifest names no task; rebuild it with {artifacts.rebuild(manifest)}")
    return Task(**task)


def _facts(artifact: Artifact) -> dict[str, Any]:
    """What `labelbridge.json` says of the data set."""
    manifest = artifact.manifest
    kept = ("labels", "strategy", "class_from", "quota", "agreement", "classes", "diversity")
    return {
        "data_set": manifest.stage,
        "fingerprint": manifest.fingerprint,
        "rows": manifest.rows,
        **{name: manifest.facts[name] for name in kept if name in manifest.facts},
        "inputs": manifest.inputs,
        "lineage": lineage_of(artifact.path),
    }


def _counts(table: pa.Table, counted: str | None) -> str:
    """Rows by class and, where there are domains, by domain."""
    if counted is None:
        return "Not recorded."
    domains = [str(one) if one is not None else None for one in _values(table, "domain")]
    names = list(dict.fromkeys(domains)) if any(domains) else []
    heads = [inline(name) if name is not None else "no domain" for name in names]
    lines = [f"| {counted} | rows |{''.join(f' {head} |' for head in heads)}", "|---|---|" + "---|" * len(heads)]
    classes = _values(table, counted)
    for label in sorted(set(map(str, classes))):
        own = [str(one) == label for one in classes]
        by_domain = [sum(o and d == name for o, d in zip(own, domains, strict=True)) for name in names]
        lines.append(f"| {inline(label)} | {sum(own):,} |{''.join(f' {count:,} |' for count in by_domain)}")
    return "\n".join(lines)


def _values(table: pa.Table, name: str) -> list[Any]:
    values: list[Any] = table[name].to_pylist() if name in table.column_names else [None] * table.num_rows
    return values


def _column(name: str, labels: list[str]) -> str:
    if name in _COLUMNS:
        return _COLUMNS[name].format(labels=inline(", ".join(labels)))
    return "the text before translation" if name.startswith("source_") else "text, or a column carried along"


def _size(rows: int) -> str:
    """The Hub's name of a data set's size."""
    names = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
    return next((name for limit, name in names.items() if rows < limit), "n>1M")
