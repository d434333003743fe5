"""What every artifact holds: its columns and its facts, declared once, and checked whenever one is read.

Columns and facts beyond these are free. Vectors (probabilities, embeddings) are checked by value too, when they are
written and when they are read, whoever reads them.
"""

# N = rows, D = numbers of a vector, C = classes

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Ge, Gt, Le, Len
from typing_extensions import TypedDict

from .documents import checked, filled
from .errors import InputError, shorten
from .ranges import MOST_TOKENS
from .task import Task

SUM_TOLERANCE = 1e-4
_OF_TIME = re.compile("date|time|duration")

TEXT, TEXT_OR_NULL, VECTOR = "text", "text or null", "a list of numbers"

# Stage -> column -> what it holds. Of a stage that is not listed nothing is promised.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "generate": {"id": TEXT, "text": TEXT_OR_NULL},
    "pseudolabel": {"id": TEXT, "probs": VECTOR},
    "embed": {"id": TEXT, "embedding": VECTOR},
    "select": {"id": TEXT},
    "test": {"id": TEXT, "target": TEXT, "label": TEXT, "probs": VECTOR},
    "score": {"id": TEXT, "set": TEXT, "reference": TEXT, "translation": TEXT_OR_NULL},
}
# Columns of vectors, wherever they are.
PROBABILITIES, EMBEDDINGS = "probs", "embedding"


Count = Annotated[int, Ge(0)]
Above0 = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
UpTo1 = Annotated[float, Ge(0), Le(1)]
Filled = Annotated[str, filled()]


class TaskFacts(TypedDict, closed=True):
    """The task."""

    name: str
    columns: list[str]
    labels: list[str]


class Reference(TypedDict):
    """An entry that names what a stage read.

    Attributes:
        paths: Where it was read from, one path for each source.
        fingerprint: SHA-256 of what was read.
        artifacts: For each path the fingerprint of the artifact there, null for files and models. Absent if
            `fingerprint` is that of the one artifact itself.
    """

    paths: list[str]
    fingerprint: str
    artifacts: NotRequired[list[str | None]]


class Scores(TypedDict, extra_items=Any):  # type: ignore[call-arg] # PEP 728
    """What a test says of one set of rows."""

    rows: NotRequired[NotNegative]
    accuracy: NotRequired[UpTo1]
    macro_f1: NotRequired[UpTo1]
    ece: NotRequired[UpTo1]
    ce: NotRequired[NotNegative]
    bleu: NotRequired[NotNegative]
    chrf: NotRequired[NotNegative]


class ComparedSet(TypedDict):
    """A training set that was compared with the targets; `not_compared` says why it was not."""

    name: str
    paths: list[str]
    rows: NotRequired[Count]
    not_compared: NotRequired[str]


class NearDuplicatesFacts(TypedDict):
    """How many of a target's rows nearly repeat a row of a training set, and the ids of some such pairs."""

    rows: Count
    near: Count
    pairs: list[Annotated[list[str], Len(2, 2)]]


class LeakageFacts(TypedDict):
    """Near duplicates between targets and training sets.

    Attributes:
        similarity: Jaccard similarity of word triples from which rows are near duplicates.
        sets: What the targets were compared with.
        targets: Target -> `gold`, `selection`, `pool` or `views` -> near duplicates.
    """

    similarity: float
    sets: list[ComparedSet]
    targets: dict[str, dict[str, NearDuplicatesFacts]]


class Ancestor(TypedDict):
    """A line of a card's lineage."""

    stage: str
    path: str
    rows: Count | None
    note: str


class AveragedRun(TypedDict):
    """A run whose weights went into a mean."""

    path: str
    fingerprint: str
    seed: NotRequired[int | str | None]


class TargetText(TypedDict):
    """The unlabelled target text that a label prior was estimated on."""

    path: str
    fingerprint: str


class LabelPrior(TypedDict, extra_items=Any):  # type: ignore[call-arg] # PEP 728
    """The label prior that a model no longer has, and the one under which it predicts: shares by label."""

    how: str
    source: NotRequired[dict[str, Above0]]
    target: NotRequired[str | dict[str, NotNegative]]
    target_text: NotRequired[TargetText]


class Conformal(TypedDict):
    """Split-conformal sets: how often they may miss, and the least probability of a label that they hold."""

    alpha: float
    threshold: float


class LoraFacts(TypedDict, extra_items=Any):  # type: ignore[call-arg] # PEP 728
    """The size of LoRA adapters."""

    r: Count
    alpha: float


class OnnxFacts(TypedDict):
    """An ONNX file compared with its network."""

    rows: Count
    largest_difference: float
    other_predictions: Count
    accuracy: float | None
    accuracy_of_network: float | None


class Facts(TypedDict, extra_items=Any):  # type: ignore[call-arg] # PEP 728
    """What others rely on among the facts of a manifest or a model card: a fact that is there is of this type."""

    labels: NotRequired[list[str]]
    task: NotRequired[TaskFacts]
    method: NotRequired[Filled]
    setting: NotRequired[Filled]
    seed: NotRequired[int | str | None]  # "0, 1" for the mean of several runs
    dev: NotRequired[dict[str, float]]
    gold_counts: NotRequired[dict[str, Count]]
    synthetic_counts: NotRequired[dict[str, Count]]
    metrics: NotRequired[dict[str, Scores]]
    leakage: NotRequired[LeakageFacts]
    classes: NotRequired[dict[str, dict[str, float | None]]]
    selection: NotRequired[bool]
    inputs: NotRequired[dict[str, Reference]]
    base: NotRequired[str]
    step: NotRequired[int]
    monitor: NotRequired[str]
    max_length: NotRequired[Annotated[int, Ge(1), Le(MOST_TOKENS)]]
    prefix: NotRequired[str | None]
    temperature: NotRequired[Above0 | None]
    results: NotRequired[dict[str, Scores]]
    target_language: NotRequired[str]
    source_language: NotRequired[str]
    source_code: NotRequired[str | None]
    target_code: NotRequired[str | None]
    lora: NotRequired[LoraFacts | None]
    base_fingerprint: NotRequired[str]
    label_prior: NotRequired[LabelPrior]
    dev_confusion: NotRequired[list[list[Count]]]
    conformal: NotRequired[Conformal]
    head_seed: NotRequired[int]
    averaged: NotRequired[list[AveragedRun]]
    languages: NotRequired[list[str]]
    license: NotRequired[str]
    lineage: NotRequired[list[Ancestor]]
    near_duplicates: NotRequired[list[str]]
    onnx: NotRequired[dict[str, OnnxFacts]]
    strategy: NotRequired[str]
    class_from: NotRequired[str]
    quota: NotRequired[dict[str, Count]]
    diversity: NotRequired[float | None]
    prompt_labels: NotRequired[bool | dict[str, Count]]  # false for unlabelled text, or how many rows have each


class Config(TypedDict, extra_items=Any):  # type: ignore[call-arg] # PEP 728
    """What others rely on in the configuration that a manifest records."""

    task: NotRequired[TaskFacts]


# Facts of pseudolabels, handed on by selections and their translations: the label prior of the teacher's gold.
OF_LABEL_PRIOR = ("gold_counts", "label_prior")
# Stage -> facts that it must have.
REQUIRED_FACTS: Mapping[str, Sequence[str]] = {"test": ("task",), "dynamics": ("labels",), "score": ("metrics",)}


def check_accuracy(table: pa.Table, facts: Mapping[str, Any], place: object, remedy: str) -> None:
    """Refuse metrics of a test that are not those of its rows, by their targets and the accuracy.

    Args:
        table: The rows; their columns and vectors have been checked.
        facts: The test's facts.
        place: The artifact.
        remedy: What to do.

    Raises:
        InputError: Names the target.
    """
    recorded, labels = facts.get("metrics"), facts["task"]["labels"]
    widths = pc.list_value_length(table["probs"]).to_numpy()
    if recorded is None or not table.num_rows or table["probs"].null_count or (widths != len(labels)).any():
        return
    probs_NC = np.concatenate([chunk.flatten().to_numpy() for chunk in table["probs"].chunks]).reshape(-1, len(labels))
    label_N = pc.index_in(table["label"], pa.array(labels, table["label"].type)).to_numpy()
    best_N = probs_NC.max(axis=1, keepdims=True)
    is_hit_N = probs_NC.argmax(axis=1) == label_N
    is_tie_N = (probs_NC == best_N).sum(axis=1) > 1
    target_N = table["target"].combine_chunks().dictionary_encode()
    targets, number_N = target_N.dictionary.to_pylist(), target_N.indices.to_numpy()
    if set(targets) != recorded.keys():
        raise InputError(
            f"{place}: the manifest has metrics of {list(recorded)}, expected those of its rows' targets, {targets}; "
            f"{remedy}"
        )
    for number, target in enumerate(targets):
        of_target = number_N == number
        accuracy = float(is_hit_N[of_target].mean())
        slack = SUM_TOLERANCE + float(is_tie_N[of_target].mean())  # more digits may tell equal ones apart
        if abs(recorded[target].get("accuracy", accuracy) - accuracy) > slack:
            raise InputError(
                f"{place}: the manifest's accuracy of target {shorten(target)} is {recorded[target]['accuracy']}, "
                f"expected {accuracy:.4f} as of its rows; {remedy}"
            )


def check_times(table: pa.Table, place: object, remedy: str) -> None:
    """Refuse dates and times that Python has no value for, such as one of the year 300,000.

    Raises:
        InputError: Names the column.
    """
    for field in table.schema:
        if _OF_TIME.search(str(field.type)):
            try:
                table[field.name].to_pylist()
            except (OverflowError, ValueError) as error:
                raise InputError(
                    f"{place}: {field.name} is of type {field.type} and holds a value that cannot be read "
                    f"({shorten(str(error), 120)[1:-1]}); {remedy}"
                ) from None


def check_facts(stage: str, facts: Any, place: object, remedy: str) -> None:
    """Refuse facts that are not as declared.

    Raises:
        InputError: If one is missing or of another type, or two contradict each other.
    """
    found = checked(Facts, facts, f"{place}: facts", remedy)
    missing = next((name for name in REQUIRED_FACTS.get(stage, ()) if name not in found), None)
    if missing is not None:
        raise InputError(f"{place}: facts.{missing} is missing; {remedy}")
    if "task" in found:
        task = found["task"]
        check_task(task, f"{place}: facts", remedy)
        if found.get("labels", task["labels"]) != task["labels"]:
            raise InputError(
                f"{place}: facts.labels is {found['labels']}, expected the task's labels {task['labels']}; {remedy}"
            )
    if ("target_language" in found) != ("source_language" in found):
        raise InputError(
            f"{place}: facts name one language of a translator, expected source_language and target_language; {remedy}"
        )


def check_task(task: TaskFacts, place: object, remedy: str) -> None:
    """Refuse a task of no use, such as one of a single label.

    Raises:
        InputError: Says what is wrong with it.
    """
    try:
        Task(**task)
    except InputError as error:
        raise InputError(f"{place}.{error}; {remedy}") from None


def check_columns(stage: str, table: pa.Table, place: object, remedy: str) -> None:
    """Refuse rows that lack a column of their stage, or hold something else in it.

    Raises:
        InputError: Names the column.
    """
    for name, kind in COLUMNS.get(stage, {}).items():
        check_column(table, name, place, remedy)
        column = table[name]
        if kind == VECTOR:
            continue
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            raise InputError(f"{place}: {name} is of type {column.type}, expected {kind}; {remedy}")
        if kind == TEXT and column.null_count:
            row = column.is_null().index(True).as_py()
            raise InputError(f"{place} row {row}: {name} is null, expected a text; {remedy}")


def check_column(table: pa.Table, name: str, place: object, remedy: str) -> None:
    """Refuse rows that lack a column.

    Raises:
        InputError: Names the columns that there are.
    """
    if name not in table.column_names:
        raise InputError(f"{place}: no column '{name}' among {table.column_names}; {remedy}")


def positions(
    ids: Sequence[str], wanted: Sequence[str], place: object, remedy: str, exactly: bool = True
) -> np.ndarray:
    """Where each wanted row is among others, by its id; shape (N,).

    Args:
        ids: The ids of the others.
        wanted: The ids of the wanted rows, each once.
        place: What an error calls the others.
        remedy: The end of the error line.
        exactly: Whether the others must be the wanted rows alone, each once.

    Raises:
        InputError: If a wanted row is missing, or `exactly` does not hold.
    """
    position = {name: row for row, name in enumerate(ids)}
    missing = next((name for name in wanted if name not in position), None)
    if missing is not None:
        raise InputError(f"{place}: no row for id '{missing}'; {remedy}")
    if exactly and not len(wanted) == len(position) == len(ids):
        raise InputError(f"{place}: {len(ids)} rows, expected one for each of {len(wanted)} ids; {remedy}")
    return np.array([position[name] for name in wanted], dtype=np.int64)


def check_labels(table: pa.Table, name: str, labels: Sequence[str], place: object, remedy: str) -> None:
    """Refuse a column that holds anything but these labels.

    Raises:
        InputError: Names the first other value and its row.
    """
    for row, label in enumerate(table[name].to_pylist()):
        if label not in labels:
            raise InputError(f"{place} row {row}: {name} is {shorten(label)}, expected one of {labels}; {remedy}")


def check_no_duplicates(names: Sequence[str], place: str) -> None:
    """Refuse columns of one name, of which only one could be used.

    Raises:
        InputError: If a name occurs twice.
    """
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{place}: duplicate column {shorten(twice)}; rename or remove one of the two")


def check_vectors(table: pa.Table, facts: Mapping[str, Any], place: object, remedy: str) -> None:
    """Refuse vectors that are not all finite and of one length, and probabilities that do not sum to 1.

    Raises:
        InputError: Names the row.
    """
    if EMBEDDINGS in table.column_names:
        vectors(table, EMBEDDINGS, place, remedy)
    if PROBABILITIES in table.column_names:
        labels = facts.get("labels")
        probabilities(table, len(labels) if labels is not None else None, place, remedy)


def vectors(table: pa.Table, name: str, place: object, remedy: str, width: int | None = None) -> np.ndarray:
    """A column of vectors as a matrix in its own precision; shape (N, D).

    Args:
        table: The rows.
        name: The column.
        place: What an error calls the rows.
        remedy: The end of the error line.
        width: D; by default that of the first row.

    Raises:
        InputError: If there is no such column, or a row is not D finite numbers.
    """
    check_column(table, name, place, remedy)
    column = table[name].combine_chunks()
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not is_list or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise InputError(f"{place}: {name} is of type {kind}, expected {VECTOR} a row; {remedy}")
    # Arrow's own buffers: a million Python lists would take longer, and more memory, than all the rest.
    lengths_N = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
    if width is None:
        width = int(lengths_N[0]) if len(lengths_N) else 0
    wrong = (lengths_N != width) | (lengths_N < 1)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{place} row {row}: {name} is {shorten(column[row].as_py())}, expected {width} numbers; {remedy}"
        )
    flat = column.flatten()
    values_ND: np.ndarray = flat.to_numpy(zero_copy_only=False).reshape(-1, width if width > 0 else 1)
    bad = ~np.isfinite(values_ND).all(axis=1)
    if flat.null_count or bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"{place} row {row}: {name} is {shorten(column[row].as_py())}, expected finite numbers; {remedy}"
        )
    return values_ND


def probabilities(table: pa.Table, count: int | None, place: object, remedy: str) -> np.ndarray:
    """The column `probs` as float64 of shape (N, C).

    Args:
        table: The rows.
        count: C; by default that of the first row.
        place: What an error calls the rows.
        remedy: The end of the error line.

    Raises:
        InputError: If a row is not a probability vector: C numbers from 0 to 1, their sum within 1e-4 of 1.
    """
    probs_NC = vectors(table, PROBABILITIES, place, remedy, count).astype(np.float64, copy=False)
    sums_N = probs_NC.sum(axis=1)
    bad = (np.abs(sums_N - 1) > SUM_TOLERANCE) | (probs_NC < 0).any(axis=1)
    if bad.any():
        row = int(bad.argmax())
        found = "a prob is negative" if (probs_NC[row] < 0).any() else f"probs sum to {sums_N[row]:.4g}, expected 1"
        raise InputError(f"{place} row {row}: {found}; {remedy}")
    return probs_NC
