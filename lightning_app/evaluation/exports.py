"""A report's results for papers and spreadsheets: LaTeX with booktabs, and CSV."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

from .class_scores import flat
from .costs import Cost
from .entries import AVERAGE, Cell, Results, column_ranks
from .metrics import METRICS
from .predictions import DIVIDED
from .published import EXPLANATION, HEADS, TITLE, Beside, published_rows, published_table

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip
# What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def latex(results: Results, metrics: Sequence[str], priors: Sequence[str], published: Sequence[Beside] = ()) -> str:
    """A table for each task, setting, metric and prior, in the paper's layout, and one of published numbers.

    The best of a column is bold, the second underlined; then come the mean over targets and the difference from the
    first baseline.

    Args:
        results: What to show.
        metrics: The metrics to show.
        priors: The priors to show.
        published: Numbers of others beside ours.
    """
    lines = [r"% Needs \usepackage{booktabs}."]
    for task, setting in dict.fromkeys((cell.task, cell.setting) for cell in results.cells):
        for metric in metrics:
            for prior in priors:
                key = (task, setting, metric, prior)
                cells = [
                    cell
                    for cell in results.cells
                    if (cell.task, cell.setting, cell.metric, cell.prior) == key and cell.part is None
                ]
                lines += ["", *_table(cells, results, key)]
    if published:
        lines += ["", *_published(published)]
    return "\n".join(lines) + "\n"


def _table(cells: Sequence[Cell], results: Results, key: tuple[str, str, str, str]) -> list[str]:
    task, setting, metric, prior = key
    targets = list(dict.fromkeys(cell.target for cell in cells))
    averages = {
        one.method: one.mean for one in results.averages if (one.task, one.setting, one.metric, one.prior) == key
    }
    gains = [one for one in results.comparisons if (one.task, one.setting, one.metric, one.prior) == key]
    base = gains[0].baseline if gains else None
    # With a single target, its own difference stands for the mean's.
    over = AVERAGE if averages else targets[0]
    gain = {one.method: one for one in gains if (one.baseline, one.target) == (base, over)}
    columns = "l" + "r" * len(targets) + ("r" if averages else "") + ("r" if gain else "")
    heads = ["Method", *targets, *(["Avg"] if averages else []), *([f"Δ {base}"] if gain else [])]
    title = f"{task}, {setting}: {METRICS[metric].title}" + (", gold prior divided out" if prior == DIVIDED else "")
    lines = [
        r"\begin{table}", r"\centering", rf"\caption{{{escaped(title)}}}", rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule", " & ".join(escaped(head).replace("Δ", r"$\Delta$") for head in heads) + r" \\", r"\midrule",
    ]  # fmt: skip
    ranks, of_averages = column_ranks(cells), METRICS[metric].ranks(averages)
    for method in dict.fromkeys(cell.method for cell in cells):
        own = {cell.target: cell for cell in cells if cell.method == method}
        row = [escaped(method)]
        row += [_cell(own[target], ranks[method, target, None]) if target in own else "" for target in targets]
        if averages:
            row.append(_marked(averages[method], metric, of_averages[method]) if method in averages else "")
        if gain:
            row.append(_gain(gain[method].difference.mean, gain[method].p_holm, metric) if method in gain else "")
        lines.append(" & ".join(row) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]


def _published(found: Sequence[Beside]) -> list[str]:
    rows, notes = published_table(found)
    lines = [
        r"\begin{table}", r"\centering", rf"\caption{{{escaped(f'{TITLE}. {EXPLANATION}')}}}",
        r"\begin{tabular}{lllllrrr}", r"\toprule", " & ".join(HEADS) + r" \\", r"\midrule",
    ]  # fmt: skip
    for *words, published, note, ours, difference in rows:
        mark = rf"\textsuperscript{{{note}}}" if note else ""
        numbers = [f"{published}{mark}", ours, f"${difference}$"]
        lines.append(" & ".join([*map(escaped, words), *numbers]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\\ \textsuperscript{{{place}}} {escaped(note)}" for place, note in enumerate(notes, 1)]
    return [*lines, r"\end{table}"]


def _cell(cell: Cell, rank: int) -> str:
    value = _marked(cell.mean, cell.metric, rank)
    deviation = None if cell.deviation is None else METRICS[cell.metric].shown(cell.deviation)
    return value if deviation is None else rf"{value} {{\scriptsize $\pm$ {deviation}}}"


def _marked(mean: float, metric: str, rank: int) -> str:
    value = METRICS[metric].shown(mean)
    return {0: rf"\textbf{{{value}}}", 1: rf"\underline{{{value}}}"}.get(rank, value)


def _gain(difference: float, p: float, metric: str) -> str:
    return f"${METRICS[metric].shown(difference, '+')}$" + ("*" if p < 0.05 else "")


def escaped(text: str) -> str:
    """A text as LaTeX shows it."""
    return re.sub(r"[\\&%$#_{}~^]", lambda sign: _LATEX[sign.group()], " ".join(text.split()))


def csv_tables(
    results: Results, cells: pa.Table, costs: Sequence[Cost], published: Sequence[Beside] = ()
) -> dict[str, pa.Table]:
    """File name -> rows: cells, comparisons, each class of each method and target, slices, costs, published numbers."""
    comparisons = []
    for one in results.comparisons:
        row: dict[str, Any] = asdict(one)
        difference, seeds = row.pop("difference"), row.pop("seeds")
        row.pop("mcnemar")
        comparisons.append({**row, **difference, "p_over_seeds": (seeds or {}).get("p")})
    flat_cells = [{**row, "by_seed": " ".join(f"{value:.6f}" for value in row["by_seed"])} for row in cells.to_pylist()]
    classes = [row for one in results.details for row in flat(one)]
    return {
        "cells.csv": pa.Table.from_pylist(flat_cells),
        "comparisons.csv": pa.Table.from_pylist(comparisons),
        "classes.csv": pa.Table.from_pylist(classes),
        "slices.csv": pa.Table.from_pylist([asdict(one) for one in results.slices]),
        "costs.csv": pa.Table.from_pylist([asdict(one) for one in costs]),
        "published.csv": pa.Table.from_pylist(published_rows(published)),
    }


def write_csv(path: Path, table: pa.Table) -> None:
    """Write rows as CSV; a text that a spreadsheet would run as a formula begins with an apostrophe."""
    columns = {
        name: [
            f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
            for value in table[name].to_pylist()
        ]
        for name in table.column_names
    }
    csv.write_csv(pa.table(columns) if columns else table, path)
