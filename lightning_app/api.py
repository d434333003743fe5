"""The commands as Python functions: rows in, the result out, and an artifact where `out` names a folder.

Each does what its command does, with the same settings. Where the command takes a path, these also take rows in memory.
"""

# N = pool rows, C = classes

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from .core import artifacts, fingerprint
from .core.artifacts import Artifact, reference
from .core.contracts import check_column, positions
from .core.errors import InputError, shorten
from .core.paths import find
from .core.results import Result
from .core.task import Task
from .data.probabilities import read_probs
from .data.readers import Source, TableSource
from .data.sources import Rows, load_rows
from .selection.class_from import ClassFrom, check_prompt_labels, usual_class_from
from .selection.evidence import Evidence, gather
from .selection.lookup import code_of, find_strategy, with_options
from .selection.quotas import quotas_by_class
from .selection.select import Method, Selection, select_rows
from .selection.strategies import BUILT_IN

if TYPE_CHECKING:
    from .evaluation.report import Report
    from .generation.cleaning import Pool

RowsLike = str | PathLike[str] | Source | Artifact | Result | Sequence[Any] | Any
"""A path, a `Source`, what another function returned, a DataFrame, an Arrow table, or a list of dictionaries."""
Folder = str | PathLike[str] | Artifact | Result


def select(
    pool: RowsLike,
    pseudolabels: Folder | Any | None = None,
    strategy: str | Callable[..., Any] = "top",
    quota: int | Mapping[str, int] = 2500,
    *,
    task: Task | None = None,
    class_from: ClassFrom | None = None,
    variant: Literal["paper", "released"] = "paper",
    agreement: bool = False,
    min_words: int = 0,
    dynamics: Folder | None = None,
    embeddings: Folder | None = None,
    target_embeddings: Folder | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    allow_empty: bool = False,
    prompt_labels: bool = True,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
) -> Selection:
    """Keep a quota of pool rows per class: those a strategy scores highest. The command `select`.

    Args:
        pool: Rows with the task's text columns and `prompt_label`.
        pseudolabels: The teacher's artifact for the pool; or its probabilities in the task's label order, as an array
            of shape (N, C) in the order of the pool, or as rows with `id` and `probs`.
        strategy: A built-in strategy's name, `module.function`, or a function from `Candidates` to one number for each
            row, higher is better.
        quota: Rows per class: a number, or a map from label to number.
        task: Text columns and labels; may be omitted if `pseudolabels` is an artifact, which says it.
        class_from: `teacher`, `prompt` or `last_epoch`: whose class a row has; None is what the strategy usually takes.
        variant: Where the paper's text and its code differ, which of them.
        agreement: Keep only rows whose teacher prediction equals the prompt label.
        min_words: Keep only rows with so many words in each text column.
        dynamics: Training dynamics for the pool (`ambiguous`, `easy`, `ccs`).
        embeddings: Embeddings of the pool (`diverse`, `near_target`); with them the selection's diversity is computed.
        target_embeddings: Embeddings of unlabelled target text (`near_target`).
        options: Settings of the strategy.
        seed: Seed of random draws and of ties.
        allow_empty: Accept a selection without rows, or without rows of all but one of the classes asked for.
        prompt_labels: False for unlabelled target text (self-training); a test refuses rows with such a text.
        out: Where to write the artifact; by default nothing is written.
        overwrite: Replace what another run left there.

    Examples:
        >>> selection = labelbridge.select("runs/clean", "runs/pseudolabel", "top", quota=100)
        >>> selection.to_pandas()[["text", "class", "score"]]

    Raises:
        InputError: As the command ends with an error.
    """
    in_memory = pseudolabels is not None and not isinstance(pseudolabels, str | PathLike | Artifact)
    task = task or _task_of(None if in_memory else pseudolabels)
    rows = load_rows(source(pool, "pool"), task, "prompt_label" if prompt_labels else None)
    paths = [_path(given) for given in (None if in_memory else pseudolabels, dynamics, embeddings, target_embeddings)]
    evidence = gather(rows, task, *paths)
    if in_memory:
        evidence = _with_probs(evidence, pseudolabels, rows, task)
    name, code, scorer = _strategy(strategy, options or {})
    class_from = class_from or usual_class_from(name, variant)
    check_prompt_labels(prompt_labels, class_from, agreement)
    quotas = quotas_by_class(quota if isinstance(quota, int) else dict(quota), task)
    method = Method(
        name, class_from, variant, quotas, agreement, min_words, seed, dict(options or {}), code, prompt_labels
    )
    return select_rows(
        rows, evidence, method, scorer, task, allow_empty=allow_empty, out=_path(out), overwrite=overwrite
    )


def clean(
    raw: RowsLike,
    *,
    task: Task,
    text_column: str | None = None,
    min_words: int = 1,
    max_words: int | None = None,
    keep_cut: bool = False,
    language: str | None = "en",
    near_duplicates: float | None = 0.7,
    exclude: RowsLike | None = None,
    exclude_targets: RowsLike | None = None,
    prompts: str | None = None,
    embeddings: Folder | None = None,
    semantic_duplicates: float = 0.95,
    size: int | None = None,
    seed: int = 0,
    allow_empty: bool = False,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
    shard: str | None = None,
) -> "Pool":
    """Make the pool: parse answers, filter, remove duplicates, take a seeded part. The command `clean`.

    Args:
        raw: Rows with `text`, `prompt_label` and perhaps `domain`, `finish`, `error`.
        task: Text columns and labels.
        text_column: The task's column that the generated text becomes; the last one by default.
        min_words: Fewest words of a text, and of each side of a pair.
        max_words: Most words.
        keep_cut: Keep text that was cut at the token limit.
        language: The language that texts must be in, as an ISO 639-1 code; None for no check.
        near_duplicates: Jaccard similarity of word triples from which a later row is a near duplicate; None for exact
            duplicates alone.
        exclude: Rows whose texts must not be in the pool: gold.
        exclude_targets: Target rows whose texts are removed.
        prompts: The prompt file that the rows were written by; its few-shot examples are removed too.
        embeddings: Embeddings of these rows, to compare them by meaning too.
        semantic_duplicates: Cosine from which a later row says the same.
        size: Keep at most so many rows, drawn by the seed.
        seed: Seed of the draw of `size`.
        allow_empty: Accept a pool without rows.
        out: Where to write the artifact; by default nothing is written.
        overwrite: Replace what another run left there.
        shard: Compute a part into `out`, such as "2/4"; what is returned has no rows. The call without it makes the
            pool.

    Raises:
        InputError: As the command ends with an error.
    """
    from .generation.cleaning import clean as clean_rows  # here, so that `select` does not wait for it

    return clean_rows(
        task,
        source(raw, "raw"),
        text_column,
        min_words,
        max_words,
        keep_cut,
        language,
        near_duplicates,
        _sources(exclude, "exclude"),
        _sources(exclude_targets, "exclude_targets"),
        prompts,
        _path(embeddings),
        semantic_duplicates,
        size,
        seed,
        allow_empty,
        _path(out),
        overwrite,
        shard,
    )


def report(
    runs: Folder | Sequence[Folder],
    *,
    metric: str | list[str] = "accuracy",
    baseline: str | list[str] | None = None,
    prior: Literal["as_trained", "divided", "both"] = "as_trained",
    by: str | None = None,
    groups: str | None = None,
    class_shares: bool = False,
    max_leakage: float | None = None,
    html: bool = True,
    sentiwordnet: str | None = None,
    sentiwordnet_tagger: Literal["nltk"] | None = "nltk",
    umap: bool = False,
    llm_labels: str | None = None,
    published: str | None = None,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
) -> "Report":
    """Compare tested models, with intervals. The command `report`.

    Args:
        runs: A folder of `test`, a pattern such as `runs/*/test`, or a list of them.
        metric: `accuracy`, `macro_f1`, `ece`, `ce`, or a list of them: one table each.
        baseline: The method, or a list of methods, that all others are compared with; the first method by default.
        prior: Predictions `as_trained`, with the label prior of the gold `divided` out, or `both`.
        by: A column of the test rows by which a further table splits the targets.
        groups: A column of the test rows: rows with one value of it are resampled together.
        class_shares: Add the class shares of gold, selection, predictions and target.
        max_leakage: Refuse to report if a larger share of a target's rows nearly repeats training data.
        html: Also write `report.html`.
        sentiwordnet: SentiWordNet's file, to compute the sentiment richness of each selection of English rows.
        sentiwordnet_tagger: `nltk` counts a word's senses of its part of speech in the text; None those of all parts.
        umap: The page's map also lays out embeddings by UMAP.
        llm_labels: A column of the test rows with a zero-shot LLM's labels, shown as the method `LLM`.
        published: A YAML file with published numbers, shown beside ours.
        out: Where to write the report; by default nothing is written.
        overwrite: Replace the artifact of another stage in `out`.

    Raises:
        InputError: As the command ends with an error.
    """
    listed = [runs] if isinstance(runs, str | PathLike | Artifact | Result) else list(runs)
    places = [place for run in listed if (place := _path(run)) is not None]
    from .evaluation.report import make_report  # here, so that `select` does not wait for it

    return make_report(
        places, _path(out), metric, baseline, prior, by, groups, class_shares, max_leakage, html, sentiwordnet,
        sentiwordnet_tagger, umap, llm_labels, published, overwrite,
    )  # fmt: skip


def read(folder: str | PathLike[str]) -> Artifact:
    """Read an artifact and check its rows against its manifest.

    Args:
        folder: What a stage has written.

    Returns:
        Its `table`, `manifest` and `path`; `to_pandas()` gives a DataFrame.

    Raises:
        InputError: If it is missing or not complete, or its rows are not those that were written.
    """
    return artifacts.read(find(Path(folder)) or Path(folder))


def source(rows: RowsLike, name: str) -> Source | list[Source]:
    """What the commands call a source, of whatever stands for rows in Python.

    Args:
        rows: See `RowsLike`; of a list of paths or sources, each one.
        name: What errors and ids call rows in memory.
    """
    if isinstance(rows, Source):
        return rows
    if isinstance(rows, Artifact) or (isinstance(rows, Result) and rows.path is not None):
        return Source(str(rows.path))
    if isinstance(rows, str | PathLike):
        return Source(str(rows))
    if isinstance(rows, list | tuple) and rows and not isinstance(rows[0], Mapping):
        listed = [source(one, name) for one in rows]
        return [one for each in listed for one in (each if isinstance(each, list) else [each])]
    return TableSource(name, table=_with_ids(_table(rows, name), name))


def _sources(rows: RowsLike | None, name: str) -> list[Source] | None:
    if rows is None:
        return None
    given = source(rows, name)
    return given if isinstance(given, list) else [given]


def _table(rows: Any, name: str) -> pa.Table:
    """Rows in memory as an Arrow table.

    Raises:
        InputError: If they are nothing that holds rows.
    """
    if isinstance(rows, Result):
        return rows.table
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, list | tuple):
        return pa.Table.from_pylist(list(rows))
    try:
        if hasattr(rows, "__arrow_c_stream__"):  # polars, DuckDB and the like
            return pa.table(rows)
        return pa.Table.from_pandas(rows, preserve_index=False)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{name}: {shorten(rows)}, expected a path, a Source, a DataFrame, an Arrow table or a list of "
            f"dictionaries ({error})"
        ) from None


def _with_ids(table: pa.Table, name: str) -> pa.Table:
    """The rows with ids, and texts of one type: the same rows have one fingerprint, wherever they come from."""
    table = table.cast(
        pa.schema(
            [
                field.with_type(pa.string())
                if pa.types.is_large_string(field.type) or pa.types.is_string_view(field.type)
                else field
                for field in table.schema.remove_metadata()
            ]
        )
    )
    if "id" in table.column_names:
        return table
    return table.append_column("id", pa.array([f"{name}/{row}" for row in range(table.num_rows)], pa.string()))


def _path(given: Folder | None) -> str | None:
    """The folder of an artifact, or of what a function returned and wrote.

    Raises:
        InputError: If that was not written.
    """
    if isinstance(given, Artifact | Result):
        if given.path is None:
            raise InputError(f"{type(given).__name__}: rows in memory, expected an artifact; give `out` when making it")
        return str(given.path)
    return None if given is None else str(given)


def _task_of(pseudolabels: Folder | None) -> Task:
    """The task that an artifact of pseudolabels was made for.

    Raises:
        InputError: If there is none, or it does not say.
    """
    path = _path(pseudolabels)
    facts = artifacts.read_manifest(find(path) or Path(path), "pseudolabel").facts if path is not None else {}
    if "task" not in facts:
        raise InputError("task: not given, expected labelbridge.Task(name, text columns, labels)")
    return Task(**facts["task"])


def _with_probs(evidence: Evidence, given: Any, rows: Rows, task: Task) -> Evidence:
    """Add probabilities in memory to what the strategy may look at.

    Raises:
        InputError: If they are not a probability vector for every pool row.
    """
    place, remedy = "pseudolabels", "give a probability for each label and row"
    if isinstance(given, np.ndarray) or (isinstance(given, list | tuple) and not isinstance(given[0], Mapping)):
        if len(given) != len(rows.ids):
            raise InputError(f"{place}: {len(given)} rows, expected {len(rows.ids)}, as many as the pool; {remedy}")
        table = pa.table({"id": rows.ids, "probs": [list(map(float, row)) for row in given]})
    else:
        table = _table(given, place)
    check_column(table, "id", place, "give the ids of the pool's rows")
    row_N = positions([str(name) for name in table["id"].to_pylist()], rows.ids, place, remedy)
    probs_NC = read_probs(table, task.labels, task, place, remedy)[row_N]
    inputs = {**evidence.inputs, place: reference("memory", fingerprint.of_table(table))}
    return replace(evidence, probs_NC=probs_NC, inputs=inputs)


def _strategy(
    strategy: str | Callable[..., Any], options: Mapping[str, Any]
) -> tuple[str, str | None, Callable[..., Any]]:
    """A strategy's name, the fingerprint of its code, and the function with its options set."""
    built_in = next((name for name, known in BUILT_IN.items() if known.function is strategy), None)
    if isinstance(strategy, str) or built_in is not None:
        name = built_in or str(strategy)
        return name, code_of(name), find_strategy(name, options)
    name = f"{strategy.__module__}.{getattr(strategy, '__qualname__', type(strategy).__qualname__)}"
    return name, _code(strategy), with_options(strategy, name, options)


def _code(function: Callable[..., Any]) -> str:
    """The fingerprint of a function's source, or of its byte code where there is no file that holds it."""
    try:
        text = inspect.getsource(function).encode()
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        text = code.co_code if code is not None else repr(type(function)).encode()
    return f"sha256:{hashlib.sha256(text).hexdigest()}"
