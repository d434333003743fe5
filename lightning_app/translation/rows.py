"""From rows to the texts that are translated, each once, and back to rows; what fails a gate is kept aside."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..core.languages import Language
from ..core.task import is_blank
from .gates import Gates, judge

MOST_MISSING = 30
Failing = Literal["aside", "keep"]


@dataclass(frozen=True)
class Translated:
    """Rows in another language.

    Args:
        kept: The rows that passed every gate (with `failing: keep`, all of them), under their own ids.
        rejected: The others, with the `reason` and the translation that failed.
        facts: Counts for the manifest.
    """

    kept: pa.Table
    rejected: pa.Table
    facts: dict[str, Any]


def segments(rows: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The different texts of the given columns, in order of first appearance: a premise of three rows stands once.

    Returns:
        One column, `text`.
    """
    texts = dict.fromkeys(text for name in columns for text in rows[name].to_pylist())
    return pa.table({"text": pa.array(list(texts), pa.string())})


def translated_rows(
    rows: pa.Table, columns: Sequence[str], done: pa.Table, gates: Gates, target: Language, failing: Failing = "aside"
) -> Translated:
    """Put translated segments in the place of the texts they came from.

    Args:
        rows: The rows as they were: `id`, the text columns, `lang`, and whatever else travels with them.
        columns: Their text columns.
        done: The segments: `text`, `translation`, `finish`, `error`, perhaps `left_alone` and counts such as `known`.
        gates: What a translation must pass.
        target: The language that it is in.
        failing: `aside` keeps failing rows out; `keep` leaves them in, with the reason beside them, and an empty text
            replaced by the row's own source (for test sets, where no row may be lost).

    Returns:
        Rows with translated text columns, `lang` the target's, and the columns `source_lang`, `source_<column>`,
        `length_ratio`, and `reason`.
    """
    reasons = judge(
        done["text"].to_pylist(), done["translation"].to_pylist(), gates, target,
        done["finish"].to_pylist(), done["error"].to_pylist(),
        done["left_alone"].to_pylist() if "left_alone" in done.column_names else None,
    )  # fmt: skip
    place = {text: number for number, text in enumerate(done["text"].to_pylist())}
    places = {name: [place[text] for text in rows[name].to_pylist()] for name in columns}
    row_reasons = [
        _row_reason(reasons, dict(zip(columns, own, strict=True))) for own in zip(*places.values(), strict=True)
    ]
    table = _replace(rows, places, done, row_reasons, target, failing)
    passed = pa.array([reason is None or failing == "keep" for reason in row_reasons], pa.bool_())
    kept, rejected = table.filter(passed), table.filter(pc.invert(passed))
    if failing == "aside":
        kept = kept.drop_columns(["reason"])
    facts = {
        **coverage(done),
        "segments": done.num_rows,
        "segments_saved": rows.num_rows * len(columns) - done.num_rows,
        "gates": dict(Counter(reason or "passed" for reason in row_reasons).most_common()),
        "cells_by_gate": dict(Counter(reason or "passed" for reason in reasons).most_common()),
    }
    return Translated(kept, rejected, facts)


def kept_by_class(found: Translated, column: str, labels: Sequence[str]) -> dict[str, dict[str, int]]:
    """How many rows of each class passed, and how many did not.

    Args:
        found: The rows.
        column: Their column of classes.
        labels: The classes, in the order of the answer.
    """
    kept, rejected = (Counter(table[column].to_pylist()) for table in (found.kept, found.rejected))
    return {label: {"kept": kept[label], "rejected": rejected[label]} for label in labels}


def coverage(done: pa.Table) -> dict[str, Any]:
    """How much of the words a dictionary knows, and which it lacks most often; empty for other engines."""
    if "known" not in done.column_names:
        return {}
    words = sum(number or 0 for number in done["words"].to_pylist())
    known = sum(number or 0 for number in done["known"].to_pylist())
    missing = Counter(word for own in done["missing"].to_pylist() for word in own or [])
    return {"words": words, "coverage": known / max(words, 1), "missing_words": dict(missing.most_common(MOST_MISSING))}


def summary_lines(facts: dict[str, Any]) -> list[str]:
    """What became of the rows, in lines to print."""
    gates = ", ".join(f"{name} {count}" for name, count in facts["gates"].items())
    lines = [f"{facts['segments']} different texts ({facts['segments_saved']} repeats saved); rows by gate: {gates}"]
    if "coverage" in facts:
        missing = ", ".join(f"{word} {count}" for word, count in list(facts["missing_words"].items())[:10])
        share = f"{100 * facts['coverage']:.1f} % of {facts['words']} words are in the dictionary"
        lines.append(f"{share}; most often not: {missing or 'none'}")
    if "classes" in facts:
        classes = (
            f"{label} {one['kept']} of {one['kept'] + one['rejected']}" for label, one in facts["classes"].items()
        )
        lines.append(f"rows kept by class: {', '.join(classes)}")
    return lines


def _row_reason(reasons: Sequence[str | None], own: dict[str, int]) -> str | None:
    """The first failing column's reason; a pair says which side it was."""
    for name, number in own.items():
        if reasons[number] is not None:
            return f"{name}: {reasons[number]}" if len(own) > 1 else reasons[number]
    return None


def _replace(
    rows: pa.Table,
    places: dict[str, list[int]],
    done: pa.Table,
    reasons: Sequence[str | None],
    target: Language,
    failing: Failing,
) -> pa.Table:
    sources = {name: rows[name].to_pylist() for name in places}
    texts = {name: done["translation"].take(own).to_pylist() for name, own in places.items()}
    if failing == "keep":
        texts = {
            name: [old if new is None or is_blank(new) else new for new, old in zip(own, sources[name], strict=True)]
            for name, own in texts.items()
        }
    table = rows
    for name, own in texts.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(own, pa.string()))
    lengths = [
        (sum(len(text or "") for text in new), sum(map(len, old)))
        for new, old in zip(zip(*texts.values(), strict=True), zip(*sources.values(), strict=True), strict=True)
    ]
    count = rows.num_rows
    # Of a row that was translated before, this translation's source is kept: the other stands in its own artifact.
    table = table.drop_columns([one for one in _added(places) if one in table.column_names])
    columns = {
        "source_lang": rows["lang"],
        **{f"source_{name}": pa.array(own, pa.string()) for name, own in sources.items()},
        "length_ratio": pa.array([new / max(old, 1) for new, old in lengths], pa.float32()),
        **_row_coverage(places, done),
        "reason": pa.array(reasons, pa.string()),
    }
    table = table.set_column(table.column_names.index("lang"), "lang", pa.array([target.code] * count, pa.string()))
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table


def _row_coverage(places: dict[str, list[int]], done: pa.Table) -> dict[str, pa.Array]:
    """Share of a row's words that the dictionary knows; no column for other engines."""
    if "known" not in done.column_names:
        return {}
    words, known = (done[name].fill_null(0).to_numpy() for name in ("words", "known"))
    own = list(places.values())
    totals = sum(words[one] for one in own)
    return {"coverage": pa.array(sum(known[one] for one in own) / np.maximum(totals, 1), pa.float32())}


def _added(columns: dict[str, list[int]]) -> list[str]:
    return ["source_lang", *[f"source_{name}" for name in columns], "length_ratio", "coverage", "reason"]
