"""Cells and comparisons of a report: every method on every target, with intervals, and against baselines."""

# N = rows, R = resamples

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from itertools import product
from typing import Any

import numpy as np

from ..core.errors import InputError, closest
from .bootstrap import Resampling, difference, interval, statistic
from .certainty import certainties_of
from .class_scores import details_of
from .entries import AVERAGE, Average, Cell, Comparison, Majority, OverTargets, Results
from .metrics import classification_metrics, majority_metrics, mean_and_deviation
from .predictions import Tested, check_same_rows, no_such_column
from .significance_tests import McNemar, holm, mcnemar, signed_rank
from .slices import slices_of


def results_of(
    tested: Sequence[Tested],
    metrics: Sequence[str],
    priors: Sequence[str],
    baselines: Sequence[str],
    by: str | None,
    groups: str | None = None,
) -> Results:
    """Score every method of every task and setting, and compare it with the baselines.

    Args:
        tested: The runs.
        metrics: Names of metrics.
        priors: `as_trained`, `divided`, or both.
        baselines: Names of methods; where a task and setting has none of them, its first method.
        by: A column of the test rows by whose values the targets are also split.
        groups: A column of the test rows; rows with one value of it are resampled together.

    Raises:
        InputError: If a baseline or the column is unknown, a method and seed occurs more than once, or runs of a target
            hold different rows.
    """
    methods = list(dict.fromkeys(run.method for run in tested))
    unknown = next((name for name in baselines if name not in methods), None)
    if unknown is not None:
        raise InputError(f"baseline '{unknown}': no method of this name, {closest(unknown, methods)}")
    results = Results()
    for task, setting in dict.fromkeys((run.task.name, run.setting) for run in tested):
        group = [run for run in tested if (run.task.name, run.setting) == (task, setting)]
        _check_unique(group)
        check_same_rows(group)
        own_methods = list(dict.fromkeys(run.method for run in group))
        for method in own_methods:
            values = [run.dev for run in group if run.method == method and run.dev is not None]
            if values:
                results.dev[task, setting, method] = float(np.mean(values))
        drawn: dict[str, _Drawn] = {}
        for target in dict.fromkeys(name for run in group for name in run.by_target):
            runs = [run for run in group if target in run.by_target]
            names = _groups(runs, target, groups)
            drawn[target] = _score(results, runs, target, None, slice(None), metrics, priors, names)
            for part, rows in _parts(runs, target, by):
                _score(results, runs, target, part, rows, metrics, priors, names)
            results.details += details_of(runs, target, priors, names)
            results.certainties += certainties_of(runs, target, priors)
            results.slices += slices_of(runs, target, metrics, priors, names)
        if len(drawn) > 1:
            drawn_of_all = _average(drawn)
            results.averages += [
                Average(task, setting, *key, len(drawn), mean, *astuple(interval(value_R)))
                for key, (mean, value_R) in drawn_of_all.items()
            ]
            drawn[AVERAGE] = drawn_of_all
        present = [name for name in baselines if name in own_methods] or own_methods[:1]
        for metric, prior, base in product(metrics, priors, present):
            results.comparisons += _compare(results.cells, group, metric, prior, base, drawn)
    results.over_targets = _over_targets(results.comparisons)
    if by is not None and not any(cell.part is not None for cell in results.cells):
        raise no_such_column("by", by)
    return results


_Drawn = dict[tuple[str, str, str], tuple[float, np.ndarray]]
"""Method, metric and prior -> mean over seeds, and the metric in each resample, shape (R,)."""


def _check_unique(group: Sequence[Tested]) -> None:
    paths: dict[tuple[str, str, str], str] = {}
    for run in group:
        for target in run.by_target:
            previous = paths.setdefault((run.method, run.seed, target), run.path)
            if previous != run.path:
                raise InputError(
                    f"{run.path}: method '{run.method}', seed {run.seed}, target {target} was also read from "
                    f"{previous}; give each run its own `method`, or leave one out"
                )


def _groups(runs: Sequence[Tested], target: str, column: str | None) -> list[str]:
    """The name of each row's group: the value of a column, or the row's id.

    Raises:
        InputError: If a row has no value.
    """
    predictions = runs[0].by_target[target]
    if column is None:
        return predictions.ids
    values = next((own[column] for run in runs if column in (own := run.by_target[target].columns)), None)
    if values is None:
        raise no_such_column(f"target {target}: groups", column)
    empty = next((row for row, value in enumerate(values) if value is None), None)
    if empty is not None:
        raise InputError(
            f"groups '{column}': target {target} row '{predictions.ids[empty]}' has no value, expected one in every row"
        )
    return [str(value) for value in values]


def _average(drawn: Mapping[str, _Drawn]) -> _Drawn:
    """The mean over targets of every method that was tested on all of them."""
    shared = [key for key in next(iter(drawn.values())) if all(key in values for values in drawn.values())]
    return {
        key: (
            float(np.mean([values[key][0] for values in drawn.values()])),
            np.mean([values[key][1] for values in drawn.values()], axis=0),
        )
        for key in shared
    }


def _parts(runs: Sequence[Tested], target: str, by: str | None) -> Iterator[tuple[str, np.ndarray]]:
    """The values of a column, sorted, each with the rows that have it; rows without a value are in no part."""
    columns = [run.by_target[target].columns for run in runs]
    values = next((own[by] for own in columns if by in own), []) if by is not None else []
    for part in sorted({str(value) for value in values if value is not None}):
        yield part, np.flatnonzero([value is not None and str(value) == part for value in values])


def _score(
    results: Results,
    runs: Sequence[Tested],
    target: str,
    part: str | None,
    rows: Any,
    metrics: Sequence[str],
    priors: Sequence[str],
    groups: Sequence[str],
) -> _Drawn:
    """Add the cells of one target, or of a part of its rows, to the results."""
    task, setting = runs[0].task, runs[0].setting
    label_N = runs[0].by_target[target].label_N[rows]
    majority = majority_metrics(label_N, len(task.labels))
    name = task.labels[int(majority.pop("label"))]
    results.majorities.append(Majority(task.name, setting, target, part, len(label_N), name, **majority))
    own_groups = np.asarray(groups, dtype=object)[rows].tolist()
    resampling = Resampling(len(label_N), [run.seed for run in runs], groups=own_groups)
    keys = list(product(range(len(runs)), priors, metrics))
    labels_and_probs = {
        (number, prior): (run.by_target[target].label_N[rows], run.probs(target, prior)[rows])
        for (number, run), prior in product(enumerate(runs), priors)
    }
    points = {key: classification_metrics(*pair) for key, pair in labels_and_probs.items()}
    resampled = dict(
        zip(
            keys,
            resampling.values([statistic(metric, *labels_and_probs[number, prior]) for number, prior, metric in keys]),
            strict=True,
        )
    )
    drawn = {}
    for method, prior, metric in product(dict.fromkeys(run.method for run in runs), priors, metrics):
        own = [number for number, run in enumerate(runs) if run.method == method]
        shares_RS = resampling.seed_shares([runs[number].seed for number in own])
        value_R = (shares_RS * np.stack([resampled[number, prior, metric] for number in own], axis=1)).sum(axis=1)
        by_seed = {runs[number].seed: points[number, prior][metric] for number in own}
        mean, deviation = mean_and_deviation(list(by_seed.values()))
        ends = interval(value_R)
        results.cells.append(
            Cell(
                task=task.name,
                setting=setting,
                method=method,
                target=target,
                part=part,
                metric=metric,
                prior=prior,
                rows=len(label_N),
                mean=mean,
                deviation=deviation,
                low=ends.low,
                high=ends.high,
                by_seed=by_seed,
                reaches_majority=metric in majority and ends.low <= majority[metric] + 1e-9,
                gold_prior=all(runs[number].has_gold_prior for number in own),
            )
        )
        drawn[method, metric, prior] = (mean, value_R)
    return drawn


def _compare(
    cells: Sequence[Cell],
    group: Sequence[Tested],
    metric: str,
    prior: str,
    base: str,
    drawn: Mapping[str, _Drawn],
) -> list[Comparison]:
    """Every method against one baseline on every target that both were tested on; Holm's correction over all."""
    pairs = []
    for method, (target, values) in product(dict.fromkeys(run.method for run in group), drawn.items()):
        key, base_key = (method, metric, prior), (base, metric, prior)
        if method != base and key in values and base_key in values:
            (mean, value_R), (base_mean, base_R) = values[key], values[base_key]
            pairs.append((method, target, difference(mean - base_mean, value_R, base_R)))
    task, setting = group[0].task.name, group[0].setting
    scores = {
        (cell.method, cell.target): cell.by_seed
        for cell in cells
        if (cell.task, cell.setting, cell.metric, cell.prior, cell.part) == (task, setting, metric, prior, None)
    }
    corrected = iter(holm([own.p for _, target, own in pairs if target != AVERAGE]))
    comparisons = []
    for method, target, own in pairs:
        p = own.p if target == AVERAGE else next(corrected)
        scored, base_scored = scores.get((method, target), {}), scores.get((base, target), {})
        gains = [value - base_scored[seed] for seed, value in scored.items() if seed in base_scored]
        comparisons.append(
            Comparison(
                task, setting, metric, prior, method, base, target, own, p,
                _mcnemar(group, prior, method, base, target) if metric == "accuracy" else {},
                signed_rank(gains) if gains else None,
            )
        )  # fmt: skip
    return comparisons


def _mcnemar(group: Sequence[Tested], prior: str, method: str, base: str, target: str) -> dict[str, McNemar]:
    """McNemar's test for each seed that two methods share on one target."""
    own, other = (
        {run.seed: run for run in group if run.method == name and target in run.by_target} for name in (method, base)
    )

    def right(run: Tested) -> np.ndarray:
        is_right: np.ndarray = run.probs(target, prior).argmax(axis=1) == run.by_target[target].label_N
        return is_right

    return {seed: mcnemar(right(own[seed]), right(other[seed])) for seed in own if seed in other}


def _over_targets(comparisons: Sequence[Comparison]) -> list[OverTargets]:
    """Wilcoxon's test over the targets of all tasks and settings; needs two at least."""
    found: dict[tuple[str, str, str, str], list[float]] = {}
    for one in comparisons:
        if one.target != AVERAGE:
            key = (one.metric, one.prior, one.method, one.baseline)
            found.setdefault(key, []).append(one.difference.mean)
    return [OverTargets(*key, gains, signed_rank(gains)) for key, gains in found.items() if len(gains) > 1]
