"""Artifacts: folders of Parquet shards whose manifest, written last, names every shard and its size.

This is the only code that opens artifact files. A shard is written under a temporary name and renamed; the manifest
follows when all rows are there.

Other tools open the folder as it is: pandas and pyarrow skip names that begin with `_` or `.`, as all files beside the
shards do; `datasets.load_dataset` reads `.huggingface.yaml`, which names the shards; DuckDB and polars take the pattern
`FOLDER/*.parquet`.
"""

import json
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from .. import __version__
from ..stages import maker
from . import fingerprint
from .contracts import (
    Config,
    Reference,
    check_accuracy,
    check_columns,
    check_facts,
    check_no_duplicates,
    check_task,
    check_times,
    check_vectors,
)
from .documents import checked, read_json
from .errors import InputError, system_errors
from .paths import find

MANIFEST = "_manifest.json"
IDENTITY = "_identity.json"  # what determines the rows, and the command; written before the first row
HUGGING_FACE = ".huggingface.yaml"  # says to `datasets` which files are rows
METRICS = "_metrics.json"
REJECTED = "_rejected"  # the artifact of the rows that a stage refused, inside its own
SHARD_ROWS = 50_000
_HALF_WRITTEN = re.compile(r"\..+\.\d+\.tmp")  # what a killed process leaves of a file, see `write_parquet`
STACK = ("torch", "lightning", "transformers", "datasets", "pyarrow", "numpy")


@dataclass(frozen=True)
class Manifest:
    """What an artifact is and where it comes from.

    Args:
        stage: The stage that wrote it, such as `select`.
        rows: Number of rows over all shards.
        files: Size in bytes of every shard (or of every file of a model), by its path inside the folder.
        fingerprint: SHA-256 over schema, rows in order, and the labels in the order of the rows' vectors.
        columns: Column name -> Arrow type.
        inputs: What the stage read, by name.
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
    files: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, Reference] = field(default_factory=dict)
    lineage: dict[str, str] = field(default_factory=dict)
    config: Config = field(default_factory=Config)
    facts: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    written: str = ""


@dataclass(frozen=True)
class Artifact:
    """A complete artifact in memory: its rows and its manifest."""

    path: Path
    table: pa.Table
    manifest: Manifest

    def to_pandas(self) -> Any:
        """The rows as a `pandas.DataFrame`."""
        return self.table.to_pandas()


def write(
    out: Path,
    table: pa.Table | None,
    *,
    stage: str,
    fingerprint_of_files: str = "",
    files: Iterable[Path] = (),
    inputs: Mapping[str, Reference] | None = None,
    lineage: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    command: str = "",
) -> Manifest:
    """Write rows as shards of `SHARD_ROWS` in the given order, then the manifest.

    Args:
        out: The folder.
        table: The rows; None for a stage whose product is something else, such as a model.
        stage: The stage's name.
        fingerprint_of_files: The product's own fingerprint, where there are no rows.
        files: Further files inside `out` without which it is incomplete, such as those of a model.
        inputs: See `Manifest`, as for all that follow.
        lineage: Of the inputs' own ancestors; the inputs themselves are added.
        config: See `Manifest`.
        facts: See `Manifest`.
        command: See `Manifest`.

    Raises:
        InputError: If two columns have one name, or a vector is not what it should be; then nothing is touched.
    """
    rows = table if table is not None else pa.table({})
    check_no_duplicates(rows.column_names, str(out))
    check_vectors(rows, facts or {}, out, "nothing was written; check the model that computed it")
    out.mkdir(parents=True, exist_ok=True)
    (out / MANIFEST).unlink(missing_ok=True)
    for stale in out.iterdir():  # a user's own `part-7.parquet` is none of ours
        if is_shard(stale.name) or _HALF_WRITTEN.fullmatch(stale.name):
            stale.unlink()
    parts = list(files)
    for number, start in enumerate(range(0, rows.num_rows or int(table is not None), SHARD_ROWS)):
        parts.append(out / f"part-{number:05d}.parquet")
        write_parquet(parts[-1], rows.slice(start, SHARD_ROWS))
    if table is not None:
        name_row_files(out, "part-*.parquet")
    manifest = Manifest(
        stage=stage,
        rows=rows.num_rows,
        fingerprint=fingerprint_of_files or fingerprint.of_table(rows, (facts or {}).get("labels")),
        columns={column.name: str(column.type) for column in rows.schema},
        files={file.relative_to(out).as_posix(): file.stat().st_size for file in parts},
        inputs=dict(inputs or {}),
        lineage={**(lineage or {}), **{name: one["fingerprint"] for name, one in (inputs or {}).items()}},
        config=cast("Config", dict(config or {})),
        facts=dict(facts or {}),
        command=command,
        versions=versions(),
        written=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_json(out / MANIFEST, asdict(manifest))
    return manifest


def is_shard(name: str) -> bool:
    """Whether a file's name is that of a shard."""
    return re.fullmatch(r"part-\d{5,}\.parquet", name) is not None


def name_row_files(folder: Path, pattern: str) -> None:
    """Tell `datasets` which files of the folder are its rows: it reads all others too, and fails at the first one."""
    settings = f"configs:\n- config_name: default\n  data_files: {pattern}\n"
    (folder / HUGGING_FACE).write_text(settings, encoding="utf-8")


def is_whole(path: Path) -> bool:
    """Whether the folder has a manifest, and every file that it names with the recorded size."""
    return why_incomplete(path) is None


def why_incomplete(path: Path) -> str | None:
    """What an artifact lacks; None if it is complete."""
    if not (path / MANIFEST).is_file():
        return f"there is no {MANIFEST}"
    try:
        manifest = manifest_at(path)
    except InputError as error:
        return f"{MANIFEST} is not a manifest ({error})"
    lacking = _lacking(path, manifest)
    return f"{lacking[0]}{f' and {len(lacking) - 1} more' if len(lacking) > 1 else ''}" if lacking else None


def manifest_of(path: Path) -> Manifest | None:
    """The manifest in a folder, whether or not its files are still there; None if there is none that can be read."""
    try:
        return manifest_at(path)
    except InputError:
        return None


def files_of(path: Path) -> list[Path]:
    """The files of a complete artifact, its manifest included, for the `files` of the artifact that it lies in."""
    return [path / MANIFEST, *(path / name for name in manifest_at(path).files)]


def manifest_at(path: Path, remedy: str = "run its stage again") -> Manifest:
    """The manifest as it is declared, whether or not its files are still there.

    Raises:
        InputError: If it cannot be read, or says something else.
    """
    file = path / MANIFEST
    manifest = checked(Manifest, read_json(file, remedy), file, remedy)
    for name, read in manifest.inputs.items():
        if len(read.get("artifacts", read["paths"])) != len(read["paths"]):
            raise InputError(f"{file}: inputs.{name} has not one of `artifacts` for each of `paths`; {remedy}")
    check_facts(manifest.stage, manifest.facts, file, remedy)
    if "task" in manifest.config:
        check_task(manifest.config["task"], f"{file}: config", remedy)
    return manifest


def _lacking(path: Path, manifest: Manifest) -> list[str]:
    """The files that are missing or not of the recorded size, in words."""
    sizes = {name: (path / name).stat().st_size if (path / name).is_file() else None for name in manifest.files}
    return [
        f"{name} is missing" if sizes[name] is None else f"{name} has {sizes[name]} bytes instead of {size}"
        for name, size in manifest.files.items()
        if sizes[name] != size
    ]


def read_manifest(path: Path, stage: str | None = None) -> Manifest:
    """Read an artifact's manifest.

    Args:
        path: The artifact's folder.
        stage: The stage it must come from, if that matters; also names the command in the error.

    Raises:
        InputError: If the folder is missing, incomplete, or from another stage.
    """
    usual = maker(stage) if stage is not None else None
    remedy = f'; make it with "{usual}"' if usual is not None else ""
    if not path.is_dir():
        raise InputError(f"{path}: no such artifact, expected a folder with {MANIFEST}{remedy}")
    begun = _begun_by(path) or usual
    if not (path / MANIFEST).is_file():
        resume = f'run "{begun}" to complete it' if begun else "run its stage again"
        raise InputError(f"{path}: incomplete, there is no {MANIFEST}; {resume}")
    manifest = manifest_at(path, f'make it with "{begun}"' if begun else "run its stage again")
    if _lacking(path, manifest):
        raise InputError(f"{path}: incomplete, {why_incomplete(path)}; rebuild it with {rebuild(manifest)}")
    if stage is not None and manifest.stage != stage:
        raise InputError(f"{path}: written by stage '{manifest.stage}', expected '{stage}'{remedy}")
    return manifest


def _begun_by(path: Path) -> str:
    """The command that began an artifact; empty if the folder does not say."""
    try:
        identity = read_json(path / IDENTITY)
    except InputError:
        return ""
    return str(identity.get("command", "")) if isinstance(identity, dict) else ""


def read(path: Path, stage: str | None = None) -> Artifact:
    """Read a complete artifact and check its rows against the manifest.

    Raises:
        InputError: If it is missing, incomplete, from another stage, or its shards do not match its manifest.
    """
    manifest = read_manifest(path, stage)
    if not manifest.columns:
        inside = [str(folder) for folder in sorted(path.iterdir()) if folder.is_dir() and folder.name[0] not in "._"]
        raise InputError(
            f"{path}: stage '{manifest.stage}' wrote no rows of its own; see {' and '.join(inside) or path}"
        )
    shards = [path / name for name in sorted(filter(is_shard, manifest.files))]
    try:
        with system_errors(path):  # a shard that may not be read is not to be removed
            table = pa.concat_tables([pq.read_table(shard) for shard in shards])
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{path}: unreadable shard ({error}); remove its shards, then rebuild it with {rebuild(manifest)}"
        ) from None
    is_as_written = fingerprint.of_table(table, manifest.facts.get("labels")) == manifest.fingerprint
    if not is_as_written or table.num_rows != manifest.rows:
        raise InputError(
            f"{path}: {table.num_rows} rows that do not match the manifest ({manifest.rows} rows, "
            f"{manifest.fingerprint[:15]}…); remove its shards, then rebuild it with {rebuild(manifest)}"
        )
    remedy = f"rebuild with {rebuild(manifest)}"
    if stage is not None:
        check_columns(stage, table, path, remedy)
    check_vectors(table, manifest.facts, path, remedy)
    check_times(table, path, remedy)
    if stage == "test":
        check_accuracy(table, manifest.facts, path, remedy)
    return Artifact(path, table, manifest)


def is_selection(manifest: Manifest) -> bool:
    """Whether the rows are a selection, or its translation."""
    return manifest.stage == "select" or (manifest.stage == "translate" and bool(manifest.facts.get("selection")))


def selection_stage(folder: Path) -> str | None:
    """The stage that a folder must come from to be a selection; None if it holds a translated one, which is one too."""
    try:
        return None if is_selection(manifest_at(folder)) else "select"
    except InputError:
        return "select"


def reference(path: Path | str, source: Manifest | str) -> Reference:
    """The entry that names an input: an artifact by its manifest, a file or a model by its fingerprint."""
    return {"paths": [str(path)], "fingerprint": source if isinstance(source, str) else source.fingerprint}


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
            f"({expected[:15]}…); rebuild it with {rebuild(artifact.manifest, anew=True)}"
        )


def check_fresh(path: Path, manifest: Manifest) -> None:
    """Refuse an artifact when something it was made from has been made anew since.

    Inputs are looked up where they were read from, and theirs in turn; a file of rows, or an input that has been moved
    away, is taken on trust. A model folder stands for the fit that wrote it.

    Raises:
        InputError: If an ancestor has changed; names the commands that rebuild what depends on it, in order.
    """
    changed, commands = _stale(manifest, frozenset())
    if changed:
        names = " and ".join(dict.fromkeys(changed))
        order = ", then ".join(dict.fromkeys(commands))
        raise InputError(f"{path}: out of date, {names} has been made anew since; rebuild with {order}")


def _stale(manifest: Manifest, seen: frozenset[Path]) -> tuple[list[str], list[str]]:
    """What has changed among the ancestors, and the commands from there down to this artifact."""
    changed: list[str] = []
    commands: list[str] = []
    for name, place, read_then in _inputs(manifest):
        found = find(place)
        folder = found.parent if found is not None and found.name == "model" else found
        if folder is None or folder in seen or not is_whole(folder):
            continue
        ancestor = read_manifest(folder)
        deeper = _stale(ancestor, seen | {folder})
        changed += deeper[0]
        commands += deeper[1]
        if ancestor.fingerprint != read_then:
            changed.append(f"{name} {place}")
    return changed, [*commands, rebuild(manifest, anew=True)] if changed else []


def _inputs(manifest: Manifest) -> Iterator[tuple[str, str, str]]:
    """Name, place and fingerprint of everything that was read; several sources of one input each by itself."""
    for name, read in manifest.inputs.items():
        # Rows may be read in part or under other names; then the artifact's own fingerprint stands beside theirs.
        prints = read.get("artifacts", [read["fingerprint"]] * len(read["paths"]))
        for place, print_ in zip(read["paths"], prints, strict=True):
            if print_ is not None:
                yield name, place, print_


def rebuild(manifest: Manifest, *, anew: bool = False) -> str:
    """The quoted command that makes this artifact again.

    Args:
        manifest: The artifact's manifest.
        anew: The inputs have changed, so that the command would meet another run in its folder: what that has computed
            is to be replaced.
    """
    command = manifest.command or maker(manifest.stage)
    if not command:
        return f"the stage '{manifest.stage}'"
    return f'"{command}{" --overwrite=true" if anew else ""}"'


def write_parquet(path: Path, table: pa.Table, *, counter: str | None = None) -> None:
    """Write one shard under a temporary name, then rename it: it is there whole or not at all.

    Args:
        path: The file.
        table: Its rows.
        counter: A column that counts up from row to row, which as differences takes hardly any space.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    counted = counter in table.column_names
    pq.write_table(
        table,
        temporary,
        compression="zstd",
        use_dictionary=[name for name in table.column_names if name != counter] if counted else True,
        column_encoding={counter: "DELTA_BINARY_PACKED"} if counted else None,
    )
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
    """Write JSON under a temporary name, then rename it.

    Raises:
        InputError: If it holds a number that is not finite, for which JSON has no word.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise InputError(f"{path}: a number to be written is nan or infinite; nothing was written") from None
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    settle(temporary, path)


def follow_umask(path: Path) -> None:
    """Give a file, or every file of a folder, the permissions that a new file has.

    Libraries that write through a temporary file, as safetensors does, leave it readable by its owner alone.
    """
    umask = os.umask(0)
    os.umask(umask)
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            file.chmod(0o666 & ~umask)


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
    try:
        temporary.replace(final)
    except OSError:  # such as a folder in its place
        temporary.unlink(missing_ok=True)
        raise
