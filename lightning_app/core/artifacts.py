"""Artifacts: folders of Parquet shards whose manifest, written last, says that they are whole.

This is the only code that opens artifact files. A shard is written under a temporary name and renamed; the manifest
follows when all rows are there. `datasets`, pandas and DuckDB read the shards directly.
"""

import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .. import __version__
from . import fingerprint
from .contracts import check_columns, check_facts, check_no_duplicates, check_vectors
from .documents import checked, read_json
from .errors import InputError
from .paths import find

MANIFEST = "manifest.json"
SHARD_ROWS = 50_000
STACK = ("torch", "lightning", "transformers", "datasets", "pyarrow", "numpy")
# What to run when an artifact is missing or out of date and carries no command of its own.
MAKERS = {
    "generate": "python main.py predict --config generate.yaml",
    "clean": "python main.py clean --config clean.yaml",
    "translate": "python main.py predict --config translate.yaml",
    "teacher": "python main.py fit --config teacher.yaml",
    "pseudolabel": "python main.py predict --config pseudolabel.yaml",
    "dynamics": "python main.py fit --config teacher.yaml --data.pool.path POOL",
    "embed": "python main.py predict --config embed.yaml",
    "select": "python main.py select --config select.yaml",
    "student": "python main.py fit --config student.yaml",
    "test": "python main.py test --config test.yaml",
    "codemix": "python main.py fit --config codemix.yaml",
    "score": "python main.py test --config codemix_test.yaml",
    "report": "python main.py report --config report.yaml",
}


@dataclass(frozen=True)
class Manifest:
    """What an artifact is and where it comes from.

    Args:
        stage: The stage that wrote it, such as `select`.
        rows: Number of rows over all shards.
        fingerprint: SHA-256 over schema, rows in order, and the labels in the order of the rows' vectors.
        columns: Column name -> Arrow type.
        inputs: What the stage read: name -> `{"path", "fingerprint"}`.
        lineage: Fingerprints of all ancestors by name, the inputs' own ancestors included.
        config: The resolved configuration.
        facts: Numbers and names that only this stage has (labels, shortfalls, metrics).
        command: The command line that wrote it.
        versions: Package name -> version.
        written: UTC time.
    """

    stage: str
    rows: int
    fingerprint: str
    columns: dict[str, str]
    inputs: dict[str, dict[str, str]] = field(default_factory=dict)
    lineage: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    written: str = ""


@dataclass(frozen=True)
class Artifact:
    """A whole artifact in memory: its rows and its manifest."""

    path: Path
    table: pa.Table
    manifest: Manifest


def write(
    out: Path,
    table: pa.Table | None,
    *,
    stage: str,
    fingerprint_of_files: str = "",
    inputs: Mapping[str, dict[str, str]] | None = None,
    lineage: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    command: str = "",
) -> Manifest:
    """Write rows as shards of `SHARD_ROWS` in the given order, then the manifest.

    A stage whose product is not rows (a model folder) gives no table, but the product's own fingerprint.

    Raises:
        InputError: If two columns have one name, or a vector is not what it should be; then nothing is touched.
    """
    rows = table if table is not None else pa.table({})
    check_no_duplicates(rows.column_names, str(out))
    check_vectors(rows, facts or {}, out, "nothing was written; check the model that computed it")
    out.mkdir(parents=True, exist_ok=True)
    (out / MANIFEST).unlink(missing_ok=True)
    for stale in (*out.glob("part-*.parquet"), *out.glob(".*.*.tmp")):  # the latter a killed process left half written
        stale.unlink()
    for number, start in enumerate(range(0, rows.num_rows or int(table is not None), SHARD_ROWS)):
        write_parquet(out / f"part-{number:05d}.parquet", rows.slice(start, SHARD_ROWS))
    manifest = Manifest(
        stage=stage,
        rows=rows.num_rows,
        fingerprint=fingerprint_of_files or fingerprint.of_table(rows, (facts or {}).get("labels")),
        columns={column.name: str(column.type) for column in rows.schema},
        inputs=dict(inputs or {}),
        lineage={**(lineage or {}), **{name: one["fingerprint"] for name, one in (inputs or {}).items()}},
        config=dict(config or {}),
        facts=dict(facts or {}),
        command=command,
        versions=versions(),
        written=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_json(out / MANIFEST, asdict(manifest))
    return manifest


def is_whole(path: Path) -> bool:
    """Whether the folder carries a manifest; it is written last, so then everything else is there too."""
    return (path / MANIFEST).is_file()


def read_manifest(path: Path, stage: str | None = None) -> Manifest:
    """Read an artifact's manifest.

    Args:
        path: The artifact's folder.
        stage: The stage it must come from, if that matters; also names the command in the error.

    Raises:
        InputError: If the folder is missing, not whole, or from another stage.
    """
    maker = f'; make it with "{MAKERS[stage]}"' if stage in MAKERS else ""
    if not path.is_dir():
        raise InputError(f"{path}: no such artifact, expected a folder with {MANIFEST}{maker}")
    if not is_whole(path):
        remedy = f'; run "{MAKERS[stage]}" again, it resumes' if stage in MAKERS else "; run its stage again"
        raise InputError(f"{path}: no {MANIFEST}, so the artifact is not whole{remedy}")
    remedy = maker.removeprefix("; ") or "run its stage again"
    manifest = checked(Manifest, read_json(path / MANIFEST, remedy), path / MANIFEST, remedy)
    check_facts(manifest.stage, manifest.facts, path / MANIFEST, remedy)
    if stage is not None and manifest.stage != stage:
        raise InputError(f"{path}: written by stage '{manifest.stage}', expected '{stage}'{maker}")
    return manifest


def read(path: Path, stage: str | None = None) -> Artifact:
    """Read a whole artifact and check its rows against the manifest.

    Raises:
        InputError: If it is missing, not whole, from another stage, or its shards do not match its manifest.
    """
    manifest = read_manifest(path, stage)
    if not manifest.columns:
        raise InputError(f"{path}: stage '{manifest.stage}' wrote a model, not rows; see {path / 'model'}")
    try:
        table = pa.concat_tables([pq.read_table(shard) for shard in sorted(path.glob("part-*.parquet"))])
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: unreadable shard ({error}); rebuild with {rebuild(manifest)}") from None
    if fingerprint.of_table(table, manifest.facts.get("labels")) != manifest.fingerprint:
        raise InputError(
            f"{path}: {table.num_rows} rows that do not match the manifest ({manifest.rows} rows, "
            f"{manifest.fingerprint[:15]}…); rebuild with {rebuild(manifest)}"
        )
    remedy = f"rebuild with {rebuild(manifest)}"
    if stage is not None:
        check_columns(stage, table, path, remedy)
    check_vectors(table, manifest.facts, path, remedy)
    return Artifact(path, table, manifest)


def is_selection(manifest: Manifest) -> bool:
    """Whether the rows are a selection, or its translation."""
    return manifest.stage == "select" or (manifest.stage == "translate" and bool(manifest.facts.get("selection")))


def reference(path: Path, manifest: Manifest) -> dict[str, str]:
    """The entry that names this artifact among another's `inputs`."""
    return {"path": str(path), "fingerprint": manifest.fingerprint}


def check_same_ancestor(artifact: Artifact, ancestor: str, expected: str, expected_path: str) -> None:
    """Refuse to join an artifact that descends from other rows.

    Args:
        artifact: The artifact to be joined.
        ancestor: The name of the common ancestor in its lineage, such as `pool`.
        expected: The fingerprint that the ancestor has here.
        expected_path: Where the ancestor was read from, for the error.

    Raises:
        InputError: If the lineage names another fingerprint, or none.
    """
    found = artifact.manifest.lineage.get(ancestor)
    if found != expected:
        raise InputError(
            f"{artifact.path}: built from another {ancestor} ({(found or 'none named')[:15]}…) than {expected_path} "
            f"({expected[:15]}…); rebuild it with {rebuild(artifact.manifest)}"
        )


def check_fresh(path: Path, manifest: Manifest) -> None:
    """Refuse an artifact when something it was made from has been made anew since.

    Inputs are looked up where they were read from, and theirs in turn; a file of rows, or an input that has been moved
    away, is taken on trust. A model folder stands for the fit that wrote it.

    Raises:
        InputError: If an ancestor has changed; names the commands that rebuild what depends on it, in order.
    """
    changed, commands = _stale(path, manifest, frozenset())
    if changed:
        names = " and ".join(dict.fromkeys(changed))
        order = ", then ".join(f'"{command}"' for command in dict.fromkeys(commands))
        raise InputError(f"{path}: out of date, {names} has been made anew since; rebuild with {order}")


def _stale(path: Path, manifest: Manifest, seen: frozenset[Path]) -> tuple[list[str], list[str]]:
    """What has changed among the ancestors, and the commands from there down to this artifact."""
    changed: list[str] = []
    commands: list[str] = []
    for name, place, read_then in _inputs(manifest):
        found = find(place)
        folder = found.parent if found is not None and found.name == "model" else found
        if folder is None or folder in seen or not is_whole(folder):
            continue
        ancestor = read_manifest(folder)
        deeper = _stale(folder, ancestor, seen | {folder})
        changed += deeper[0]
        commands += deeper[1]
        if ancestor.fingerprint != read_then:
            changed.append(f"{name} {place}")
    own = manifest.command or MAKERS.get(manifest.stage, f"the stage of {path}")
    return changed, [*commands, own] if changed else []


def _inputs(manifest: Manifest) -> Iterator[tuple[str, str, str]]:
    """Name, place and fingerprint of everything that was read; several sources of one input each by itself."""
    for name, one in manifest.inputs.items():
        # Rows may be read in part or under other names; then the artifact's own fingerprint stands beside theirs.
        prints = one.get("artifact", one["fingerprint"]).split(", ")
        places = one["path"].split(", ")
        if len(prints) != len(places):
            prints, places = [one["fingerprint"]], [one["path"]]
        yield from ((name, place, print_) for place, print_ in zip(places, prints, strict=True))


def rebuild(manifest: Manifest) -> str:
    """The quoted command that makes this artifact anew."""
    return f'"{manifest.command or MAKERS.get(manifest.stage, "its stage")}"'


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write one shard under a temporary name, then rename it: it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    pq.write_table(table, temporary, compression="zstd")
    settle(temporary, path)


def read_parquet(path: Path) -> pa.Table:
    """Read one shard.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        return pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: unreadable ({error}); run its stage again") from None


def write_json(path: Path, value: object) -> None:
    """Write JSON under a temporary name, then rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    settle(temporary, path)


def versions() -> dict[str, str]:
    """The versions that can change a number."""
    found = {"labelbridge": __version__, "python": platform.python_version()}
    for package in STACK:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def settle(temporary: Path, final: Path) -> None:
    """Flush a finished file to the disk before it takes its name, so that a power cut leaves no empty shard."""
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    temporary.replace(final)
