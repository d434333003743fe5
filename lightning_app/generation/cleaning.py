"""`python main.py clean`: from raw generations to the pool. Nothing disappears: rejected rows are kept, with why."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa

from ..core import artifacts, fingerprint
from ..core.contracts import Reference, check_column, positions
from ..core.errors import InputError
from ..core.pairings import With, check_pairings
from ..core.paths import find
from ..core.ranges import NonNegativeInt, PositiveInt, Range, Seed, check_ranges
from ..core.results import Result
from ..core.run_parts import WHOLE, Shard, read_shard
from ..core.runs import Run, State, command_line, output_folder
from ..core.spool import Spool
from ..core.task import Task
from ..data.embeddings import unit_embeddings
from ..data.near_duplicates import SIMILARITY, key_of
from ..data.sources import Source, load_rows, read_table
from ..data.unknown_labels import unknown_labels
from .filters import (
    alive,
    beyond_size,
    doubled,
    near_duplicates_of,
    reject,
    same_meaning,
    surely_other,
    suspected_languages,
)
from .judged_rows import Columns, Judge, compute_shard, judge_all
from .parsing import parse
from .prompts import read_spec

log = logging.getLogger(__name__)

# How servers call the end that a text came to by itself.
CLEAN_ENDS = ("stop", "eos", "eos_token", "stop_sequence", "end_turn")


@dataclass(frozen=True)
class Pool(Result):
    """The pool; `summary["counts"]` says by class and domain what became of the raw rows.

    What a shard returns has no rows; `summary["finished"]` says how many of all `summary["rows"]` are on the disk.

    Args:
        rejected: The rejected rows as they came, with the reason.
    """

    rejected: pa.Table = field(default_factory=lambda: pa.table({}))


@check_ranges()
@check_pairings
def clean(
    task: Task,
    raw: Source | list[Source],
    text_column: str | None = None,
    min_words: NonNegativeInt = 1,
    max_words: int | None = None,
    keep_cut: bool = False,
    language: str | None = "en",
    near_duplicates: Annotated[float, Range(above=0, most=1)] | None = SIMILARITY,
    exclude: list[Source] | None = None,
    exclude_targets: list[Source] | None = None,
    prompts: str | None = None,
    embeddings: str | None = None,
    semantic_duplicates: Annotated[float, Range(above=-1, most=1), With("embeddings")] = 0.95,
    size: PositiveInt | None = None,
    seed: Seed = 0,
    allow_empty: bool = False,
    out: str | None = "runs/clean",
    overwrite: Annotated[bool, With("out")] = False,
    shard: str | None = None,
) -> Pool:
    """Make the pool: parse answers, filter, remove duplicates, take a seeded part.

    Args:
        task: Text columns and labels.
        raw: Raw generations: an artifact of `generate`, or files with `text`, `prompt_label` and perhaps `domain`,
            `finish`, `error`.
        text_column: The task's column that the generated text becomes; the last one, if none is named.
        min_words: Fewest words of a text, and of each side of a pair (the paper's code: 11 for sentiment, 5 for NLI).
        max_words: Most words.
        keep_cut: Keep text that was cut at the token limit.
        language: The language that texts must be in, as an ISO 639-1 code; null for no check.
        near_duplicates: Jaccard similarity of word triples from which a later row is a near duplicate, of each side of
            a pair; null for exact duplicates alone.
        exclude: Further rows whose texts (or pairs) must not be in the pool: gold.
        exclude_targets: Target rows whose texts (or pairs) are removed; none of their labels are read.
        prompts: The prompt file that the rows were written by; its few-shot examples are removed too.
        embeddings: Embeddings of these very rows (a pool cleaned before, then `predict --config embed.yaml`): rows are
            also compared by meaning, which takes time in the square of their number.
        semantic_duplicates: Cosine from which a later row says the same.
        size: Keep at most so many rows, drawn by the seed.
        seed: Seed of that draw.
        allow_empty: Write the pool even if no row is left.
        out: The output folder: the pool, and `out/_rejected`; null writes nothing, and only says what would be kept.
        overwrite: Replace what another run left there.
        shard: Compute for a part of the rows what does not depend on the others: 2/4 is the second of four. Once all
            are through, the same command without it makes the pool.
    """
    began = time.perf_counter()
    part = _part(shard, out)
    Range(least=max(min_words, 1)).check("max_words", max_words)
    target_column = text_column or task.columns[-1]
    if target_column not in task.columns:
        raise InputError(f"text_column '{target_column}': expected one of the task's columns {task.columns}")
    sides = task.columns[: task.columns.index(target_column)]  # what stands there before the text: the premise
    table, lineage, reference = read_table(raw, ["text", *sides, "domain", "lang", "finish", "error"])
    rows = _rows(table, task, sides, " and ".join(reference["paths"]))
    known = {
        "exclude": _texts(exclude, task, [*sides, target_column]),
        "exclude_targets": _texts(exclude_targets, task, [*sides, target_column]),
        "examples": _examples(prompts, task),
    }
    evidence = _embeddings(embeddings)
    settings = {
        "text_column": target_column, "min_words": min_words, "max_words": max_words, "keep_cut": keep_cut,
        "language": language, "near_duplicates": near_duplicates, "size": size, "seed": seed,
        "known": {name: fingerprint.of_value(sorted(texts)) for name, texts in known.items()},
    }  # fmt: skip
    settings |= _of_evidence(evidence, semantic_duplicates)

    judge = partial(_judge, rows, task, sides, min_words, max_words, keep_cut, language)

    def cleaned(columns: Columns) -> Pool:
        texts, reasons = columns["text"], columns["reason"]
        if language is not None:
            reject(reasons, "language", surely_other(texts, columns["suspected"], language))
        keys = list(zip(*(map(key_of, side) for side in (*(rows[name] for name in sides), texts)), strict=True))
        for name, one in known.items():
            reject(reasons, f"in {name}", [key in one or key[-1:] in one for key in keys])
        reject(reasons, "duplicate", doubled(keys, reasons))
        if near_duplicates is not None:
            reject(reasons, "near duplicate", near_duplicates_of(keys, reasons, near_duplicates))
        if evidence is not None:
            units_ND = _joined(evidence, rows["id"])
            reject(reasons, "same meaning", same_meaning(units_ND, reasons, semantic_duplicates))
        if size is not None:
            reject(reasons, "beyond size", beyond_size(rows["id"], reasons, size, seed))
        kept, rejected = _tables(rows, texts, reasons, task, target_column)
        counts = _count(rows, reasons)
        for line in [*summary_lines(counts), balance_line(kept, task)]:
            log.info("%s", line)
        rate = len(texts) / max(time.perf_counter() - began, 1e-9)
        log.info("%s: %d of %d rows kept, %.0f rows/s", out or "pool", kept.num_rows, len(texts), rate)
        return Pool(kept, {"labels": task.labels, "counts": counts}, rejected=rejected)

    if out is None:
        return cleaned(judge(range(table.num_rows)))
    sources = [*(raw if isinstance(raw, list) else [raw]), *(exclude or []), *(exclude_targets or [])]
    reads = [*(source.path for source in sources), *([embeddings] if embeddings else [])]
    config = {"task": asdict(task), **settings}
    run = Run(output_folder(out), "clean", {"raw": reference["fingerprint"], **config}, part)
    return _written(
        run, judge, cleaned, table.num_rows, reference, lineage, config, overwrite, allow_empty, reads
    )  # fmt: skip


def _part(shard: str | None, out: str | None) -> Shard:
    """Which part of the rows is to be computed.

    Raises:
        InputError: If it is not i/n, or there is no folder in which the shards meet.
    """
    if shard is None:
        return WHOLE
    if out is None:
        raise InputError(f"shard is {shard!r} and out is null, expected a folder that all shards write to; give --out")
    return read_shard(shard)


def _refuse_empty(run: Run, pool: Pool) -> None:
    """Refuse a pool without rows; the rejected ones stay to be looked at.

    Raises:
        InputError: Says what most rows were rejected for.
    """
    if pool.table.num_rows:
        return
    left = run.give_up()
    worst = ", ".join(f"{why} ({n})" for why, n in Counter(pool.rejected["reason"].to_pylist()).most_common(3))
    raise InputError(
        f"{run.out}: no row is left of {pool.rejected.num_rows}, rejected as {worst}; look at them with "
        f'"python main.py peek {left / artifacts.REJECTED}" and relax what rejects them, or accept an empty pool '
        "with --allow_empty true"
    )


def summary_lines(counts: dict[str, dict[str, int]]) -> list[str]:
    """A table of what became of the rows: one line per class and domain, one column per reason."""
    reasons = list(dict.fromkeys(reason for one in counts.values() for reason in one))
    width = max([len(name) for name in counts] + [12])
    lines = [f"{'class / domain':<{width}} " + " ".join(f"{reason:>14}" for reason in reasons)]
    for name, one in counts.items():
        lines.append(f"{name:<{width}} " + " ".join(f"{one.get(reason, 0):>14}" for reason in reasons))
    return lines


def balance_line(kept: pa.Table, task: Task) -> str:
    """How many rows each class has left, and their shares."""
    if "prompt_label" not in kept.column_names:
        return f"kept: {kept.num_rows} rows without a class"
    counts = Counter(kept["prompt_label"].to_pylist())
    shares = [f"{label} {counts[label]} ({100 * counts[label] / max(kept.num_rows, 1):.1f} %)" for label in task.labels]
    return "kept by class: " + ", ".join(shares)


def _written(
    run: Run,
    judge: Judge,
    cleaned: Callable[[Columns], Pool],
    count: int,
    raw: Reference,
    lineage: dict[str, str],
    config: dict[str, Any],
    overwrite: bool,
    allow_empty: bool,
    reads: Sequence[str],
) -> Pool:
    """Clean and write the artifacts, or read what the same run has written, or compute a shard."""
    out = run.out
    with run:
        if run.begin(overwrite, reads) is State.COMPLETE:
            written, rejected = artifacts.read(out, "clean"), artifacts.read(out / artifacts.REJECTED)
            for line in summary_lines(written.manifest.facts["counts"]):
                log.info("%s", line)
            return Pool(written.table, written.manifest.facts, out, rejected.table)
        if run.shard != WHOLE:
            return Pool(pa.table({}), {"finished": compute_shard(run, judge, count), "rows": count}, out)
        pool = cleaned(judge_all(run, judge, count))
        shared: dict[str, Any] = {
            "inputs": {"raw": raw}, "lineage": lineage, "command": command_line(), "config": config,
        }  # fmt: skip
        artifacts.write(out / artifacts.REJECTED, pool.rejected, stage="rejected", **shared)
        if not allow_empty:
            _refuse_empty(run, pool)
        files = artifacts.files_of(out / artifacts.REJECTED)
        artifacts.write(out, pool.table, stage="clean", facts=pool.summary, files=files, **shared)
        Spool(out).clear()
    return replace(pool, path=out)


def _rows(table: pa.Table, task: Task, sides: Sequence[str], place: str) -> dict[str, list[Any]]:
    """The raw columns as lists; labels in the task's spelling."""
    for name in ("text", *sides):
        check_column(table, name, place, "give raw generations, or say which one holds it with `raw.columns`")
    count = table.num_rows
    rows: dict[str, list[Any]] = {name: table[name].to_pylist() for name in table.column_names}
    for name in sides:
        rows[name] = [text or "" for text in rows[name]]
    for name in ("prompt_label", "domain", "finish", "error", "lang"):
        values = rows.get(name, [None] * count)
        rows[name] = [None if value is None or value == "" else str(value) for value in values]
    unknown: dict[str, list[int]] = {}
    for row, label in enumerate(rows["prompt_label"]):
        if label is not None and task.match(label) is None:
            unknown.setdefault(label, []).append(row)
    if unknown:
        raise unknown_labels(place, unknown, task)
    rows["prompt_label"] = [None if label is None else task.match(label) for label in rows["prompt_label"]]
    return rows


def _judge(
    rows: dict[str, list[Any]],
    task: Task,
    sides: Sequence[str],
    min_words: int,
    max_words: int | None,
    keep_cut: bool,
    language: str | None,
    numbers: Sequence[int],
) -> Columns:
    """What can be said of the rows of these numbers, each by itself; the limits hold for each side."""
    texts: list[str] = []
    reasons: list[str | None] = []
    for number in numbers:
        answer, finish, error = (rows[name][number] for name in ("text", "finish", "error"))
        parsed = parse(answer, task.labels)
        words = [len(side.split()) for side in (parsed.text, *(rows[name][number] for name in sides))]
        reason = parsed.reason
        if error is not None:
            reason = "failed"
        elif reason is None and (end := _unfinished(finish, keep_cut)) is not None:
            reason = end
        elif reason is None and min(words) < min_words:
            reason = "short"
        elif reason is None and max_words is not None and max(words) > max_words:
            reason = "long"
        texts.append(parsed.text or (answer or ""))
        reasons.append(reason)
    suspected = [None] * len(texts) if language is None else suspected_languages(texts, reasons, language)
    return {"text": texts, "reason": reasons, "suspected": suspected}


def _unfinished(finish: str | None, keep_cut: bool) -> str | None:
    """Why a text that did not come to a clean end is rejected; a file without the column says nothing of it."""
    if finish is None or finish.casefold() in CLEAN_ENDS:
        return None
    if finish == "length":
        return None if keep_cut else "cut"
    return "filtered" if finish == "content_filter" else "unfinished"


def _texts(sources: list[Source] | None, task: Task, columns: Sequence[str]) -> set[tuple[str, ...]]:
    if not sources:
        return set()
    table = load_rows(sources, Task(task.name, list(columns), task.labels), None).table
    return set(zip(*(map(key_of, table[name].to_pylist()) for name in columns), strict=True))


def _examples(prompts: str | None, task: Task) -> set[tuple[str, ...]]:
    return {(key_of(text),) for text in read_spec(prompts, task).all_examples()} if prompts else set()


def _embeddings(path: str | None) -> artifacts.Artifact | None:
    """The embeddings, if any are given."""
    if path is None:
        return None
    artifact = artifacts.read(find(path) or Path(path), "embed")
    artifacts.check_fresh(artifact.path, artifact.manifest)
    return artifact


def _of_evidence(evidence: artifacts.Artifact | None, semantic_duplicates: float) -> dict[str, Any]:
    """What of the comparison by meaning determines the pool; nothing where there is none."""
    if evidence is None:
        return {}
    return {"semantic_duplicates": semantic_duplicates, "embeddings": evidence.manifest.fingerprint}


def _joined(artifact: artifacts.Artifact, ids: Sequence[str]) -> np.ndarray:
    """Unit embeddings of the rows, joined by id.

    Raises:
        InputError: If a row has none.
    """
    embedded, remedy = artifact.table["id"].to_pylist(), "embed the rows that are cleaned here"
    joined_ND: np.ndarray = unit_embeddings(artifact)[positions(embedded, ids, artifact.path, remedy, exactly=False)]
    return joined_ND


def _tables(
    rows: dict[str, list[Any]], texts: list[str], reasons: list[str | None], task: Task, target_column: str
) -> tuple[pa.Table, pa.Table]:
    """The pool, and the rejected rows with the answer as it came."""
    taken = {"text", "finish", "error", "n_tokens", "system", "user", target_column}
    carried = [name for name in rows if name not in taken]
    kept = alive(reasons)
    pool = {name: [rows[name][row] for row in kept] for name in carried if any(v is not None for v in rows[name])}
    pool[target_column] = [texts[row] for row in kept]
    dropped = [row for row, reason in enumerate(reasons) if reason is not None]
    sides = [name for name in task.columns if name in carried]
    rejected = {
        name: [rows[name][row] for row in dropped] for name in ("id", *sides, "text", "prompt_label", "domain", "error")
    }
    rejected["reason"] = [reasons[row] for row in dropped]
    first = ["id", *[name for name in task.columns if name in pool], "prompt_label"]
    ordered = {name: pool[name] for name in [*first, *(name for name in pool if name not in first)] if name in pool}
    known = {*first, "domain", "lang"}  # columns that a user's file brings along keep their own type
    pool_table = {name: pa.array(values, pa.string() if name in known else None) for name, values in ordered.items()}
    return pa.table(pool_table), pa.table({name: pa.array(one, pa.string()) for name, one in rejected.items()})


def _count(rows: dict[str, list[Any]], reasons: Sequence[str | None]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for label, domain, reason in zip(rows["prompt_label"], rows["domain"], reasons, strict=True):
        name = " / ".join(str(part) for part in (label, domain) if part is not None) or "all"
        for group in (name, "total"):
            counts.setdefault(group, Counter())[reason or "kept"] += 1
    total = counts.pop("total", Counter())
    return {**{name: dict(one) for name, one in sorted(counts.items())}, "total": dict(total)}
