"""The predictions of `test` artifacts, aligned by row id, with what the report needs to know of their models."""

# N = rows, C = classes

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..calibration.priors import under_prior
from ..core import artifacts
from ..core.contracts import LeakageFacts, check_labels, probabilities
from ..core.errors import InputError, shorten
from ..core.task import Task

AS_TRAINED = "as_trained"
DIVIDED = "divided"


@dataclass(frozen=True)
class Predictions:
    """One model on one target; rows in order of id.

    Args:
        ids: Row ids.
        label_N: Gold label numbers.
        probs_NC: Predicted probabilities.
        columns: What else the artifact holds of its rows: column -> value of each row.
    """

    ids: list[str]
    label_N: np.ndarray
    probs_NC: np.ndarray
    columns: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Tested:
    """One `test` artifact.

    Args:
        path: Its folder.
        task: The task.
        setting: `zero-shot`, `translate-train` and so on.
        method: The method's name.
        seed: The model's seed.
        dev: Accuracy of the exported model on the source dev set, if recorded.
        gold_counts: Gold rows per label that the model was trained on, in the task's order, if recorded.
        by_target: Predictions by target.
        corrected: Whether the model, or the test, has changed the label prior already.
        synthetic_counts: Selected rows per label that it was trained on, if recorded.
        leakage: Near duplicates of its rows among training data, if measured.
        metrics: Target -> what the test has measured.
    """

    path: str
    task: Task
    setting: str
    method: str
    seed: str
    dev: float | None
    gold_counts: list[int] | None
    by_target: dict[str, Predictions]
    corrected: bool = False
    synthetic_counts: list[int] | None = None
    leakage: LeakageFacts | None = None
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def has_gold_prior(self) -> bool:
        """Whether the predictions are made under the label prior of gold rows, so that there is one to divide by."""
        return not self.corrected and bool(self.gold_counts) and sum(self.gold_counts or []) > 0

    def probs(self, target: str, prior: str) -> np.ndarray:
        """Probabilities as predicted, or with the gold's prior divided out.

        Args:
            target: The target's name.
            prior: `as_trained` or `divided`; without gold rows both are the same.
        """
        probs_NC = self.by_target[target].probs_NC
        if prior == AS_TRAINED or not self.has_gold_prior:
            return probs_NC
        counts_C = np.asarray(self.gold_counts, dtype=np.float64)
        return under_prior(probs_NC, counts_C / counts_C.sum(), np.full(len(counts_C), 1 / len(counts_C)))


def read(folder: Path) -> Tested:
    """Read a `test` artifact.

    Raises:
        InputError: If it is missing, incomplete, out of date or from another stage.
    """
    artifact = artifacts.read(folder, "test")
    artifacts.check_fresh(folder, artifact.manifest)
    facts = artifact.manifest.facts
    task = Task(**facts["task"])
    _check_labels(artifact, task)
    counts, synthetic_counts = facts.get("gold_counts"), facts.get("synthetic_counts")
    return Tested(
        str(folder),
        task,
        facts.get("setting", "zero-shot"),
        facts.get("method", str(folder)),
        str(facts.get("seed")),
        facts.get("dev", {}).get("dev/accuracy"),
        None if counts is None else [int(counts.get(label, 0)) for label in task.labels],
        _by_target(artifact.table, task),
        "label_prior" in facts,
        None if synthetic_counts is None else [int(synthetic_counts.get(label, 0)) for label in task.labels],
        facts.get("leakage"),
        facts.get("metrics", {}),
    )


def _check_labels(artifact: artifacts.Artifact, task: Task) -> None:
    """Refuse no rows, rows that occur twice, and rows whose labels or probabilities are not the task's.

    Raises:
        InputError: Names the row.
    """
    remedy = f"rebuild with {artifacts.rebuild(artifact.manifest)}"
    if not artifact.table.num_rows:
        raise InputError(f"{artifact.path}: no rows, expected predictions of one target at least; {remedy}")
    pairs = zip(artifact.table["target"].to_pylist(), artifact.table["id"].to_pylist(), strict=True)
    (target, twice), count = Counter(pairs).most_common(1)[0]
    if count > 1:
        raise InputError(f"{artifact.path}: duplicate id {shorten(twice)} in target {shorten(target)}; {remedy}")
    check_labels(artifact.table, "label", task.labels, artifact.path, remedy)
    probabilities(artifact.table, len(task.labels), artifact.path, remedy)


def check_priors(tested: Sequence[Tested]) -> None:
    """Refuse runs whose gold prior cannot be divided out.

    Raises:
        InputError: If a run's label counts are not recorded, or its gold lacks a label.
    """
    for run in tested:
        if run.gold_counts is None:
            raise InputError(
                f"{run.path}: the label counts of the model's gold are not recorded, so its prior cannot be divided "
                "out; fit and test the model again with --overwrite=true, or report with --prior=as_trained"
            )
        if run.has_gold_prior and 0 in run.gold_counts:
            label = run.task.labels[run.gold_counts.index(0)]
            raise InputError(
                f"{run.path}: the model's gold has no row of '{label}', so its prior cannot be divided out; report "
                "with --prior=as_trained"
            )


def no_such_column(option: str, column: str) -> InputError:
    """The error for a column of the test rows that an option of `report` names and no run holds."""
    return InputError(
        f"{option} '{column}': no test run holds this column; add `keep: [{column}]` to the sources under data.targets "
        "and test again with --overwrite=true"
    )


def check_same_rows(group: Sequence[Tested]) -> None:
    """Refuse runs of one table whose rows or labels of a target differ.

    Raises:
        InputError: Names the run and the target.
    """
    first: dict[str, tuple[list[str], list[str]]] = {}
    for run in group:
        for target, predictions in run.by_target.items():
            labels = [run.task.labels[number] for number in predictions.label_N]
            ids, known = first.setdefault(target, (predictions.ids, labels))
            if predictions.ids != ids or labels != known:
                what = "rows" if predictions.ids != ids else "labels"
                raise InputError(
                    f"{run.path}: target {target} has other {what} than in the other runs; test on the same file"
                )


def _by_target(table: pa.Table, task: Task) -> dict[str, Predictions]:
    numbers = {label: number for number, label in enumerate(task.labels)}
    label_N = np.array([numbers[label] for label in table["label"].to_pylist()])
    probs_NC = np.array(table["probs"].to_pylist(), dtype=np.float64)
    ids, names = table["id"].to_pylist(), np.asarray(table["target"].to_pylist())
    others = [name for name in table.column_names if name not in ("id", "target", "label", "prediction", "probs")]
    columns = {name: table[name].to_pylist() for name in others}
    by_target = {}
    for target in dict.fromkeys(names.tolist()):
        rows = sorted(np.flatnonzero(names == target), key=lambda row: ids[row])
        kept = {name: [values[row] for row in rows] for name, values in columns.items()}
        by_target[target] = Predictions([ids[row] for row in rows], label_N[rows], probs_NC[rows], kept)
    return by_target
