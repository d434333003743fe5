"""Training dynamics: a teacher's log-probabilities for the same rows after every epoch, and what they say of a row.

On the disk: `_ids/ids.parquet` once, then one file an epoch (`epoch-00000.parquet`: `epoch`, `row`, and a column a
label, float32 or float16), each there whole or not at all, and the manifest last. `row` is the place among the ids.
130,000 rows x 3 labels x 15 epochs are 23 MB in float32.
"""

# E = epochs, N = rows, C = classes

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..core import artifacts, fingerprint
from ..core.contracts import Reference, check_column, check_labels
from ..core.errors import InputError
from ..core.task import Task

STAGE = "dynamics"
EPOCH, ROW = "epoch", "row"
IDS = "_ids/ids.parquet"  # in a folder, so that the pattern `FOLDER/*.parquet` takes epochs alone
REMEDY = "train the teacher again"
# Log-probabilities of 8-bit mantissas still sum to one within this.
SUM_TOLERANCE = 0.05


@dataclass(frozen=True)
class ScoredRows:
    """A set of rows that is scored over and over.

    Args:
        loader: A DataLoader that gives every row once over all ranks, in the same order each time.
        ids: N row ids; a row's number is its place here.
        labels: C label names, in the order of the log-probabilities.
        reference: The label number that correctness and so on refer to, shape (N,); None for the most likely class
            after the last epoch.
        inputs: What the rows come from, for the manifest.
    """

    loader: Any
    ids: Sequence[str]
    labels: Sequence[str]
    reference: np.ndarray | None = None
    inputs: dict[str, Reference] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse rows that could not be told apart.

        Raises:
            ValueError: If an id stands twice, or there are more or fewer references than ids.
        """
        if len(set(self.ids)) != len(self.ids):
            twice = next(one for one, count in Counter(self.ids).items() if count > 1)
            raise ValueError(f"ids: {twice!r} stands twice, expected each row's own")
        if self.reference is not None and len(self.reference) != len(self.ids):
            raise ValueError(f"reference: {len(self.reference)} labels, expected one for each of {len(self.ids)} ids")

    @property
    def says(self) -> str:
        """What the reference label is, in words."""
        return "gold label" if self.reference is not None else "most likely class after the last epoch"


@dataclass(frozen=True)
class Dynamics:
    """Training dynamics in memory.

    Args:
        path: The artifact's folder.
        manifest: Its manifest.
        ids: N row ids.
        log_probs_ENC: float32, classes in the task's order.
        reference_N: The label number that statistics refer to: the recorded one (a gold row's label), else the most
            likely class after the last epoch.
    """

    path: Path
    manifest: artifacts.Manifest
    ids: list[str]
    log_probs_ENC: np.ndarray
    reference_N: np.ndarray


def epoch_file(folder: Path, epoch: int) -> Path:
    """The file of one epoch, or one check, counted from 0."""
    return folder / f"epoch-{epoch:05d}.parquet"


def write_epoch(folder: Path, epoch: int, log_probs_NC: np.ndarray, labels: Sequence[str], dtype: str) -> None:
    """Write one epoch's log-probabilities, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    values = np.clip(log_probs_NC, np.finfo(dtype).min, 0).astype(dtype)
    # For other tools, which read all epochs as one table; a label of the same name goes first.
    places = {EPOCH: np.full(len(values), epoch, dtype=np.int32), ROW: np.arange(len(values), dtype=np.int32)}
    columns = {label: np.ascontiguousarray(values[:, number]) for number, label in enumerate(labels)}
    table = pa.table({**{name: column for name, column in places.items() if name not in columns}, **columns})
    artifacts.write_parquet(epoch_file(folder, epoch), table, counter=ROW)


def write_ids(folder: Path, rows: ScoredRows) -> None:
    """Write the rows' ids, and the label that their statistics refer to where they have one."""
    columns = {"id": pa.array([str(one) for one in rows.ids], pa.string())}
    if rows.reference is not None:
        columns["reference"] = pa.array([rows.labels[int(one)] for one in rows.reference], pa.string())
    (folder / IDS).parent.mkdir(parents=True, exist_ok=True)
    artifacts.write_parquet(folder / IDS, pa.table(columns))
    artifacts.name_row_files(folder, "epoch-*.parquet")


def read_checks(folder: Path, labels: Sequence[str]) -> Iterator[np.ndarray]:
    """Log-probabilities epoch by epoch, one in memory at a time; float32 of shape (N, C), classes as in `labels`."""
    for file in sorted(folder.glob("epoch-*.parquet")):
        yield _columns(file, labels)


def last_check(folder: Path, labels: Sequence[str]) -> np.ndarray:
    """The log-probabilities of the last epoch alone; as in `read_checks`."""
    return _columns(max(folder.glob("epoch-*.parquet")), labels)


def _columns(file: Path, labels: Sequence[str]) -> np.ndarray:
    """One epoch, checked.

    Raises:
        InputError: If a label has no column of numbers, or a row is not the logarithms of probabilities.
    """
    table = artifacts.read_parquet(file)
    for label in labels:
        if label not in table.column_names or not pa.types.is_floating(table.schema.field(label).type):
            raise InputError(f"{file}: no column of numbers for label '{label}' among {table.column_names}; {REMEDY}")
    columns = [table[label].to_numpy(zero_copy_only=False) for label in labels]
    log_probs_NC = np.column_stack(columns).astype(np.float32, copy=False)
    with np.errstate(over="ignore"):
        sums_N = np.exp(log_probs_NC.astype(np.float64)).sum(axis=1)
    wrong = ~(np.abs(sums_N - 1) <= SUM_TOLERANCE) | np.isnan(log_probs_NC).any(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{file} row {row}: {log_probs_NC[row].tolist()}, whose exponentials sum to {sums_N[row]:.4g}, expected 1; "
            f"{REMEDY}"
        )
    return log_probs_NC


def discard_from(folder: Path, epoch: int) -> None:
    """Remove the epochs from this one on: a resumed run computes them again."""
    for file in folder.glob("epoch-*.parquet"):
        if file >= epoch_file(folder, epoch):
            file.unlink()


def finish(folder: Path, facts: dict[str, Any], **manifest: Any) -> None:
    """Write the manifest, when all epochs are there."""
    files = [folder / IDS, *sorted(folder.glob("epoch-*.parquet"))]
    artifacts.write(
        folder, None, stage=STAGE, fingerprint_of_files=_fingerprint(files, facts["labels"]), files=files,
        facts={**facts, "epochs": len(files) - 1}, **manifest,
    )  # fmt: skip


def _fingerprint(files: list[Path], labels: Sequence[str]) -> str:
    return fingerprint.of_value([fingerprint.of_files(files), list(labels)])


def read_dynamics(folder: Path, task: Task) -> Dynamics:
    """Read a whole artifact, classes in the task's order.

    Raises:
        InputError: If it is missing or not whole, its files have changed, or its labels are not the task's.
    """
    manifest = artifacts.read_manifest(folder, STAGE)
    artifacts.check_fresh(folder, manifest)
    files = sorted(folder.glob("epoch-*.parquet"))
    if not files or not (folder / IDS).is_file():
        raise InputError(f"{folder}: no {IDS if files else 'epoch'}, expected one at least; {REMEDY}")
    if _fingerprint([folder / IDS, *files], manifest.facts["labels"]) != manifest.fingerprint:
        raise InputError(f"{folder}: {len(files)} epochs that do not match the manifest; {REMEDY}")
    labels = {task.match(name): name for name in manifest.facts["labels"]}
    if set(labels) != set(task.labels):
        raise InputError(
            f"{folder}: labels {manifest.facts['labels']}, expected {task.labels}; train a teacher on them"
        )
    rows = artifacts.read_parquet(folder / IDS)
    check_column(rows, "id", folder / IDS, REMEDY)
    log_probs_ENC = np.empty((len(files), rows.num_rows, len(task.labels)), dtype=np.float32)
    own_names = [labels[label] for label in task.labels]
    for epoch, log_probs_NC in enumerate(read_checks(folder, own_names)):
        if len(log_probs_NC) != rows.num_rows:
            raise InputError(f"{files[epoch]}: {len(log_probs_NC)} rows, expected {rows.num_rows}; {REMEDY}")
        log_probs_ENC[epoch] = log_probs_NC
    if "reference" in rows.column_names:
        reference = rows["reference"].to_pylist()
        check_labels(rows, "reference", own_names, folder / IDS, REMEDY)
        reference_N = np.array([own_names.index(label) for label in reference], dtype=np.int64)
    else:
        reference_N = log_probs_ENC[-1].argmax(axis=1)
    return Dynamics(folder, manifest, rows["id"].to_pylist(), log_probs_ENC, reference_N)
