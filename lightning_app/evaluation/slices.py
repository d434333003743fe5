"""Slices: how a method does on short and long rows, by script, unknown tokens, domain, and who translated them."""

# R = resamples, S = seeds

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from .bootstrap import Resampling, interval, statistic
from .entries import Slice
from .metrics import classification_metrics
from .predictions import Tested

RESAMPLES = 2_000
TRANSLATED_BY = "translated_by"  # a column of the rows: human or machine
# Column of the test rows -> what the report calls the slices by it.
COLUMNS = {
    "tokens": "length", "unknown_rate": "unknown tokens", "script": "script", "domain": "domain",
    TRANSLATED_BY: "translation",
}  # fmt: skip
MOST_GROUPS = 12  # of a column; the smallest ones are put together
_LENGTHS = (16, 32, 64)
_MOST_UNKNOWN = 0.05
_MAIN = 0.9  # share of the letters from which they are of one script


def script_of(text: str) -> str:
    """The script of nine in ten letters of a text, such as `Latin` or `Devanagari`; `mixed` or `none` without one."""
    counts = Counter[str]()
    for sign, count in Counter(unicodedata.normalize("NFKC", text)).items():
        if sign.isalpha() or unicodedata.category(sign).startswith("M"):
            counts[unicodedata.name(sign, "OTHER").split()[0]] += count
    if not counts:
        return "none"
    name, count = counts.most_common(1)[0]
    if count < _MAIN * counts.total():
        return "mixed"
    return name if name == "CJK" else name.capitalize()


def slices_of(
    runs: Sequence[Tested], target: str, metrics: Sequence[str], priors: Sequence[str], groups: Sequence[str]
) -> Iterator[Slice]:
    """Every method on every slice of a target; a column by which all rows are alike makes no slices.

    Args:
        runs: The runs of one task and setting that were tested on the target.
        target: The target's name.
        metrics: Names of metrics.
        priors: `as_trained`, `divided`, or both.
        groups: The name of each row's group, drawn together.
    """
    for column, by in COLUMNS.items():
        known = (run.by_target[target].columns for run in runs)
        values = next((columns[column] for columns in known if column in columns), [])
        names = _named(column, values)
        parts = [(name, np.flatnonzero([one == name for one in names])) for name in _order(column, names)]
        if len(parts) > 1:
            for name, rows in parts:
                yield from _slice(runs, target, by, name, rows, metrics, priors, groups)


def _slice(
    runs: Sequence[Tested],
    target: str,
    by: str,
    name: str,
    rows: np.ndarray,
    metrics: Sequence[str],
    priors: Sequence[str],
    groups: Sequence[str],
) -> Iterator[Slice]:
    task, setting = runs[0].task, runs[0].setting
    drawn = Resampling(len(rows), [run.seed for run in runs], resamples=RESAMPLES, groups=[groups[row] for row in rows])
    for method, prior in product(dict.fromkeys(run.method for run in runs), priors):
        own = [run for run in runs if run.method == method]
        shares_RS = drawn.seed_shares([run.seed for run in own])
        scored = [(run.by_target[target].label_N[rows], run.probs(target, prior)[rows]) for run in own]
        points = [classification_metrics(*pair) for pair in scored]
        for metric in metrics:
            value_RS = drawn.values([statistic(metric, *pair) for pair in scored]).T
            ends = interval((shares_RS * value_RS).sum(axis=1))
            mean = float(np.mean([one[metric] for one in points]))
            yield Slice(
                task.name, setting, target, by, name, len(rows), method, metric, prior, mean, ends.low, ends.high
            )


def _named(column: str, values: Sequence[Any]) -> list[str | None]:
    """The name of each row's slice; None for a row without a value."""
    if column == "tokens":
        return [None if value is None else _length(int(value)) for value in values]
    if column == "unknown_rate":
        return [None if value is None else _unknown(float(value)) for value in values]
    names = [None if value is None else str(value) for value in values]
    counts = Counter(name for name in names if name is not None)
    if len(counts) <= MOST_GROUPS:
        return names
    kept = {name for name, _ in counts.most_common(MOST_GROUPS - 1)}
    return [name if name in kept or name is None else "all others" for name in names]


def _length(tokens: int) -> str:
    for low, high in zip((1, *(end + 1 for end in _LENGTHS)), _LENGTHS, strict=False):
        if tokens <= high:
            return f"{low} to {high} tokens"
    return f"over {_LENGTHS[-1]} tokens"


def _unknown(rate: float) -> str:
    if rate == 0:
        return "none"
    return f"up to {100 * _MOST_UNKNOWN:g} %" if rate <= _MOST_UNKNOWN else f"over {100 * _MOST_UNKNOWN:g} %"


def _order(column: str, names: Sequence[str | None]) -> list[str]:
    """The slices of a column: numbers upwards, names by their number of rows."""
    counts = Counter(name for name in names if name is not None)
    if column == "tokens":
        listed = [*map(_length, (1, *(end + 1 for end in _LENGTHS)))]
    elif column == "unknown_rate":
        listed = [*map(_unknown, (0, _MOST_UNKNOWN, 1))]
    else:
        listed = sorted(counts, key=lambda name: (-counts[name], name))
    return [name for name in listed if counts[name]]
