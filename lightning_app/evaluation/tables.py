"""A report's results as Markdown tables."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any, TypeVar

from ..core.markup import inline
from .entries import AVERAGE, Average, Cell, Comparison, Majority, Results, column_ranks
from .metrics import METRICS
from .predictions import DIVIDED

MAJORITY = "majority class"
REACHES, NO_PRIOR, SIGNIFICANT = "†", "‡", "*"

Named = TypeVar("Named", Cell, Comparison, Majority, Average)


def markdown(results: Results, metrics: Sequence[str], priors: Sequence[str], by: str | None) -> str:
    """All tables: for each task and setting, metric and prior the cells, their parts, and the comparisons.

    Args:
        results: What to show.
        metrics: The metrics to show.
        priors: The priors to show.
        by: The column that targets are split by.
    """
    results, by = _escaped(results), None if by is None else inline(by)
    lines = ["# Report"]
    for task, setting in dict.fromkeys((cell.task, cell.setting) for cell in results.cells):
        for metric, prior in product(metrics, priors):
            cells = [
                cell
                for cell in results.cells
                if (cell.task, cell.setting, cell.metric, cell.prior) == (task, setting, metric, prior)
            ]
            majorities = [one for one in results.majorities if (one.task, one.setting) == (task, setting)]
            comparisons = [
                one
                for one in results.comparisons
                if (one.task, one.setting, one.metric, one.prior) == (task, setting, metric, prior)
            ]
            dev = {name[2]: value for name, value in results.dev.items() if name[:2] == (task, setting)}
            title = f"{task}, {setting}: {METRICS[metric].title}"
            divided = ", gold prior divided out" if prior == DIVIDED else ""
            lines += ["", f"## {title}{divided}", ""]
            averages = {
                one.method: one
                for one in results.averages
                if (one.task, one.setting, one.metric, one.prior) == (task, setting, metric, prior)
            }
            lines += _cells([cell for cell in cells if cell.part is None], _whole(majorities), dev, averages)
            lines += _chosen([cell for cell in cells if cell.part is None], comparisons, dev)
            if any(cell.part is not None for cell in cells):
                lines += ["", f"## {title} by {by}{divided}", ""]
                lines += _cells(
                    [cell for cell in cells if cell.part is not None],
                    [one for one in majorities if one.part is not None],
                    dev,
                    {},
                )
            for baseline in dict.fromkeys(one.baseline for one in comparisons):
                lines += ["", f"## {title} against {baseline}{divided}", ""]
                lines += _differences([one for one in comparisons if one.baseline == baseline], cells)
    return "\n".join(lines) + "\n"


def _escaped(results: Results) -> Results:
    """The results with every name as Markdown shows it."""

    def of(entry: Named) -> Named:
        names = ("task", "setting", "method", "baseline", "target", "part")
        given = {name: getattr(entry, name) for name in names if getattr(entry, name, None) is not None}
        shown: dict[str, Any] = {name: inline(value) for name, value in given.items()}
        return replace(entry, **shown)

    return replace(
        results,
        cells=[of(cell) for cell in results.cells],
        majorities=[of(majority) for majority in results.majorities],
        comparisons=[of(comparison) for comparison in results.comparisons],
        averages=[of(average) for average in results.averages],
        dev={
            (inline(task), inline(setting), inline(method)): value
            for (task, setting, method), value in results.dev.items()
        },
    )


def _cells(
    cells: Sequence[Cell], majorities: Sequence[Majority], dev: dict[str, float], averages: dict[str, Average]
) -> list[str]:
    """The table of methods and targets, with what its signs mean below it."""
    metric, columns = cells[0].metric, list(dict.fromkeys((cell.target, cell.part) for cell in cells))
    sizes = {(cell.target, cell.part): cell.rows for cell in cells}
    heads = [f"{_column(*column)} ({sizes[column]})" for column in columns] + [AVERAGE] * bool(averages)
    several = len({cell.method for cell in cells}) > 1
    ranks = column_ranks(cells) if several else {}
    of_averages = METRICS[metric].ranks({one.method: one.mean for one in averages.values()}) if several else {}
    marks = " The best of a column is bold, the second in italics." if several else ""
    lines = [f"{_unit(metric)}: mean{_deviation(cells)} and 95 % interval over {_resampled(cells)}.{marks}", ""]
    lines += ["| method | seeds | dev | " + " | ".join(heads) + " |", "|---|---|---|" + "---|" * len(heads)]
    if metric in ("accuracy", "macro_f1"):
        constant = {(one.target, one.part): getattr(one, metric) for one in majorities}
        values = [constant[key] for key in columns]
        values += [sum(values) / len(values)] if averages else []
        lines.append(f"| {MAJORITY} | | | " + " | ".join(_number(value, metric) for value in values) + " |")
    for method in dict.fromkeys(cell.method for cell in cells):
        own = {(cell.target, cell.part): cell for cell in cells if cell.method == method}
        seeds = sorted({seed for cell in own.values() for seed in cell.by_seed}, key=_seed_order)
        shown = [_cell(own[key], ranks.get((method, *key))) if key in own else "" for key in columns]
        if averages:
            shown.append(_average(averages[method], of_averages.get(method)) if method in averages else "")
        score = f"{100 * dev[method]:.1f}" if method in dev else ""
        lines.append(f"| {method} | {', '.join(seeds)} | {score} | " + " | ".join(shown) + " |")
    notes = []
    if any(cell.reaches_majority for cell in cells):
        notes.append(f"{REACHES} the interval reaches the majority class")
    if any(_lacks_prior(cell) for cell in cells):
        notes.append(f"{NO_PRIOR} trained without gold, so there is no prior to divide out: shown as trained")
    return lines + (["", f"{'; '.join(notes)}."] if notes else [])


def _differences(comparisons: Sequence[Comparison], cells: Sequence[Cell]) -> list[str]:
    """One baseline's table."""
    metric, targets = comparisons[0].metric, list(dict.fromkeys(one.target for one in comparisons))
    lines = [
        f"{'Nats' if metric == 'ce' else 'Points'}, 95 % interval over {_resampled(cells)}, paired; "
        f"{SIGNIFICANT} where p < 0.05 after Holm's correction.",
        "",
    ]
    lines += ["| method | " + " | ".join(targets) + " |", "|---|" + "---|" * len(targets)]
    for method in dict.fromkeys(one.method for one in comparisons):
        own = {one.target: one for one in comparisons if one.method == method}
        shown = [_difference(own[target]) if target in own else "" for target in targets]
        lines.append(f"| {method} | " + " | ".join(shown) + " |")
    found = []
    for target in targets:
        effects = [one.difference.detectable for one in comparisons if one.target == target]
        ends = dict.fromkeys(_number(end, metric) for end in (min(effects), max(effects)))
        found.append(f"{target} {' to '.join(ends)}")
    lines += ["", f"Differences that such a comparison finds in 80 % of cases, uncorrected: {', '.join(found)}."]
    if AVERAGE in targets:
        lines[-1] += " The mean over targets is not part of the correction."
    return lines


def _chosen(cells: Sequence[Cell], comparisons: Sequence[Comparison], dev: dict[str, float]) -> list[str]:
    """What the source dev set chooses (of equals the first), and how that does on the targets."""
    known = [method for method in dict.fromkeys(cell.method for cell in cells) if method in dev]
    if not known:
        return []
    best = max(known, key=lambda method: dev[method])
    line = f"Chosen on the source dev set: {best} (dev {100 * dev[best]:.1f})"
    if not comparisons:
        return ["", f"{line}."]
    baseline = comparisons[0].baseline
    if best == baseline:
        return ["", f"{line}, the baseline."]
    unit = METRICS[cells[0].metric].difference_unit
    gains = [
        f"{one.target} {_signed(one.difference.mean, one.metric)}"
        for one in comparisons
        if (one.method, one.baseline) == (best, baseline)
    ]
    return ["", f"{line}; on the targets {', '.join(gains)} {unit} against {baseline}."]


def _marked(value: float, metric: str, rank: int | None) -> str:
    """A value, bold where it is the best of a column and in italics where it is the second."""
    sign = "" if rank is None else {0: "**", 1: "_"}.get(rank, "")
    return f"{sign}{_number(value, metric)}{sign}"


def _cell(cell: Cell, rank: int | None) -> str:
    deviation = "" if cell.deviation is None else f" ± {_number(cell.deviation, cell.metric)}"
    ends = f"[{_number(cell.low, cell.metric)}, {_number(cell.high, cell.metric)}]"
    signs = (REACHES if cell.reaches_majority else "") + (NO_PRIOR if _lacks_prior(cell) else "")
    return f"{_marked(cell.mean, cell.metric, rank)}{deviation} {ends}" + (f" {signs}" if signs else "")


def _average(one: Average, rank: int | None) -> str:
    return f"{_marked(one.mean, one.metric, rank)} [{_number(one.low, one.metric)}, {_number(one.high, one.metric)}]"


def _difference(one: Comparison) -> str:
    mean, low, high = (
        _signed(value, one.metric) for value in (one.difference.mean, one.difference.low, one.difference.high)
    )
    return f"{mean} [{low}, {high}]" + (f" {SIGNIFICANT}" if one.p_holm < 0.05 else "")


def _whole(majorities: Sequence[Majority]) -> list[Majority]:
    return [one for one in majorities if one.part is None]


def _lacks_prior(cell: Cell) -> bool:
    return cell.prior == DIVIDED and not cell.gold_prior


def _column(target: str, part: str | None) -> str:
    return target if part is None else f"{target}: {part}"


def _unit(metric: str) -> str:
    return METRICS[metric].unit.capitalize()


def _deviation(cells: Sequence[Cell]) -> str:
    return " ± sample deviation over seeds" if any(len(cell.by_seed) > 1 for cell in cells) else ""


def _resampled(cells: Sequence[Cell]) -> str:
    """What the resampling draws."""
    several = {len(cell.by_seed) > 1 for cell in cells}
    if several == {True}:
        return "resampled rows and seeds"
    return "resampled rows and seeds (of a single seed: rows)" if True in several else "resampled rows (one seed)"


def _number(value: float, metric: str) -> str:
    return METRICS[metric].shown(value)


def _signed(value: float, metric: str) -> str:
    return METRICS[metric].shown(value, "+")


def _seed_order(seed: str) -> tuple[bool, int, str]:
    """Seeds by number, then those that are none."""
    return (not seed.isdigit(), int(seed) if seed.isdigit() else 0, seed)
