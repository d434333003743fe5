"""`details.md` of a report: classes, confusions, calibration, further tests of the comparisons, and cost."""

from collections.abc import Sequence

from ..core.markup import inline
from .certainty import Certainty
from .class_scores import Details, Estimate
from .costs import Cost, cost_lines
from .entries import AVERAGE, Comparison, Results, Slice
from .metrics import METRICS


def details(results: Results, priors: Sequence[str], costs: Sequence[Cost]) -> str:
    """Every method on every target in detail, for the priors that the report shows.

    Args:
        results: What to show.
        priors: The priors to show.
        costs: What the methods cost.
    """
    lines = ["# Details of the report"]
    shown = [one for one in results.details if one.prior in priors]
    for key in dict.fromkeys((one.task, one.setting, one.target, one.prior) for one in shown):
        task, setting, target, prior = key
        group = [one for one in shown if (one.task, one.setting, one.target, one.prior) == key]
        title = f"{inline(task)}, {inline(setting)}, {inline(target)}"
        suffix = ", gold prior divided out" if prior == "divided" else ""
        lines += ["", f"## {title}: classes{suffix}", "", *_classes(group)]
        lines += ["", f"## {title}: confusions{suffix}", "", *_confusions(group)]
        lines += ["", f"## {title}: calibration{suffix}", "", *_calibration(group)]
        certain = [one for one in results.certainties if (one.task, one.setting, one.target, one.prior) == key]
        if certain:
            lines += ["", f"## {title}: when not to answer{suffix}", "", *_certainties(certain)]
        sliced = [one for one in results.slices if (one.task, one.setting, one.target, one.prior) == key]
        if sliced:
            lines += ["", f"## {title}: slices{suffix}", "", *_slices(sliced)]
    tests = [one for one in results.comparisons if one.metric == "accuracy" and one.prior in priors and one.mcnemar]
    if tests:
        lines += ["", "## McNemar's test of each seed", "", *_mcnemar(tests)]
    if any(one.prior in priors for one in results.over_targets):
        lines += ["", "## Wilcoxon's test over targets", "", *_wilcoxon(results, priors)]
    return "\n".join([*lines, *cost_lines(costs)]) + "\n"


def _classes(group: Sequence[Details]) -> list[str]:
    lines = ["Percent: mean over seeds and 95 % interval over resampled rows and seeds.", ""]
    lines += ["| method | class | rows | predicted | precision | recall | F1 |", "|---|---|---|---|---|---|---|"]
    for one in group:
        lines += [
            f"| {inline(one.method)} | {inline(score.label)} | {score.rows} | {score.predicted:.0f} | "
            f"{_percent(score.precision)} | {_percent(score.recall)} | {_percent(score.f1)} |"
            for score in one.classes
        ]
    return lines


def _confusions(group: Sequence[Details]) -> list[str]:
    labels = [inline(score.label) for score in group[0].classes]
    lines = ["Rows of each true class by predicted class, mean over seeds.", ""]
    lines += [f"| method | true class | {' | '.join(labels)} |", "|---|---|" + "---|" * len(labels)]
    for one in group:
        lines += [
            f"| {inline(one.method)} | {label} | {' | '.join(f'{count:.0f}' for count in counts)} |"
            for label, counts in zip(labels, one.confusion, strict=True)
        ]
    return lines


def _calibration(group: Sequence[Details]) -> list[str]:
    lines = ["Rows by their largest probability: how sure the model is, and how often it is right, in percent.", ""]
    lines += ["| method | rows | largest probability | accuracy |", "|---|---|---|---|"]
    for one in group:
        lines += [
            f"| {inline(one.method)} | {bin_.rows:.0f} | {100 * bin_.confidence:.1f} | {_percent(bin_.accuracy)} |"
            for bin_ in one.bins
        ]
    return lines


SHOWN_COVERAGES = (0.2, 0.5, 0.8, 1.0)


def certainty_table(group: Sequence[Certainty]) -> tuple[list[str], list[list[str]]]:
    """Errors by coverage, calibration and conformal sets: the heads of the columns, and a line for each method."""
    every: dict[str, list[float | None]] = {
        "calibration error": [one.ece for one in group],
        "without the temperature": [one.ece_without_temperature for one in group],
        "sets hold the label": [one.conformal_coverage for one in group],
    }
    extra = {name: values for name, values in every.items() if any(value is not None for value in values)}
    has_sets = any(one.conformal_size is not None for one in group)
    heads = [f"errors in the surest {share:.0%}".replace("%", " %") for share in SHOWN_COVERAGES]
    heads += ["mean over coverages", *extra, *(["labels in a set"] if has_sets else [])]
    lines = []
    for number, one in enumerate(group):
        risk = {round(share, 2): value for share, value in zip(one.coverage, one.risk, strict=True)}
        shares = [*(risk[share] for share in SHOWN_COVERAGES), one.aurc, *(values[number] for values in extra.values())]
        line = ["" if share is None else f"{100 * share:.1f}" for share in shares]
        lines.append(
            [*line, *(["" if one.conformal_size is None else f"{one.conformal_size:.2f}"] if has_sets else [])]
        )
    return heads, lines


def _certainties(group: Sequence[Certainty]) -> list[str]:
    heads, lines = certainty_table(group)
    return [
        "Percent, means over seeds: rows that are answered wrongly if only the surest are answered.", "",
        f"| method | {' | '.join(heads)} |", "|---|" + "---|" * len(heads),
        *(f"| {inline(one.method)} | {' | '.join(line)} |" for one, line in zip(group, lines, strict=True)),
    ]  # fmt: skip


def _slices(sliced: Sequence[Slice]) -> list[str]:
    """A table for each metric: the slices by the methods."""
    lines = []
    for metric in dict.fromkeys(one.metric for one in sliced):
        own = [one for one in sliced if one.metric == metric]
        methods = list(dict.fromkeys(one.method for one in own))
        kind = METRICS[metric]
        lines += [
            "",
            f"{kind.title} in {kind.unit}, mean over seeds and 95 % interval over resampled rows and seeds.",
            "",
        ]
        lines += [
            f"| by | slice | rows | {' | '.join(map(inline, methods))} |",
            "|---|---|---|" + "---|" * len(methods),
        ]
        for by, name, rows in dict.fromkeys((one.by, one.name, one.rows) for one in own):
            of_slice = {one.method: one for one in own if (one.by, one.name) == (by, name)}
            shown = [
                f"{kind.shown(one.mean)} [{kind.shown(one.low)}, {kind.shown(one.high)}]"
                for one in (of_slice[method] for method in methods)
            ]
            lines.append(f"| {by} | {inline(name)} | {rows} | {' | '.join(shown)} |")
    return lines[1:]


def _mcnemar(comparisons: Sequence[Comparison]) -> list[str]:
    lines = ["Rows that only one of the two gets right, and the exact p value, uncorrected.", ""]
    lines += ["| method | baseline | target | seed | only the method | only the baseline | p |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for one in comparisons:
        lines += [
            f"| {inline(one.method)} | {inline(one.baseline)} | {inline(one.target)} | {inline(seed)} | "
            f"{test.only_method} | {test.only_baseline} | {p_value(test.p)} |"
            for seed, test in one.mcnemar.items()
            if one.target != AVERAGE
        ]
    return lines


def _wilcoxon(results: Results, priors: Sequence[str]) -> list[str]:
    lines = [
        "Signed ranks of the differences of all tasks, settings and targets; p below 0.05 requires six of them.", "",
        "| method | baseline | metric | prior | differences | p |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {inline(one.method)} | {inline(one.baseline)} | {one.metric} | {one.prior} | {one.test.pairs} | "
        f"{p_value(one.test.p)} |"
        for one in results.over_targets
        if one.prior in priors
    ]
    return lines


def p_value(p: float | None) -> str:
    """A p value in words: three decimals, or that it is smaller, or that there is none."""
    if p is None:
        return "all equal"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.mean:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
